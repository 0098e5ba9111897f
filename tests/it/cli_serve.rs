//! `serve`, run as a user runs it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::program::{Running, User, digest, noise};

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
