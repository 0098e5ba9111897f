//! The program, run as a user runs it: each test has a home of its own, and waits for what the
//! program says.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use s3layers::{Algorithm, Digest};
use serde_json::Value;

pub(crate) const MIB: usize = 1024 * 1024;

/// Someone with an empty home and no settings.
pub(crate) struct User {
    home: tempfile::TempDir,
    /// What they have set up, as arguments and environment.
    arguments: Vec<String>,
    keys: (String, String),
}

impl User {
    pub(crate) fn new() -> Self {
        User {
            home: tempfile::tempdir().unwrap(),
            arguments: Vec::new(),
            keys: ("s3layers".into(), "s3layers-secret".into()),
        }
    }

    /// Someone who uses the store at this endpoint.
    pub(crate) fn of(store: &Served) -> Self {
        let arguments = ["--store", "s3://layers", "--endpoint-url", &store.endpoint];
        User {
            arguments: arguments.map(str::to_owned).to_vec(),
            ..User::new()
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3layers"));
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_DATA_HOME", self.path("data"))
            .env("TMPDIR", self.home.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", &self.keys.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.1)
            .current_dir(self.home.path())
            .args(&self.arguments)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs what must succeed. What it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
        output.stdout
    }

    /// The events of a run that must succeed.
    pub(crate) fn events(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = vec!["--json"];
        all.extend(arguments);
        events(&self.ok(&all))
    }

    /// Runs what must fail with this code. What it said on stderr.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains("error: "), "{arguments:?}: {said}");
        said
    }

    /// What `pull` gives for this id.
    pub(crate) fn pulled(&self, id: &str) -> Vec<u8> {
        self.ok(&["pull", id])
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn events(stdout: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stdout).unwrap();
    let parse = |line| serde_json::from_str::<Value>(line).unwrap();
    text.lines().map(parse).collect()
}

/// Bytes that differ wherever they are looked at.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(size);
    bytes
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

/// A running program that prints events. Dropping kills it.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(user: &User, arguments: &[&str]) -> Self {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let mut child = user
            .command(&all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running {
            stdin: child.stdin.take(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    /// The next event for which this holds.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            let event = serde_json::from_str(&line.unwrap()).unwrap();
            if wanted(&event) {
                return event;
            }
            seen.push(event);
        }
        unreachable!("it ended, having said {seen:?}")
    }

    pub(crate) fn hear(&mut self, event: &str) -> Value {
        self.until(|said| said["event"] == event)
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A store in a process of its own.
pub(crate) struct Served {
    running: Running,
    pub(crate) endpoint: String,
    _user: User,
}

impl Served {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let user = User::new();
        let mut all = vec!["--store", "memory:", "store", "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let mut running = Running::start(&user, &all);
        let endpoint = running.hear("listening")["endpoint"]
            .as_str()
            .unwrap()
            .to_owned();
        Served {
            running,
            endpoint,
            _user: user,
        }
    }

    /// Waits until the one upload under way has this many parts.
    pub(crate) fn holds_parts(&self, wanted: usize) {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let client = s3layers::client_over(http, &self.endpoint, "s3layers", "s3layers-secret");
        let parts = async || {
            let uploads = client.list_multipart_uploads().bucket("layers").send();
            let Some(upload) = uploads.await.unwrap().uploads.unwrap_or_default().pop() else {
                return 0;
            };
            let parts = client
                .list_parts()
                .bucket("layers")
                .set_key(upload.key)
                .set_upload_id(upload.upload_id);
            parts.send().await.unwrap().parts.unwrap_or_default().len()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let arrived = async {
            while parts().await < wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = async { tokio::time::timeout(Duration::from_secs(60), arrived).await };
        runtime.block_on(waited).unwrap();
    }
}

#[test]
fn the_demo_tells_a_true_story() {
    let user = User::new();
    let told = String::from_utf8(user.ok(&["demo"])).unwrap();
    let last = told.lines().last().unwrap_or_default();
    let truth = "the layer that came back is the layer that went in: sha256:";
    assert!(last.starts_with(truth), "{told}");
    let events = user.events(&["demo"]);
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "made",
            "cut",
            "resumed",
            "cut",
            "resumed",
            "stored",
            "read_back",
            "done"
        ]
    );
    assert_eq!(
        events[1]["taken"], events[1]["offset"],
        "stopped: every byte is kept"
    );
    assert_eq!(events[0]["digest"], events[6]["digest"]);
    // Nothing is left behind.
    assert_eq!(fs::read_dir(user.home.path()).unwrap().count(), 0);
}

#[test]
fn a_layer_comes_back_from_the_users_own_store() {
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
        assert!(!user.path("out.partial").exists());
    }
    assert!(user.path("data/s3layers").is_dir(), "the default place");
}

#[test]
fn ranges_are_read_by_seek() {
    let user = User::new();
    let layer = noise(3 * MIB);
    let file = user.file("layer", &layer);
    let id = digest(&layer);
    user.ok(&["push", &file, "--name", "x"]);
    for (range, want) in [
        ("0-0", &layer[..1]),
        ("5-9", &layer[5..10]),
        ("3145000-", &layer[3_145_000..]),
        ("-7", &layer[layer.len() - 7..]),
        ("3145720-99999999", &layer[3_145_720..]),
    ] {
        let got = user.ok(&["pull", &id, "--range", range]);
        assert_eq!(got, want, "{range}");
    }
    let pulled = user.events(&["pull", &id, "--range", "1048576-1048579", "-o", "out"]);
    assert_eq!(pulled[0]["bytes"], 4);
    assert!(
        pulled[0]["bytes_received"].as_u64().unwrap() < 200_000,
        "{pulled:?}"
    );
    let beyond = user.fails(1, &["pull", &id, "--range", "3145728-"]);
    assert!(beyond.contains("3,145,728 bytes"), "{beyond}");
    for nonsense in ["9-5", "a-b", "-", "-0", "7", ""] {
        let said = user.fails(2, &["pull", &id, &format!("--range={nonsense}")]);
        assert!(said.contains("--range"), "{said}");
    }
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
    assert_eq!(again, [serde_json::json!({"event": "exists", "id": id})]);

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
    let mixed = user.fails(2, &["--json", "pull", &id]);
    assert!(mixed.contains("-o FILE"), "{mixed}");
}

#[test]
fn a_push_that_was_stopped_sends_no_byte_again() {
    let store = Served::start(&[]);
    let user = User::of(&store);
    let layer = noise(20 * MIB + 12_345);
    let taken = 17 * MIB + 7;
    for signal in [Signal::TERM, Signal::INT] {
        let mut push = Running::start(&user, &["push", "-", "--name", "x"]);
        let uuid = push.hear("started")["uuid"].as_str().unwrap().to_owned();
        push.feed(&layer[..taken]);
        push.until(|said| said["offset"] == taken);
        push.signal(signal);
        let kept = push.hear("kept");
        assert_eq!(kept["offset"], taken);
        let resume = kept["resume"].as_str().unwrap();
        let end = format!("push - --name x --resume {uuid}");
        assert!(resume.ends_with(&end), "{resume}");
        assert_eq!(push.code(), Some(1));

        // The whole layer again, on standard input.
        let mut push = Running::start(&user, &["push", "-", "--name", "x", "--resume", &uuid]);
        assert_eq!(push.hear("started")["offset"], taken);
        push.feed(&layer);
        push.stdin = None;
        let stored = push.hear("stored");
        assert_eq!(stored["digest"], digest(&layer));
        // The tail of the part that was cut is read from the store and sent as a part of it.
        let unsent = layer.len() - 16 * MIB;
        assert!(
            stored["bytes_sent"].as_u64().unwrap() < (unsent + 10_000) as u64,
            "{stored}"
        );
        assert_eq!(push.code(), Some(0));
    }
    assert!(user.pulled(&digest(&layer)) == layer);
}

#[test]
fn a_push_that_was_killed_is_resumed_from_what_was_recorded() {
    let mut store = Served::start(&[]);
    let user = User::of(&store);
    let layer = noise(40 * MIB);
    let file = user.file("layer", &layer);
    let mut push = Running::start(&user, &["push", "-", "--name", "x"]);
    let uuid = push.hear("started")["uuid"].as_str().unwrap().to_owned();
    push.feed(&layer[..33 * MIB]);
    store.holds_parts(2);
    push.signal(Signal::KILL);
    assert_eq!(push.code(), None);

    let resumed = user.events(&["push", &file, "--name", "x", "--resume", &uuid]);
    let stored = resumed.last().unwrap();
    assert_eq!(stored["digest"], digest(&layer));
    // Nothing was recorded yet: below 128 MiB a kill may cost all of it, and no more.
    let sent = stored["bytes_sent"].as_u64().unwrap();
    assert!(sent < (40 * MIB + 10_000) as u64, "{stored}");
    assert!(
        stored["bytes_received"].as_u64().unwrap() < 10_000,
        "{stored}"
    );
    assert!(user.pulled(&digest(&layer)) == layer);
    // It is finished now.
    let gone = user.fails(1, &["push", &file, "--name", "x", "--resume", &uuid]);
    assert!(gone.contains(&uuid) && gone.contains("unknown"), "{gone}");

    store.running.signal(Signal::TERM);
    store.running.hear("stopped");
    assert_eq!(store.running.code(), Some(0));
}

#[test]
fn a_wrong_digest_publishes_nothing_and_keeps_the_bytes() {
    let user = User::new();
    let layer = noise(1000);
    let file = user.file("layer", &layer);
    let wrong = digest(b"other bytes");
    let said = user.fails(1, &["push", &file, "--name", "x", "--id", &wrong]);
    assert!(
        said.contains(&wrong) && said.contains(&digest(&layer)),
        "{said}"
    );
    assert!(
        said.contains("--resume") && said.contains("1,000 bytes"),
        "{said}"
    );
    user.fails(1, &["pull", &wrong]);
    user.fails(1, &["pull", &digest(&layer)]);

    // Another push of the same id is told how to go on.
    let said = user.fails(1, &["push", &file, "--name", "x", "--id", &wrong]);
    assert!(
        said.contains("go on with it: s3layers --store file:"),
        "{said}"
    );

    let dry = user.events(&["sweep", "--older-than", "0s", "--dry-run"]);
    assert_eq!(dry[0]["action"], "remove");
    let swept = String::from_utf8(user.ok(&["sweep", "--older-than", "0s"])).unwrap();
    assert!(swept.contains("removed"), "{swept}");
    assert_eq!(
        user.events(&["sweep", "--older-than", "0s"])[0]["uploads"],
        0
    );
}

#[test]
fn an_input_that_changed_is_not_mixed_into_the_old_one() {
    let user = User::new();
    let store = user.path("data/s3layers");
    let layer = noise(2000);
    let mut push = Running::start(&user, &["push", "-", "--name", "x"]);
    let uuid = push.hear("started")["uuid"].as_str().unwrap().to_owned();
    push.feed(&layer[..1000]);
    push.until(|said| said["offset"] == 1000);
    push.signal(Signal::TERM);
    push.hear("kept");
    drop(push);
    assert!(store.is_dir());
    let other = user.file("other", &layer[1..]);
    let said = user.fails(1, &["push", &other, "--name", "x", "--resume", &uuid]);
    assert!(said.contains("push it without --resume"), "{said}");
    let short = user.file("short", &layer[..10]);
    let said = user.fails(1, &["push", &short, "--name", "x", "--resume", &uuid]);
    assert!(said.contains("wanted the whole layer"), "{said}");
}

#[test]
fn what_is_refused_is_named() {
    let user = User::new();
    let file = user.file("layer", b"bytes");
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
        (1, &["pull", &id, "-o", "."], &["unknown"]),
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
        (
            2,
            &["store", "--listen", "0.0.0.0:0"],
            &["0.0.0.0:0", "--secret-key"],
        ),
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
fn a_store_that_is_open_elsewhere_is_locked() {
    let user = User::new();
    let mut store = Running::start(&user, &["store", "--listen", "127.0.0.1:0"]);
    store.hear("listening");
    let said = user.fails(1, &["sweep"]);
    assert!(
        said.contains("already open") && said.contains("data/s3layers"),
        "{said}"
    );
}

#[test]
fn an_s3_store_that_does_not_let_us_in_is_named() {
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
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let user = User::new();
    let layer = noise(8 * MIB);
    let file = user.file("layer", &layer);
    user.ok(&["push", &file, "--name", "x"]);
    let mut pull = user
        .command(&["pull", &digest(&layer)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    pull.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = pull.wait_with_output().unwrap();
    assert_eq!(first, layer[..10]);
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_is_no_file_is_written_to_and_not_replaced() {
    let user = User::new();
    let file = user.file("layer", b"bytes");
    user.ok(&["push", &file, "--name", "x"]);
    user.ok(&["pull", &digest(b"bytes"), "-o", "/dev/null"]);
    assert!(!Path::new("/dev/null").is_file());
    let said = user.fails(1, &["pull", &digest(b"bytes"), "-o", "."]);
    assert!(said.contains(". is a folder"), "{said}");
}

#[test]
fn a_registry_is_served_until_it_is_told_to_stop() {
    let user = User::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut registry = Running::start(&user, &["serve", "--listen", "127.0.0.1:0"]);
        let event = registry.hear("listening");
        let address = event["address"].as_str().unwrap();
        let ask = |request: &str| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        };
        let head = format!("HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        let id = digest(b"a layer");
        let path = format!("/v2/library/x/blobs/uploads/?digest={id}");
        // It hangs on to its last byte while the program is told to stop.
        let mut push = ask(&format!(
            "POST {path} {head}content-length: 7\r\n\r\na laye"
        ));
        let mut ready = String::new();
        let mut readiness = ask(&format!("GET /readyz {head}\r\n"));
        readiness.read_to_string(&mut ready).unwrap();
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
        registry.signal(signal);
        while std::net::TcpStream::connect(address).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        push.write_all(b"r").unwrap();
        let mut pushed = String::new();
        push.read_to_string(&mut pushed).unwrap();
        assert!(pushed.starts_with("HTTP/1.1 201"), "{pushed}");
        registry.hear("stopped");
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
        "demo", "doctor", "push", "pull", "serve", "sweep", "store", "tarsum",
    ] {
        assert!(help.contains(command), "{help}");
        let of_command = String::from_utf8(user.ok(&[command, "--help"])).unwrap();
        let usage = format!("Usage: s3layers {command}");
        assert!(of_command.contains(&usage), "{of_command}");
    }
    user.ok(&["--version"]);
    assert_eq!(fs::read_dir(user.home.path()).unwrap().count(), 0);
}
