//! Nothing is left in the bucket that no sweep would find: a sweep looks at `uploads/` only.

use std::time::Duration;

use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::{Algorithm, Digest, Error, LayerService as _, LayerServiceExt as _};
use tokio::io::AsyncWriteExt as _;

use crate::support::bucket;
use crate::support::bytes::{ramp, sha256};
use crate::support::fault_client::{
    AbortMultipartUpload, CreateMultipartUpload, DeleteObject, DeleteObjects, Fault, FaultClient,
    GetObject, On, Position, PutObject, STRAYED,
};
use crate::support::stores::{self, BUCKET, PART, name};

const SIZE: u64 = PART + 1000;

/// The data that is in the bucket after a sweep, and the multipart uploads.
async fn data(store: &EmbeddedStore) -> Vec<String> {
    let wire = FaultClient::over(store.http_client());
    let service = stores::connect(store, &wire).await;
    stores::sweep(&service).await.unwrap();
    let client = stores::sdk_client(store);
    let keys = bucket::keys(&client).await.into_iter();
    let mut data: Vec<_> = keys.filter(|key| key.starts_with("data/")).collect();
    data.extend(bucket::multiparts(&client).await);
    data
}

#[tokio::test(start_paused = true)]
async fn the_second_finish_removes_what_the_first_would_have() {
    let (store, service) = stores::with_service().await;
    let bytes = ramp(1, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.slice(..100_000)).await.unwrap();
    // A silent sender's bytes are stored after ten minutes, as what may be the whole layer.
    tokio::time::sleep(Duration::from_secs(700)).await;
    upload.write_bytes(bytes.slice(100_000..)).await.unwrap();
    let wrong = Digest::of(Algorithm::Sha512, b"something else");
    let refused = upload.finish(SIZE, &wrong).await.map(drop);
    assert!(matches!(refused, Err(Error::InvalidChecksum { .. })));
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    let data = data(&store).await;
    assert_eq!(data.len(), 1, "{data:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_arrive_after_a_cancel_are_taken_back() {
    let (store, wire, service) = stores::connected().await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(ramp(2, 100_000)).await.unwrap();
    let whole = wire.hold(On::every(PutObject).key_contains(".whole-"));
    let closing = tokio::spawn(async move { upload.close().await });
    whole.reached_by(1).await;
    let elsewhere = stores::service(&store).await;
    let mut other = elsewhere.resume(&name(), None, uuid).await.unwrap();
    other.cancel().await.unwrap();
    whole.open();
    let closed = closing.await.unwrap();
    assert!(
        matches!(closed, Err(Error::UploadUnknown { .. })),
        "{closed:?}"
    );
    assert_eq!(data(&store).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn bytes_that_another_handle_has_published_are_not_taken_back() {
    let (store, wire, service) = stores::connected().await;
    let bytes = ramp(3, 100_000);
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(bytes.clone()).await.unwrap();
    // The bytes are stored, and the session is not written yet.
    let session = wire.hold(On::every(PutObject).key_ends("/session"));
    let closing = tokio::spawn(async move { upload.close().await });
    session.reached_by(1).await;
    let elsewhere = stores::service(&store).await;
    let mut other = elsewhere.resume(&name(), None, uuid).await.unwrap();
    other.write_bytes(bytes.clone()).await.unwrap();
    other.finish(100_000, &sha256(&bytes)).await.unwrap();
    session.open();
    assert!(closing.await.unwrap().is_err());
    assert_eq!(data(&store).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_session_that_arrives_when_all_is_over_costs_no_layer() {
    let (store, wire, service) = stores::connected().await;
    wire.fault(
        On::nth(PutObject, 1)
            .key_ends("/session")
            .with(Fault::Stray),
    );
    let bytes = ramp(6, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    tokio::time::sleep(STRAYED * 2).await;
    let client = stores::sdk_client(&store);
    let keys = bucket::keys(&client).await;
    let back = keys.iter().filter(|key| key.ends_with("/session")).count();
    assert_eq!(back, 1, "it came");
    assert_eq!(data(&store).await.len(), 1, "after a sweep");
    let mut got = Vec::new();
    service
        .pull(&sha256(&bytes).into(), &mut got)
        .await
        .unwrap();
    assert!(got == bytes);
}

/// Something between us and the store delivers the first write of a session again, of which we
/// never receive.
#[tokio::test(start_paused = true)]
async fn a_session_that_comes_back_by_itself_costs_no_layer() {
    for size in [0, 100_000, SIZE] {
        let (store, service) = stores::with_service().await;
        let client = stores::sdk_client(&store);
        let bytes = ramp(8, size);
        let mut upload = service.upload(&name(), None).await.unwrap();
        let key = format!("uploads/{}/session", upload.uuid());
        let session = bucket::get(&client, &key).await;
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload.finish(size, &sha256(&bytes)).await.unwrap();
        let put = client.put_object().bucket(BUCKET).key(&key);
        put.body(session.into()).send().await.unwrap();

        let left = data(&store).await;
        // An empty layer has no data object.
        assert_eq!(left.len(), usize::from(size > 0), "{size}: after a sweep");
        let keys = bucket::keys(&client).await;
        assert!(!keys.contains(&key), "{size}: it was swept");
        let mut got = Vec::new();
        let id = sha256(&bytes).into();
        service.pull(&id, &mut got).await.unwrap();
        assert!(got == bytes, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_multipart_upload_that_was_begun_after_a_cancel_is_ended() {
    let (store, wire, service) = stores::connected().await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    let create = wire.hold(On::every(CreateMultipartUpload));
    upload.write_bytes(ramp(4, SIZE)).await.unwrap();
    create.reached_by(1).await;
    let elsewhere = stores::service(&store).await;
    let mut other = elsewhere.resume(&name(), None, uuid).await.unwrap();
    other.cancel().await.unwrap();
    create.open();
    let closed = upload.close().await;
    assert!(
        matches!(closed, Err(Error::UploadUnknown { .. })),
        "{closed:?}"
    );
    assert_eq!(data(&store).await, Vec::<String>::new());
}

/// S3 may keep a part that was on its way when its multipart upload was aborted.
#[tokio::test(start_paused = true)]
async fn an_abort_that_leaves_parts_is_repeated() {
    let (store, wire, service) = stores::connected().await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(ramp(5, SIZE)).await.unwrap();
    upload.flush().await.unwrap();
    wire.fault(On::nth(AbortMultipartUpload, 1).status(204));
    upload.cancel().await.unwrap();
    assert_eq!(data(&store).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_bit_that_flips_in_a_record_on_its_way_replaces_no_record() {
    // With checksums of the store's own, the SDK would see it.
    let mut quirks = Quirks::none();
    quirks.ignore_checksums = true;
    let store = stores::in_memory().await.with_quirks(quirks);
    let (wire, service) = stores::over_wire(&store).await;
    let bytes = ramp(5, 100_000);
    wire.fault(
        On::nth(GetObject, 1)
            .key_contains("layers/sha256/")
            .flip_bit(Position::Middle),
    );
    for _ in 0..2 {
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload.finish(100_000, &sha256(&bytes)).await.unwrap();
    }
    let data = data(&store).await;
    assert_eq!(data.len(), 1, "{data:?}");
}

/// A page lists a thousand.
#[tokio::test]
async fn all_multipart_uploads_of_a_cancelled_upload_end() {
    let (store, _, service) = stores::connected().await;
    let client = stores::sdk_client(&store);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(ramp(8, SIZE)).await.unwrap();
    upload.flush().await.unwrap();
    let uuid = upload.uuid();
    // As a process that is killed leaves it.
    drop(upload);
    let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
    let key = listed.unwrap().uploads()[0].key().unwrap().to_owned();
    for _ in 0..1001 {
        let create = client.create_multipart_upload().bucket(BUCKET);
        create.key(&key).send().await.unwrap();
    }
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    upload.cancel().await.unwrap();
    assert_eq!(data(&store).await, Vec::<String>::new());
}

/// They are on record, in a part or in another tail.
#[tokio::test]
async fn bytes_are_acknowledged_though_an_old_tail_cannot_be_removed() {
    let (store, wire, service) = stores::connected().await;
    let bytes = ramp(9, 4_000_000);
    let mut upload = service.upload(&name(), None).await.unwrap();
    for operation in [DeleteObject, DeleteObjects] {
        wire.fault(On::every(operation).status(403));
    }
    for at in (0..4_000_000).step_by(50_000) {
        let chunk = bytes.slice(at..at + 50_000);
        upload.write_bytes(chunk).await.unwrap();
        upload.close().await.unwrap();
        let uuid = upload.uuid();
        upload = service.resume(&name(), None, uuid).await.unwrap();
        assert_eq!(upload.offset() as usize, at + 50_000);
    }
    assert!(wire.count(DeleteObject) + wire.count(DeleteObjects) > 0);
    wire.clear_faults();
    upload.finish(4_000_000, &sha256(&bytes)).await.unwrap();
    service.wait_for_background().await;
    stores::sweep(&service).await.unwrap();
    let keys = bucket::keys(&stores::sdk_client(&store)).await;
    let left: Vec<_> = keys
        .iter()
        .filter(|key| key.starts_with("uploads/"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
