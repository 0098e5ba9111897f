//! `doctor` as a user runs it: its output, its exit code, and the objects it leaves.

use std::net::SocketAddr;

use embedded_s3::{EmbeddedStore, Quirks};
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::program::{
    ACCESS_KEY, Running, SECRET_KEY, Served, User, digest, events, stderr,
};
use crate::support::tcp_proxy::{Direction, TcpProxy};
use crate::support::{bucket, stores};

/// A store with quirks, at its own address, until it is dropped.
struct Quirky {
    address: SocketAddr,
    store: EmbeddedStore,
    runtime: Runtime,
}

impl Quirky {
    fn serve(quirks: Quirks) -> Self {
        let runtime = Runtime::new().unwrap();
        let (store, address) = runtime.block_on(async {
            let store = stores::in_memory().await.with_quirks(quirks);
            let store = store.with_keys(ACCESS_KEY, SECRET_KEY);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let served = store.clone();
            tokio::spawn(async move { served.serve(listener, std::future::pending()).await });
            (store, address)
        });
        Quirky {
            address,
            store,
            runtime,
        }
    }

    fn doctor(&self, user: &User, more: &[&str]) -> std::process::Output {
        let url = format!("http://{}", self.address);
        let place = [
            "--store",
            "s3://layers/eu",
            "--endpoint-url",
            &url,
            "doctor",
        ];
        user.run(&[&place[..], more].concat())
    }

    /// Everything in the bucket.
    fn left(&self) -> Vec<String> {
        let client = stores::sdk_client(&self.store);
        self.runtime.block_on(async {
            let mut left: Vec<_> = bucket::keys(&client).await.into_iter().collect();
            left.extend(bucket::multiparts(&client).await);
            left
        })
    }
}

/// What was printed, with one space where a table has several.
fn text(stdout: &[u8]) -> String {
    let text = std::str::from_utf8(stdout).unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

#[test]
fn complete_store_is_reported_and_recorded() {
    let (_store, user) = Served::with_user();
    let said = text(&user.ok(&["doctor"]));
    for line in [
        "every operation is allowed:",
        "ok s3:PutObject allowed",
        "ok concurrent creates: exactly one succeeds 1 of 4 succeeded, 20 times",
        "store the embedded store of s3layers, and as expected of it",
        "profile stored in the bucket",
        "cost ",
        "verdict every promise can be kept",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(!said.contains("BROKEN"), "{said}");
    let again = text(&user.ok(&["doctor"]));
    assert!(again.contains("profile unchanged in the bucket"), "{again}");

    let events = user.events(&["doctor"]);
    let (verdict, checks) = events.split_last().unwrap();
    assert_eq!(verdict["event"], "verdict");
    assert_eq!(verdict["promises_kept"], true);
    assert_eq!(verdict["broken"], Value::Array(Vec::new()));
    assert!(verdict["requests"].as_u64().unwrap() > 100);
    assert!(checks.len() > 30);
    for check in checks {
        assert_eq!(check["event"], "check", "{check}");
        assert!(
            check["id"].is_string() && check["detail"].is_string(),
            "{check}"
        );
    }
    let find = |id: &str| checks.iter().find(|check| check["id"] == id).unwrap();
    assert_eq!(find("create_race")["answer"], "yes");
    assert_eq!(find("nothing_expires")["answer"], "unknown");
}

#[test]
fn broken_promise_exits_with_1_and_names_it() {
    let mut quirks = Quirks::none();
    quirks.ignore_conditions = true;
    let store = Quirky::serve(quirks);
    let user = User::new();
    let output = store.doctor(&user, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = text(&output.stdout);
    for line in [
        "BROKEN create an existing object: refused",
        "two uploads of one layer overwrite each other's record",
        "-> use a store with conditional writes",
        "skipped replace by the current ETag: accepted see \"create an existing object: refused\"",
        "verdict not every promise can be kept: 1 BROKEN above",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let printed = stderr(&output);
    assert!(
        printed.contains("error: the store cannot keep every promise"),
        "{printed}"
    );

    let output = store.doctor(&user, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let events = events(&output.stdout);
    let verdict = events
        .iter()
        .find(|event| event["event"] == "verdict")
        .unwrap();
    assert_eq!(verdict["promises_kept"], false);
    assert_eq!(verdict["broken"][0], "create_conflict");
    assert_eq!(events.last().unwrap()["event"], "error");

    // The next command reads the recorded profile.
    let url = format!("http://{}", store.address);
    let place = ["--store", "s3://layers/eu", "--endpoint-url", &url];
    let said = user.fails(1, &[&place[..], &["sweep"]].concat());
    assert!(said.contains("whose condition does not hold"), "{said}");
}

#[test]
fn store_with_extra_costs_exits_with_0() {
    let mut quirks = Quirks::none();
    quirks.ignore_checksums = true;
    quirks.ignore_part_etags = true;
    let store = Quirky::serve(quirks);
    let output = store.doctor(&User::new(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = text(&output.stdout);
    assert_eq!(store.left(), ["eu/profile"]);
    for line in [
        "note a part with a wrong checksum: refused",
        "but not as expected of it:",
        "checks of part ETags: not found, and expected of",
        "each layer is read back",
        "verdict every promise can be kept",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[test]
fn mistyped_root_is_named_and_nothing_is_written_there() {
    let store = Quirky::serve(Quirks::none());
    let user = User::new();
    let url = format!("http://{}", store.address);
    let id = digest(b"x");
    let commands: [&[&str]; 12] = [
        &["ls"],
        &["uploads"],
        &["sweep"],
        &["stat", &id],
        &["pull", &id],
        &["cancel", "00000000-0000-4000-8000-000000000000"],
        &["rm", "team/app:1"],
        &["du"],
        &["gc"],
        &["gc", "--dry-run"],
        &["trash", "ls"],
        &["check"],
    ];
    let place = ["--store", "s3://layers/typo", "--endpoint-url", &url];
    for command in commands {
        let code = if command == ["check"] { 2 } else { 1 };
        let said = user.fails(code, &[&place[..], command].concat());
        for named in [
            "s3://layers/typo",
            "nothing was ever stored",
            "typo/profile",
        ] {
            assert!(said.contains(named), "{command:?}: {said}");
        }
    }
    assert!(store.left().is_empty(), "{:?}", store.left());
}

#[test]
fn missing_bucket_is_named() {
    let (_store, user) = Served::with_user();
    let said = user.fails(1, &["doctor", "--store", "s3://elsewhere"]);
    assert!(said.contains("cannot use s3://elsewhere"), "{said}");
    assert!(said.contains("create the bucket"), "{said}");
    let said = user.fails(2, &["doctor", "now"]);
    assert!(said.contains("'now'"), "{said}");
}

#[test]
fn signal_during_a_part_cleans_up() {
    for signal in [Signal::INT, Signal::TERM] {
        let store = Quirky::serve(Quirks::none());
        let proxy = TcpProxy::to(&format!("http://{}", store.address));
        // Only the bodies of parts are as large.
        proxy.pause_after(Direction::Up, 1 << 20);
        let place = [
            "--store",
            "s3://layers/eu",
            "--endpoint-url",
            &proxy.url,
            "doctor",
        ];
        let mut doctor = Running::start(&User::new(), &place);
        proxy.wait_until_paused(Direction::Up);
        doctor.signal(signal);
        proxy.resume();
        let printed = doctor.next_event("error");
        assert!(
            printed["message"].as_str().unwrap().contains("stopped"),
            "{printed}"
        );
        assert_eq!(doctor.code(), Some(1));
        assert_eq!(store.left(), [""; 0]);
    }
}
