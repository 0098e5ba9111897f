//! From outside: sixteen clients push, pull and delete over two `serve` processes, with short times and a
//! collection every few seconds, on a store that deletes on condition and on one that does not.
//! `S3LAYERS_COLLECTION=full` runs for 10 minutes (`.ci/reliability --full`).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::site::By;
use crate::support::bucket;
use crate::support::program::{Running, Served, User, digest};
use crate::support::reply::Reply;

const CLIENTS: usize = 16;
/// Layers that all clients share. Each image has one of its own, too.
const LAYERS: usize = 24;
const MEDIA_TYPE: (&str, &str) = ("content-type", "application/vnd.oci.image.manifest.v1+json");
/// In seconds: `wait` is longer than two looks, and a push takes less than `wait`.
const TIMES: &str =
    r#""collection":{"record_age":5,"link_age":20,"wait":15,"kept":5,"look":5,"testing":true}"#;
/// A deleted image is kept for a minute, and its layers are freed in three steps of 15 to 20.
const PATIENCE: Duration = Duration::from_secs(300);

/// Every third one fits the documents.
fn layer(number: usize) -> Vec<u8> {
    let size = if number.is_multiple_of(3) {
        100
    } else {
        20_000 + number
    };
    format!("layer {number}\n")
        .repeat(1 + size / 10)
        .into_bytes()
}

struct Site {
    addresses: Vec<String>,
    next: AtomicUsize,
    deleted: AtomicUsize,
}

/// An image that was pushed, and not deleted.
struct Kept {
    layers: Vec<usize>,
    tag: String,
}

