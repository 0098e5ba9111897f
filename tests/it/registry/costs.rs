//! What a request of a client costs in requests to the store, counted below the SDK.

use std::sync::Arc;

use bytes::Bytes;
use s3layers::S3LayerService;
use s3layers_registry::{Limits, Options};
use serde_json::json;

use super::client::Client;
use super::manifests::IMAGE;
use super::site::{Site, started};
use crate::reading::range;
use crate::support::bytes::{KIB, MIB, assert_same, ramp, sha256};
use crate::support::fault_client::{DeleteObject, FaultClient, GetObject, On, PutObject};
use crate::support::stores;

/// What docker does for a layer that is not there: HEAD, POST, PATCH, PUT.
async fn docker_push(client: Client, bytes: &[u8]) {
    let digest = sha256(bytes);
    let blob = format!("/v2/library/x/blobs/{digest}");
    client.head(&blob).await.is(404);
    let at = client.upload("library/x").await;
    let at = client.send("PATCH", &at, &[], bytes).await.is(202);
    let path = format!("{}&digest={digest}", at.location());
    client.send("PUT", &path, &[], b"").await.is(201);
}

/// What containerd does: HEAD, POST, and PUT with all bytes.
async fn containerd_push(client: Client, bytes: &[u8]) {
    let digest = sha256(bytes);
    let blob = format!("/v2/library/x/blobs/{digest}");
    client.head(&blob).await.is(404);
    let at = client.upload("library/x").await;
    let separator = if at.contains('?') { '&' } else { '?' };
    let path = format!("{at}{separator}digest={digest}");
    client.send("PUT", &path, &[], bytes).await.is(201);
}

fn spent(wire: &FaultClient) -> usize {
    let spent = wire.log().len();
    wire.reset();
    spent
}

/// A process over a wire, and the service in it.
async fn process(site: &Site) -> (Client, FaultClient, Arc<S3LayerService>) {
    let Site::Embedded(store) = site else {
        panic!("there is no wire to a map");
    };
    let wire = FaultClient::over(store.http_client());
    let client = stores::client(store, wire.http_client());
    let service = S3LayerService::connect(client, stores::config()).await;
    let service = Arc::new(service.unwrap());
    let process = started(service.clone(), Options::default(), Limits::default()).await;
    wire.reset();
    (process.client, wire, service)
}

/// In a repository that the process knows. The session is removed after the answer: the DELETE
/// counts, and no client waits for it.
#[tokio::test]
async fn push_costs_at_most_the_promised_requests() {
    let site = Site::embedded().await;
    let (client, wire, service) = process(&site).await;
    docker_push(client, &ramp(1, 10)).await;
    service.wait_for_background().await;
    for (size, in_sequence, all) in [
        (3 * KIB, 6, 7),
        (16 * KIB, 6, 7),
        (16 * KIB + 1, 7, 8),
        (300 * KIB, 7, 8),
        (12 * MIB, 16, 16),
    ] {
        wire.reset();
        let gate = wire.hold(On::every(DeleteObject).key_ends("/session"));
        docker_push(client, &ramp(size as u32, size)).await;
        gate.reached_by(1).await;
        let log = wire.log();
        let answered = log.iter().filter(|one| one.operation != DeleteObject);
        assert!(answered.count() <= in_sequence, "{size}: {log:#?}");
        gate.open();
        service.wait_for_background().await;
        let log = wire.log();
        assert!(log.len() <= all, "{size}: {} of {all}: {log:#?}", log.len());
    }
    wire.reset();
    containerd_push(client, &ramp(7, 15 * KIB)).await;
    service.wait_for_background().await;
    let log = wire.log();
    assert!(log.len() <= 6, "{log:#?}");
}

/// So a docker push of a small layer takes 4 requests in sequence, and one by POST and PUT 3.
#[tokio::test]
async fn small_layer_is_committed_by_three_requests_at_once() {
    let site = Site::embedded().await;
    let (client, wire, _) = process(&site).await;
    for patches in [true, false] {
        let bytes = ramp(u32::from(patches), 16 * KIB);
        let digest = sha256(&bytes);
        let mut at = client.upload("library/x").await;
        let mut body = &bytes[..];
        if patches {
            wire.reset();
            at = client
                .send("PATCH", &at, &[], body)
                .await
                .is(202)
                .location();
            assert_eq!(spent(&wire), 1, "PATCH");
            body = b"";
        }
        let separator = if at.contains('?') { '&' } else { '?' };
        let path = format!("{at}{separator}digest={digest}");
        let gate = wire.hold(On::every(PutObject));
        let put = client.send("PUT", &path, &[], body);
        let three = async {
            gate.reached_by(3).await;
            gate.open();
        };
        let (reply, ()) = tokio::join!(put, three);
        reply.is(201);
    }
}

