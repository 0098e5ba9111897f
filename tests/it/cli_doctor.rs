//! `doctor`, run as a user runs it: what it prints, how it ends, and what it leaves.

use std::net::SocketAddr;
use std::sync::Arc;

use embedded_s3::{EmbeddedStore, Quirks};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::support::program::{ACCESS_KEY, Running, SECRET_KEY, Served, User, events, stderr};
use crate::support::{bucket, stores};

/// A store with bad habits, at an address of its own, until it is dropped.
struct Bad {
    address: SocketAddr,
    store: EmbeddedStore,
    runtime: Runtime,
}

impl Bad {
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
        Bad {
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
        let client = stores::client(&self.store, self.store.http_client());
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
fn a_good_store_is_told_in_a_table_and_remembered() {
    let store = Served::start(&[]);
    let user = User::of(&store);
    let said = text(&user.ok(&["doctor"]));
    for line in [
        "permissions: every operation is allowed",
        "ok s3:PutObject allowed",
        "ok creates at once: exactly one wins 1 of 4 won, 20 times",
        "store the embedded store of s3layers, and as expected of it",
        "profile stored in the bucket",
        "cost ",
        "verdict every promise can be kept",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(!said.contains("BROKEN"), "{said}");
    let again = text(&user.ok(&["doctor"]));
    assert!(again.contains("profile as it was in the bucket"), "{again}");

    let events = user.events(&["doctor"]);
    let (verdict, questions) = events.split_last().unwrap();
    assert_eq!(verdict["event"], "verdict");
    assert_eq!(verdict["promises_kept"], true);
    assert_eq!(verdict["broken"], Value::Array(Vec::new()));
    assert!(verdict["requests"].as_u64().unwrap() > 100);
    assert!(questions.len() > 30);
    for question in questions {
        assert_eq!(question["event"], "question", "{question}");
        assert!(
            question["id"].is_string() && question["found"].is_string(),
            "{question}"
        );
    }
    let find = |id: &str| {
        questions
            .iter()
            .find(|question| question["id"] == id)
            .unwrap()
    };
    assert_eq!(find("create_race")["answer"], "yes");
    assert_eq!(find("nothing_expires")["answer"], "unknown");
}

#[test]
fn a_store_that_breaks_a_promise_ends_with_1_and_says_which() {
    let mut quirks = Quirks::none();
    quirks.ignore_conditions = true;
    let store = Bad::serve(quirks);
    let user = User::new();
    let output = store.doctor(&user, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = text(&output.stdout);
    for line in [
        "BROKEN create where something is: refused",
        "two uploads of one layer overwrite each other's record",
        "-> use a store with conditional writes",
        "- creates at once: exactly one wins not asked; see \"create where something is: refused\"",
        "verdict not every promise can be kept: 1 BROKEN above",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let told = stderr(&output);
    assert!(
        told.contains("error: the store cannot keep every promise"),
        "{told}"
    );

    let output = store.doctor(&user, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let events = events(&output.stdout);
    let verdict = events
        .iter()
        .find(|event| event["event"] == "verdict")
        .unwrap();
    assert_eq!(verdict["promises_kept"], false);
    assert_eq!(verdict["broken"][0], "create_refused");
    assert_eq!(events.last().unwrap()["event"], "error");

    // The next command is told the same, and need not ask.
    let url = format!("http://{}", store.address);
    let place = ["--store", "s3://layers/eu", "--endpoint-url", &url];
    let said = user.fails(1, &[&place[..], &["sweep"]].concat());
    assert!(said.contains("ignores conditional writes"), "{said}");
}

#[test]
fn a_store_that_is_lived_with_ends_with_0_and_says_the_price() {
    let mut quirks = Quirks::none();
    quirks.ignore_checksums = true;
    quirks.ignore_part_etags = true;
    let store = Bad::serve(quirks);
    let output = store.doctor(&User::new(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = text(&output.stdout);
    assert_eq!(store.left(), ["eu/profile"]);
    for line in [
        "note a part that differs: refused",
        "but not as expected of it:",
        "checks of part ETags: not found, and expected of",
        "each layer is read back",
        "verdict every promise can be kept",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[test]
fn a_store_that_is_not_there_is_named() {
    let store = Served::start(&[]);
    let user = User::of(&store);
    let said = user.fails(1, &["doctor", "--store", "s3://elsewhere"]);
    assert!(said.contains("cannot use s3://elsewhere"), "{said}");
    assert!(said.contains("create the bucket"), "{said}");
    let said = user.fails(2, &["doctor", "now"]);
    assert!(said.contains("'now'"), "{said}");
}

/// Hands bytes on in both directions, but no more than 1 MiB of what one client sends. Tells when it
/// is as far.
async fn stall(listener: TcpListener, store: SocketAddr, stalled: Arc<Semaphore>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let stalled = Arc::clone(&stalled);
        tokio::spawn(async move {
            let store = TcpStream::connect(store).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_store, mut to_store) = store.into_split();
            let answers = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_store, &mut to_client).await;
            });
            let mut some = (&mut from_client).take(1 << 20);
            let copied = tokio::io::copy(&mut some, &mut to_store).await;
            if copied.is_ok_and(|bytes| bytes == 1 << 20) {
                stalled.add_permits(1);
                std::future::pending::<()>().await;
            }
            answers.abort();
        });
    }
}

#[test]
fn told_to_stop_in_the_middle_of_a_part_it_cleans_up() {
    for signal in [Signal::INT, Signal::TERM] {
        let store = Bad::serve(Quirks::none());
        let stalled = Arc::new(Semaphore::new(0));
        let door = store.runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let door = listener.local_addr().unwrap();
            tokio::spawn(stall(listener, store.address, Arc::clone(&stalled)));
            door
        });
        let url = format!("http://{door}");
        let place = [
            "--store",
            "s3://layers/eu",
            "--endpoint-url",
            &url,
            "doctor",
        ];
        let mut doctor = Running::start(&User::new(), &place);
        let until = store.runtime.block_on(stalled.acquire());
        until.unwrap().forget();
        doctor.signal(signal);
        let told = doctor.hear("error");
        assert!(
            told["message"].as_str().unwrap().contains("stopped"),
            "{told}"
        );
        assert_eq!(doctor.code(), Some(1));
        assert_eq!(store.left(), [""; 0]);
    }
}
