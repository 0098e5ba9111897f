//! Load: what a client that waits costs the others, and how a refusal reaches a client that sends.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::join_all;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use s3layers::MemoryLayerService;
use s3layers_registry::{BodyError, Limits, Options, Policy, router, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::auth;
use super::client::Client;
use super::site::{Process, Site, started, started_over_wire};
use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::fault_client::{GetObject, On, PutObject};

/// Far less than what a request would wait for.
const AT_ONCE: Duration = Duration::from_secs(1);
const ABSENT: &str = "/v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000";

fn few_permits(max_requests: usize) -> Options {
    Options {
        max_requests,
        ..Options::default()
    }
}

async fn with_limits(limits: Limits) -> Process {
    let service = Arc::new(MemoryLayerService::new());
    started(service, Options::default(), limits).await
}

#[tokio::test]
async fn refused_request_whose_body_never_comes_holds_no_permit() {
    for site in Site::all().await {
        let client = site.process_with(few_permits(1)).await.client;
        let bytes = ramp(1, 1000);
        let digest = sha256(&bytes);
        client.push("a", &bytes, &digest).await;
        let refused = (0..50).map(|_| async {
            let path = "/v2/a/blobs/uploads/?digest=bad";
            let mut refused = client
                .begin("POST", path, &[("content-length", "100")])
                .await;
            refused.reply().await.is(400);
            refused
        });
        let begun = Instant::now();
        let refused = join_all(refused).await;
        client.head(&format!("/v2/a/blobs/{digest}")).await.is(200);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        drop(refused);
    }
}

/// The storage takes no bytes for a while. Uploads wait for it, and small reads do not.
#[tokio::test]
async fn uploads_that_wait_for_the_storage_leave_permits_to_small_reads() {
    let site = Site::embedded().await;
    let (process, wire) = started_over_wire(&site, few_permits(4)).await;
    let client = process.client;
    let bytes = ramp(1, 1000);
    let digest = sha256(&bytes);
    client.push("a", &bytes, &digest).await;
    let gate = wire.hold(On::every(PutObject));
    let pushes: Vec<_> = (0..20)
        .map(|seed| {
            tokio::spawn(async move {
                let bytes = ramp(seed, 2000);
                let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&bytes));
                client.send("POST", &path, &[], &bytes).await.status
            })
        })
        .collect();
    gate.reached_by(3).await;
    for _ in 0..5 {
        let begun = Instant::now();
        client.head(&format!("/v2/a/blobs/{digest}")).await.is(200);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
    gate.open();
    for push in pushes {
        assert_eq!(push.await.unwrap(), 201);
    }
}

/// As clients do that read the answer beside sending, or only after it.
#[tokio::test]
async fn refusal_reaches_a_client_that_keeps_sending() {
    let client = Site::client_of_memory().await;
    let at = client.upload("a").await;
    client.send("PATCH", &at, &[], b"hello").await.is(202);
    for (path, status) in [
        (at.as_str(), 416),
        (ABSENT, 404),
        ("/v2/A/b/blobs/uploads/x", 400),
    ] {
        for size in [1000, 8 * MIB as usize, 64 * MIB as usize] {
            let declared = size.to_string();
            let headers = [("content-length", declared.as_str())];
            let mut request = client.begin("PATCH", path, &headers).await;
            let piece = vec![0; 64 * 1024];
            for start in (0..size).step_by(piece.len()) {
                let end = piece.len().min(size - start);
                request.send(&piece[..end]).await;
            }
            request.reply().await.is(status);
        }
    }
}

/// A client without credentials may send little. The same connection, once it has them, may send more.
#[tokio::test]
async fn refusal_reaches_a_client_that_authenticated_after_a_challenge() {
    let site = auth::fixture::Site::new(auth::fixture::users(&["alice"]), Policy::for_users(false));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client(listener.local_addr().unwrap());
    tokio::spawn(serve(listener, site.registry, Limits::default(), pending()));
    let mut connection = client.begin("GET", "/v2/", &[]).await;
    connection.reply().await.is(401);
    let size = 64 * MIB as usize;
    let authorization = BASE64_STANDARD.encode("alice:ecila");
    let head = format!(
        "PATCH /v2/A/b/blobs/uploads/x HTTP/1.1\r\nhost: x\r\nauthorization: Basic {authorization}\r\n\
         content-length: {size}\r\n\r\n"
    );
    connection.send(head.as_bytes()).await;
    for _ in 0..size / (64 * 1024) {
        connection.send(&[0; 64 * 1024]).await;
    }
    connection.reply().await.is(400);
}