#[tokio::test]
async fn read_of_a_small_layer_costs_one_request() {
    let (site, blob, bytes) = pushed(16 * KIB).await;
    let (client, wire, _) = process(&site).await;
    assert_same(&client.get(&blob).await.is(200).body, &bytes, "GET");
    assert_eq!(spent(&wire), 1, "GET");
    client.head(&blob).await.is(200);
    assert_eq!(spent(&wire), 1, "HEAD");
    let range = [("range", "bytes=10-19")];
    let part = client.send("GET", &blob, &range, b"").await.is(206);
    assert_same(&part.body, &bytes[10..20], "a range");
    assert_eq!(spent(&wire), 1, "a range");
}

#[tokio::test]
async fn a_manifest_that_names_thousands_of_absent_layers_costs_little() {
    let site = Site::embedded().await;
    let (process, wire) = site.process_over_wire().await;
    for (layers, status, promised) in [(4000, 404, 120), (44_000, 400, 0)] {
        let layers: Vec<_> = (0..layers)
            .map(|at: u32| json!({"digest": sha256(&at.to_be_bytes()), "size": 1}))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": layers[0], "layers": layers});
        let manifest = manifest.to_string();
        wire.reset();
        let path = "/v2/a/manifests/v1";
        let headers = [("content-type", IMAGE)];
        let reply = process
            .client
            .send("PUT", path, &headers, manifest.as_bytes());
        let reply = reply.await;
        assert_eq!(reply.status, status, "{:?}", reply.code());
        let spent = spent(&wire);
        assert!(spent <= promised, "{spent} of {promised}");
    }
}

/// A site with a blob of this size, the blob's path, and its bytes.
async fn pushed(size: u64) -> (Site, String, Bytes) {
    let site = Site::embedded().await;
    let bytes = ramp(1, size);
    let digest = sha256(&bytes);
    let client = site.process().await.client;
    client.push("a", &bytes, &digest).await;
    (site, format!("/v2/a/blobs/{digest}"), bytes)
}

#[tokio::test]
async fn a_read_costs_what_was_promised() {
    let (site, blob, _) = pushed(100 * KIB).await;
    let absent = format!("/v2/a/blobs/{}", sha256(b"absent"));
    let (process, wire) = site.process_over_wire().await;
    wire.reset();
    process.client.head(&blob).await.is(200);
    assert_eq!(spent(&wire), 2, "HEAD, and a look at the bytes");
    process.client.head(&blob).await.is(200);
    assert_eq!(spent(&wire), 1, "HEAD, after that look");
    process.client.get(&blob).await.is(200);
    assert_eq!(spent(&wire), 2, "GET");
    process.client.get(&absent).await.is(404);
    assert_eq!(spent(&wire), 1, "of what is not there");
    let (process, wire) = site.process_over_wire().await;
    wire.reset();
    process.client.get(&blob).await.is(200);
    assert_eq!(spent(&wire), 2, "GET, by a process that never looked");
}

#[tokio::test]
async fn whole_blob_of_a_block_costs_two_requests() {
    for size in [17 * KIB, MIB, 8 * MIB] {
        let (site, blob, bytes) = pushed(size).await;
        let (client, wire, _) = process(&site).await;
        assert_same(&client.get(&blob).await.is(200).body, &bytes, "GET");
        assert_eq!(spent(&wire), 2, "{size} bytes");
    }
}

