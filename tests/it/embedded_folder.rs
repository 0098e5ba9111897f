//! The folder of the embedded store: opened again, opened twice, killed.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use embedded_s3::{EmbeddedError, EmbeddedStore};

use crate::embedded::{BUCKET, begin, blobs, bytes, client, complete, get, part, put};
use crate::support::stores;

const PART: usize = 5 << 20;
/// Set in the child process that is going to be killed: the folder it writes to.
const DOOMED: &str = "S3LAYERS_TEST_DOOMED_FOLDER";

#[tokio::test]
async fn reopened_folder_has_everything_that_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let keys = ["a", "a/child", "../../escape", "ü/\u{1}", &"k".repeat(1000)];
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let first = client(&store).await;
    for (seed, key) in keys.iter().enumerate() {
        put(&first, key, bytes(seed as u64, seed * 10_000)).await;
    }
    let upload = begin(&first, "multi").await;
    let head = part(&first, "multi", &upload, 1, bytes(7, PART)).await;
    let small = part(&first, "multi", &upload, 2, bytes(8, 10)).await;
    drop((first, store));

    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let second = client(&store).await;
    for (seed, key) in keys.iter().enumerate() {
        assert_eq!(
            get(&second, key).await,
            bytes(seed as u64, seed * 10_000),
            "{key:?}"
        );
    }
    let etag = complete(&second, "multi", &upload, vec![head.clone(), small.clone()])
        .await
        .unwrap();
    drop((second, store));

    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let third = client(&store).await;
    assert_eq!(
        get(&third, "multi").await,
        [bytes(7, PART), bytes(8, 10)].concat()
    );
    assert_eq!(
        complete(&third, "multi", &upload, vec![head, small]).await,
        Ok(etag)
    );
    let outside = folder
        .path()
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("escape");
    assert!(!outside.exists());
}

#[tokio::test]
async fn a_folder_is_opened_once_and_only_if_it_is_a_store() {
    let (folder, store) = stores::in_folder().await;
    let locked = EmbeddedStore::open(folder.path()).await.unwrap_err();
    assert!(matches!(locked, EmbeddedError::Locked { .. }), "{locked}");
    assert!(locked.to_string().contains("already open"), "{locked}");
    drop(store);
    EmbeddedStore::open(folder.path()).await.unwrap();

    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("thesis.tex"), "").unwrap();
    let refused = EmbeddedStore::open(foreign.path()).await.unwrap_err();
    assert!(
        matches!(refused, EmbeddedError::NotAStore { .. }),
        "{refused}"
    );
    assert_eq!(
        std::fs::read_dir(foreign.path()).unwrap().count(),
        1,
        "something was written"
    );
}

#[tokio::test]
async fn orphaned_blobs_are_removed_on_opening() {
    let (folder, store) = stores::in_folder().await;
    put(&client(&store).await, "key", bytes(1, 100_000)).await;
    drop(store);
    let torn = folder
        .path()
        .join("blobs")
        .join("0123456789abcdef0123456789abcdef");
    std::fs::write(&torn, "torn").unwrap();
    std::fs::write(folder.path().join("metadata.redb.new"), "torn").unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    assert!(!torn.exists());
    assert_eq!(get(&client(&store).await, "key").await, bytes(1, 100_000));
    assert_eq!(blobs(folder.path()), 1);
}

/// They may be on their way: a restore that copied the blobs first.
#[tokio::test]
async fn blobs_without_metadata_are_not_taken_for_orphans() {
    let (folder, store) = stores::in_folder().await;
    put(&client(&store).await, "key", bytes(1, 100_000)).await;
    drop(store);
    let metadata = folder.path().join("metadata.redb");
    let moved = tempfile::tempdir().unwrap();
    let away = moved.path().join("metadata.redb");
    std::fs::copy(&metadata, &away).unwrap();
    std::fs::remove_file(&metadata).unwrap();
    let refused = EmbeddedStore::open(folder.path()).await.map(drop);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("metadata.redb"), "{refused}");
    std::fs::copy(&away, &metadata).unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    assert_eq!(get(&client(&store).await, "key").await, bytes(1, 100_000));
}

/// Not a test of its own: the process that [`killed_process_loses_nothing_acknowledged`] kills.
/// It prints each change on its standard output, after it was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn doomed_writer() {
    let Ok(folder) = std::env::var(DOOMED) else {
        return;
    };
    let store = EmbeddedStore::open(folder).await.unwrap();
    let client = client(&store).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u64 {
        let client = client.clone();
        writers.spawn(async move {
            for round in 1.. {
                let key = format!("object-{writer}");
                put(&client, &key, bytes(round, length(round))).await;
                println!("did {key} {round}");
                let key = format!("multi-{writer}");
                let upload = begin(&client, &key).await;
                let parts =
                    vec![part(&client, &key, &upload, 1, bytes(round, length(round + 1))).await];
                println!("did {key}/{upload} {round}");
                if round % 2 == 0 {
                    complete(&client, &key, &upload, parts).await.unwrap();
                    println!("did {key} {round}");
                }
            }
        });
    }
    writers.join_all().await;
}

/// Small ones and large ones.
fn length(round: u64) -> usize {
    if round.is_multiple_of(3) {
        300_000
    } else {
        100 + round as usize
    }
}

#[tokio::test]
async fn killed_process_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    // The last round that was acknowledged, of each object and of each open upload.
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    for after in [3, 40, 111] {
        for line in lines_of_a_killed_writer(folder.path(), after) {
            let mut words = line.split(' ').skip(1);
            acknowledged.insert(
                words.next().unwrap().to_owned(),
                words.next().unwrap().parse().unwrap(),
            );
        }
        let store = EmbeddedStore::open(folder.path()).await.unwrap();
        let client = client(&store).await;
        for (name, &round) in &acknowledged {
            match name.split_once('/') {
                None => check_object(&client, name, round).await,
                Some((key, upload)) => check_upload(&client, key, upload, round).await,
            }
        }
        // The next writer begins with round 1 again.
        acknowledged.clear();
    }
}

/// The acknowledgements of a writer that was killed after so many.
fn lines_of_a_killed_writer(folder: &Path, after: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded_folder::doomed_writer", "--nocapture"])
        .env(DOOMED, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut printed = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("did "));
    let mut acknowledged: Vec<String> = printed.by_ref().take(after).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // Lines that it printed before its end count too.
    acknowledged.extend(printed);
    assert!(acknowledged.len() >= after, "the writer died by itself");
    acknowledged
}

/// The object is whole, and of the acknowledged round or one that was not heard of.
async fn check_object(client: &Client, key: &str, acknowledged: u64) {
    let body = get(client, key).await;
    let shift = u64::from(key.starts_with("multi"));
    let expected = |round| bytes(round, length(round + shift));
    let round = (acknowledged..acknowledged + 3).find(|&round| body == expected(round));
    assert!(
        round.is_some(),
        "{key} is {} bytes, not of round {acknowledged}",
        body.len()
    );
}

/// The upload has its part, or was completed.
async fn check_upload(client: &Client, key: &str, upload: &str, round: u64) {
    let parts = client
        .list_parts()
        .bucket(BUCKET)
        .key(key)
        .upload_id(upload)
        .send()
        .await;
    match parts {
        Ok(parts) => assert_eq!(
            parts.parts()[0].size(),
            Some(length(round + 1) as i64),
            "{key}/{upload}"
        ),
        Err(error) => {
            assert_eq!(error.code(), Some("NoSuchUpload"));
            assert!(
                round.is_multiple_of(2),
                "the open upload {key}/{upload} is gone"
            );
        }
    }
}
