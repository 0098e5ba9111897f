//! The walls between the rooms of `src/` that no crate keeps yet: who may import whom, which crates are named where, and
//! what a `plan` never does.
//!
//! A room is a file or a folder right under `src/`. Every path that begins with `crate`, or leaves
//! its module by `super`, is held against [`WALLS`], in `use` lines and elsewhere. Modules called
//! `tests` are left alone, and so are comments, so documentation can link anywhere.

use std::fs;
use std::path::{Path, PathBuf};

use self::source::Source;

mod source;

/// What a module, and everything below it, may import besides itself. The longest match counts; a
/// room without a row is an offence.
const WALLS: &[(&str, &[&str])] = &[
    // Leaves.
    ("clock", &[]),
    ("digest", &[]),
    ("name", &[]),
    ("telemetry", &[]),
    ("text", &[]),
    ("id", &["digest"]),
    // The contract.
    ("error", &["digest", "id", "name"]),
    ("service", &["digest", "error", "id", "name"]),
    ("tarsum", &["digest", "error", "id"]),
    // Who provides it.
    (
        "memory",
        &["LEAVES", "error", "registry::store", "service", "tarsum"],
    ),
    ("s3", &["LEAVES", "error", "service", "tarsum"]),
    (
        "s3::repositories",
        &[
            "LEAVES",
            "error",
            "registry::store",
            "s3",
            "service",
            "tarsum",
        ],
    ),
    // Who uses it.
    (
        "conformance",
        &["LEAVES", "error", "registry::store", "service"],
    ),
    ("registry", &["LEAVES", "error", "service"]),
    ("cli", &["EVERYTHING"]),
];

/// What `LEAVES` above stands for: what all may use who may use anything.
const LEAVES: &[&str] = &["clock", "digest", "id", "name", "telemetry"];

/// Within `s3`, imports go downwards only: what a module must not import from its own room.
const ABOVE: &[(&str, &[&str])] = &[
    ("s3::api", &["s3::session", "s3::commit", "s3::upload"]),
    ("s3::session", &["s3::commit", "s3::upload"]),
    ("s3::commit", &["s3::upload"]),
];

/// Crates (those whose name begins so) and the modules that may name them.
const CRATES: &[(&str, &[&str])] = &[
    ("aws_", &["s3::api"]),
    ("clap", &["cli"]),
    ("embedded_s3", &["cli"]),
    ("http_body_util", &["registry"]),
    ("hyper", &["registry", "s3::api"]),
    ("rustls", &["s3::api"]),
    ("tower_service", &["registry"]),
];

/// What a module with `plan` in its path may import besides its room: values.
const PLAN_MAY: &[&str] = &["digest", "error", "id", "name"];

/// What never stands in a `plan`, as a path or a part of one: `now` comes in as an argument.
const NEVER_IN_PLAN: &[&[&str]] = &[
    &["async"],
    &["await"],
    &["tokio"],
    &["Instant", "::", "now"],
    &["SystemTime", "::", "now"],
];

/// Whether `path` is `prefix` or below it.
fn is_within(path: &[String], prefix: &str) -> bool {
    let mut path = path.iter();
    prefix
        .split("::")
        .all(|want| path.next().is_some_and(|have| have == want))
}

fn is_allowed(path: &[String], allowed: &[&str]) -> bool {
    allowed.iter().any(|allowed| match *allowed {
        "EVERYTHING" => true,
        "LEAVES" => is_allowed(path, LEAVES),
        prefix => is_within(path, prefix),
    })
}

fn is_above(module: &[String], to: &[String]) -> bool {
    ABOVE
        .iter()
        .any(|(from, above)| is_within(module, from) && is_allowed(to, above))
}

/// Every breach in the file `path`, below `src/`, as `<line>: <what is wrong>`.
fn breaches(path: &str, text: &str) -> Vec<String> {
    let source = Source::read(path, text);
    if matches!(path, "lib.rs" | "main.rs") || source.is_of_tests() {
        return Vec::new();
    }
    let mut breaches = imports(&source);
    breaches.extend(crates(&source));
    if source.module.iter().any(|part| part == "plan") {
        breaches.extend(plans(&source));
    }
    breaches
}