/// By a client that has nothing of it, as docker pulls: the manifest by tag, config and layers.
#[tokio::test]
async fn cold_pull_of_nine_layers_of_a_mebibyte_costs_at_most_23_requests() {
    let site = Site::embedded().await;
    let pusher = site.process().await.client;
    let config = ramp(0, 2 * KIB);
    let layers: Vec<_> = (1..10).map(|seed| ramp(seed, MIB)).collect();
    let mut blobs = Vec::new();
    for blob in std::iter::once(&config).chain(&layers) {
        let digest = sha256(blob);
        pusher.push("a", blob, &digest).await;
        blobs.push(json!({"digest": digest, "size": blob.len()}));
    }
    let manifest = json!({"schemaVersion": 2, "config": blobs[0], "layers": blobs[1..]});
    let manifest = manifest.to_string();
    let (path, headers) = ("/v2/a/manifests/v1", [("content-type", IMAGE)]);
    let put = pusher.send("PUT", path, &headers, manifest.as_bytes());
    put.await.is(201);

    let (client, wire, _) = process(&site).await;
    client.head(path).await.is(200);
    let digest = sha256(manifest.as_bytes());
    let by_digest = format!("/v2/a/manifests/{digest}");
    client.get(&by_digest).await.is(200);
    for blob in std::iter::once(&config).chain(&layers) {
        let path = format!("/v2/a/blobs/{}", sha256(blob));
        assert_same(&client.get(&path).await.is(200).body, blob, "a blob");
    }
    let spent = spent(&wire);
    assert!(spent <= 23, "{spent}");
}

#[tokio::test]
async fn small_chunks_cost_three_requests_each_at_most() {
    let (client, wire) = Site::client_over_wire().await;
    let bytes = ramp(1, 64 * MIB);
    let mut at = client.upload("a").await;
    wire.reset();
    for chunk in bytes.chunks(MIB as usize) {
        let reply = client.send("PATCH", &at, &[], chunk).await.is(202);
        at = reply.location();
    }
    let spent = spent(&wire);
    assert!(spent <= 3 * 64, "{spent} for 64 chunks");
    let path = format!("{at}&digest={}", sha256(&bytes));
    client.send("PUT", &path, &[], b"").await.is(201);
}

#[tokio::test]
async fn a_few_bytes_of_a_large_blob_cost_what_a_small_blob_does() {
    let (site, blob, bytes) = pushed(80 * MIB).await;
    let (process, wire) = site.process_over_wire().await;
    wire.reset();
    for first in [0, 5 * MIB + 7, 70 * MIB, 80 * MIB - 100] {
        let part = format!("bytes={first}-{}", first + 99);
        let headers = [("range", part.as_str())];
        let reply = process.client.send("GET", &blob, &headers, b"").await;
        let want = &bytes[first as usize..][..100];
        assert_same(&reply.is(206).body, want, &part);
        let log = wire.log();
        let data = log.iter().filter(|one| one.key.contains("data/"));
        let received: u64 = data.map(|one| one.received).sum();
        assert_eq!((received, spent(&wire)), (100, 2), "{log:#?}");
    }
}

#[tokio::test]
async fn several_ranges_cost_a_request_each_and_one_where_they_are_near() {
    let (site, blob, _) = pushed(40 * MIB).await;
    let (process, wire) = site.process_over_wire().await;
    for (ranges, requests, received) in [
        ("0-99,5242880-5242889,-72", 3, 100 + 10 + 72),
        ("1000-1099,2000-2099,3000-3009", 1, 2010),
    ] {
        wire.reset();
        let ranges = format!("bytes={ranges}");
        let headers = [("range", ranges.as_str())];
        let reply = process.client.send("GET", &blob, &headers, b"").await;
        assert!(reply.is(206).body.len() < 1000);
        let log = wire.log();
        let data: Vec<_> = log.iter().filter(|one| one.key.contains("data/")).collect();
        let sum: u64 = data.iter().map(|one| one.received).sum();
        assert_eq!((data.len(), sum), (requests, received), "{log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_part_of_a_blob_comes_by_parallel_ranges_that_end_with_it() {
    let (site, blob, bytes) = pushed(80 * MIB).await;
    let (process, wire) = site.process_over_wire().await;
    wire.reset();
    let (begin, end) = (3 * MIB + 5, 45 * MIB + 77);
    let part = format!("bytes={begin}-{}", end - 1);
    let gate = wire.hold(On::every(GetObject).key_contains("data/"));
    let headers = [("range", part.as_str())];
    let reply = process.client.send("GET", &blob, &headers, b"");
    let several = async {
        gate.reached_by(4).await;
        gate.open();
    };
    let (reply, ()) = tokio::join!(reply, several);
    let want = &bytes[begin as usize..end as usize];
    assert_same(&reply.is(206).body, want, "a long part");
    let log = wire.log();
    let data = log.iter().filter(|one| one.key.contains("data/"));
    let mut ranges: Vec<_> = data.map(range).collect();
    ranges.sort_by_key(|range| range.start);
    assert_eq!(ranges.first().unwrap().start, begin);
    assert_eq!(ranges.last().unwrap().end, end, "{ranges:?}");
}
