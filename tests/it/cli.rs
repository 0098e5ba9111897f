//! The program, run as a user runs it. `push` and `pull` have files of their own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::program::{MIB, Running, Served, User, digest, events, noise, said};
use crate::support::reply::Reply;

#[test]
fn demo_resumes_without_loss() {
    let user = User::new();
    let shown = String::from_utf8(user.ok(&["demo"])).unwrap();
    for line in shown.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let numbers = |text: &str| -> Vec<String> {
        let lines = shown.lines().filter(|line| line.ends_with(text));
        let number = |line: &str| line.split_whitespace().next().unwrap().to_owned();
        lines.map(number).collect()
    };
    let stopped = numbers("bytes read, then SIGTERM");
    assert_eq!(stopped, numbers("bytes stored, none of them is sent again"));
    let killed = numbers("bytes stored, the others are sent again");
    let resumed = numbers("is the byte at which it resumes");
    assert_eq!(resumed, [stopped, killed].concat());
    let digests: Vec<_> = shown
        .lines()
        .filter(|line| line.trim_start().starts_with("sha256:"))
        .collect();
    assert_eq!(digests.len(), 2, "{shown}");
    assert_eq!(digests[0], digests[1], "pushed, and read back");
    // Nothing is left behind.
    assert_eq!(fs::read_dir(user.home.path()).unwrap().count(), 0);

    let events = user.events(&["demo"]);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["event"], "done");
}

#[test]
fn layer_round_trip_through_the_default_store() {
    let user = User::new();
    for size in [0, 1, 100_000, 17 * MIB + 3] {
        let layer = noise(size);
        let file = user.file("layer", &layer);
        let id = digest(&layer);
        let printed = user.ok(&["push", &file, "--name", "library/x"]);
        assert_eq!(String::from_utf8(printed).unwrap(), format!("{id}\n"));
        assert_eq!(user.pulled(&id), layer);
        user.ok(&["pull", &id, "-o", "out"]);
        assert_eq!(fs::read(user.path("out")).unwrap(), layer);
        fs::remove_file(user.path("out")).unwrap();
    }
    // No partial file is left.
    let mut names: Vec<_> = fs::read_dir(user.home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["data", "layer"]);
    assert!(user.path("data/s3layers").is_dir(), "the default place");
}

