//! A layer in several objects: one for each owner that did not close, and one more.

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::{Error, LayerService as _, LayerServiceExt as _, S3LayerService, StoreProfile};
use serde_json::Value;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::support::bucket;
use crate::support::bytes::{MIB, assert_same, ramp, sha256};
use crate::support::fault_client::{Fault, On, PutObject};
use crate::support::session;
use crate::support::stores::{self, BUCKET, PART, name};

async fn process(store: &EmbeddedStore, max_object_size: u64) -> S3LayerService {
    let mut profile = StoreProfile::AWS;
    profile.max_object_size = max_object_size;
    let client = stores::sdk_client(store);
    let config = stores::config().profile(profile);
    S3LayerService::connect(client, config).await.unwrap()
}

/// An upload with so many segments of one part each, and a few bytes more.
async fn begun(store: &EmbeddedStore, bytes: &Bytes, segments: usize, limit: u64) -> Uuid {
    let service = process(store, limit).await;
    let uuid = service.upload(&name(), None).await.unwrap().uuid();
    continue_over(store, bytes, uuid, segments, limit).await;
    uuid
}

async fn continue_over(
    store: &EmbeddedStore,
    bytes: &Bytes,
    uuid: Uuid,
    segments: usize,
    limit: u64,
) {
    for _ in 0..segments {
        let service = process(store, limit).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        let from = upload.offset() as usize;
        let part = bytes.slice(from..from + PART as usize);
        upload.write_bytes(part).await.unwrap();
        upload.close().await.unwrap();
        let service = process(store, limit).await;
        stores::abandon(&service, uuid).await;
        let service = process(store, limit).await;
        let mut next = service.resume(&name(), None, uuid).await.unwrap();
        let from = next.offset() as usize;
        next.write_bytes(bytes.slice(from..from + 10))
            .await
            .unwrap();
        next.close().await.unwrap();
    }
}

/// The largest layer has two parts, in one object or in two.
#[tokio::test]
async fn limit_of_size_is_that_of_all_segments_together() {
    let limit = 12 * MIB;
    let size = 2 * PART;
    for segments in [0, 1] {
        let store = stores::in_memory().await;
        let bytes = ramp(1, size + 1);
        let uuid = begun(&store, &bytes, segments, limit).await;
        let service = process(&store, limit).await;
        let resume = || async { service.resume(&name(), None, uuid).await.unwrap() };
        let mut upload = resume().await;
        let rest = bytes.slice(upload.offset() as usize..);
        let refused = async {
            upload.write_bytes(rest).await?;
            upload.flush().await.map_err(Error::from_io)
        };
        let refused = refused.await;
        assert!(
            matches!(refused, Err(Error::LayerTooLarge { limit }) if limit == 2 * PART),
            "{segments}: {refused:?}"
        );
        drop(upload);

        let bytes = bytes.slice(..size as usize);
        let mut upload = process(&store, limit)
            .await
            .resume(&name(), None, uuid)
            .await
            .unwrap();
        let rest = bytes.slice(upload.offset() as usize..);
        upload.write_bytes(rest).await.unwrap();
        upload.finish(size, &sha256(&bytes)).await.unwrap();
        let mut got = Vec::new();
        let id = sha256(&bytes).into();
        service.pull(&id, &mut got).await.unwrap();
        assert_same(&got, &bytes, "the layer");
    }
}

