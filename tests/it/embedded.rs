//! The embedded store, as S3 clients see it: through the AWS SDK, without a socket.

use std::path::Path;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, Delete,
    ObjectIdentifier,
};
use aws_sdk_s3::{Client, Config};
use embedded_s3::{EmbeddedStore, Quirks};

pub(crate) const BUCKET: &str = "bucket";
const PART: usize = 5 << 20;

pub(crate) async fn client(store: &EmbeddedStore) -> Client {
    store.create_bucket(BUCKET).await.unwrap();
    client_with(store, store.secret_key())
}

pub(crate) fn client_with(store: &EmbeddedStore, secret_key: &str) -> Client {
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

pub(crate) async fn put(client: &Client, key: &str, body: Vec<u8>) -> String {
    let put = client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(ByteStream::from(body));
    put.send().await.unwrap().e_tag.unwrap()
}

pub(crate) async fn get(client: &Client, key: &str) -> Vec<u8> {
    let got = client
        .get_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    got.body.collect().await.unwrap().to_vec()
}

pub(crate) async fn begin(client: &Client, key: &str) -> String {
    let create = client.create_multipart_upload().bucket(BUCKET).key(key);
    create.send().await.unwrap().upload_id.unwrap()
}

pub(crate) async fn part(
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
pub(crate) async fn complete(
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
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    for index in 0..length.div_ceil(8) as u64 {
        bytes.extend_from_slice(&(seed << 32 | index).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// How many bodies the folder holds in files.
pub(crate) fn blobs(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("blobs")).unwrap().count()
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

/// A client without a CRC64NVME may compare the ETag of a part with its MD5; one that sends it has no
/// use for that.
#[tokio::test(flavor = "multi_thread")]
async fn etag_of_a_part_is_its_md5_unless_it_has_a_crc64nvme() {
    for (case, store, _folder) in both().await {
        let client = client(&store).await;
        let body = b"123456789".to_vec();
        let upload = begin(&client, "key").await;
        let send = |number| {
            let send = client
                .upload_part()
                .bucket(BUCKET)
                .key("key")
                .upload_id(&upload);
            send.part_number(number)
                .body(ByteStream::from(body.clone()))
        };
        let plain = send(1).send().await.unwrap().e_tag.unwrap();
        assert_eq!(plain, "\"25f9e794323b453885f5181f1b624d0b\"", "{case}");
        let fast = send(2).checksum_crc64_nvme("rosUhgp5mIg=");
        let fast = fast.send().await.unwrap().e_tag.unwrap();
        assert_eq!(fast, "\"ae8b14860a799888-9\"", "{case}");
        let named = CompletedPart::builder().part_number(2).e_tag(&fast).build();
        let md5 = CompletedPart::builder()
            .part_number(2)
            .e_tag(&plain)
            .build();
        let refused = complete(&client, "key", &upload, vec![md5]).await;
        assert_eq!(refused, Err("InvalidPart".to_owned()), "{case}");
        complete(&client, "key", &upload, vec![named])
            .await
            .unwrap();
        assert_eq!(get(&client, "key").await, body, "{case}");
    }
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
async fn quirks_match_other_stores() {
    let store = EmbeddedStore::in_memory();
    let honest = client(&store).await;
    put(&honest, "key", b"1".to_vec()).await;
    let mut quirks = Quirks::none();
    quirks.ignore_conditions = true;
    quirks.ignore_part_etags = true;
    quirks.list_uploads_by_exact_key = true;
    quirks.second_complete_is_no_such_upload = true;
    let other = client_with(&store.clone().with_quirks(quirks), store.secret_key());
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
async fn interrupted_body_leaves_nothing() {
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
            // The file is removed when the last write to it has ended, in the background.
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

#[tokio::test]
async fn checksums_are_verified_stored_and_returned() {
    // The CRC64NVME of "123456789", in its catalogue; and another.
    let (right, wrong) = ("rosUhgp5mIg=", "rosUhgp5mIk=");
    for (case, store, _folder) in both().await {
        let client = client(&store).await;
        let put = |sum: &str| {
            let put = client
                .put_object()
                .bucket(BUCKET)
                .key("key")
                .checksum_crc64_nvme(sum);
            put.body(ByteStream::from_static(b"123456789")).send()
        };
        assert_eq!(
            put(wrong).await.unwrap_err().code(),
            Some("BadDigest"),
            "{case}"
        );
        assert!(
            client
                .head_object()
                .bucket(BUCKET)
                .key("key")
                .send()
                .await
                .is_err(),
            "{case}"
        );
        put(right).await.unwrap();
        let create = client.create_multipart_upload().bucket(BUCKET).key("multi");
        let create = create.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
        let upload = create.send().await.unwrap().upload_id.unwrap();
        let sent = client
            .upload_part()
            .bucket(BUCKET)
            .key("multi")
            .upload_id(&upload)
            .part_number(1);
        let sent = sent
            .checksum_crc64_nvme(right)
            .body(ByteStream::from_static(b"123456789"));
        let sent = sent.send().await.unwrap();
        assert_eq!(sent.checksum_crc64_nvme(), Some(right), "{case}");
        let named = CompletedPart::builder()
            .part_number(1)
            .set_e_tag(sent.e_tag)
            .build();
        let complete = |sum: &str| {
            let parts = CompletedMultipartUpload::builder()
                .parts(named.clone())
                .build();
            let complete = client
                .complete_multipart_upload()
                .bucket(BUCKET)
                .key("multi");
            complete
                .upload_id(&upload)
                .multipart_upload(parts)
                .checksum_crc64_nvme(sum)
                .send()
        };
        assert_eq!(
            complete(wrong).await.unwrap_err().code(),
            Some("BadDigest"),
            "{case}"
        );
        complete(right).await.unwrap();
        for key in ["key", "multi"] {
            let head = client
                .head_object()
                .bucket(BUCKET)
                .key(key)
                .checksum_mode(ChecksumMode::Enabled);
            let head = head.send().await.unwrap();
            assert_eq!(head.checksum_crc64_nvme(), Some(right), "{case}: {key}");
            assert_eq!(
                head.checksum_type(),
                Some(&ChecksumType::FullObject),
                "{case}: {key}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_copied_listed_and_deleted_together() {
    for (case, store, _folder) in both().await {
        let client = client(&store).await;
        let upload = begin(&client, "a/1").await;
        let parts = vec![
            part(&client, "a/1", &upload, 1, bytes(1, PART)).await,
            part(&client, "a/1", &upload, 2, bytes(2, 9)).await,
        ];
        complete(&client, "a/1", &upload, parts).await.unwrap();
        for key in ["a/2", "b"] {
            let copy = client
                .copy_object()
                .bucket(BUCKET)
                .key(key)
                .copy_source(format!("{BUCKET}/a/1"));
            copy.send().await.unwrap();
        }
        assert!(
            get(&client, "b").await == get(&client, "a/1").await,
            "{case}"
        );
        let listed = client
            .list_objects_v2()
            .bucket(BUCKET)
            .delimiter("/")
            .send()
            .await
            .unwrap();
        assert_eq!(listed.contents().len(), 1, "{case}");
        assert_eq!(listed.common_prefixes()[0].prefix(), Some("a/"), "{case}");
        let keys = ["a/1", "a/2", "b", "absent"];
        let objects = keys.map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
        let delete = Delete::builder()
            .set_objects(Some(objects.to_vec()))
            .build()
            .unwrap();
        let deleted = client
            .delete_objects()
            .bucket(BUCKET)
            .delete(delete)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (deleted.deleted().len(), deleted.errors().len()),
            (4, 0),
            "{case}"
        );
        client.delete_bucket().bucket(BUCKET).send().await.unwrap();
    }
}

/// There are no versions: a request that names one must not act on the current object.
#[tokio::test]
async fn deletion_with_a_condition_that_is_unknown_here_is_refused() {
    for (case, store, _folder) in both().await {
        let client = client(&store).await;
        let delete = |key: &str, version: &str| {
            let delete = client.delete_object().bucket(BUCKET).key(key);
            delete.version_id(version).send()
        };
        let delete_both = |version: &str| {
            let object = |key: &str| ObjectIdentifier::builder().key(key);
            let delete = Delete::builder()
                .objects(object("many").version_id(version).build().unwrap())
                .objects(object("other").build().unwrap());
            let delete = delete.build().unwrap();
            client.delete_objects().bucket(BUCKET).delete(delete).send()
        };
        for key in ["one", "many", "other"] {
            put(&client, key, b"body".to_vec()).await;
        }
        for version in ["3sL4kqtJlcpXroDTDmJ", "Null", ""] {
            let refused = delete("one", version).await.unwrap_err();
            assert_eq!(refused.code(), Some("NotImplemented"), "{case}: {version}");
            let deleted = delete_both(version).await.unwrap();
            let [error] = deleted.errors() else {
                unreachable!("{case}: {deleted:?}")
            };
            assert_eq!(error.key(), Some("many"), "{case}");
            assert_eq!(error.code(), Some("NotImplemented"), "{case}");
            assert_eq!(deleted.deleted().len(), 1, "{case}");
            assert_eq!(get(&client, "one").await, b"body", "{case}");
            assert_eq!(get(&client, "many").await, b"body", "{case}");
        }
        let sized = client.delete_object().bucket(BUCKET).key("one");
        let refused = sized.if_match_size(5).send().await.unwrap_err();
        assert_eq!(refused.code(), Some("NotImplemented"), "{case}");
        assert_eq!(get(&client, "one").await, b"body", "{case}");
        // The version of every object of a bucket without versions.
        delete("one", "null").await.unwrap();
        assert_eq!(delete_both("null").await.unwrap().errors().len(), 0);
        let listed = client.list_objects_v2().bucket(BUCKET).send().await;
        assert_eq!(listed.unwrap().contents().len(), 0, "{case}");
    }
}
