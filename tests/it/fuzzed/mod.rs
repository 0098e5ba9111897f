//! What the targets of `fuzz/` check, on as many changes of their seeds as there is time for in
//! every run: the same ones each time. In a process of its own, which reports its peak memory.
//!
//! A failure prints the try that repeats it, as `S3LAYERS_FUZZ_ONE=ranges:17`. `S3LAYERS_FUZZ=50`
//! makes fifty times as many.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use s3layers::{S3LayerService, StoreProfile};

use crate::support::{bucket, cases, stores};

mod checks;

/// What is checked, and how often: a few seconds each in a debug build.
type Target = (&'static str, fn(&[u8]), u64);

const TARGETS: [Target; 6] = [
    ("names", checks::names, 20_000),
    ("ids", checks::ids, 20_000),
    ("ranges", checks::ranges, 1000),
    ("requests", checks::requests, 1000),
    ("keys", keys, 100),
    ("documents", checks::documents, 100),
];

/// Words that mean something somewhere.
const WORDS: &[&str] = &[
    "",
    "/",
    "..",
    ".",
    "_",
    "__",
    "-",
    ":",
    "+",
    "@",
    "%2F",
    "%2e%2e",
    "%00",
    "%",
    "?",
    "&",
    "=",
    "\n",
    "\n---\n",
    "\n\n",
    "{layer}",
    "{location}",
    "sha256:",
    "sha512:",
    "tarsum.v1+",
    "tarsum",
    "/v2/",
    "blobs/",
    "uploads/",
    "manifests/",
    "_layers",
    "bytes=",
    "bytes ",
    "0-",
    "-0",
    "-1",
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "null",
    "[]",
    "{}",
    "\"",
    "1e400",
    "true",
    "\u{e9}",
    "\u{0}",
    "\u{202e}",
];

/// Numbers that look like chance: splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }
}

/// A seed after a few changes.
fn changed(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(5) {
        let at = chance.below(bytes.len() + 1);
        let end = at + chance.below((bytes.len() - at).min(40) + 1);
        match chance.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].repeat(1 + chance.below(3));
                bytes.splice(at..at, again);
            }
            3 => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len());
                bytes.extend_from_slice(&other[from..]);
            }
            4 | 5 => {
                let word = WORDS[chance.below(WORDS.len())];
                bytes.splice(at..end, word.bytes());
            }
            6 => bytes
                .splice(at..end, [b'0' + chance.below(10) as u8])
                .for_each(drop),
            _ => bytes
                .splice(at..end, [chance.below(256) as u8])
                .for_each(drop),
        }
    }
    bytes
}

fn folder(target: &str) -> PathBuf {
    let fixtures =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/fixtures/fuzz");
    fixtures.join(target)
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    // The same requests, to another storage.
    let folder = folder(if target == "keys" { "requests" } else { target });
    let files = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The requests reach a store: none asks for a key outside the root, or for one that is no key of
/// ours.
fn keys(bytes: &[u8]) {
    cases::runtime().block_on(async {
        let (store, wire) = stores::with_wire().await;
        let client = stores::client(&store, wire.http_client());
        let config = stores::config().root("root/of").profile(StoreProfile::AWS);
        let service = S3LayerService::connect(client, config).await.unwrap();
        checks::run_requests(Arc::new(service), bytes).await;
        for request in wire.log().iter().filter(|request| !request.key.is_empty()) {
            let key = request.key.strip_prefix("root/of/");
            let key = key.unwrap_or_else(|| panic!("outside the root: {request}"));
            let folders = [
                "data",
                "gc",
                "layers",
                "names",
                "profile",
                "repositories",
                "uploads",
            ];
            let mut parts = key.split('/');
            assert!(
                parts.next().is_some_and(|folder| folders.contains(&folder)),
                "{request}"
            );
            let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.');
            assert!(parts.all(is_plain), "{request}");
        }
        let wrong = bucket::keys(&stores::sdk_client(&store)).await;
        assert!(
            wrong.iter().all(|key| key.starts_with("root/of/")),
            "{wrong:?}"
        );
    });
}

const ROLE: &str = "S3LAYERS_FUZZ_CHILD";

/// A line of `/proc/self/status`, in KiB.
fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One try; what failed.
fn attempt(target: &str, check: fn(&[u8]), seeds: &[Vec<u8>], nth: u64) -> Result<(), String> {
    let mut chance = Chance(nth.wrapping_mul(0x2545_f491_4f6c_dd1d));
    // The seeds themselves first.
    let bytes = match seeds.get(nth as usize) {
        Some(seed) => seed.clone(),
        None => changed(seeds, &mut chance),
    };
    catch_unwind(AssertUnwindSafe(|| check(&bytes))).map_err(|_| {
        let shown = String::from_utf8_lossy(&bytes);
        format!("repeat it by S3LAYERS_FUZZ_ONE={target}:{nth}, which is {shown:?}")
    })
}

#[test]
fn a_child() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let one = std::env::var("S3LAYERS_FUZZ_ONE").ok();
    let times = std::env::var("S3LAYERS_FUZZ").map_or(1, |times| times.parse().unwrap());
    for (target, check, tries) in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        let tries = match &one {
            None => 0..tries * times,
            Some(one) => match one.split_once(':') {
                Some((of, nth)) if of == target => {
                    let nth = nth.parse().unwrap();
                    nth..nth + 1
                }
                _ => continue,
            },
        };
        let begun = Instant::now();
        let (count, first) = (tries.end - tries.start, tries.start);
        let mut before = 0;
        for nth in tries {
            let outcome = attempt(target, check, &seeds, nth);
            outcome.unwrap_or_else(|failure| panic!("{failure}"));
            if nth == first + 20 {
                before = memory("VmHWM:");
            }
        }
        let grown = memory("VmHWM:").saturating_sub(before);
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "fuzz {target}: {count} cases in {seconds:.1} s, 0 failed, {grown} KiB more memory"
        );
        // Inputs have a few KiB.
        assert!(
            one.is_some() || grown < 64 * 1024,
            "{target} took {grown} KiB"
        );
    }
}

#[test]
fn mutated_seeds_break_nothing() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["fuzzed::a_child", "--exact", "--nocapture"]);
    let output = child.env(ROLE, "yes").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for line in said.lines().filter(|line| line.starts_with("fuzz ")) {
        println!("{line}");
    }
    let cried = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{cried}");
}

/// Writes the seeds of the documents: once for each version of them, with
/// `cargo test --test it -- --ignored write_seeds`.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    let folder = folder("documents");
    fs::create_dir_all(&folder).unwrap();
    for seed in checks::seeds_of_documents() {
        let text = String::from_utf8(seed).unwrap();
        let (what, _) = text.split_once('\n').unwrap();
        fs::write(folder.join(format!("{what}-v1")), &text).unwrap();
    }
}