/// However many connections are open: the first ones have larger buffers.
#[tokio::test]
async fn large_head_is_refused_on_every_connection() {
    let client = Site::client_of_memory().await;
    let mut open = Vec::new();
    for (bytes, status) in [(16 * 1024, 200), (40 * 1024, 431)].repeat(10) {
        let value = "x".repeat(bytes);
        let mut request = client.begin("GET", "/v2/", &[("x-padding", &value)]).await;
        request.reply().await.is(status);
        open.push(request);
    }
}

#[tokio::test]
async fn connection_is_kept_after_a_refusal_whose_body_was_small() {
    let client = Site::client_of_memory().await;
    let headers = [("content-length", "1000")];
    let mut request = client.begin("PATCH", ABSENT, &headers).await;
    request.reply().await.is(404);
    request.send(&[0; 1000]).await;
    request.send(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").await;
    request.reply().await.is(200);
}

#[tokio::test]
async fn refused_client_that_never_ends_its_body_is_disconnected() {
    let client = Site::client_of_memory().await;
    let headers = [("content-length", "1000")];
    let mut request = client.begin("PATCH", ABSENT, &headers).await;
    request.reply().await.is(404);
    let end = timeout(Duration::from_secs(30), request.stream.read_u8());
    assert!(end.await.unwrap().is_err());
}

#[tokio::test]
async fn stop_closes_connections_without_a_complete_request_at_once() {
    let process = with_limits(Limits::default()).await;
    let mut silent = Vec::new();
    for bytes in [
        &b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\nGET /v2",
        b"GET /v2/ HT",
        b"",
    ] {
        let mut stream = TcpStream::connect(process.client.0).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        if bytes.starts_with(b"GET /v2/ HTTP/1.1") {
            stream.read_u8().await.unwrap();
        }
        silent.push(stream);
    }
    // Accepted after all of them.
    process.client.get("/v2/").await.is(200);
    let begun = Instant::now();
    process.stop.send(()).unwrap();
    let stopped = timeout(Duration::from_secs(20), process.running).await;
    stopped.unwrap().unwrap().unwrap();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    drop(silent);
}

async fn ended(client: Client, bytes: &[u8], within: Duration) -> bool {
    let mut stream = TcpStream::connect(client.0).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    timeout(within, stream.read_to_end(&mut answer))
        .await
        .is_ok()
}

#[tokio::test]
async fn head_and_idle_connection_have_a_limit_each() {
    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);
    let (half, whole) = (&b"GET /v2/ HT"[..], b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n");
    let limits = Limits {
        header_timeout: SHORT,
        ..Limits::default()
    };
    let client = with_limits(limits).await.client;
    assert!(ended(client, half, LONG).await);
    assert!(ended(client, b"", LONG).await, "nothing came");
    assert!(!ended(client, whole, 10 * SHORT).await);
    let limits = Limits {
        idle_timeout: SHORT,
        ..Limits::default()
    };
    let client = with_limits(limits).await.client;
    assert!(ended(client, whole, LONG).await);
}

/// Time is paused, so that waiting costs nothing.
#[tokio::test(start_paused = true)]
async fn push_continues_after_a_pause_of_nine_minutes() {
    let registry = router(Arc::new(MemoryLayerService::new()), Options::default());
    let bytes = ramp(1, 100_000);
    let digest = sha256(&bytes);
    let halves = [bytes.slice(..50_000), bytes.slice(50_000..)];
    let halves = futures_util::stream::unfold(halves.into_iter(), |mut halves| async {
        let half = halves.next()?;
        sleep(Duration::from_secs(9 * 60)).await;
        Some((Ok::<_, BodyError>(Frame::data(half)), halves))
    });
    let request = http::Request::post(format!("/v2/a/blobs/uploads/?digest={digest}"))
        .body(StreamBody::new(halves))
        .unwrap();
    assert_eq!(registry.handle(request).await.status(), 201);
    let request = http::Request::get(format!("/v2/a/blobs/{digest}"))
        .body(http_body_util::Empty::new())
        .unwrap();
    let body = registry.handle(request).await.into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
}

/// How long an answer about readiness is good for all clients, and a little.
const ANSWER_LIFETIME: Duration = Duration::from_millis(1100);

#[tokio::test]
async fn readiness_is_one_attempt_within_two_seconds() {
    let site = Site::embedded().await;
    let (process, wire) = started_over_wire(&site, Options::default()).await;
    let client = process.client;
    client.get("/readyz").await.is(200);
    wire.reset();
    for rule in [
        On::every(GetObject).status(503),
        On::every(GetObject).hang(),
    ] {
        wire.fault(rule);
        let before = wire.count(GetObject);
        sleep(ANSWER_LIFETIME).await;
        let begun = Instant::now();
        client.get("/readyz").await.is(503);
        assert!(begun.elapsed() < Duration::from_secs(4));
        assert_eq!(wire.count(GetObject), before + 1);
        wire.clear_faults();
    }
    sleep(ANSWER_LIFETIME).await;
    client.get("/readyz").await.is(200);
}
