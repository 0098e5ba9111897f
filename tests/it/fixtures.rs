//! What version 1 stored is read by today's code, which continues from there. The fixtures were
//! written by the code of their version (`write_fixtures`), and are never edited, only joined by a v2.

use std::path::PathBuf;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use futures_util::StreamExt as _;
use s3layers::{Algorithm, Digest, Error, LayerId, LayerService as _, LayerServiceExt as _};
use s3layers::{LayerUpload, S3LayerService};
use s3layers_registry::{Manifest, Referrer, RepositoryService as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::aged;
use crate::support::bucket::{TOMBSTONE_SIZE, get, keys, multiparts, sealed};
use crate::support::bytes::{KIB, assert_same, ramp, sha256};
use crate::support::fault_client::{CompleteMultipartUpload, FaultClient, On};
use crate::support::stores::{self, BUCKET, PART, name};

/// A segment, a part, a tail, and some bytes within the session.
const STORED: u64 = 2 * PART + 100 * KIB + KIB;
/// All of the layer.
const SIZE: u64 = 3 * PART;
/// A layer within its documents.
const SMALL: u64 = 3 * KIB;

fn content() -> Bytes {
    ramp(9, SIZE)
}

fn small() -> Bytes {
    ramp(10, SMALL)
}

fn sha512(bytes: &[u8]) -> LayerId {
    Digest::of(Algorithm::Sha512, bytes).into()
}

fn path(fixture: &str) -> PathBuf {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    root.join("tests/fixtures").join(fixture)
}

fn read(fixture: &str) -> String {
    std::fs::read_to_string(path(fixture)).unwrap()
}

fn json(document: &str) -> Value {
    serde_json::from_str(document).unwrap()
}

/// Keeps a fixture that is not there yet.
fn write(fixture: &str, document: &[u8]) {
    let path = path(fixture);
    if !path.exists() {
        std::fs::write(path, document).unwrap();
    }
}

async fn put(client: &Client, key: &str, bytes: impl Into<Bytes>) {
    let put = client.put_object().bucket(BUCKET).key(key);
    let put = put.body(ByteStream::from(bytes.into()));
    put.send().await.unwrap();
}

fn layer_key(id: &LayerId) -> String {
    let digest = id.as_digest().unwrap();
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    format!("layers/{algorithm}/{}/{hex}", &hex[..2])
}

/// The key of a document about an id in the repository.
fn key_below(folder: &str, id: &LayerId) -> String {
    let digest = id.as_digest().unwrap();
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    format!("repositories/{}/{folder}/{algorithm}/{hex}", name())
}

fn data_key(uuid: &str, name: &str) -> String {
    format!("data/{}/{uuid}.{name}", &uuid[..2])
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

/// An object that was completed from one part of at most [`PART`] after the other.
async fn completed(client: &Client, key: &str, bytes: &Bytes) {
    let parts: Vec<Bytes> = bytes
        .chunks(PART as usize)
        .map(Bytes::copy_from_slice)
        .collect();
    let (id, parts) = multipart(client, key, &parts).await;
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
    let complete = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .checksum_type(ChecksumType::FullObject)
        .multipart_upload(parts.build());
    complete.send().await.unwrap();
}

/// How many bytes a checksum is of.
fn length(sum: &Value) -> usize {
    sum[0].as_u64().unwrap() as usize
}

/// The objects of the segments, each with its bytes.
async fn put_segments(client: &Client, uuid: &str, segments: &Value, bytes: &mut Bytes) {
    for segment in segments.as_array().into_iter().flatten() {
        let key = data_key(uuid, segment["name"].as_str().unwrap());
        completed(client, &key, &bytes.split_to(length(&segment["sum"]))).await;
    }
}

/// An upload as its session says, except for S3's own id; and its UUID.
async fn put_upload(client: &Client, fixture: &str) -> uuid::Uuid {
    let mut document = read(fixture);
    let session = json(&document);
    let mut bytes = content();
    let uuid = session["uuid"].as_str().unwrap();
    put_segments(client, uuid, &session["segments"], &mut bytes).await;
    if let Value::Object(open) = &session["multipart"] {
        let mut parts = Vec::new();
        for part in open
            .get("parts")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            parts.push(bytes.split_to(length(&part[1])));
        }
        let key = data_key(uuid, &open["number"].to_string());
        let (id, _) = multipart(client, &key, &parts).await;
        document = document.replace(open["upload_id"].as_str().unwrap(), &id);
    }
    for tail in session["tails"].as_array().into_iter().flatten() {
        let nonce = tail["place"]["tail"].as_str().unwrap();
        let key = format!("uploads/{uuid}/tail/{}-{nonce}", tail["offset"]);
        let offset = tail["offset"].as_u64().unwrap() as usize;
        let end = offset + length(&tail["sum"]);
        put(client, &key, content().slice(offset..end)).await;
    }
    put(
        client,
        &format!("uploads/{uuid}/session"),
        sealed(&document),
    )
    .await;
    uuid.parse().unwrap()
}

/// A store, a process over it, and a client beside it.
async fn stage() -> (EmbeddedStore, S3LayerService, Client) {
    let (store, service) = stores::with_service().await;
    let client = stores::sdk_client(&store);
    (store, service, client)
}

async fn assert_layer(service: &S3LayerService, id: &LayerId, bytes: &Bytes) {
    let mut got = Vec::new();
    service.pull(id, &mut got).await.unwrap();
    assert_same(&got, bytes, "the layer");
}

async fn assert_no_upload_is_left(service: &S3LayerService, client: &Client) {
    service.wait_for_background().await;
    let left = keys(client).await;
    let is_upload = |key: &String| key.starts_with("uploads/") || key.contains("/_claims/");
    assert!(!left.iter().any(is_upload), "{left:?}");
    assert_eq!(multiparts(client).await, [""; 0]);
}

#[tokio::test]
async fn an_open_session_of_version_1_is_resumed_and_finished() {
    for (fixture, offset) in [
        ("session-open-v1.json", STORED),
        ("session-freezing-v1.json", PART),
    ] {
        let (_store, service, client) = stage().await;
        let bytes = content();
        let uuid = put_upload(&client, fixture).await;
        let id = sha512(&bytes);
        let mut upload = service.resume(&name(), Some(&id), uuid).await.unwrap();
        assert_eq!(upload.offset(), offset, "{fixture}");
        let rest = bytes.slice(offset as usize..);
        upload.write_bytes(rest).await.unwrap();
        let before = service.usage();
        upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
        // The hash states are good: nothing is read back for either digest. The tail is read once, to
        // be sent within its part.
        let received = service.usage().since(&before).bytes_received;
        assert!(received < 200 * KIB, "{fixture}: {received}");
        for id in [sha256(&bytes).into(), id] {
            assert_layer(&service, &id, &bytes).await;
        }
        assert_no_upload_is_left(&service, &client).await;
    }
}

#[tokio::test]
async fn a_freeze_of_version_1_that_was_interrupted_after_its_complete_is_continued() {
    let (_store, service, client) = stage().await;
    let bytes = content();
    let fixture = "session-freezing-v1.json";
    let session = json(&read(fixture));
    let uuid = session["uuid"].as_str().unwrap();
    let key = data_key(uuid, &session["multipart"]["number"].to_string());
    completed(&client, &key, &bytes.slice(..PART as usize)).await;
    put(&client, &format!("uploads/{uuid}/session"), read(fixture)).await;
    let uuid = uuid.parse().unwrap();
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    upload
        .write_bytes(bytes.slice(PART as usize..))
        .await
        .unwrap();
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    assert_layer(&service, &sha256(&bytes).into(), &bytes).await;
    assert_no_upload_is_left(&service, &client).await;
}

#[tokio::test]
async fn a_committing_session_of_version_1_is_committed() {
    let (_store, service, client) = stage().await;
    put_upload(&client, "session-committing-v1.json").await;
    stores::sweep(&service).await.unwrap();
    let bytes = content();
    for id in [sha256(&bytes).into(), sha512(&bytes)] {
        assert_layer(&service, &id, &bytes).await;
    }
    assert_no_upload_is_left(&service, &client).await;
}

#[tokio::test]
async fn a_cancelled_commit_of_version_1_is_removed_when_it_is_old() {
    let (store, service, client) = stage().await;
    let uuid = put_upload(&client, "session-cancelled-v1.json").await;
    let resumed = service.resume(&name(), None, uuid).await.map(drop);
    assert!(matches!(resumed, Err(Error::UploadUnknown { .. })));
    aged::sweep(&store).await;
    let left: Vec<_> = keys(&client).await.into_iter().collect();
    assert_eq!(left, ["profile"]);
}

/// The layer as its record, alias or link repeats it.
async fn put_data(client: &Client, fixture: &str) {
    let layer = &json(&read(fixture))["layer"];
    let (uuid, segments) = (&layer["upload"], &layer["content"]["segments"]);
    put_segments(client, uuid.as_str().unwrap(), segments, &mut content()).await;
}

#[tokio::test]
async fn records_and_aliases_of_version_1_are_read() {
    for (fixture, id, bytes) in [
        (
            "record-segments-v1.json",
            sha256(&content()).into(),
            content(),
        ),
        ("record-inline-v1.json", sha256(&small()).into(), small()),
        ("alias-v1.json", sha512(&content()), content()),
    ] {
        let (_store, service, client) = stage().await;
        put_data(&client, fixture).await;
        put(&client, &layer_key(&id), read(fixture)).await;
        if fixture == "alias-v1.json" {
            let record = layer_key(&sha256(&bytes).into());
            put(&client, &record, read("record-segments-v1.json")).await;
        }
        assert!(service.exists(&id).await.unwrap(), "{fixture}");
        let mut got = Vec::new();
        let layer = service.pull(&id, &mut got).await.unwrap();
        assert_same(&got, &bytes, fixture);
        assert_eq!(*layer.digest(), sha256(&bytes));
        assert_eq!(*layer.name(), name());
        assert!(layer.created_at() > std::time::SystemTime::UNIX_EPOCH);
    }
}

#[tokio::test]
async fn links_of_version_1_are_read() {
    for (fixture, bytes) in [
        ("link-segments-v1.json", content()),
        ("link-inline-v1.json", small()),
    ] {
        let (_store, service, client) = stage().await;
        put_data(&client, fixture).await;
        let id = sha256(&bytes).into();
        put(&client, &key_below("_layers", &id), read(fixture)).await;
        let mut layer = service.layer(&name(), &id).await.unwrap();
        let mut got = Vec::new();
        layer.read_to_end(&mut got).await.unwrap();
        assert_same(&got, &bytes, fixture);
    }
}

#[tokio::test]
async fn a_claim_of_version_1_is_held_to() {
    let (_store, service, client) = stage().await;
    let uuid = put_upload(&client, "session-open-v1.json").await;
    let id = sha512(&content());
    put(&client, &key_below("_claims", &id), read("claim-v1.json")).await;
    let second = service.upload(&name(), Some(&id)).await.map(drop);
    let Err(Error::UploadInProgress { uuid: first, .. }) = second else {
        panic!("{second:?}");
    };
    assert_eq!(first, uuid);
}

/// The objects of a registry, with their keys.
fn registry_fixtures() -> [(&'static str, String); 3] {
    let (manifest, subject) = (manifest().digest, sha256(SUBJECT));
    let (hex, subject) = (manifest.hex(), subject.hex());
    let below = |path: String| format!("repositories/{}/{path}", name());
    let kind = &sha256(ARTIFACT_TYPE.as_bytes()).hex()[..8].to_owned();
    [
        (
            "manifest-v1.json",
            below(format!("_manifests/sha256/{hex}")),
        ),
        ("tag-v1.json", below("_tags/latest".to_owned())),
        (
            "referrer-v1.json",
            below(format!("_referrers/sha256/{subject}/{kind}-sha256-{hex}")),
        ),
    ]
}

const SUBJECT: &[u8] = b"the subject";
const ARTIFACT_TYPE: &str = "application/vnd.example.sbom";

fn manifest() -> Manifest {
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    // A legal spelling of the colon.
    let subject = sha256(SUBJECT).to_string().replace(':', "\\u003a");
    let bytes = Bytes::from(format!(
        r#"{{"mediaType": "{media_type}", "subject": {{"digest": "{subject}"}}}}"#
    ));
    Manifest {
        digest: sha256(&bytes),
        media_type: media_type.to_owned(),
        bytes,
        subject: Some(sha256(SUBJECT)),
        artifact_type: Some(ARTIFACT_TYPE.to_owned()),
        annotations: [("org.example.made-by".to_owned(), "hand".to_owned())].into(),
    }
}

#[tokio::test]
async fn a_manifest_a_tag_and_a_referrer_of_version_1_are_read() {
    let (_store, service, client) = stage().await;
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
        .referrers(&name(), &subject, None, None, 10, usize::MAX)
        .await
        .unwrap();
    assert_eq!(page.items, [Referrer::from(want.clone())]);
    let stored = json(&read("manifest-v1.json"));
    let names = [want.subject.unwrap().to_string()];
    assert_eq!(stored["names"], Value::from(names.to_vec()));
}

/// A fixture in another state, which only a collection writes.
fn in_state(fixture: &str, state: &str) -> String {
    let document = read(fixture);
    let live = r#""state":"live""#;
    assert!(document.contains(live), "{document}");
    let state = format!(r#""state":{{"{state}":{{"nonce":"{NONCE}"}}}}"#);
    sealed(&document.replace(live, &state))
}

const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// Each document in each state that it can be in, but live.
fn state_fixtures() -> Vec<(String, String)> {
    let states = [
        ("record-segments", "condemned"),
        ("record-segments", "dead"),
        ("record-segments", "purging"),
        ("record-inline", "dead"),
        ("link-segments", "condemned"),
        ("manifest", "condemned"),
    ];
    let fixtures = states.into_iter().map(|(document, state)| {
        let fixture = format!("{document}-{state}-v1.json");
        (fixture, in_state(&format!("{document}-v1.json"), state))
    });
    fixtures.collect()
}

#[tokio::test]
async fn states_of_a_collection_are_read_as_presence_or_absence() {
    let (large, small) = (sha256(&content()).into(), sha256(&small()).into());
    for (fixture, id, is_present) in [
        ("record-segments-condemned-v1.json", &large, true),
        ("record-segments-dead-v1.json", &large, false),
        ("record-segments-purging-v1.json", &large, false),
        ("record-inline-dead-v1.json", &small, false),
    ] {
        let (_store, service, client) = stage().await;
        put_data(&client, fixture).await;
        put(&client, &layer_key(id), read(fixture)).await;
        let sha512 = sha512(&content());
        put(&client, &layer_key(&sha512), read("alias-v1.json")).await;
        let ids = if *id == large {
            vec![id, &sha512]
        } else {
            vec![id]
        };
        for id in ids {
            assert_eq!(service.exists(id).await.unwrap(), is_present, "{fixture}");
            let fetched = service.fetch(id).await.map(drop);
            if is_present {
                fetched.unwrap()
            } else {
                assert!(matches!(fetched, Err(Error::LayerUnknown { .. })))
            }
            let other = "library/other".parse().unwrap();
            let mounted = service.mount(&other, id, None).await.unwrap();
            assert_eq!(mounted, is_present, "{fixture}");
        }
        let listed: Vec<_> = service.layers().collect().await;
        assert_eq!(listed.len(), usize::from(is_present), "{fixture}");
    }
    let (_store, service, client) = stage().await;
    put_data(&client, "link-segments-condemned-v1.json").await;
    let link = key_below("_layers", &large);
    put(&client, &link, read("link-segments-condemned-v1.json")).await;
    service.layer(&name(), &large).await.unwrap();
    let [(_, key), ..] = registry_fixtures();
    put(&client, &key, read("manifest-condemned-v1.json")).await;
    let want = manifest();
    let got = service.manifest(&name(), &want.digest).await.unwrap();
    assert_eq!(got, Some(want));
}

/// A push of a layer whose record is dead or being purged stores it again, and a condemned one is
/// live afterwards.
#[tokio::test]
async fn push_replaces_every_state_of_a_record_by_a_live_one() {
    let bytes = content();
    let id = sha256(&bytes).into();
    for state in ["condemned", "dead", "purging"] {
        let (_store, service, client) = stage().await;
        let fixture = format!("record-segments-{state}-v1.json");
        put_data(&client, &fixture).await;
        put(&client, &layer_key(&id), read(&fixture)).await;
        let old = json(&read(&fixture))["layer"]["upload"].clone();
        service.push(&name(), &mut &bytes[..]).await.unwrap();
        assert_layer(&service, &id, &bytes).await;
        let stored = get(&client, &layer_key(&id)).await;
        let record = json(std::str::from_utf8(&stored).unwrap());
        assert_eq!(record["state"], "live", "{state}");
        let is_rescued = record["layer"]["upload"] == old;
        assert_eq!(is_rescued, state == "condemned", "{state}");
    }
}

/// A driver that was suspended must not publish data that a collection is removing.
#[tokio::test]
async fn commit_of_data_that_is_being_purged_is_refused() {
    let (_store, service, client) = stage().await;
    put_upload(&client, "session-committing-v1.json").await;
    let session = json(&read("session-committing-v1.json"));
    stores::sweep(&service).await.unwrap();
    let key = layer_key(&sha256(&content()).into());
    let record = get(&client, &key).await;
    let record = std::str::from_utf8(&record).unwrap();
    let purging = format!(r#""state":{{"purging":{{"nonce":"{NONCE}"}}}}"#);
    let purging = sealed(&record.replace(r#""state":"live""#, &purging));
    put(&client, &key, purging.clone()).await;
    // The session comes back, as the driver has it, whose multipart upload is complete.
    let uuid = session["uuid"].as_str().unwrap();
    let document = read("session-committing-v1.json");
    put(&client, &format!("uploads/{uuid}/session"), document).await;
    let _ = stores::sweep(&service).await;
    assert_eq!(get(&client, &key).await, purging);
}

/// The document of each fixture, and what reads it.
#[tokio::test]
async fn unknown_member_is_refused_in_every_document() {
    let (_store, service, client) = stage().await;
    let (large, alias) = (sha256(&content()).into(), sha512(&content()));
    let [(_, manifest_key), (_, tag_key), _] = registry_fixtures();
    let fixtures = [
        ("record-segments-v1.json", layer_key(&large)),
        ("alias-v1.json", layer_key(&alias)),
        ("link-segments-v1.json", key_below("_layers", &large)),
        ("manifest-v1.json", manifest_key),
        ("tag-v1.json", tag_key),
        ("claim-v1.json", key_below("_claims", &alias)),
    ];
    for (fixture, key) in &fixtures {
        let document = read(fixture).replacen("{", r#"{"unknown":1,"#, 1);
        put(&client, key, sealed(&document)).await;
    }
    let latest = "latest".parse().unwrap();
    let errors = [
        service.fetch(&large).await.map(drop),
        service.fetch(&alias).await.map(drop),
        service.layer(&name(), &large).await.map(drop),
        service
            .manifest(&name(), &manifest().digest)
            .await
            .map(drop),
        service.tag(&name(), &latest).await.map(drop),
    ];
    for (error, (fixture, key)) in errors.into_iter().zip(&fixtures) {
        let error = error.unwrap_err();
        let is_damage = matches!(&error, Error::Damaged { key: damaged, .. } if damaged == key);
        assert!(is_damage, "{fixture}: {error}");
    }
}

/// Reading a tombstone is reading absence, and a writer replaces it.
#[tokio::test]
async fn tombstone_of_version_1_is_absence_everywhere() {
    let (_store, service, client) = stage().await;
    let tombstone = read("tombstone-v1.json");
    assert_eq!(tombstone.len() as i64, TOMBSTONE_SIZE);
    let bytes = content();
    let (large, alias) = (sha256(&bytes).into(), sha512(&bytes));
    let [(_, manifest_key), (_, tag_key), (_, referrer_key)] = registry_fixtures();
    for key in [
        layer_key(&large),
        layer_key(&alias),
        key_below("_layers", &large),
        key_below("_layers", &alias),
        manifest_key,
        tag_key,
        referrer_key,
    ] {
        put(&client, &key, tombstone.clone()).await;
    }
    let (want, latest) = (manifest(), "latest".parse().unwrap());
    let (name, subject) = (name(), want.subject.clone().unwrap());
    for id in [&large, &alias] {
        assert!(!service.exists(id).await.unwrap());
        assert!(!service.mount(&name, id, Some(&name)).await.unwrap());
        assert!(!service.unlink(&name, id).await.unwrap());
        let linked = service.layer(&name, id).await.map(drop);
        assert!(matches!(linked, Err(Error::LayerUnknown { .. })));
    }
    assert_eq!(service.tag(&name, &latest).await.unwrap(), None);
    assert!(!service.delete_tag(&name, &latest).await.unwrap());
    let got = service.manifest(&name, &want.digest).await.unwrap();
    assert_eq!(got, None);
    assert!(!service.delete_manifest(&name, &want.digest).await.unwrap());
    let tags = service.tags(&name, None, 10).await.unwrap();
    assert!(tags.is_none_or(|page| page.items.is_empty()));
    let referrers = service.referrers(&name, &subject, None, None, 10, usize::MAX);
    assert_eq!(referrers.await.unwrap().items, []);
    let layers: Vec<_> = service
        .layers()
        .chain(service.layers_of(&name))
        .collect()
        .await;
    assert!(layers.is_empty());
    assert_eq!(service.find(Algorithm::Sha256, "", 10).await.unwrap(), []);

    let mut upload = service.upload(&name, Some(&alias)).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    service.put_manifest(&name, &want).await.unwrap();
    service.put_tag(&name, &latest, &want.digest).await.unwrap();
    for id in [&large, &alias] {
        assert_layer(&service, id, &bytes).await;
        service.layer(&name, id).await.unwrap();
    }
    let referrers = service.referrers(&name, &subject, None, None, 10, usize::MAX);
    assert_eq!(
        referrers.await.unwrap().items,
        [Referrer::from(want.clone())]
    );
    let tagged = service.tag(&name, &latest).await.unwrap();
    assert_eq!(tagged, Some(want.digest));
}

/// The first two repositories have no entries; the catalog looks only into those that were emptied.
#[tokio::test]
async fn markers_of_version_1_make_the_catalog() {
    let (_store, service, client) = stage().await;
    for (key, fixture) in [
        ("names/a-b.c!d", "marker-live-v1.json"),
        ("names/b", "marker-emptied-v1.json"),
        ("names/library.demo", "marker-emptied-v1.json"),
    ] {
        put(&client, key, read(fixture)).await;
    }
    put(
        &client,
        "repositories/library/demo/_tags/latest",
        read("tag-v1.json"),
    )
    .await;
    let page = service.repositories(None, 10).await.unwrap();
    assert_eq!(page.items, ["a.b/c-d".parse().unwrap(), name()]);
}

/// As [`write_fixtures`], for what a registry keeps.
#[tokio::test]
#[ignore = "writes files"]
async fn write_registry_fixtures() {
    let (_store, service, client) = stage().await;
    let manifest = manifest();
    service.put_manifest(&name(), &manifest).await.unwrap();
    let latest = "latest".parse().unwrap();
    let put = service.put_tag(&name(), &latest, &manifest.digest).await;
    put.unwrap();
    for (fixture, key) in registry_fixtures() {
        write(fixture, &get(&client, &key).await);
    }
    for (fixture, document) in state_fixtures() {
        write(&fixture, document.as_bytes());
    }
    let deleted = service.delete_manifest(&name(), &manifest.digest).await;
    assert!(deleted.unwrap());
    let [(_, key), ..] = registry_fixtures();
    write("tombstone-v1.json", &get(&client, &key).await);
}

/// Writes the fixtures of the current version that are not there. Run once when a version is new, with
/// `cargo test --features conformance --test it -- --ignored write_fixtures`.
#[tokio::test]
#[ignore = "writes files"]
async fn write_fixtures() {
    let (store, service, client) = stage().await;
    let bytes = content();
    let upload = service.upload(&name(), Some(&sha512(&bytes))).await;
    let mut upload = write_freezing(&store, upload.unwrap()).await;
    let session = format!("uploads/{}/session", upload.uuid());
    for to in [STORED - KIB, STORED] {
        let from = upload.offset() as usize;
        let piece = bytes.slice(from..to as usize);
        upload.write_bytes(piece).await.unwrap();
        upload.close().await.unwrap();
        upload = service.resume(&name(), None, upload.uuid()).await.unwrap();
    }
    write("session-open-v1.json", &get(&client, &session).await);
    let claim = key_below("_claims", &sha512(&bytes));
    write("claim-v1.json", &get(&client, &claim).await);
    drop(upload);
    write_commits(&store, session.split('/').nth(1).unwrap().parse().unwrap()).await;

    let digest = sha256(&bytes);
    let mut upload = service
        .upload(&name(), Some(&sha512(&bytes)))
        .await
        .unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(SIZE, &digest).await.unwrap();
    service.push(&name(), &mut &small()[..]).await.unwrap();
    let (large, small) = (digest.into(), sha256(&small()).into());
    for (fixture, key) in [
        ("record-segments-v1.json", layer_key(&large)),
        ("record-inline-v1.json", layer_key(&small)),
        ("alias-v1.json", layer_key(&sha512(&bytes))),
        ("link-segments-v1.json", key_below("_layers", &large)),
        ("link-inline-v1.json", key_below("_layers", &small)),
    ] {
        write(fixture, &get(&client, &key).await);
    }
}

/// Leaves a part and an owner that did not close, and the freeze of the next owner, which fails at
/// first.
async fn write_freezing(
    store: &EmbeddedStore,
    mut upload: Box<dyn LayerUpload>,
) -> Box<dyn LayerUpload> {
    let (bytes, uuid) = (content(), upload.uuid());
    upload
        .write_bytes(bytes.slice(..PART as usize))
        .await
        .unwrap();
    upload.close().await.unwrap();
    let dying = stores::service(store).await;
    let mut upload = dying.resume(&name(), None, uuid).await.unwrap();
    upload
        .write_bytes(bytes.slice(PART as usize..PART as usize + 10))
        .await
        .unwrap();
    upload.flush().await.unwrap();
    drop(upload);
    let wire = FaultClient::over(store.http_client());
    let failing = stores::connect(store, &wire).await;
    wire.fault(On::every(CompleteMultipartUpload).status(403));
    let mut upload = failing.resume(&name(), None, uuid).await.unwrap();
    let piece = bytes.slice(PART as usize..2 * PART as usize);
    let _ = upload.write_bytes(piece).await;
    let _ = upload.close().await;
    let client = stores::sdk_client(store);
    let session = get(&client, &format!("uploads/{uuid}/session")).await;
    write("session-freezing-v1.json", &session);
    let next = stores::service(store).await;
    next.resume(&name(), None, uuid).await.unwrap()
}

/// Leaves a commit at which Complete fails, and its cancel.
async fn write_commits(store: &EmbeddedStore, uuid: uuid::Uuid) {
    let bytes = content();
    let wire = FaultClient::over(store.http_client());
    let failing = stores::connect(store, &wire).await;
    let client = stores::sdk_client(store);
    let session = format!("uploads/{uuid}/session");
    let id = sha512(&bytes);
    let mut upload = failing.resume(&name(), Some(&id), uuid).await.unwrap();
    upload
        .write_bytes(bytes.slice(STORED as usize..))
        .await
        .unwrap();
    wire.fault(On::every(CompleteMultipartUpload).status(403));
    assert!(upload.finish(SIZE, &sha256(&bytes)).await.is_err());
    write("session-committing-v1.json", &get(&client, &session).await);
    upload.cancel().await.unwrap();
    write("session-cancelled-v1.json", &get(&client, &session).await);
}