fn imports(source: &Source) -> Vec<String> {
    let from = source.module.join("::");
    let rows = WALLS
        .iter()
        .filter(|(room, _)| is_within(&source.module, room));
    let Some((_, allowed)) = rows.max_by_key(|(room, _)| room.len()) else {
        return vec![format!(
            "1: {from} has no row in the walls of tests/it/layout.rs"
        )];
    };
    let is_plan = source.module.iter().any(|part| part == "plan");
    let allowed = if is_plan { PLAN_MAY } else { allowed };
    let mut breaches = Vec::new();
    for (line, to) in source.paths() {
        let path = to.join("::");
        let begins_as_room = |first: &String| first.starts_with(|c: char| c.is_ascii_lowercase());
        if !to.first().is_some_and(begins_as_room) {
            breaches.push(format!(
                "{line}: crate::{path}: name the room that it comes from"
            ));
        } else if (to.first() != source.module.first() && !is_allowed(&to, allowed))
            || is_above(&source.module, &to)
        {
            breaches.push(format!("{line}: {from} may not import {path}"));
        }
    }
    breaches
}

fn crates(source: &Source) -> Vec<String> {
    let named = source.crates().filter_map(|(line, name)| {
        let (_, allowed) = CRATES
            .iter()
            .find(|(prefix, _)| match prefix.strip_suffix('_') {
                Some(_) => name.starts_with(prefix),
                None => name == *prefix,
            })?;
        let is_free = is_allowed(&source.module, allowed);
        (!is_free).then(|| format!("{line}: {name} is named in {allowed:?} only"))
    });
    named.collect()
}

fn plans(source: &Source) -> Vec<String> {
    let never = NEVER_IN_PLAN.iter().flat_map(|never| {
        let lines = source.lines_with(never);
        lines.map(|line| format!("{line}: {} has no place in a plan", never.concat()))
    });
    never.collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_file_keeps_to_the_walls() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(
        files.len() > 10,
        "only {} files below {}",
        files.len(),
        src.display()
    );

    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let path = file
            .strip_prefix(&src)
            .unwrap_or(&file)
            .display()
            .to_string();
        let breaches = breaches(&path, &text);
        found.extend(
            breaches
                .into_iter()
                .map(|breach| format!("src/{path}:{breach}")),
        );
    }
    found.sort();
    assert!(
        found.is_empty(),
        "breaches of the walls:\n{}",
        found.join("\n")
    );
}