/// Each object is as it was sent, and has its own checksum.
#[tokio::test]
async fn segments_in_another_order_than_they_were_received_are_never_published() {
    let store = stores::in_memory().await;
    let size = 3 * PART;
    let bytes = ramp(2, size);
    let uuid = begun(&store, &bytes, 2, u64::MAX).await;
    let service = process(&store, u64::MAX).await;
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    let rest = bytes.slice(upload.offset() as usize..);
    upload.write_bytes(rest).await.unwrap();
    upload.close().await.unwrap();
    session::edit(&store, uuid, |document| {
        let (head, rest) = document.split_once(r#""segments":"#).unwrap();
        let (segments, tail) = rest.split_once(r#","segment_parts""#).unwrap();
        let mut segments: Vec<Value> = serde_json::from_str(segments).unwrap();
        assert_eq!(segments.len(), 2);
        segments.swap(0, 1);
        let segments = Value::from(segments);
        format!(r#"{head}"segments":{segments},"segment_parts"{tail}"#)
    })
    .await;
    let service = process(&store, u64::MAX).await;
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    let refused = upload.finish(size, &sha256(&bytes)).await.map(drop);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    let client = stores::sdk_client(&store);
    let keys = bucket::keys(&client).await;
    assert!(!keys.iter().any(|key| key.contains("layers/")), "{keys:?}");
}

/// A URL is of one object.
#[tokio::test]
async fn layer_of_several_segments_has_no_presigned_url() {
    let store = stores::in_memory().await;
    for segments in [0, 1] {
        let bytes = ramp(3 + segments as u32, PART + 1000);
        let uuid = begun(&store, &bytes, segments, u64::MAX).await;
        let service = process(&store, u64::MAX).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        let rest = bytes.slice(upload.offset() as usize..);
        upload.write_bytes(rest).await.unwrap();
        upload.finish(PART + 1000, &sha256(&bytes)).await.unwrap();
        let layer = service.fetch(&sha256(&bytes).into()).await.unwrap();
        let url = layer.presigned_url(Duration::from_secs(60)).await.unwrap();
        assert_eq!(url.is_some(), segments == 0, "{url:?}");
    }
}

/// The write that would have named its last object is refused, and the object removed.
#[tokio::test(start_paused = true)]
async fn finish_that_is_repeated_over_a_takeover_stores_its_last_bytes_again() {
    let store = stores::in_memory().await;
    let size = PART + 10;
    let bytes = ramp(5, size);
    let uuid = begun(&store, &bytes, 1, u64::MAX).await;
    stores::abandon(&process(&store, u64::MAX).await, uuid).await;

    let (wire, service) = stores::over_wire(&store).await;
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    wire.fault(On::every(PutObject).key_contains("data/").with(Fault::Late));
    let digest = sha256(&bytes);
    let finish = tokio::spawn(async move { upload.finish(size, &digest).await.map(drop) });
    // The paused clock moves when nothing else is left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!finish.is_finished());
    stores::abandon(&process(&store, u64::MAX).await, uuid).await;

    finish.await.unwrap().unwrap();
    stores::assert_served(&store, &bytes).await;
}

/// Something between us and the store delivers it again, of which we never receive: no later session names what the layer has.
#[tokio::test(start_paused = true)]
async fn first_session_that_comes_back_costs_a_layer_of_several_segments_nothing() {
    let size = 2 * PART + 10;
    for by in ["a sweep", "a client that continues it", "and cancels it"] {
        let store = stores::in_memory().await;
        let client = stores::sdk_client(&store);
        let bytes = ramp(7, size);
        let service = process(&store, u64::MAX).await;
        let uuid = service.upload(&name(), None).await.unwrap().uuid();
        let key = format!("uploads/{uuid}/session");
        let first = bucket::get(&client, &key).await;
        continue_over(&store, &bytes, uuid, 1, u64::MAX).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        // Into an object of its own, and the last bytes into another one.
        let rest = bytes.slice(upload.offset() as usize..);
        upload
            .write_bytes(rest.slice(..rest.len() - 10))
            .await
            .unwrap();
        upload.close().await.unwrap();
        stores::abandon(&process(&store, u64::MAX).await, uuid).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        let rest = bytes.slice(upload.offset() as usize..);
        upload.write_bytes(rest).await.unwrap();
        upload.finish(size, &sha256(&bytes)).await.unwrap();
        service.wait_for_background().await;
        let objects = bucket::stored_layers(&client).await.remove(0).objects;
        assert!(
            objects.iter().any(|key| key.contains(".whole-")),
            "{objects:?}"
        );
        let put = client.put_object().bucket(BUCKET).key(&key);
        put.body(first.into()).send().await.unwrap();

        let elsewhere = process(&store, u64::MAX).await;
        if by == "a sweep" {
            stores::sweep(&elsewhere).await.unwrap();
        } else {
            let mut upload = elsewhere.resume(&name(), None, uuid).await.unwrap();
            let refused = async {
                upload.write_bytes(ramp(8, size)).await?;
                upload.flush().await.map_err(Error::from_io)
            };
            let refused = refused.await;
            let is_over = matches!(refused, Err(Error::UploadUnknown { .. }));
            assert!(is_over, "{by}: {refused:?}");
            if by == "and cancels it" {
                drop(upload);
                elsewhere.cancel_upload(uuid).await.unwrap();
            }
        }
        stores::assert_served(&store, &bytes).await;
        assert_eq!(bucket::multiparts(&client).await, [""; 0], "{by}");
    }
}

/// As a proxy does that gets no answer. Meanwhile another process publishes what the first attempt has recorded.
#[tokio::test(start_paused = true)]
async fn close_whose_session_is_written_again_after_the_commit_costs_no_bytes() {
    let (store, wire, service) = stores::connected().await;
    let size = 100_000;
    let bytes = ramp(8, size);
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let closed = On::every(PutObject).key_contains("/session");
    wire.fault(closed.with(Fault::LateDuplicate));
    let close = tokio::spawn(async move { upload.close().await });
    // The paused clock moves when nothing else is left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!close.is_finished());
    let elsewhere = stores::service(&store).await;
    let mut other = elsewhere.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(other.offset(), size);
    other.finish(size, &sha256(&bytes)).await.unwrap();
    elsewhere.wait_for_background().await;

    let _ = close.await.unwrap();
    stores::assert_served(&store, &bytes).await;
}

/// As a proxy does that gets no answer. Meanwhile another process publishes what the first attempt has recorded.
#[tokio::test(start_paused = true)]
async fn session_write_that_is_carried_out_again_after_the_commit_costs_no_bytes() {
    let (store, wire, service) = stores::connected().await;
    let size = 100_000;
    let bytes = ramp(6, size);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let committing = On::every(PutObject).key_contains("/session");
    wire.fault(committing.with(Fault::LateDuplicate));
    let digest = sha256(&bytes);
    let finish = tokio::spawn(async move { upload.finish(size, &digest).await.map(drop) });
    // The paused clock moves when nothing else is left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!finish.is_finished());
    let elsewhere = stores::service(&store).await;
    stores::sweep(&elsewhere).await.unwrap();
    elsewhere.wait_for_background().await;

    let ended = finish.await.unwrap();
    let is_over = matches!(ended, Ok(()) | Err(Error::UploadUnknown { .. }));
    assert!(is_over, "{ended:?}");
    stores::assert_served(&store, &bytes).await;
}
