//! What the storage says comes through as what it is.

use bytes::Bytes;
use serde_json::json;

use super::client::Client;
use super::manifests::INDEX;
use super::site::Site;
use crate::support::bucket;
use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::fault_client::{GetObject, ListObjectsV2, On};
use crate::support::stores::{self, BUCKET};

#[tokio::test]
async fn a_storage_that_asks_to_slow_down_is_503_and_one_that_forbids_is_not_absence() {
    let (client, wire) = Site::client_over_wire().await;
    let bytes = ramp(1, 1000);
    let digest = sha256(&bytes);
    client.push("a", &bytes, &digest).await;
    let blob = format!("/v2/b/blobs/{digest}");
    wire.fault(On::every(GetObject).status(503));
    let reply = client.get(&blob).await.is(503);
    assert_eq!(reply.code(), "TOOMANYREQUESTS");
    assert!(reply.header("retry-after").is_some());
    wire.clear_faults();
    wire.fault(On::every(GetObject).status(403));
    let reply = client.get(&blob).await.is(500);
    assert_eq!(reply.code(), "UNKNOWN");
    assert!(
        !reply.json().to_string().contains("repositories/"),
        "no keys"
    );
    wire.clear_faults();
    client.get(&blob).await.is(404);
}

#[tokio::test]
async fn a_blob_that_breaks_off_breaks_the_connection() {
    let (client, wire) = Site::client_over_wire().await;
    let bytes = ramp(1, 24 * MIB);
    let digest = sha256(&bytes);
    client.push("a", &bytes, &digest).await;
    let path = format!("/v2/a/blobs/{digest}");
    client.head(&path).await.is(200);
    // The first bytes have come when the status is sent.
    wire.fault(On::nth(GetObject, 2).key_contains("data/").status(403));
    let mut conversation = client.begin("GET", &path, &[]).await;
    assert!(conversation.try_reply().await.is_none());
    wire.clear_faults();
    let reply = client.get(&path).await.is(200);
    assert_eq!(reply.body, bytes);
}

#[tokio::test]
async fn readiness_is_that_of_the_storage() {
    let site = Site::embedded().await;
    let (process, wire) = site.process_over_wire().await;
    process.client.get("/readyz").await.is(200);
    for operation in [GetObject, ListObjectsV2] {
        wire.fault(On::every(operation).status(503));
    }
    // An answer is good for a second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    process.client.get("/readyz").await.is(503);
    process.client.get("/livez").await.is(200);
}

/// A registry, and a client of its bucket.
async fn beside_its_bucket() -> (Site, aws_sdk_s3::Client, Client) {
    let site = Site::embedded().await;
    let Site::Embedded(store) = &site else {
        panic!("it was made embedded");
    };
    let bucket = stores::sdk_client(store);
    let client = site.process().await.client;
    (site, bucket, client)
}

fn empty_index() -> String {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string()
}

/// A fleet is upgraded process by process.
#[tokio::test]
async fn document_of_a_newer_version_is_refused_and_not_overwritten() {
    let (_site, bucket, client) = beside_its_bucket().await;
    let manifest = empty_index();
    let headers = [("content-type", INDEX)];
    let put = || client.send("PUT", "/v2/a/manifests/v1", &headers, manifest.as_bytes());
    put().await.is(201);
    let digest = sha256(manifest.as_bytes());
    for key in [
        "repositories/a/_tags/v1".to_owned(),
        format!("repositories/a/_manifests/sha256/{}", digest.hex()),
    ] {
        let stored = bucket::get(&bucket, &key).await;
        let text = std::str::from_utf8(&stored).unwrap();
        let newer = text.replace(r#""version":1"#, r#""version":2,"more":1"#);
        let newer = Bytes::from(bucket::sealed(&newer));
        for body in [newer.clone(), stored.clone()] {
            let write = bucket.put_object().bucket(BUCKET).key(&key);
            write.body(body.clone().into()).send().await.unwrap();
            let status = if body == newer { 500 } else { 201 };
            put().await.is(status);
            let is_kept = bucket::get(&bucket, &key).await == newer;
            assert_eq!(is_kept, body == newer, "{key}");
        }
    }
}

/// A tag that led to the image of another one would deploy it.
#[tokio::test]
async fn tag_under_the_key_of_another_one_is_damaged_until_it_is_put() {
    let (_site, bucket, client) = beside_its_bucket().await;
    let manifest = empty_index();
    let headers = [("content-type", INDEX)];
    let put = |path| client.send("PUT", path, &headers, manifest.as_bytes());
    put("/v2/a/manifests/v1").await.is(201);
    put("/v2/b/manifests/v2").await.is(201);
    let stored = bucket::get(&bucket, "repositories/a/_tags/v1").await;
    for (key, path) in [
        ("repositories/a/_tags/v2", "/v2/a/manifests/v2"),
        ("repositories/b/_tags/v1", "/v2/b/manifests/v1"),
    ] {
        let write = bucket.put_object().bucket(BUCKET).key(key);
        write.body(stored.clone().into()).send().await.unwrap();
        client.get(path).await.is(500);
        put(path).await.is(201);
        assert_eq!(client.get(path).await.is(200).body, manifest.as_bytes());
    }
}
