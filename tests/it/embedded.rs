//! The embedded store, through the AWS SDK and without a socket; its folder, through crashes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_sdk_s3::{Client, Config};
use s3layers::embedded::{EmbeddedError, EmbeddedStore, Vices};

const BUCKET: &str = "bucket";
const PART: usize = 5 << 20;
/// Set in the child process that is going to be killed: the folder it writes to.
const DOOMED: &str = "S3LAYERS_TEST_DOOMED_FOLDER";

async fn client(store: &EmbeddedStore) -> Client {
    store.create_bucket(BUCKET).await.unwrap();
    client_with(store, store.secret_key())
}

fn client_with(store: &EmbeddedStore, secret_key: &str) -> Client {
    let credentials = Credentials::new(store.access_key(), secret_key, None, None, "test");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url("http://embedded")
        .force_path_style(true)
        .http_client(store.http_client())
        .credentials_provider(credentials);
    Client::from_conf(config.build())
}

async fn put(client: &Client, key: &str, body: Vec<u8>) -> String {
    let put = client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(ByteStream::from(body));
    put.send().await.unwrap().e_tag.unwrap()
}

async fn get(client: &Client, key: &str) -> Vec<u8> {
    let got = client
        .get_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    got.body.collect().await.unwrap().to_vec()
}

async fn begin(client: &Client, key: &str) -> String {
    let create = client.create_multipart_upload().bucket(BUCKET).key(key);
    create.send().await.unwrap().upload_id.unwrap()
}

async fn part(
    client: &Client,
    key: &str,
    upload: &str,
    number: i32,
    body: Vec<u8>,
) -> CompletedPart {
    let sent = client
        .upload_part()
        .bucket(BUCKET)
        .key(key)
        .upload_id(upload)
        .part_number(number);
    let sent = sent.body(ByteStream::from(body)).send().await.unwrap();
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(sent.e_tag)
        .build()
}

/// Completes, and gives the ETag or the error code.
async fn complete(
    client: &Client,
    key: &str,
    upload: &str,
    parts: Vec<CompletedPart>,
) -> Result<String, String> {
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let complete = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(upload);
    match complete.multipart_upload(parts).send().await {
        Ok(done) => Ok(done.e_tag.unwrap()),
        Err(error) => Err(error.code().unwrap().to_owned()),
    }
}

/// Bytes that show where they are from.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let word = |index: usize| (seed << 32 | index as u64).to_le_bytes();
    (0..length.div_ceil(8))
        .flat_map(word)
        .take(length)
        .collect()
}

