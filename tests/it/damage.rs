//! A store that holds other bytes than were written: the damage is reported by key, nothing wrong is
//! published, and no wrong byte is returned.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use futures_util::StreamExt as _;
use s3layers::{
    Algorithm, Digest, Error, LayerId, LayerService as _, LayerServiceExt as _, S3LayerService,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::aged;
use crate::support::bucket::{abort_multiparts, get, keys, multiparts, sealed};
use crate::support::bytes::{KIB, MIB, assert_same, ramp, sha256};
use crate::support::fault_client::{CreateMultipartUpload, FaultClient, GetObject, On, UploadPart};
use crate::support::stores::{self, BUCKET, PART, name};

/// A store, a process over it, and a client that goes behind its back.
async fn stage() -> (EmbeddedStore, S3LayerService, Client) {
    let (store, service) = stores::with_service().await;
    let client = stores::sdk_client(&store);
    (store, service, client)
}

async fn put(client: &Client, key: &str, bytes: impl Into<Bytes>) {
    let body = ByteStream::from(bytes.into());
    let put = client.put_object().bucket(BUCKET).key(key).body(body);
    put.send().await.unwrap();
}

async fn delete(client: &Client, key: &str) {
    let delete = client.delete_object().bucket(BUCKET).key(key);
    delete.send().await.unwrap();
}

/// The one key that begins like this.
async fn key_that_begins(client: &Client, start: &str) -> String {
    let keys = keys(client).await;
    let mut found = keys.into_iter().filter(|key| key.starts_with(start));
    let key = found.next().unwrap();
    assert_eq!(found.next(), None, "more than one {start}");
    key
}

async fn publish(service: &S3LayerService, bytes: &Bytes) -> LayerId {
    let layer = service.push(&name(), &mut &bytes[..]).await.unwrap();
    service.wait_for_background().await;
    layer.digest().clone().into()
}

/// Reading gives an error, and before that no byte that is wrong.
async fn assert_damaged(service: &S3LayerService, id: &LayerId, want: &Bytes, case: &str) {
    let mut layer = service.fetch(id).await.unwrap();
    let mut got = Vec::new();
    let error = layer.read_to_end(&mut got).await.unwrap_err();
    let error = Error::from_io(error);
    assert!(matches!(error, Error::Damaged { .. }), "{case}: {error}");
    assert!(
        want.starts_with(&got),
        "{case}: wrong bytes were handed out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_object_that_is_another_is_never_served() {
    for size in [20 * KIB, 2 * PART + 7] {
        let bytes = ramp(1, size);
        for case in ["truncated", "replaced", "longer", "deleted"] {
            let (_store, service, client) = stage().await;
            let id = publish(&service, &bytes).await;
            let data = key_that_begins(&client, "data/").await;
            match case {
                "truncated" => put(&client, &data, bytes.slice(..bytes.len() / 2)).await,
                "replaced" => put(&client, &data, ramp(2, size)).await,
                "longer" => put(&client, &data, ramp(1, size + 1)).await,
                _ => delete(&client, &data).await,
            }
            assert_damaged(&service, &id, &bytes, case).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_lies_about_the_size_is_an_error() {
    let size = 20_000;
    let bytes = ramp(1, size);
    for lie in [10_000, 19_999, 20_001, 9_000_000, 0] {
        let (_store, service, client) = stage().await;
        let id = publish(&service, &bytes).await;
        let key = key_that_begins(&client, "layers/sha256/").await;
        let record = String::from_utf8(get(&client, &key).await.to_vec()).unwrap();
        assert_eq!(
            sealed(&record),
            record,
            "the seal is computed as it is there"
        );
        let lying = record.replace(&format!("\"size\":{size}"), &format!("\"size\":{lie}"));
        assert_ne!(lying, record);
        put(&client, &key, sealed(&lying)).await;
        let error = service.fetch(&id).await.err().expect("a layer that lies");
        assert!(matches!(error, Error::Damaged { .. }), "{lie}: {error}");

        publish(&service, &bytes).await;
        let mut got = Vec::new();
        service.pull(&id, &mut got).await.unwrap();
        assert_same(&got, &bytes, &format!("{lie}, and pushed again"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_document_is_reported_as_damage() {
    let bytes = ramp(1, 3 * KIB);
    let garbage: [&[u8]; 6] = [
        b"",
        b"{}",
        b"no JSON",
        b"\xff\xfe\x00",
        b"{\"version\":1,\"seal\":\"crc64nvme:0000000000000000\"}",
        &[b'['; 100_000],
    ];
    for garbage in garbage {
        let (_store, service, client) = stage().await;
        let id = publish(&service, &bytes).await;
        let record = key_that_begins(&client, "layers/sha256/").await;
        let other = sha256(b"another layer").into();
        let mut upload = service.upload(&name(), Some(&other)).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload.close().await.unwrap();
        let uuid = upload.uuid();
        let session = key_that_begins(&client, "uploads/").await;
        for key in [&record, &session] {
            put(&client, key, Bytes::from_static(garbage)).await;
        }
        let outcomes = [
            service.exists(&id).await.map(drop),
            service.fetch(&id).await.map(drop),
            service.resume(&name(), None, uuid).await.map(drop),
        ];
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
        // An upload of the same bytes repairs the record.
        let mut again = service.upload(&name(), Some(&id)).await.unwrap();
        again.write_bytes(bytes.clone()).await.unwrap();
        again.finish(3 * KIB, &sha256(&bytes)).await.unwrap();
        assert!(service.exists(&id).await.unwrap());
        // No upload waits for the one that claimed the other id.
        service.upload(&name(), Some(&other)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_permission_is_never_absence() {
    let store = stores::in_memory().await;
    let bytes = ramp(1, 20 * KIB);
    let id = publish(&stores::service(&store).await, &bytes).await;
    let wire = FaultClient::over(store.http_client());
    let client = stores::client(&store, wire.http_client());
    let service = S3LayerService::connect(client, stores::config());
    let service = service.await.unwrap();
    let mut layer = service.fetch(&id).await.unwrap();
    wire.fault(On::every(GetObject).status(403));
    let unknown: LayerId = sha256(b"not there").into();
    let uuid = uuid::Uuid::new_v4();
    let outcomes = [
        service.exists(&id).await.map(drop),
        service.exists(&unknown).await.map(drop),
        service.fetch(&id).await.map(drop),
        service.upload(&name(), Some(&id)).await.map(drop),
        service.resume(&name(), None, uuid).await.map(drop),
        layer.read_u8().await.map(drop).map_err(Error::from_io),
    ];
    for (call, outcome) in outcomes.into_iter().enumerate() {
        let error = outcome.unwrap_err();
        assert!(error.is_permission(), "call {call}: {error}");
        assert!(!error.is_retryable(), "call {call}: {error}");
    }
    // The same handle continues once it is permitted.
    wire.clear_faults();
    assert_eq!(layer.read_u8().await.unwrap(), bytes[0]);
}

/// An upload of two parts and a bit, closed.
async fn two_parts(service: &S3LayerService, bytes: &Bytes) -> uuid::Uuid {
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.close().await.unwrap();
    upload.uuid()
}

/// Sends other bytes under a part number that is recorded.
async fn overwrite_part(client: &Client, number: i32, body: Bytes) {
    let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
    let listed = listed.unwrap();
    let [upload] = listed.uploads() else {
        panic!("{listed:?}");
    };
    let part = client
        .upload_part()
        .bucket(BUCKET)
        .key(upload.key().unwrap())
        .upload_id(upload.upload_id().unwrap())
        .part_number(number)
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .body(ByteStream::from(body));
    part.send().await.unwrap();
}

async fn finish_is_refused(service: &S3LayerService, uuid: uuid::Uuid, digest: &Digest, size: u64) {
    match service.resume(&name(), None, uuid).await {
        Err(Error::UploadUnknown { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok(mut upload) => {
            let error = upload.finish(size, digest).await.map(drop).unwrap_err();
            let by_name = matches!(
                error,
                Error::Damaged { .. } | Error::UploadConflict { .. } | Error::UploadUnknown { .. }
            );
            assert!(by_name, "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_overwritten_by_a_zombie_is_never_published() {
    let size = 2 * PART + 9 * KIB;
    let bytes = ramp(1, size);
    let digest = sha256(&bytes);
    for (case, body) in [
        ("other bytes of the same size", ramp(2, PART)),
        ("fewer bytes", ramp(1, PART - 1)),
    ] {
        // Before the resume.
        let (_store, service, client) = stage().await;
        let uuid = two_parts(&service, &bytes).await;
        overwrite_part(&client, 2, body.clone()).await;
        let resumed = service.resume(&name(), None, uuid).await.map(drop);
        let error = resumed.unwrap_err();
        assert!(
            matches!(error, Error::UploadUnknown { .. }),
            "{case}: {error}"
        );
        finish_is_refused(&service, uuid, &digest, size).await;
        assert!(
            !service.exists(&digest.clone().into()).await.unwrap(),
            "{case}"
        );

        // Between the resume and the finish.
        let (store, service, client) = stage().await;
        let uuid = two_parts(&service, &bytes).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        overwrite_part(&client, 2, body).await;
        let error = upload.finish(size, &digest).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{case}: {error}");
        assert!(
            !service.exists(&digest.clone().into()).await.unwrap(),
            "{case}"
        );
        finish_is_refused(&service, uuid, &digest, size).await;
        drop(upload);
        assert_eq!(multiparts(&client).await, [""; 0], "{case}");
        // Another process may still be committing it, so the session is kept for as long.
        let left: Vec<_> = keys(&client).await.into_iter().collect();
        let session = format!("uploads/{uuid}/session");
        assert_eq!(left, ["profile", &session], "{case}");
        aged::sweep(&store).await;
        let left: Vec<_> = keys(&client).await.into_iter().collect();
        assert_eq!(left, ["profile"], "{case}");
    }
}

/// No other process owns it.
#[tokio::test(start_paused = true)]
async fn upload_whose_parts_were_removed_is_unknown_to_its_owner() {
    let (_store, service, client) = stage().await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(ramp(1, 2 * PART)).await.unwrap();
    upload.flush().await.unwrap();
    abort_multiparts(&client).await;
    let sent = async {
        upload.write_all(&ramp(2, 2 * PART)).await?;
        upload.flush().await
    };
    let error = Error::from_io(sent.await.unwrap_err());
    assert!(matches!(error, Error::UploadUnknown { .. }), "{error}");
}

/// The older owner's request is still on its way when the newer one has published.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_owner_sent_arrives_after_the_end_and_changes_nothing() {
    let size = PART + MIB;
    let bytes = ramp(1, size);
    for late in [CreateMultipartUpload, UploadPart] {
        let (store, wire) = stores::with_wire().await;
        let client = stores::client(&store, wire.http_client());
        let older = S3LayerService::connect(client, stores::config());
        let older = older.await.unwrap();
        wire.reset();
        let gate = wire.hold(On::nth(late, 1));
        let mut zombie = older.upload(&name(), None).await.unwrap();
        let uuid = zombie.uuid();
        let close = async {
            zombie.write_bytes(ramp(2, size)).await?;
            zombie.close().await
        };
        let newer = async {
            gate.reached_by(1).await;
            let newer = stores::service(&store).await;
            let mut upload = newer.resume(&name(), None, uuid).await.unwrap();
            assert_eq!(upload.offset(), 0);
            upload.write_bytes(bytes.clone()).await.unwrap();
            upload.finish(size, &sha256(&bytes)).await.unwrap();
            gate.open();
            newer
        };
        let (closed, newer) = tokio::join!(close, newer);
        let error = closed.unwrap_err();
        let by_name = matches!(
            error,
            Error::UploadConflict { .. } | Error::UploadUnknown { .. }
        );
        assert!(by_name, "{late:?}: {error}");
        let mut got = Vec::new();
        newer.pull(&sha256(&bytes).into(), &mut got).await.unwrap();
        assert!(got == bytes, "{late:?}: other bytes were published");
        let client = stores::sdk_client(&store);
        newer.wait_for_background().await;
        let left = keys(&client).await;
        assert!(!left.iter().any(|key| key.contains("uploads/")), "{left:?}");
        assert_eq!(multiparts(&client).await, [""; 0], "{late:?}");
    }
}

#[tokio::test]
async fn a_link_that_is_older_than_its_record_leads_to_the_bytes_all_the_same() {
    use s3layers_registry::RepositoryService as _;

    let (store, service) = stores::with_service().await;
    let client = stores::sdk_client(&store);
    let bytes = ramp(77, 3 * PART);
    let push = async |repository: &str| {
        let repository = repository.parse().unwrap();
        let mut upload = service.upload(&repository, None).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload.finish(3 * PART, &sha256(&bytes)).await.unwrap();
        repository
    };
    let first = push("library/first").await;
    let keys = keys(&client).await;
    let data = keys.iter().find(|key| key.starts_with("data/")).unwrap();
    let lost = client.delete_object().bucket(BUCKET).key(data).send();
    lost.await.unwrap();
    // The record is replaced by one whose data is there.
    push("library/second").await;
    let fresh = stores::service(&store).await;
    let id = sha256(&bytes).into();
    let mut layer = fresh.layer(&first, &id).await.unwrap();
    let mut got = Vec::new();
    layer.read_to_end(&mut got).await.unwrap();
    assert!(got == bytes);
    assert_eq!(*layer.digest(), sha256(&bytes));

    // By several concurrent requests, of which one gets its 404 late.
    let wire = FaultClient::over(store.http_client());
    let fresh = stores::connect(&store, &wire).await;
    let [early, late] = [1, 2].map(|nth| wire.hold(On::nth(GetObject, nth).key_contains("data/")));
    let mut pieces = fresh.layer(&first, &id).await.unwrap().into_stream();
    let both_asked = async {
        late.reached_by(1).await;
        early.open();
    };
    let (piece, ()) = tokio::join!(pieces.next(), both_asked);
    let mut got = piece.unwrap().unwrap().to_vec();
    late.open();
    while let Some(piece) = pieces.next().await {
        got.extend(piece.unwrap());
    }
    assert!(got == bytes);
}

#[tokio::test]
async fn damaged_alias_is_replaced_by_the_next_upload_of_the_layer() {
    let (_store, service, client) = stage().await;
    let bytes = ramp(1, 3 * KIB);
    let digest = Digest::of(Algorithm::Sha512, &bytes);
    let id = digest.clone().into();
    for _ in 0..2 {
        let mut upload = service.upload(&name(), Some(&id)).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload.finish(3 * KIB, &digest).await.unwrap();
        assert!(service.exists(&id).await.unwrap());
        let alias = key_that_begins(&client, "layers/sha512/").await;
        put(&client, &alias, Bytes::from_static(b"{}")).await;
        let damaged = service.exists(&id).await.unwrap_err();
        assert!(matches!(damaged, Error::Damaged { .. }), "{damaged}");
    }
}
