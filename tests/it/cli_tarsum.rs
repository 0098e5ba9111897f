//! `tarsum`, and pushing what is called by one.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::Signal;

use crate::support::program::{MIB, Running, Served, User, digest, events, noise, said, stderr};
use crate::support::tcp_proxy::Direction;
use crate::tarsum::archive::{END, member};
use crate::tarsum::compressed::{gzip, zstd};

const EMPTY: &str =
    "tarsum.v1+sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What the original printed of `edge/basic.tar`, in version 0 and 1.
const BASIC: [&str; 2] = [
    "tarsum+sha256:360a8f5885090614a6a637ee485a2e9fe14f4baa7f5f9ad95c595ad40b4cd774",
    "tarsum.v1+sha256:d48247256e1dc0c8bbf8b5ff5c81a67d45b35e9d401e2e75a18fa07b3ab3e3db",
];

fn archive(size: usize) -> Vec<u8> {
    let files = [
        member("etc/hosts", b'0', b"127.0.0.1"),
        member("blob", b'0', &noise(size)),
        END.to_vec(),
    ];
    files.concat()
}

/// The TarSum of a file, as the program prints it.
fn tar_sum(user: &User, file: &str) -> String {
    said(user.ok(&["tarsum", file])).trim_end().to_owned()
}

/// Runs with these bytes on standard input, to the end.
fn piped(user: &User, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = user.command(arguments);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    // It may refuse before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn tar_sum_is_alone_on_stdout() {
    let user = User::new();
    let fixtures =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/fixtures/tarsum");
    let basic = fixtures.join("edge/basic.tar");
    let basic = basic.to_str().unwrap();
    assert_eq!(said(user.ok(&["tarsum", basic])), format!("{}\n", BASIC[1]));
    for (version, want) in [
        ("0", BASIC[0].to_owned()),
        ("1", BASIC[1].to_owned()),
        ("dev", BASIC[1].replace(".v1", ".dev")),
    ] {
        let printed = said(user.ok(&["tarsum", "--version", version, basic]));
        assert_eq!(printed, format!("{want}\n"), "{version}");
    }
    let printed = said(user.ok(&["tarsum", "--algorithm", "sha512", basic]));
    assert!(printed.starts_with("tarsum.v1+sha512:"), "{printed}");
    assert_eq!(printed.len(), "tarsum.v1+sha512:\n".len() + 128);

    let bytes = std::fs::read(basic).unwrap();
    for input in [&bytes, &gzip(&bytes), &zstd(&bytes)] {
        let output = piped(&user, &["tarsum", "-"], input);
        assert_eq!(said(output.stdout), format!("{}\n", BASIC[1]));
    }
    assert_eq!(
        said(piped(&user, &["tarsum", "-"], b"").stdout),
        format!("{EMPTY}\n")
    );
    let event = serde_json::json!({"event": "tar_sum", "tar_sum": BASIC[1]});
    assert_eq!(user.events(&["tarsum", basic]), [event]);
}

#[test]
fn broken_archive_is_reported_with_its_position() {
    let user = User::new();
    let whole = archive(10_000);
    let zipped = gzip(&whole);
    for (case, bytes, want) in [
        (
            "cut",
            &whole[..5000],
            "broken at byte 5000: it ends within an entry",
        ),
        (
            "no archive",
            b"some text",
            "broken at byte 9: it ends within a header",
        ),
        (
            "not even gzip",
            &zipped[..zipped.len() - 4],
            "it ends within its compression",
        ),
    ] {
        let file = user.file("broken", bytes);
        let output = user.run(&["tarsum", &file]);
        let printed = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{case}: {printed}");
        assert!(output.stdout.is_empty(), "{case}");
        assert!(
            printed.contains(want) && printed.contains(&file),
            "{case}: {printed}"
        );
    }
    let file = user.file("broken", &whole[..5000]);
    let output = user.run(&["--json", "tarsum", &file]);
    assert_eq!(events(&output.stdout)[0]["event"], "error");
    for (code, arguments, want) in [
        (1, &["tarsum", "nowhere"][..], "cannot open nowhere"),
        (1, &["tarsum", "."], ". is a folder"),
        (
            2,
            &["tarsum", "--version", "2", &file],
            "[possible values: 0, 1, dev]",
        ),
        (
            2,
            &["tarsum", "--algorithm", "md5", &file],
            "sha256, sha512",
        ),
        (2, &["tarsum"], "<FILE>"),
    ] {
        let printed = user.fails(code, arguments);
        assert!(printed.contains(want), "{arguments:?}: {printed}");
    }
}