/// Both backings, and the folder that one of them needs.
async fn both() -> [(&'static str, EmbeddedStore, Option<tempfile::TempDir>); 2] {
    let folder = tempfile::tempdir().unwrap();
    let on_disk = EmbeddedStore::open(folder.path()).await.unwrap();
    [
        ("memory", EmbeddedStore::in_memory(), None),
        ("folder", on_disk, Some(folder)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_conditional_writers_exactly_one_wins() {
    for (case, store, _folder) in both().await {
        let client = client(&store).await;
        let first = put(&client, "replaced", b"first".to_vec()).await;
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..16_u64 {
            let (client, first) = (client.clone(), first.clone());
            writers.spawn(async move {
                let body = |length| ByteStream::from(bytes(number, length));
                let create = client
                    .put_object()
                    .bucket(BUCKET)
                    .key("created")
                    .if_none_match("*");
                let created = create.body(body(50_000)).send().await.map(|_| number);
                let replace = client
                    .put_object()
                    .bucket(BUCKET)
                    .key("replaced")
                    .if_match(first);
                let replaced = replace.body(body(100)).send().await.map(|_| number);
                [created, replaced].map(|won| won.map_err(|error| error.code().map(str::to_owned)))
            });
        }
        let outcomes = writers.join_all().await;
        for (column, key, length) in [(0, "created", 50_000), (1, "replaced", 100)] {
            let winners: Vec<u64> = outcomes
                .iter()
                .filter_map(|outcome| outcome[column].clone().ok())
                .collect();
            let [winner] = winners[..] else {
                unreachable!("{case}, {key}: {winners:?} won")
            };
            assert_eq!(
                get(&client, key).await,
                bytes(winner, length),
                "{case}, {key}"
            );
            let lost = Some("PreconditionFailed".to_owned());
            let losers = outcomes
                .iter()
                .filter_map(|outcome| outcome[column].clone().err());
            assert!(losers.into_iter().all(|code| code == lost), "{case}, {key}");
        }
    }
}

#[tokio::test]
async fn a_refused_complete_leaves_the_upload_as_it_was() {
    for (case, store, _folder) in both().await {
        let client = client(&store).await;
        let upload = begin(&client, "key").await;
        let small = part(&client, "key", &upload, 1, bytes(1, 100)).await;
        let last = part(&client, "key", &upload, 2, bytes(2, 100)).await;
        let refused = complete(&client, "key", &upload, vec![small, last.clone()]).await;
        assert_eq!(refused, Err("EntityTooSmall".into()), "{case}");
        let large = part(&client, "key", &upload, 1, bytes(3, PART)).await;
        let etag = complete(&client, "key", &upload, vec![large.clone(), last.clone()]).await;
        assert!(
            etag.as_ref().is_ok_and(|etag| etag.ends_with("-2\"")),
            "{case}: {etag:?}"
        );
        assert_eq!(
            complete(&client, "key", &upload, vec![large, last]).await,
            etag,
            "{case}"
        );
        assert_eq!(
            get(&client, "key").await,
            [bytes(3, PART), bytes(2, 100)].concat(),
            "{case}"
        );
    }
}

#[tokio::test]
async fn a_reader_of_a_replaced_object_reads_the_old_one_to_its_end() {
    for (case, store, folder) in both().await {
        let client = client(&store).await;
        put(&client, "key", bytes(1, 4 << 20)).await;
        let mut old = client
            .get_object()
            .bucket(BUCKET)
            .key("key")
            .send()
            .await
            .unwrap()
            .body;
        let mut read = old.next().await.unwrap().unwrap().to_vec();
        put(&client, "key", bytes(2, 100)).await;
        client
            .delete_object()
            .bucket(BUCKET)
            .key("key")
            .send()
            .await
            .unwrap();
        while let Some(more) = old.next().await {
            read.extend_from_slice(&more.unwrap());
        }
        assert!(read == bytes(1, 4 << 20), "{case}");
        drop(old);
        if let Some(folder) = folder {
            assert_eq!(
                blobs(folder.path()),
                0,
                "the bytes of a deleted object stay"
            );
        }
    }
}

#[tokio::test]
async fn ranges_cross_the_parts_of_an_object() {
    for (case, store, _folder) in both().await {
        let client = client(&store).await;
        let upload = begin(&client, "key").await;
        let mut parts = Vec::new();
        for number in 1..=3 {
            parts.push(
                part(
                    &client,
                    "key",
                    &upload,
                    number,
                    bytes(number as u64, PART + 1),
                )
                .await,
            );
        }
        complete(&client, "key", &upload, parts).await.unwrap();
        let whole: Vec<u8> = (1..=3).flat_map(|number| bytes(number, PART + 1)).collect();
        for range in [
            0..1,
            PART..PART + 3,
            PART - 5..2 * PART + 5,
            3 * PART..3 * PART + 3,
        ] {
            let header = format!("bytes={}-{}", range.start, range.end - 1);
            let got = client
                .get_object()
                .bucket(BUCKET)
                .key("key")
                .range(header)
                .send()
                .await
                .unwrap();
            let got = got.body.collect().await.unwrap().to_vec();
            assert!(got == whole[range.clone()], "{case}: {range:?}");
        }
    }
}

#[tokio::test]
async fn requests_in_the_process_are_verified_too() {
    let store = EmbeddedStore::in_memory().with_keys("access", "a-canary-secret");
    let right = client(&store).await;
    put(&right, "key", b"body".to_vec()).await;
    let wrong = client_with(&store, "another-secret");
    let refused = wrong
        .get_object()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some("SignatureDoesNotMatch"));
    assert!(!format!("{store:?} {:?}", store.http_client()).contains("canary"));
}

#[tokio::test]
async fn vices_are_those_of_other_stores() {
    let store = EmbeddedStore::in_memory();
    let honest = client(&store).await;
    put(&honest, "key", b"1".to_vec()).await;
    let mut vices = Vices::none();
    vices.ignore_conditions = true;
    vices.ignore_part_etags = true;
    vices.list_uploads_by_exact_key = true;
    vices.second_complete_is_no_such_upload = true;
    let other = client_with(&store.clone().with_vices(vices), store.secret_key());
    let create = |client: &Client| {
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("key")
            .if_none_match("*");
        put.body(ByteStream::from_static(b"2")).send()
    };
    assert!(create(&honest).await.is_err());
    create(&other).await.unwrap();
    let upload = begin(&other, "multi").await;
    let stale = part(&other, "multi", &upload, 1, b"old".to_vec()).await;
    part(&other, "multi", &upload, 1, b"new".to_vec()).await;
    for (client, prefix, want) in [
        (&other, "mul", 0),
        (&other, "multi", 1),
        (&honest, "mul", 1),
    ] {
        let listed = client
            .list_multipart_uploads()
            .bucket(BUCKET)
            .prefix(prefix)
            .send()
            .await
            .unwrap();
        assert_eq!(listed.uploads().len(), want, "{prefix}");
    }
    let refused = complete(&honest, "multi", &upload, vec![stale.clone()]).await;
    assert_eq!(refused, Err("InvalidPart".into()));
    complete(&other, "multi", &upload, vec![stale.clone()])
        .await
        .unwrap();
    assert_eq!(get(&other, "multi").await, b"new");
    let again = complete(&other, "multi", &upload, vec![stale]).await;
    assert_eq!(again, Err("NoSuchUpload".into()));
}

#[tokio::test]
async fn an_answer_in_the_process_has_a_date() {
    let store = EmbeddedStore::in_memory();
    let client = client(&store).await;
    put(&client, "key", b"body".to_vec()).await;
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap();
    let age = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::try_from(*head.last_modified().unwrap()).unwrap());
    assert!(age.unwrap().as_secs() < 60);
}

#[tokio::test]
async fn what_was_stored_is_there_when_the_folder_is_opened_again() {
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
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
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

fn blobs(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("blobs")).unwrap().count()
}

#[tokio::test]
async fn bytes_that_nothing_names_are_removed_on_opening() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    put(&client(&store).await, "key", bytes(1, 100_000)).await;
    drop(store);
    let torn = folder
        .path()
        .join("blobs")
        .join("0123456789abcdef0123456789abcdef");
    std::fs::write(&torn, "torn").unwrap();
    std::fs::write(folder.path().join("journal.new"), "torn").unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    assert!(!torn.exists());
    assert_eq!(get(&client(&store).await, "key").await, bytes(1, 100_000));
    assert_eq!(blobs(folder.path()), 1);
}

#[tokio::test]
async fn a_body_that_is_cut_leaves_nothing() {
    for (case, store, folder) in both().await {
        let client = client(&store).await;
        put(&client, "key", b"old".to_vec()).await;
        let frames = (0..40).map(|seed| match seed {
            39 => Err(std::io::Error::other("cut")),
            _ => Ok(http_body::Frame::data(bytes::Bytes::from(bytes(
                seed, 100_000,
            )))),
        });
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("key")
            .content_length(4_000_000);
        let put = put
            .body(ByteStream::from_body_1_x(body))
            .customize()
            .disable_payload_signing();
        assert!(put.send().await.is_err(), "{case}");
        assert_eq!(get(&client, "key").await, b"old", "{case}");
        if let Some(folder) = folder {
            // The file goes when the last write to it has ended, which nobody waits for.
            for _ in 0..100 {
                if blobs(folder.path()) == 0 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            assert_eq!(blobs(folder.path()), 0, "{case}");
        }
    }
}

/// Not a test of its own: the process that [`a_killed_process_loses_nothing_it_acknowledged`] kills.
/// It tells each thing it did on its standard output, after it was acknowledged.
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
async fn a_killed_process_loses_nothing_it_acknowledged() {
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
        .args(["--exact", "embedded::doomed_writer", "--nocapture"])
        .env(DOOMED, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("did "));
    let mut acknowledged: Vec<String> = told.by_ref().take(after).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it told between our last look and its death counts too.
    acknowledged.extend(told);
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
