//! What a request of a client costs in requests to the store, counted below the SDK.

use bytes::Bytes;
use serde_json::json;

use super::client::Client;
use super::manifests::IMAGE;
use super::site::Site;
use crate::reading::range;
use crate::support::bytes::{KIB, MIB, assert_same, ramp, sha256};
use crate::support::wire::{GetObject, On, Wire};

/// What docker does for a layer that is not there: it begins, sends, ends, looks.
async fn docker_push(client: Client, bytes: &[u8]) {
    let digest = sha256(bytes);
    let blob = format!("/v2/library/x/blobs/{digest}");
    let at = client.upload("library/x").await;
    let at = client.send("PATCH", &at, &[], bytes).await.is(202);
    let path = format!("{}&digest={digest}", at.location());
    client.send("PUT", &path, &[], b"").await.is(201);
    client.head(&blob).await.is(200);
}

fn spent(wire: &Wire) -> usize {
    let spent = wire.log().len();
    wire.reset();
    spent
}

#[tokio::test]
async fn a_push_costs_what_was_promised() {
    let site = Site::embedded().await;
    let (process, wire) = site.process_over_wire().await;
    for (size, promised) in [(3 * KIB, 8), (300 * KIB, 8), (12 * MIB, 16)] {
        let bytes = ramp(size as u32, size);
        wire.reset();
        docker_push(process.client, &bytes).await;
        let log = wire.log();
        assert!(
            log.len() <= promised,
            "{size}: {} of {promised}: {log:#?}",
            log.len()
        );
    }
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
async fn small_chunks_cost_three_requests_each_at_most() {
    let site = Site::embedded().await;
    let (process, wire) = site.process_over_wire().await;
    let client = process.client;
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