#[test]
fn a_breach_is_seen_and_told_with_its_line() {
    for (case, path, text, want) in [
        (
            "its own room",
            "s3/read/mod.rs",
            "use crate::s3::api::Get;",
            None,
        ),
        ("a leaf", "s3/read/mod.rs", "use crate::clock;", None),
        (
            "the contract",
            "memory/mod.rs",
            "use crate::service::{Layer, LayerUpload};",
            None,
        ),
        (
            "another room",
            "registry/blobs.rs",
            "\nuse crate::s3::api;",
            Some("2: registry::blobs may not import s3::api"),
        ),
        (
            "in braces",
            "registry/mod.rs",
            "use crate::{\n error::Error,\n s3::{self, api},\n};",
            Some("3: registry may not import s3"),
        ),
        (
            "without a use",
            "registry/mod.rs",
            "fn f() { crate::s3::f() }",
            Some("1: registry may not import s3::f"),
        ),
        (
            "by super",
            "registry/mod.rs",
            "use super::s3::api;",
            Some("1: registry may not import s3::api"),
        ),
        (
            "super within the room",
            "registry/blobs.rs",
            "use super::store::Store;",
            None,
        ),
        (
            "super in an inline module",
            "error.rs",
            "mod x { use super::Error; }",
            None,
        ),
        (
            "downwards",
            "s3/upload/uploader.rs",
            "use crate::s3::commit;\nuse crate::s3::session::Session;",
            None,
        ),
        (
            "upwards",
            "s3/commit/perform.rs",
            "use crate::s3::upload::begin;",
            Some("1: s3::commit::perform may not import s3::upload::begin"),
        ),
        (
            "upwards by super",
            "s3/session/owned.rs",
            "use super::super::commit::cleanup;",
            Some("1: s3::session::owned may not import s3::commit::cleanup"),
        ),
        (
            "by a re-export",
            "registry/mod.rs",
            "use crate::S3LayerService;",
            Some("1: crate::S3LayerService: name the room that it comes from"),
        ),
        (
            "a comment",
            "registry/mod.rs",
            "//! [`s3`](crate::s3)\n/* crate::s3::x */",
            None,
        ),
        (
            "a text",
            "registry/mod.rs",
            "const X: &str = \"crate::s3::x\";",
            None,
        ),
        (
            "tests",
            "registry/mod.rs",
            "mod tests { use crate::s3::api; }",
            None,
        ),
        (
            "a file of tests",
            "registry/tests.rs",
            "use crate::s3::api;",
            None,
        ),
        ("a visibility", "error.rs", "pub(crate) struct X;", None),
        (
            "one door only",
            "registry/mod.rs",
            "use crate::registry::store::Store;",
            None,
        ),
        (
            "that door from s3",
            "s3/repositories.rs",
            "use crate::registry::store::Store;",
            None,
        ),
        (
            "that door from elsewhere in s3",
            "s3/keys.rs",
            "use crate::registry::store::Store;",
            Some("1: s3::keys may not import registry::store::Store"),
        ),
        (
            "beside that door",
            "s3/repositories.rs",
            "use crate::registry::server;",
            Some("1: s3::repositories may not import registry::server"),
        ),
        (
            "the program",
            "cli/mod.rs",
            "use crate::{registry, s3::api};",
            None,
        ),
        (
            "a room nobody knows",
            "utils.rs",
            "",
            Some("1: utils has no row in the walls of tests/it/layout.rs"),
        ),
        (
            "the SDK at home",
            "s3/api/mod.rs",
            "use aws_sdk_s3::Client;",
            None,
        ),
        (
            "the SDK elsewhere",
            "s3/read/mod.rs",
            "use aws_sdk_s3 as sdk;",
            Some("1: aws_sdk_s3 is named in [\"s3::api\"] only"),
        ),
        (
            "the SDK inline",
            "s3/read/mod.rs",
            "fn f(x: aws_smithy_types::Blob) {}",
            Some("1: aws_smithy_types is named in [\"s3::api\"] only"),
        ),
        (
            "a field called so",
            "s3/read/mod.rs",
            "struct X { aws_profile: u8 }",
            None,
        ),
        (
            "clap",
            "registry/mod.rs",
            "#[derive(clap::Parser)]",
            Some("1: clap is named in [\"cli\"] only"),
        ),
        (
            "a plan",
            "s3/upload/plan/cut.rs",
            "use super::super::session::Session;\nuse crate::digest::Digest;",
            None,
        ),
        (
            "a plan with a clock",
            "s3/upload/plan/cut.rs",
            "use crate::clock;",
            Some("1: s3::upload::plan::cut may not import clock"),
        ),
        (
            "a plan that waits",
            "s3/read/plan.rs",
            "\n\nasync fn f() {}",
            Some("3: async has no place in a plan"),
        ),
        (
            "a plan that asks for the time",
            "s3/read/plan.rs",
            "let now = SystemTime::now();",
            Some("1: SystemTime::now has no place in a plan"),
        ),
        (
            "a plan that is told the time",
            "s3/read/plan.rs",
            "fn f(now: SystemTime) {}",
            None,
        ),
    ] {
        assert_eq!(
            breaches(path, text).first().map(String::as_str),
            want,
            "{case}"
        );
    }
}
