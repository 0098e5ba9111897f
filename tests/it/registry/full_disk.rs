//! A registry whose storage is full, or gone.

use std::time::{Duration, Instant};

use embedded_s3::EmbeddedStore;
use s3layers_registry::Options;

use super::site::Site;
use crate::support::bucket;
use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::stores;

/// Retries of one request take longer.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_is_507_at_once_and_leaves_nothing() {
    let (folder, store) = stores::in_folder().await;
    let store = stores::with_bucket(store).await;
    let site = Site::Embedded(store.clone());
    let client = site.process_with(Options::default()).await.client;
    let before = ramp(1, MIB);
    client.push("a", &before, sha256(&before)).await;
    let inside = stores::sdk_client(&store);
    let keys = bucket::keys_at_rest(&inside).await;
    let blobs = crate::embedded::blobs(folder.path());

    let layer = ramp(2, 30 * MIB);
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&layer));
    for free in [17 * MIB, 2 * MIB, 0] {
        store.limit_space(Some(free));
        let begun = Instant::now();
        let reply = client.send("POST", &path, &[], &layer).await.is(507);
        assert_eq!(reply.json()["errors"].as_array().unwrap().len(), 1);
        assert!(begun.elapsed() < AT_ONCE, "{free}: {:?}", begun.elapsed());
        assert!(bucket::multiparts(&inside).await.is_empty(), "{free}");
        assert_eq!(bucket::keys_at_rest(&inside).await, keys, "{free}");
        assert_eq!(crate::embedded::blobs(folder.path()), blobs, "{free}");
        let path = format!("/v2/a/blobs/{}", sha256(&before));
        assert_eq!(client.get(&path).await.is(200).body, before, "{free}");
    }
    store.limit_space(None);
    client.push("a", &layer, sha256(&layer)).await;
    let path = format!("/v2/a/blobs/{}", sha256(&layer));
    assert!(client.get(&path).await.is(200).body == layer);
}

#[tokio::test]
async fn removed_folder_acknowledges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let store = EmbeddedStore::open(&root).await.unwrap();
    let store = stores::with_bucket(store).await;
    let client = Site::Embedded(store).process_with(Options::default()).await;
    let client = client.client;
    client.push("a", b"{}", sha256(b"{}")).await;
    std::fs::remove_dir_all(&root).unwrap();
    for size in [2, 9000] {
        let begun = Instant::now();
        let layer = ramp(3, size);
        let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&layer));
        client.send("POST", &path, &[], &layer).await.is(500);
        assert!(begun.elapsed() < AT_ONCE, "{size}: {:?}", begun.elapsed());
    }
    assert!(!root.exists(), "a write made the folder again");
}