impl Site {
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply, String> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let address = &self.addresses[next % self.addresses.len()];
        Reply::to(address, method, path, &[MEDIA_TYPE], body)
    }

    /// The status, which must be one of these.
    fn expect(&self, method: &str, path: &str, body: &[u8], all: &[u16]) -> Result<u16, String> {
        let reply = self.ask(method, path, body)?;
        if all.contains(&reply.status) {
            return Ok(reply.status);
        }
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        Err(format!("{method} {path}: {} {text}", reply.status))
    }

    /// Stores an image of these layers under a tag of its own. Its digest.
    fn push(&self, client: usize, round: usize, layers: &[usize]) -> Result<String, String> {
        let repository = format!("/v2/r{}", client % 3);
        let mut described = Vec::new();
        for number in layers {
            let bytes = layer(*number);
            let digest = digest(&bytes);
            let blob = format!("{repository}/blobs/{digest}");
            if self.expect("HEAD", &blob, b"", &[200, 404])? == 404 {
                let upload = format!("{repository}/blobs/uploads/?digest={digest}");
                self.expect("POST", &upload, &bytes, &[201])?;
            }
            let size = bytes.len();
            described.push(format!(r#"{{"digest":"{digest}","size":{size}}}"#));
        }
        let media_type = MEDIA_TYPE.1;
        let (config, layers) = (&described[0], described[1..].join(","));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}],"annotations":{{"by":"{client}-{round}"}}}}"#
        );
        let path = format!("{repository}/manifests/t{client}-{round}");
        self.expect("PUT", &path, manifest.as_bytes(), &[201])?;
        Ok(digest(manifest.as_bytes()))
    }

    fn pull(&self, client: usize, manifest: &str, layers: &[usize]) -> Result<(), String> {
        let repository = format!("/v2/r{}", client % 3);
        let path = format!("{repository}/manifests/{manifest}");
        self.expect("GET", &path, b"", &[200])?;
        for number in layers {
            let bytes = layer(*number);
            let path = format!("{repository}/blobs/{}", digest(&bytes));
            let reply = self.ask("GET", &path, b"")?;
            if reply.status != 200 || reply.body != bytes {
                return Err(format!("{path}: {} or other bytes", reply.status));
            }
        }
        Ok(())
    }

    fn delete(&self, client: usize, manifest: &str) -> Result<(), String> {
        let path = format!("/v2/r{}/manifests/{manifest}", client % 3);
        self.expect("DELETE", &path, b"", &[202])?;
        self.deleted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Pushes, pulls and deletes until it is time. The images that it has not deleted.
fn work(site: &Site, client: usize, until: Instant) -> Result<HashMap<String, Kept>, String> {
    let mut images = HashMap::new();
    let mut state = client as u64 + 1;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for round in 0.. {
        if Instant::now() >= until {
            break;
        }
        let layers: BTreeSet<usize> = (0..3).map(|_| draw(LAYERS)).collect();
        let own = LAYERS + round * CLIENTS + client;
        let layers: Vec<usize> = layers.into_iter().chain([own]).collect();
        let manifest = site.push(client, round, &layers)?;
        let tag = format!("t{client}-{round}");
        images.insert(manifest, Kept { layers, tag });
        let all: Vec<_> = images.keys().cloned().collect();
        let one = &all[draw(all.len())];
        site.pull(client, one, &images[one].layers)?;
        if images.len() > 1 + draw(3) {
            site.delete(client, one)?;
            images.remove(one);
        }
        thread::sleep(Duration::from_millis(100 + draw(400) as u64));
    }
    Ok(images)
}

fn collected(user: &User) -> Value {
    let events = user.events(&["gc", "--max-share", "100"]);
    events.last().unwrap().clone()
}

#[test]
fn images_survive_collections_and_the_rest_is_freed() {
    run(By::Delete);
}

#[test]
fn the_same_where_removed_documents_leave_tombstones() {
    run(By::Tombstone);
}

fn run(by: By) {
    let is_full = std::env::var("S3LAYERS_COLLECTION").is_ok_and(|extent| extent == "full");
    let length = Duration::from_secs(if is_full { 600 } else { 10 });
    let store = Served::start(&[]);
    let user = User::of(&store);
    user.ok(&["doctor"]);
    let client = store.client();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        bucket::set_collection_times(&client, TIMES).await;
        if by == By::Tombstone {
            bucket::rewrite_profile(&client, |profile| {
                let (head, tail) = profile.split_once(r#""conditional_deletes":true"#).unwrap();
                format!(r#"{head}"conditional_deletes":false{tail}"#)
            })
            .await;
        }
    });
    let serve = ["serve", "--listen", "127.0.0.1:0", "--gc-every", "3s"];
    let mut serving = [(); 2].map(|()| Running::start(&user, &serve));
    let addresses = serving.each_mut().map(|process| {
        let address = process.next_event("listening")["address"].clone();
        address.as_str().unwrap().to_owned()
    });
    let site = Site {
        addresses: addresses.to_vec(),
        next: AtomicUsize::new(0),
        deleted: AtomicUsize::new(0),
    };
    let (until, is_over) = (Instant::now() + length, AtomicBool::new(false));
    let kept: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let site = &site;
                    move || work(site, client, until)
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                collected(&user);
                thread::sleep(Duration::from_secs(2));
            }
        });
        let kept = clients.into_iter().map(|one| one.join().unwrap());
        let kept: Vec<_> = kept.collect();
        is_over.store(true, Ordering::Relaxed);
        kept
    });
    let kept: Vec<_> = kept.into_iter().map(Result::unwrap).collect();
    let mut needed = BTreeSet::new();
    for (client, images) in kept.iter().enumerate() {
        for (manifest, image) in images {
            needed.extend(needed_by(client, manifest, image));
        }
    }
    let objects: BTreeSet<usize> = kept
        .iter()
        .flat_map(HashMap::values)
        .flat_map(|image| image.layers.iter().copied())
        .filter(|number| layer(*number).len() > 16 * 1024)
        .collect();
    // What is left is what they need.
    let deadline = Instant::now() + PATIENCE;
    loop {
        collected(&user);
        let mut left = runtime.block_on(bucket::keys(&client));
        // What a registry without an image has.
        let own = ["profile", "names/", "gc/last", "gc/names/"];
        left.retain(|key| !own.iter().any(|own| key.starts_with(own)));
        let data = left.extract_if(.., |key| key.starts_with("data/")).count();
        if left == needed && data == objects.len() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{data} data objects for {} layers; missing: {:?}; too many: {:?}",
            objects.len(),
            needed.difference(&left).collect::<Vec<_>>(),
            left.difference(&needed).collect::<Vec<_>>()
        );
        thread::sleep(Duration::from_secs(3));
    }
    for (client, images) in kept.iter().enumerate() {
        for (manifest, image) in images {
            site.pull(client, manifest, &image.layers).unwrap();
            site.pull(client, &image.tag, &[]).unwrap();
        }
    }
    let (images, deleted) = (
        kept.iter().map(HashMap::len).sum::<usize>(),
        site.deleted.load(Ordering::Relaxed),
    );
    assert!(deleted > 0);
    let (all, seconds) = (images + deleted, length.as_secs_f64());
    println!("{by:?}: {all} cases in {seconds:.1} s, 0 failed: images, {images} of them kept");
}

/// The keys that an image needs. That of its data has a random name.
fn needed_by(client: usize, manifest: &str, image: &Kept) -> Vec<String> {
    let repository = format!("repositories/r{}", client % 3);
    let hex = |digest: &str| digest.split_once(':').unwrap().1.to_owned();
    let mut keys = vec![
        format!("{repository}/_manifests/sha256/{}", hex(manifest)),
        format!("{repository}/_tags/{}", image.tag),
    ];
    for number in &image.layers {
        let bytes = layer(*number);
        let hex = hex(&digest(&bytes));
        keys.push(format!("{repository}/_layers/sha256/{hex}"));
        keys.push(format!("layers/sha256/{}/{hex}", &hex[..2]));
    }
    keys
}
