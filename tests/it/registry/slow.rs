//! Clients that are slow, too many, or there when it is time to stop.

use std::sync::Arc;
use std::time::Duration;

use s3layers::MemoryLayerService;
use s3layers_registry::{Limits, Options};
use tokio::time::{Instant, sleep, timeout};

use super::manifests::{image, put};
use super::site::{Process, Site, idle_after, started};
use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::fault_client::{FaultClient, GetObject, On};
use crate::support::stores;

const LONG: [(&str, &str); 1] = [("content-length", "1000000")];

#[tokio::test]
async fn idle_upload_is_refused_and_keeps_its_bytes() {
    for site in Site::all().await {
        let process = site
            .process_with(idle_after(Duration::from_millis(300)))
            .await;
        let client = process.client;
        let at = client.upload("a").await;
        let mut silent = client.begin("PATCH", &at, &LONG).await;
        silent.send(&ramp(1, 70_000)).await;
        let reply = silent.reply().await.is(408);
        assert_eq!(reply.offset(), 70_000);
        assert_eq!(client.get(&at).await.is(204).offset(), 70_000);
        let mut silent = client.begin("PUT", "/v2/a/manifests/v1", &LONG).await;
        silent.reply().await.is(408);
    }
}

#[tokio::test]
async fn two_hundred_clients_of_a_byte_a_second_are_in_nobodys_way() {
    for site in Site::all().await {
        let options = Options {
            max_requests: 4,
            ..Options::default()
        };
        let client = site.process_with(options).await.client;
        let mut slow = Vec::new();
        for number in 0..200 {
            let conversation = match number % 4 {
                0 => {
                    let mut conversation = client.begin("PATCH", "/v2/a", &[]).await;
                    conversation.send(b"").await;
                    conversation
                }
                1 => client.begin("PUT", "/v2/a/manifests/v1", &LONG).await,
                _ => {
                    let at = client.upload("slow").await;
                    client.begin("PATCH", &at, &LONG).await
                }
            };
            slow.push(conversation);
        }
        let trickle = tokio::spawn(async move {
            loop {
                for conversation in &mut slow {
                    let _ = conversation.stream.try_write(b"x");
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
        let ordinary = async {
            for seed in 0..5 {
                let image = image(client, "ordinary", seed * 10).await;
                let path = format!("/v2/ordinary/manifests/v{seed}");
                let bytes = put(client, &path, &image).await;
                assert_eq!(client.get(&path).await.is(200).body, bytes);
                let layer = image["layers"][0]["digest"].as_str().unwrap();
                client
                    .get(&format!("/v2/ordinary/blobs/{layer}"))
                    .await
                    .is(200);
            }
        };
        timeout(Duration::from_secs(20), ordinary).await.unwrap();
        trickle.abort();
    }
}

/// Who is asked about needs a place to answer from.
#[tokio::test]
async fn who_asks_a_running_upload_does_not_keep_it_from_answering() {
    const AT_ONCE: Duration = Duration::from_secs(10);
    for site in Site::all().await {
        let options = Options {
            max_requests: 1,
            ..Options::default()
        };
        let client = site.process_with(options).await.client;
        let bytes = ramp(1, 100_000);
        let at = client.upload("a").await;
        let mut patch = client.begin("PATCH", &at, &LONG).await;
        patch.send(&bytes[..70_000]).await;
        let begun = Instant::now();
        let status = client.status(&at, 70_000).await;
        assert_eq!(status.offset(), 70_000);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());

        let begun = Instant::now();
        let path = format!("{}&digest={}", status.location(), sha256(&bytes));
        let reply = client.send("PUT", &path, &[], &bytes[70_000..]).await;
        reply.is(201);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        patch.reply().await.is(409);

        let at = client.upload("a").await;
        let mut patch = client.begin("PATCH", &at, &LONG).await;
        patch.send(&bytes[..70_000]).await;
        client.status(&at, 70_000).await;
        let begun = Instant::now();
        client.delete(&at).await.is(204);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
}

async fn draining(drain: Duration) -> (MemoryLayerService, Process) {
    let service = MemoryLayerService::new();
    let limits = Limits {
        drain,
        ..Limits::default()
    };
    let process = started(Arc::new(service.clone()), Options::default(), limits).await;
    (service, process)
}

#[tokio::test]
async fn who_is_served_when_it_is_time_to_stop_is_served_to_the_end() {
    let (_, process) = draining(Duration::from_secs(30)).await;
    let client = process.client;
    let bytes = ramp(1, 100_000);
    let at = client.upload("a").await;
    let path = format!("{at}&digest={}", sha256(&bytes));
    let mut put = client
        .begin("PUT", &path, &[("content-length", "100000")])
        .await;
    put.send(&bytes[..50_000]).await;
    assert_eq!(client.status(&at, 50_000).await.offset(), 50_000);
    process.stop.send(()).unwrap();
    // New connections are refused.
    while tokio::net::TcpStream::connect(client.0).await.is_ok() {
        sleep(Duration::from_millis(10)).await;
    }
    put.send(&bytes[50_000..]).await;
    put.reply().await.is(201);
    timeout(Duration::from_secs(5), process.running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn upload_that_exceeds_the_drain_time_is_ended_and_can_be_resumed() {
    let (service, process) = draining(Duration::from_millis(900)).await;
    let client = process.client;
    let bytes = ramp(1, 100_000);
    let at = client.upload("a").await;
    let mut patch = client.begin("PATCH", &at, &LONG).await;
    patch.send(&bytes[..70_000]).await;
    assert_eq!(client.status(&at, 70_000).await.offset(), 70_000);
    let began = Instant::now();
    process.stop.send(()).unwrap();
    let reply = patch.reply().await.is(503);
    assert_eq!(reply.offset(), 70_000);
    assert!(reply.header("retry-after").is_some());
    process.running.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3));

    let site = Site::Memory(service);
    let other = site.process().await.client;
    let at = other.get(&at).await.is(204).location();
    let path = format!("{at}&digest={}", sha256(&bytes));
    other
        .send("PUT", &path, &[], &bytes[70_000..])
        .await
        .is(201);
}

#[tokio::test]
async fn request_beyond_the_limit_waits_and_then_returns_429() {
    let site = Site::embedded().await;
    let Site::Embedded(store) = &site else {
        unreachable!()
    };
    let wire = FaultClient::over(store.http_client());
    let sdk = stores::client(store, wire.http_client());
    let config = stores::config();
    let service = s3layers::S3LayerService::connect(sdk, config)
        .await
        .unwrap();
    let options = Options {
        max_requests: 1,
        patience: Duration::from_millis(200),
        ..Options::default()
    };
    let process = started(Arc::new(service), options, Limits::default()).await;
    let client = process.client;
    let blob = format!("/v2/a/blobs/{}", sha256(b"absent"));
    let gate = wire.hold(On::every(GetObject));
    let mut first = client.begin("GET", &blob, &[]).await;
    gate.reached_by(1).await;
    let reply = client.get(&blob).await.is(429);
    assert_eq!(reply.code(), "TOOMANYREQUESTS");
    assert!(reply.header("retry-after").is_some());
    client.get("/livez").await.is(200);
    gate.open();
    first.reply().await.is(404);
    client.get(&blob).await.is(404);
}

#[tokio::test]
async fn who_does_not_read_what_it_asked_for_is_cut_off() {
    let service = MemoryLayerService::new();
    let limits = Limits {
        write_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let process = started(Arc::new(service), Options::default(), limits).await;
    let client = process.client;
    // More than all sockets hold.
    let bytes = ramp(1, 64 * MIB);
    let digest = sha256(&bytes);
    client.push("a", &bytes, &digest).await;
    let path = format!("/v2/a/blobs/{digest}");
    let mut conversation = client.begin("GET", &path, &[]).await;
    sleep(Duration::from_millis(1500)).await;
    assert!(conversation.try_reply().await.is_none());
    assert_eq!(client.get(&path).await.is(200).body, bytes);
}