#[test]
fn every_line_of_json_is_an_event() {
    let user = User::new();
    let layer = noise(100);
    let file = user.file("layer", &layer);
    let id = digest(&layer);
    let pushed = user.events(&["push", &file, "--name", "x", "--id", &id]);
    assert_eq!(pushed[0]["event"], "started");
    assert_eq!(pushed[0]["offset"], 0);
    let stored = &pushed[1];
    assert_eq!(stored["event"], "stored");
    assert_eq!(stored["digest"], id);
    assert_eq!(stored["size"], 100);
    assert_eq!(stored["tar_sum"], Value::Null);
    let by_operation = stored["requests_by_operation"].as_object().unwrap();
    let sum: u64 = by_operation.values().filter_map(Value::as_u64).sum();
    assert_eq!(stored["requests"], sum);
    assert!(stored["bytes_sent"].as_u64().unwrap() >= 100);

    let again = user.events(&["push", &file, "--name", "x", "--id", &id]);
    assert_eq!(
        again,
        [serde_json::json!({"event": "exists", "file": file, "id": id, "size": layer.len()})]
    );
    // It is not sent to another repository either.
    user.ok(&["push", &file, "--name", "y", "--id", &id]);
    let there = user.events(&["ls", "y"]);
    assert_eq!(there[0]["digest"], id, "{there:?}");

    let pulled = user.events(&["pull", &id, "-o", "out"]);
    assert_eq!(pulled[0]["event"], "pulled");
    assert_eq!(pulled[0]["verified"], true);
    assert_eq!(user.events(&["sweep"])[0]["event"], "done");

    let refused = user.run(&["--json", "pull", &digest(b"other"), "-o", "none"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(events(&refused.stdout)[0]["event"], "error");
    assert!(!user.path("none").exists() && !user.path("none.partial").exists());
    let wrong = user.run(&["--json", "push", &file, "--name", "X"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(events(&wrong.stdout)[0]["event"], "error");
    for to_stdout in [
        &["--json", "pull", &id][..],
        &["--json", "pull", &id, "-o", "-"],
    ] {
        let mixed = user.fails(2, to_stdout);
        assert!(mixed.contains("-o FILE"), "{mixed}");
    }
    let missing = user.run(&["--json", "push", "--name", "x"]);
    let missing = &events(&missing.stdout)[0];
    assert_eq!(
        missing["message"],
        "the following required arguments were not provided: <FILE>..."
    );
}

#[test]
fn refusals_name_their_reason() {
    let user = User::new();
    let file = user.file("layer", b"bytes");
    user.ok(&["push", &file, "--name", "x"]);
    let id = digest(b"unknown");
    for (code, arguments, wants) in [
        (
            1,
            &["push", "nowhere", "--name", "x"][..],
            &["cannot open nowhere", "caused by:"][..],
        ),
        (1, &["push", ".", "--name", "x"], &[". is a folder"]),
        (
            2,
            &["push", &file, "--name", "Über"],
            &["Über", "lower-case letters"],
        ),
        (2, &["push", &file], &["--name"]),
        (
            2,
            &["push", &file, "--name", "x", "--id", "sha256:12"],
            &["sha256:12", "64 hex digits"],
        ),
        (
            2,
            &["push", &file, "--name", "x", "--resume", "7"],
            &["--resume"],
        ),
        (1, &["pull", &id], &[&id, "unknown"]),
        (1, &["pull", &id, "-o", "."], &[". is a folder"]),
        (
            2,
            &["pull", "library/x:latest"],
            &[
                "it names an image",
                "s3layers ls library/x",
                "s3layers serve",
            ],
        ),
        (2, &["rm", "x"], &["REPO:TAG or REPO@DIGEST"]),
        (1, &["rm", "x:latest"], &["x:latest does not exist"]),
        (
            2,
            &["serve", "--listen", ":0"],
            &["--listen 0.0.0.0:0", "--allow-anonymous"],
        ),
        (
            2,
            &["pull", "latest"],
            &["latest", "sha256:<64 hex digits>"],
        ),
        (2, &["sweep", "--older-than", "soon"], &["soon", "24h"]),
        (2, &["--store", "/var/x", "sweep"], &["/var/x", "file:PATH"]),
        (
            2,
            &["--store", "s3://x", "--endpoint-url", "host:1", "sweep"],
            &["host:1", "http://"],
        ),
        (
            2,
            &["--endpoint-url", "http://x", "sweep"],
            &["s3://BUCKET", "file:"],
        ),
        (
            1,
            &["--store", &format!("file:{file}"), "sweep"],
            &["cannot open file:", "layer"],
        ),
        (2, &["--store", "s3://x", "store"], &["s3://x", "file:PATH"]),
        (2, &["store", "--access-key", "a"], &["--secret-key"]),
        (
            1,
            &[
                "store",
                "--listen",
                "192.0.2.1:9",
                "--access-key",
                "a",
                "--secret-key",
                "canary",
            ],
            &["192.0.2.1:9"],
        ),
    ] {
        let said = user.fails(code, arguments);
        for want in wants {
            assert!(said.contains(want), "{arguments:?}: {said}");
        }
        assert!(!said.contains("canary"), "{arguments:?}: {said}");
    }
    assert_eq!(user.run(&[]).status.code(), Some(2), "no command");
}

#[test]
fn folder_of_another_process_is_locked() {
    let user = User::new();
    let mut store = Running::start(&user, &["store", "--listen", "127.0.0.1:0"]);
    store.next_event("listening");
    let said = user.fails(1, &["sweep"]);
    assert!(
        said.contains("already open") && said.contains("data/s3layers"),
        "{said}"
    );
}

#[test]
fn wrong_credentials_are_reported() {
    let store = Served::start(&["--access-key", "ours", "--secret-key", "canary-of-store"]);
    let mut user = User::of(&store);
    user.keys = ("ours".into(), "canary-of-user".into());
    let file = user.file("layer", b"bytes");
    let said = user.fails(1, &["push", &file, "--name", "x"]);
    assert!(said.contains("refused permission"), "{said}");
    assert!(
        said.contains("SignatureDoesNotMatch") && !said.contains("canary"),
        "{said}"
    );

    user.keys.1 = "canary-of-store".into();
    user.ok(&["push", &file, "--name", "x"]);
    user.arguments[1] = "s3://elsewhere".into();
    let said = user.fails(1, &["push", &file, "--name", "x"]);
    assert!(said.contains("the bucket does not exist"), "{said}");

    // A port that was free a moment ago.
    drop(store);
    let said = user.fails(1, &["push", &file, "--name", "x"]);
    assert!(
        said.contains("attempts") && said.contains("refused"),
        "{said}"
    );
    // It took a while, and the user saw why.
    assert!(said.contains("WARN retrying"), "{said}");
}

#[test]
fn registry_is_served_until_a_signal() {
    let user = User::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut registry = Running::start(&user, &["serve", "--listen", "127.0.0.1:0"]);
        let event = registry.next_event("listening");
        let address = event["address"].as_str().unwrap();
        let id = digest(b"a layer");
        let path = format!("/v2/library/x/blobs/uploads/?digest={id}");
        // It keeps its last byte until the program gets the signal.
        let mut push = std::net::TcpStream::connect(address).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        push.write_all(format!("{head}content-length: 7\r\n\r\na laye").as_bytes())
            .unwrap();
        let ready = Reply::to(address, "GET", "/readyz", &[], &[]);
        ready.unwrap().is(200).unwrap();
        registry.signal(signal);
        while std::net::TcpStream::connect(address).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        push.write_all(b"r").unwrap();
        let mut pushed = String::new();
        push.read_to_string(&mut pushed).unwrap();
        assert!(pushed.starts_with("HTTP/1.1 201"), "{pushed}");
        registry.next_event("stopped");
        assert_eq!(registry.code(), Some(0));
        assert_eq!(user.pulled(&id), b"a layer");
    }
    let said = user.fails(2, &["serve", "--max-requests", "0"]);
    assert!(said.contains("above 0"), "{said}");
    let said = user.fails(2, &["serve", "--redirect"]);
    assert!(said.contains("clients cannot reach"), "{said}");
}

#[test]
fn every_command_has_help() {
    let user = User::new();
    let help = String::from_utf8(user.ok(&["--help"])).unwrap();
    for command in [
        "demo", "doctor", "push", "pull", "rm", "serve", "sweep", "store", "tarsum",
    ] {
        assert!(help.contains(command), "{help}");
        let of_command = String::from_utf8(user.ok(&[command, "--help"])).unwrap();
        let usage = format!("Usage: s3layers {command}");
        assert!(of_command.contains(&usage), "{of_command}");
        assert_eq!(said(user.ok(&["help", command])), of_command);
    }
    user.ok(&["--version"]);
    assert_eq!(fs::read_dir(user.home.path()).unwrap().count(), 0);
}