#[test]
fn layer_pushed_by_its_tar_sum_is_pulled_by_either_id() {
    let (_store, user) = Served::with_user();
    for size in [100, 17 * MIB] {
        let layer = gzip(&archive(size));
        let file = user.file("layer.tar.gz", &layer);
        let id = tar_sum(&user, &file);
        let pushed = said(user.ok(&["push", &file, "--name", "x", "--id", &id]));
        assert_eq!(pushed, format!("{}\n", digest(&layer)));
        assert!(user.pulled(&id) == layer);
        assert!(user.pulled(&digest(&layer)) == layer);
        let again = user.events(&["push", &file, "--name", "x", "--id", &id]);
        assert_eq!(
            again,
            [serde_json::json!({"event": "exists", "file": file, "id": id, "size": layer.len()})]
        );
        let again = said(user.ok(&["push", &file, "--name", "x", "--id", &id]));
        assert_eq!(again, format!("{}\n", digest(&layer)));
    }
}

#[test]
fn wrong_tar_sum_is_not_pushed() {
    let user = User::new();
    let layer = archive(1000);
    let file = user.file("layer", &layer);
    let printed = user.fails(1, &["push", &file, "--name", "x", "--id", EMPTY]);
    assert!(
        printed.contains(EMPTY) && printed.contains(&tar_sum(&user, &file)),
        "{printed}"
    );
    let printed = user.fails(1, &["pull", EMPTY, "-o", "out"]);
    assert!(printed.contains("unknown"), "{printed}");

    let cut = user.file("cut", &layer[..1600]);
    let id = tar_sum(&user, &file);
    let printed = user.fails(1, &["push", &cut, "--name", "x", "--id", &id]);
    assert!(printed.contains("broken at byte 1600"), "{printed}");
    let v0 = said(user.ok(&["tarsum", "--version", "0", &file]));
    let printed = user.fails(1, &["push", &file, "--name", "x", "--id", v0.trim_end()]);
    assert!(
        printed.contains("cannot be verified: version 0"),
        "{printed}"
    );
    user.fails(1, &["pull", &digest(&layer), "-o", "out"]);
}

/// Its TarSum leads to other bytes, so the upload was begun by its digest.
#[test]
fn stopped_push_of_an_archive_with_a_known_tar_sum_is_resumed() {
    let (_store, proxy, user) = Served::behind_proxy();
    let layer = archive(40 * MIB);
    let file = user.file("first", &layer);
    user.ok(&["push", &file, "--name", "x", "--tarsum"]);
    let other = [layer, vec![0; 10_240]].concat();
    let file = user.file("second", &other);
    proxy.pause_after(Direction::Up, 20 * MIB as u64);
    let mut push = Running::start(&user, &["push", &file, "--name", "x", "--tarsum"]);
    proxy.wait_until_paused(Direction::Up);
    push.signal(Signal::TERM);
    push.next_event("stopping");
    proxy.resume();
    let kept = push.next_event("kept");
    let resumed = user
        .shell(kept["resume"].as_str().unwrap())
        .output()
        .unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(user.pulled(&digest(&other)) == other);
}

