//! The log: how much of it there is, in which format, and a line for each request.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::{run, settle};
use crate::support::program::{MIB, Served, digest, events, noise, stderr};

#[test]
fn log_has_a_line_for_each_request() {
    let (_store, user) = Served::with_user();
    let file = user.file("layer", &noise(20 * MIB));
    let push = [
        "--json",
        "-vv",
        "--log-format",
        "json",
        "push",
        &file,
        "--name",
        "x",
    ];
    let output = user.run(&push);
    let stored = events(&output.stdout).pop().unwrap();
    assert_eq!(stored["event"], "stored");
    let lines = events(&output.stderr);
    let requests: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "S3 request")
        .collect();
    assert_eq!(requests.len() as u64, stored["requests"].as_u64().unwrap());
    let mut by_operation = BTreeMap::<&str, u64>::new();
    for line in &requests {
        assert_eq!(line["level"], "DEBUG", "{line}");
        assert!(line["attempt"].as_u64().unwrap() > 0, "{line}");
        assert!(line["status"].as_u64().unwrap() >= 200, "{line}");
        assert!(
            line["ms"].is_u64() && !line["key"].as_str().unwrap().is_empty(),
            "{line}"
        );
        *by_operation
            .entry(line["operation"].as_str().unwrap())
            .or_default() += 1;
    }
    let wanted = &stored["requests_by_operation"];
    assert_eq!(serde_json::to_value(&by_operation).unwrap(), *wanted);
    for bytes in ["bytes_sent", "bytes_received"] {
        let sum: u64 = requests
            .iter()
            .map(|line| line[bytes].as_u64().unwrap())
            .sum();
        assert_eq!(Value::from(sum), stored[bytes], "{bytes}");
    }
    // The same settings in the file; a read of a body is logged with its bytes.
    settle(&user, "[log]\nlevel = \"debug\"\nformat = \"json\"\n");
    let pull = [
        "--json",
        "pull",
        stored["digest"].as_str().unwrap(),
        "-o",
        "out",
    ];
    let output = user.run(&pull);
    let pulled = events(&output.stdout).pop().unwrap();
    let lines = events(&output.stderr);
    let received = lines
        .iter()
        .filter_map(|line| line["bytes_received"].as_u64());
    assert_eq!(Value::from(received.sum::<u64>()), pulled["bytes_received"]);

    // As text it is none; and quiet is quiet.
    let text = stderr(&user.run(&["-vv", "--log-format", "text", "sweep"]));
    assert!(text.contains("S3 request operation="), "{text}");
    assert!(serde_json::from_str::<Value>(text.lines().next().unwrap()).is_err());
    fs::remove_file(user.path("out")).unwrap();
    for arguments in [&["-q", "sweep"][..], &["-q", "pull", pull[2], "-o", "out"]] {
        let output = run(&user, &[("RUST_LOG", "debug")], arguments);
        assert!(output.status.success());
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
    let said = user.fails(1, &["-q", "pull", &digest(b"unknown")]);
    assert!(said.contains("unknown"), "{said}");
}
