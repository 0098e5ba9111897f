//! `serve`, run as a user runs it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::http_request::HttpRequest;
use crate::support::program::{Running, Served, User, digest, noise};
use crate::support::reply::Reply;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request on a connection that stays open. The body of the answer, which has to be 200.
fn get(connection: &mut BufReader<TcpStream>, path: &str) -> Vec<u8> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: registry\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let mut length = 0;
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{path}: {line}");
    while line != "\r\n" {
        line.clear();
        assert!(connection.read_line(&mut line).unwrap() > 0, "{path}");
        if let Some(length_text) = line.to_lowercase().strip_prefix("content-length: ") {
            length = length_text.trim_end().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    body
}

/// As a shell sets it: what the process begins with, and what it may have.
#[test]
fn silent_clients_leave_open_files_to_the_others() {
    for limit in ["ulimit -Sn 100", "ulimit -n 100"] {
        let user = User::new();
        let layer = noise(100_000);
        let file = user.file("layer", &layer);
        user.ok(&["push", &file, "--name", "x"]);
        let program = env!("CARGO_BIN_EXE_s3layers");
        let line = format!("{limit}; exec {program} --json serve --listen 127.0.0.1:0");
        let mut serving = Running::spawn(user.shell(&line));
        let address = serving.next_event("listening")["address"].clone();
        let connect = || {
            let connection = TcpStream::connect(address.as_str().unwrap()).unwrap();
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            connection
        };
        let mut client = BufReader::new(connect());
        get(&mut client, "/v2/");
        let silent: Vec<_> = (0..150).map(|_| connect()).collect();
        // Those before it in the queue were accepted, or wait for their turn.
        let mut another = BufReader::new(connect());
        if limit.contains('S') {
            get(&mut another, "/v2/");
        }
        let blob = format!("/v2/x/blobs/{}", digest(&layer));
        assert!(get(&mut client, &blob) == layer, "{limit}");
        drop(silent);
    }
}

#[test]
fn listening_beyond_this_machine_has_to_be_declared() {
    let user = User::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:5000"] {
        let refused = user
            .command(&["serve", "--listen", address])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let text = String::from_utf8(refused.stderr).unwrap();
        for word in [address, "127.0.0.1", "--allow-anonymous"] {
            assert!(text.contains(word), "{text}");
        }
    }
}

/// A registry that sweeps and collects all the time, and the address of its metrics.
fn busy(user: &User, more: &[&str]) -> (Running, String) {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = unused.local_addr().unwrap().to_string();
    drop(unused);
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0"];
    arguments.extend(["--metrics-listen", &metrics]);
    arguments.extend(["--sweep-every", "50ms", "--gc-every", "50ms"]);
    arguments.extend(more);
    let mut serving = Running::start(user, &arguments);
    serving.next_event("listening");
    (serving, metrics)
}

/// Which of its own work a registry has begun.
fn begun_work(metrics: &str) -> Vec<&'static str> {
    let answer = Reply::to(metrics, "GET", "/metrics", &[], b"").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    let has_listed =
        |work: &&str| text.contains(&format!("{{route=\"{work}\",operation=\"ListObjectsV2\"}}"));
    ["sweep", "gc"].into_iter().filter(has_listed).collect()
}

#[test]
fn sweeps_and_collections_run_while_it_serves_unless_it_is_read_only() {
    let store = Served::start(&[]);
    let user = User::of(&store);
    user.ok(&["doctor"]);
    let (_reading, of_reading) = busy(&user, &["--read-only"]);
    let (_writing, of_writing) = busy(&user, &[]);
    let begun = Instant::now();
    while begun_work(&of_writing).len() < 2 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(begun_work(&of_reading), [""; 0]);
}

#[test]
fn collection_without_conditional_writes_is_refused_at_start() {
    let user = User::new();
    let said = user.fails(2, &["--single-writer", "serve", "--gc-every", "12h"]);
    assert!(
        said.contains("--gc-every") && said.contains("--single-writer"),
        "{said}"
    );
}

/// A request of a webhook, its events, and its connection: it is not answered yet.
fn next_post(receiver: &TcpListener) -> (HttpRequest, Vec<Value>, TcpStream) {
    receiver.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    let mut stream = loop {
        match receiver.accept() {
            Ok((stream, _)) => break stream,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "no request: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    stream.set_nonblocking(false).unwrap();
    let request = HttpRequest::read(&mut stream).unwrap();
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let events = body["events"].as_array().unwrap().clone();
    (request, events, stream)
}

#[test]
fn events_that_wait_are_delivered_before_the_end() {
    let user = User::new();
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("http://{}/hook", receiver.local_addr().unwrap());
    let authorization = user.file("authorization", b"Bearer of-a-file\n");
    let mut arguments = vec!["--store", "memory:", "serve", "--listen", "127.0.0.1:0"];
    arguments.extend([
        "--webhook",
        &hook,
        "--webhook-authorization",
        &authorization,
    ]);
    let mut serving = Running::start(&user, &arguments);
    let address = serving.next_event("listening")["address"].clone();
    let address = address.as_str().unwrap();
    let push = |layer: &[u8]| {
        let path = format!("/v2/a/blobs/uploads/?digest={}", digest(layer));
        let reply = Reply::to(address, "POST", &path, &[], layer);
        reply.unwrap().is(201).unwrap();
    };
    push(b"one");
    let (request, events, mut first) = next_post(&receiver);
    assert_eq!(request.headers["authorization"], "Bearer of-a-file");
    assert_eq!(events.len(), 1);
    push(b"two");
    serving.signal(Signal::TERM);
    while TcpStream::connect(address).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ok = b"HTTP/1.1 204 No Content\r\n\r\n";
    first.write_all(ok).unwrap();
    let (_, events, mut second) = next_post(&receiver);
    assert_eq!(events[0]["target"]["digest"], digest(b"two"));
    second.write_all(ok).unwrap();
    assert_eq!(serving.code(), Some(0));
}