#[test]
fn stopped_push_is_resumed_by_its_tar_sum() {
    let (_store, user) = Served::with_user();
    let layer = archive(20 * MIB);
    let file = user.file("layer", &layer);
    let id = tar_sum(&user, &file);
    let taken = 17 * MIB + 7;
    let mut push = Running::start(&user, &["push", "-", "--name", "x", "--id", &id]);
    let uuid = push.next_event("started")["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    push.feed(&layer[..taken]);
    push.until(|said| said["offset"] == taken);
    push.signal(Signal::TERM);
    let kept = push.next_event("kept");
    let end = format!("push - --name x --id {id} --resume {uuid}");
    assert!(kept["resume"].as_str().unwrap().ends_with(&end), "{kept}");

    let pushed = user.events(&["push", &file, "--name", "x", "--id", &id, "--resume", &uuid]);
    let stored = pushed.last().unwrap();
    assert_eq!(stored["tar_sum"], id);
    assert!(
        stored["bytes_sent"].as_u64().unwrap() < 6 * MIB as u64,
        "{stored}"
    );
    // To be verified it was read back once.
    assert!(
        stored["bytes_received"].as_u64().unwrap() >= layer.len() as u64,
        "{stored}"
    );
    assert!(user.pulled(&id) == layer);
}

#[test]
fn push_computes_the_tar_sum() {
    let (_store, user) = Served::with_user();
    let layer = archive(17 * MIB);
    let file = user.file("layer", &layer);
    let id = tar_sum(&user, &file);

    // A layer that is there gets one on demand.
    user.ok(&["push", &file, "--name", "x"]);
    user.fails(1, &["pull", &id, "-o", "out"]);
    let pushed = user.events(&["push", &file, "--name", "x", "--tarsum"]);
    let stored = pushed.last().unwrap();
    assert_eq!(
        (&stored["tar_sum"], &stored["digest"]),
        (&id.clone().into(), &digest(&layer).into())
    );
    assert!(
        stored["bytes_received"].as_u64().unwrap() < MIB as u64,
        "{stored}"
    );
    assert!(user.pulled(&id) == layer);
    let again = user.events(&["push", &file, "--name", "x", "--tarsum"]);
    assert_eq!(
        again,
        [serde_json::json!({"event": "exists", "file": file, "id": id, "size": layer.len()})]
    );
    user.ok(&["push", &file, "--name", "y", "--tarsum"]);
    assert_eq!(user.events(&["ls", "y"])[0]["digest"], digest(&layer));

    // The same files in other bytes: a layer of its own.
    let zipped = gzip(&layer);
    let other = user.file("layer.tar.gz", &zipped);
    let output = user.run(&["push", &other, "--name", "x", "--tarsum"]);
    assert!(
        stderr(&output).contains("an archive with other bytes"),
        "{}",
        stderr(&output)
    );
    assert_eq!(said(output.stdout), format!("{}\n", digest(&zipped)));
    assert!(user.pulled(&digest(&zipped)) == zipped);
    assert!(user.pulled(&id) == layer);
}

#[test]
fn standard_input_gets_a_tar_sum_at_its_end() {
    let (_store, user) = Served::with_user();
    for size in [100, 17 * MIB] {
        let layer = archive(size);
        let file = user.file("layer", &layer);
        let id = tar_sum(&user, &file);
        let output = piped(&user, &["push", "-", "--name", "x", "--tarsum"], &layer);
        assert!(stderr(&output).contains(&id), "{}", stderr(&output));
        assert_eq!(said(output.stdout), format!("{}\n", digest(&layer)));
        assert!(user.pulled(&id) == layer);
    }
    let broken = &archive(2000)[..1700];
    let output = piped(&user, &["push", "-", "--name", "x", "--tarsum"], broken);
    let printed = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("standard input has no TarSum"),
        "{printed}"
    );
    assert!(
        printed.contains("broken at byte 1700") && printed.contains("--resume"),
        "{printed}"
    );
    user.fails(1, &["pull", &digest(broken), "-o", "out"]);

    // Of a file that is known before anything is sent.
    let file = user.file("broken", broken);
    let printed = user.fails(1, &["push", &file, "--name", "x", "--tarsum"]);
    assert!(
        printed.contains("broken at byte 1700") && !printed.contains("--resume"),
        "{printed}"
    );
    let printed = user.fails(
        2,
        &["push", &file, "--name", "x", "--tarsum", "--id", EMPTY],
    );
    assert!(printed.contains("cannot be used with"), "{printed}");
}
