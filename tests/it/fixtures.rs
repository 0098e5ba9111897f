//! What version 1 stored is read by today's code, and goes on from there. The fixtures were written
//! by the code of their version (`write_fixtures`), and are never edited, only joined by a v2.

use std::path::PathBuf;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use s3layers::registry::{Manifest, Referrer, RepositoryService as _};
use s3layers::{Algorithm, Digest, LayerId, LayerService as _, LayerServiceExt as _};
use uuid::Uuid;

use crate::support::bucket::{get, keys, sealed};
use crate::support::bytes::{KIB, assert_same, ramp, sha256};
use crate::support::stores::{self, BUCKET, PART, name};

/// A part, a tail, and some bytes within the session.
const STORED: u64 = PART + 100 * KIB + KIB;
/// All of the layer.
const SIZE: u64 = 2 * PART;

fn content() -> Bytes {
    ramp(9, SIZE)
}

fn sha512() -> LayerId {
    Digest::of(Algorithm::Sha512, &content()).into()
}

fn path(fixture: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures").join(fixture)
}

fn read(fixture: &str) -> String {
    std::fs::read_to_string(path(fixture)).unwrap()
}

/// A member of a document, somewhere in it.
fn member(document: &str, name: &str) -> String {
    let (_, rest) = document.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

async fn put(client: &Client, key: &str, bytes: impl Into<Bytes>) {
    let put = client.put_object().bucket(BUCKET).key(key);
    let put = put.body(ByteStream::from(bytes.into()));
    put.send().await.unwrap();
}

/// A multipart upload as the adapter begins it, with its first parts.
async fn multipart(client: &Client, key: &str, parts: &[Bytes]) -> (String, Vec<CompletedPart>) {
    let begun = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject);
    let id = begun.send().await.unwrap().upload_id.unwrap();
    let mut sent = Vec::new();
    for (number, part) in (1..).zip(parts) {
        let part = client
            .upload_part()
            .bucket(BUCKET)
            .key(key)
            .upload_id(&id)
            .part_number(number)
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .body(ByteStream::from(part.clone()));
        let part = part.send().await.unwrap();
        sent.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(part.e_tag)
                .set_checksum_crc64_nvme(part.checksum_crc64_nvme)
                .build(),
        );
    }
    (id, sent)
}

/// A session that says that its writer was done, as all that were closed do since this was added.
const SETTLED: &str = "session-v1-settled.json";

#[tokio::test]
async fn a_session_of_version_1_is_resumed_and_finished() {
    resumed_and_finished("session-v1.json", true).await;
    // The hash states are good: nothing is read back for either digest.
    resumed_and_finished(SETTLED, false).await;
}

