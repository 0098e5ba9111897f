//! The folder of the embedded store on a disk that is full, gone, read-only or shared.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use embedded_s3::{EmbeddedError, EmbeddedStore};

use crate::embedded::{BUCKET, begin, blobs, bytes, client, get, part, put};
use crate::support::stores;

/// Status and code of a PUT that must be refused.
async fn refused(client: &Client, key: &str, size: usize) -> (u16, String) {
    attempt(client, key, size).await.unwrap_err()
}

/// A PUT, once; status and code if it is refused.
async fn attempt(client: &Client, key: &str, size: usize) -> Result<(), (u16, String)> {
    let body = ByteStream::from(bytes(9, size));
    let put = client.put_object().bucket(BUCKET).key(key).body(body);
    let put = put.customize().config_override(
        aws_sdk_s3::config::Builder::new()
            .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled()),
    );
    let Err(error) = put.send().await else {
        return Ok(());
    };
    let status = error.raw_response().unwrap().status().as_u16();
    Err((status, error.code().unwrap().to_owned()))
}

#[tokio::test]
async fn full_disk_refuses_writes_and_keeps_what_is_stored() {
    let (folder, store) = stores::in_folder().await;
    let inside = client(&store).await;
    put(&inside, "key", bytes(1, 100_000)).await;
    let full = (507, "InsufficientStorage".to_owned());
    // The metadata has some space of its own.
    store.limit_space(Some(0));
    let mut small = 0;
    while attempt(&inside, &format!("{small}"), 3000).await.is_ok() {
        small += 1;
    }
    // No part of the body; a part of the body; the body and not its metadata.
    for free in [0, 70_000, 5 << 20] {
        store.limit_space(Some(free));
        assert_eq!(refused(&inside, "key", 5 << 20).await, full, "{free}");
        store.limit_space(Some(0));
        assert_eq!(refused(&inside, "small", 3000).await, full, "{free}");
        assert_eq!(get(&inside, "key").await, bytes(1, 100_000), "{free}");
        assert_eq!(blobs(folder.path()), 1, "{free}: a body was left behind");
    }
    drop((store, inside));
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let inside = client(&store).await;
    assert_eq!(get(&inside, "key").await, bytes(1, 100_000));
    for key in 0..small {
        assert_eq!(get(&inside, &format!("{key}")).await, bytes(9, 3000));
    }
    put(&inside, "key", bytes(2, 100_000)).await;
    assert_eq!(get(&inside, "key").await, bytes(2, 100_000));
}

#[tokio::test]
async fn removed_or_replaced_folder_acknowledges_and_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let store = EmbeddedStore::open(&root).await.unwrap();
    let inside = client(&store).await;
    put(&inside, "key", bytes(1, 100)).await;
    let gone = (404, "NoSuchBucket".to_owned());
    let moved = folder.path().join("moved");
    std::fs::rename(&root, &moved).unwrap();
    assert_eq!(refused(&inside, "key", 10).await, gone);
    assert_eq!(refused(&inside, "key", 100_000).await, gone);
    let read = inside.get_object().bucket(BUCKET).key("key").send().await;
    assert_eq!(read.unwrap_err().code(), Some("NoSuchBucket"));
    let list = inside.list_objects_v2().bucket(BUCKET).send().await;
    assert_eq!(list.unwrap_err().code(), Some("NoSuchBucket"));
    let other = EmbeddedStore::open(&root).await.unwrap();
    assert_eq!(refused(&inside, "key", 10).await, gone);
    drop(other);
    // In its place again, it is the same store.
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::rename(&moved, &root).unwrap();
    put(&inside, "other", bytes(2, 100)).await;
    drop((store, inside));
    let store = EmbeddedStore::open(&root).await.unwrap();
    let inside = client(&store).await;
    assert_eq!(get(&inside, "key").await, bytes(1, 100));
    assert_eq!(get(&inside, "other").await, bytes(2, 100));
}

/// A client that stores it again gets it: nothing answers that it is there.
#[tokio::test]
async fn object_whose_file_is_lost_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let inside = client(&store).await;
    for is_cut in [false, true] {
        put(&inside, "key", bytes(1, 100_000)).await;
        for entry in std::fs::read_dir(folder.path().join("blobs")).unwrap() {
            let path = entry.unwrap().path();
            if is_cut {
                std::fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_len(99)
                    .unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
        }
        let head = inside.head_object().bucket(BUCKET).key("key").send().await;
        assert!(head.unwrap_err().into_service_error().is_not_found());
        let read = inside.get_object().bucket(BUCKET).key("key").send().await;
        assert_eq!(read.unwrap_err().code(), Some("NoSuchKey"));
        put(&inside, "key", bytes(2, 100_000)).await;
        assert_eq!(get(&inside, "key").await, bytes(2, 100_000));
    }
}

/// Every file and folder below, with its mode.
fn modes(path: &Path) -> Vec<(String, u32)> {
    let mode = path.metadata().unwrap().permissions().mode() & 0o777;
    let mut modes = vec![(path.to_str().unwrap().to_owned(), mode)];
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            modes.extend(self::modes(&entry.unwrap().path()));
        }
    }
    modes
}

#[tokio::test]
async fn only_the_owner_can_read_files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("new");
    let store = EmbeddedStore::open(top.join("store")).await.unwrap();
    let inside = client(&store).await;
    put(&inside, "key", bytes(1, 100_000)).await;
    let upload = begin(&inside, "multi").await;
    part(&inside, "multi", &upload, 1, bytes(2, 100_000)).await;
    let modes = modes(&top);
    assert_eq!(modes.len(), 7, "{modes:?}");
    for (path, mode) in modes {
        let want = if Path::new(&path).is_dir() {
            0o700
        } else {
            0o600
        };
        assert_eq!(mode, want, "{path}: {mode:o}");
    }
}

#[tokio::test]
async fn second_process_learns_who_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _store = EmbeddedStore::open(folder.path()).await.unwrap();
    let locked = EmbeddedStore::open(folder.path()).await.unwrap_err();
    let EmbeddedError::Locked { process, .. } = locked else {
        panic!("{locked}");
    };
    assert_eq!(process, Some(std::process::id()));
}

#[tokio::test]
async fn absent_store_is_not_created_unless_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("absent"), folder.path().to_owned()] {
        let absent = EmbeddedStore::open_if_present(&path).await.unwrap_err();
        assert!(matches!(absent, EmbeddedError::NoStore { .. }), "{absent}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    EmbeddedStore::open(folder.path()).await.unwrap();
    EmbeddedStore::open_if_present(folder.path()).await.unwrap();
}