async fn resumed_and_finished(fixture: &str, read_back: bool) {
    let store = stores::in_memory().await;
    let service = stores::service(&store).await;
    let client = stores::client(&store, store.http_client());
    let bytes = content();
    let session = read(fixture);

    // The store as that version left it, but for S3's id, which is this store's own.
    let uuid = Uuid::from_u128(1);
    let data = format!("data/00/{uuid}");
    let (id, _) = multipart(&client, &data, &[bytes.slice(..PART as usize)]).await;
    let then = member(&session, "upload_id");
    put(
        &client,
        &format!("uploads/{uuid}/session"),
        sealed(&session.replace(&then, &id)),
    )
    .await;
    let nonce = member(&session, "tail");
    let tail = format!("uploads/{uuid}/tail/{PART}-{nonce}");
    let of_tail = PART as usize..(PART + 100 * KIB) as usize;
    put(&client, &tail, bytes.slice(of_tail)).await;

    let mut upload = service
        .resume(&name(), Some(&sha512()), uuid)
        .await
        .unwrap();
    assert_eq!(upload.offset(), STORED);
    upload
        .write_bytes(bytes.slice(STORED as usize..))
        .await
        .unwrap();
    let before = service.usage();
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    let received = service.usage().since(&before).bytes_received;
    assert_eq!(received > SIZE, read_back, "{fixture}: {received}");
    assert!(read_back || received < 200 * KIB, "{fixture}: {received}");
    for id in [sha256(&bytes).into(), sha512()] {
        let mut got = Vec::new();
        service.pull(&id, &mut got).await.unwrap();
        assert_same(&got, &bytes, "the layer");
    }
    let left = keys(&client).await;
    assert!(
        !left.iter().any(|key| key.starts_with("uploads/")),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_record_of_version_1_is_fetched_and_read() {
    let store = stores::in_memory().await;
    let service = stores::service(&store).await;
    let client = stores::client(&store, store.http_client());
    let bytes = content();
    let record = read("record-v1.json");

    let data = member(&record, "data");
    let half = PART as usize;
    let parts = [bytes.slice(..half), bytes.slice(half..)];
    let (id, parts) = multipart(&client, &data, &parts).await;
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let complete = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(&data)
        .upload_id(id)
        .checksum_type(ChecksumType::FullObject)
        .multipart_upload(parts);
    complete.send().await.unwrap();
    let digest = sha256(&bytes);
    let hex = digest.hex();
    put(
        &client,
        &format!("layers/sha256/{}/{hex}", &hex[..2]),
        record,
    )
    .await;

    let mut got = Vec::new();
    let layer = service
        .pull(&digest.clone().into(), &mut got)
        .await
        .unwrap();
    assert_same(&got, &bytes, "the layer");
    assert_eq!(*layer.digest(), digest);
    assert_eq!(*layer.name(), name());
    assert!(layer.created_at() > std::time::SystemTime::UNIX_EPOCH);
}

/// The objects of a registry, with their keys.
fn registry_fixtures() -> [(&'static str, String); 3] {
    let (manifest, subject) = (sha256(MANIFEST), sha256(b"the subject"));
    let (hex, subject) = (manifest.hex(), subject.hex());
    let below = |path: String| format!("repositories/{}/{path}", name());
    [
        (
            "manifest-v1.json",
            below(format!("_manifests/sha256/{hex}")),
        ),
        ("tag-v1.json", below("_tags/latest".to_owned())),
        (
            "referrer-v1.json",
            below(format!("_referrers/sha256/{subject}/sha256-{hex}")),
        ),
    ]
}

const MANIFEST: &[u8] = b"{\"mediaType\": \"application/vnd.oci.image.manifest.v1+json\"}";

fn manifest() -> Manifest {
    Manifest {
        digest: sha256(MANIFEST),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        bytes: Bytes::from_static(MANIFEST),
        subject: Some(sha256(b"the subject")),
        artifact_type: Some("application/vnd.example.sbom".to_owned()),
        annotations: [("org.example.made-by".to_owned(), "hand".to_owned())].into(),
    }
}

#[tokio::test]
async fn a_manifest_a_tag_and_a_referrer_of_version_1_are_read() {
    let store = stores::in_memory().await;
    let service = stores::service(&store).await;
    let client = stores::client(&store, store.http_client());
    for (fixture, key) in registry_fixtures() {
        put(&client, &key, read(fixture)).await;
    }
    let want = manifest();
    let latest = "latest".parse().unwrap();
    let tagged = service.tag(&name(), &latest).await.unwrap();
    assert_eq!(tagged.as_ref(), Some(&want.digest));
    let got = service.manifest(&name(), &want.digest).await.unwrap();
    assert_eq!(got.as_ref(), Some(&want));
    let subject = want.subject.clone().unwrap();
    let page = service
        .referrers(&name(), &subject, None, 10, usize::MAX)
        .await
        .unwrap();
    let referrer = Referrer {
        digest: want.digest,
        media_type: want.media_type,
        size: MANIFEST.len() as u64,
        artifact_type: want.artifact_type,
        annotations: want.annotations,
    };
    assert_eq!(page.items, [referrer]);
}

/// As [`write_fixtures`], for what a registry keeps.
#[tokio::test]
#[ignore = "writes files"]
async fn write_registry_fixtures() {
    let store = stores::in_memory().await;
    let service = stores::service(&store).await;
    let client = stores::client(&store, store.http_client());
    let manifest = manifest();
    service.put_manifest(&name(), &manifest).await.unwrap();
    let latest = "latest".parse().unwrap();
    let put = service.put_tag(&name(), &latest, &manifest.digest).await;
    put.unwrap();
    for (fixture, key) in registry_fixtures() {
        let path = path(fixture);
        assert!(!path.exists(), "{fixture} is never edited");
        std::fs::write(path, get(&client, &key).await).unwrap();
    }
}

/// Writes the fixtures of the current version that are not there. Run once when a version is new, with
/// `cargo test --features conformance --test it -- --ignored write_fixtures`.
#[tokio::test]
#[ignore = "writes files"]
async fn write_fixtures() {
    let store = stores::in_memory().await;
    let service = stores::service(&store).await;
    let client = stores::client(&store, store.http_client());
    let bytes = content();
    let mut upload = service.upload(&name(), Some(&sha512())).await.unwrap();
    let uuid = upload.uuid();
    for to in [STORED - KIB, STORED] {
        let from = upload.offset() as usize;
        upload
            .write_bytes(bytes.slice(from..to as usize))
            .await
            .unwrap();
        upload.close().await.unwrap();
        upload = service.resume(&name(), None, uuid).await.unwrap();
    }
    let session = get(&client, &format!("uploads/{uuid}/session")).await;
    upload
        .write_bytes(bytes.slice(STORED as usize..))
        .await
        .unwrap();
    let digest = sha256(&bytes);
    upload.finish(SIZE, &digest).await.unwrap();
    let hex = digest.hex();
    let record = get(&client, &format!("layers/sha256/{}/{hex}", &hex[..2])).await;
    for (fixture, bytes) in [(SETTLED, session), ("record-v1.json", record)] {
        let path = path(fixture);
        if !path.exists() {
            std::fs::write(path, bytes).unwrap();
        }
    }
}
