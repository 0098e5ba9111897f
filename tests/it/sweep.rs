//! What a sweep takes away, and what it leaves alone.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use embedded_s3::{EmbeddedStore, Quirks};
use futures_util::StreamExt as _;
use s3layers::{
    Error, LayerService as _, LayerServiceExt as _, S3LayerService, SweepAction, SweptUpload,
};
use tokio::io::AsyncWriteExt as _;

use crate::support::bucket::{keys, keys_at_rest, multiparts};
use crate::support::bytes::{KIB, MIB, ramp, sha256};
use crate::support::fault_client::{
    CompleteMultipartUpload, FaultClient, GetObject, ListObjectsV2, On, PutObject,
};
use crate::support::stores::{self, BUCKET, PART, name};

const HOUR: Duration = Duration::from_secs(3600);

/// The whole bucket, to be compared.
async fn everything(store: &EmbeddedStore) -> Vec<String> {
    let client = stores::sdk_client(store);
    let mut all: Vec<_> = keys(&client).await.into_iter().collect();
    all.extend(multiparts(&client).await);
    all
}

/// Bytes in a part and in a tail, and a claim; not closed since.
async fn open_upload(service: &S3LayerService) -> uuid::Uuid {
    let id = sha256(b"declared").into();
    let mut upload = service.upload(&name(), Some(&id)).await.unwrap();
    let uuid = upload.uuid();
    for to in [100 * KIB, PART + MIB] {
        upload.write_bytes(ramp(1, to)).await.unwrap();
        upload.close().await.unwrap();
        upload = service.resume(&name(), None, uuid).await.unwrap();
    }
    uuid
}

fn actions(swept: &[SweptUpload]) -> Vec<(uuid::Uuid, SweepAction)> {
    let action = |one: &SweptUpload| {
        assert!(one.outcome.is_ok(), "{one:?}");
        (one.uuid, one.action)
    };
    swept.iter().map(action).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_young_upload_and_a_published_layer_are_left_alone() {
    let (store, service) = stores::with_service().await;
    let bytes = ramp(2, PART + 1);
    let layer = service.push(&name(), &mut &bytes[..]).await.unwrap();
    keys_at_rest(&stores::sdk_client(&store)).await;
    let uuid = open_upload(&service).await;
    let before = everything(&store).await;
    assert_eq!(
        actions(&stores::swept(&service, HOUR, false).await.unwrap()),
        []
    );
    assert_eq!(everything(&store).await, before);

    // However old it is, a layer stays.
    let swept = stores::swept(&service, Duration::ZERO, false)
        .await
        .unwrap();
    assert_eq!(actions(&swept), [(uuid, SweepAction::Remove)]);
    let mut got = Vec::new();
    let id = layer.digest().clone().into();
    service.pull(&id, &mut got).await.unwrap();
    assert!(got == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_upload_goes_with_all_it_has_and_a_dry_run_only_says_so() {
    let quirks = {
        let mut quirks = Quirks::none();
        quirks.list_uploads_by_exact_key = true;
        quirks
    };
    for store in [
        stores::in_memory().await,
        stores::in_memory().await.with_quirks(quirks),
    ] {
        let service = stores::service(&store).await;
        let uuid = open_upload(&service).await;
        let before = everything(&store.clone().with_quirks(Quirks::none())).await;
        for part in ["/session", "/tail/", "_claims/", "multipart"] {
            assert!(
                before.iter().any(|key| key.contains(part)),
                "no {part}: {before:?}"
            );
        }
        let planned = stores::swept(&service, Duration::ZERO, true).await.unwrap();
        assert_eq!(actions(&planned), [(uuid, SweepAction::Remove)]);
        let plain = store.clone().with_quirks(Quirks::none());
        assert_eq!(everything(&plain).await, before, "a dry run");

        let swept = stores::swept(&service, Duration::ZERO, false)
            .await
            .unwrap();
        assert_eq!(actions(&swept), [(uuid, SweepAction::Remove)]);
        assert_eq!(everything(&plain).await, ["profile"]);
        let resumed = service.resume(&name(), None, uuid).await.map(drop);
        assert!(matches!(resumed, Err(Error::UploadUnknown { .. })));
        assert_eq!(
            actions(
                &stores::swept(&service, Duration::ZERO, false)
                    .await
                    .unwrap()
            ),
            []
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_being_finished_is_finished() {
    let (store, service) = stores::with_service().await;
    let wire = FaultClient::over(store.http_client());
    let client = stores::client(&store, wire.http_client());
    let doomed = S3LayerService::connect(client, stores::config());
    let doomed = doomed.await.unwrap();
    let bytes = ramp(3, PART + 7);
    let digest = sha256(&bytes);
    let mut upload = doomed.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    wire.fault(On::every(CompleteMultipartUpload).status(403));
    let finished = upload.finish(PART + 7, &digest).await.map(drop);
    assert!(finished.unwrap_err().is_permission());
    let uuid = upload.uuid();
    drop(upload);
    // It was on its way when its owner died.
    let tail = format!("uploads/{uuid}/tail/0-nonce");
    let client = stores::client(&store, store.http_client());
    let put = client.put_object().bucket(BUCKET).key(tail);
    let put = put.body(ByteStream::from_static(b"bytes")).send();
    put.await.unwrap();

    assert_eq!(
        actions(&stores::swept(&service, HOUR, false).await.unwrap()),
        []
    );
    let swept = stores::swept(&service, Duration::ZERO, false)
        .await
        .unwrap();
    assert_eq!(actions(&swept), [(uuid, SweepAction::Commit)]);
    let mut got = Vec::new();
    service.pull(&digest.into(), &mut got).await.unwrap();
    assert!(got == bytes);
    let left = everything(&store).await;
    assert!(!left.iter().any(|key| key.contains("uploads/")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tails_without_a_session_go_and_what_is_none_of_ours_stays() {
    let (store, service) = stores::with_service().await;
    let client = stores::sdk_client(&store);
    let uuid = uuid::Uuid::new_v4();
    let tail = format!("uploads/{uuid}/tail/0-nonce");
    for key in [tail.as_str(), "uploads/readme", "uploads/no-uuid/session"] {
        let put = client.put_object().bucket(BUCKET).key(key);
        put.body(ByteStream::from_static(b"bytes"))
            .send()
            .await
            .unwrap();
    }
    assert_eq!(
        actions(&stores::swept(&service, HOUR, false).await.unwrap()),
        []
    );
    let swept = stores::swept(&service, Duration::ZERO, false)
        .await
        .unwrap();
    assert_eq!(actions(&swept), [(uuid, SweepAction::RemoveOrphans)]);
    let left = everything(&store).await;
    assert_eq!(
        left,
        ["profile", "uploads/no-uuid/session", "uploads/readme"]
    );
}

/// A sweep removes the upload of an owner that seemed dead: the owner gets an error, and
/// acknowledges nothing.
#[tokio::test(flavor = "multi_thread")]
async fn swept_owner_gets_an_error() {
    let (store, service) = stores::with_service().await;
    let other = stores::service(&store).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(ramp(1, 100 * KIB)).await.unwrap();
    let swept = stores::swept(&other, Duration::ZERO, false).await.unwrap();
    assert_eq!(actions(&swept), [(upload.uuid(), SweepAction::Remove)]);
    let closed = upload.close().await;
    assert!(
        matches!(closed, Err(Error::UploadUnknown { .. })),
        "{closed:?}"
    );
}

#[tokio::test]
async fn sixteen_uploads_are_swept_at_a_time() {
    let (store, service) = stores::with_service().await;
    for _ in 0..40 {
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.write_bytes(ramp(1, 100)).await.unwrap();
        upload.close().await.unwrap();
    }
    let faults = FaultClient::over(store.http_client());
    let sweeper = stores::connect(&store, &faults).await;
    let gate = faults.hold(On::every(GetObject).key_ends("/session"));
    let sweep = async {
        stores::swept(&sweeper, Duration::ZERO, false)
            .await
            .unwrap()
    };
    let open = async {
        gate.reached_by(16).await;
        gate.open();
    };
    let (swept, ()) = tokio::join!(sweep, open);
    assert_eq!(actions(&swept).len(), 40);
    assert_eq!(everything(&store).await, ["profile"]);
}

/// A sweep comes between the session of an upload and its claim: no claim is left of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_claim_is_left_where_a_sweep_comes_before_it() {
    let store = stores::in_memory().await;
    let sweeper = stores::service(&store).await;
    let (wire, service) = stores::over_wire(&store).await;
    let gate = wire.hold(On::every(PutObject).key_contains("/_claims/"));
    let id = sha256(b"declared").into();
    let name = name();
    let begun = service.upload(&name, Some(&id));
    let sweep = async {
        gate.reached_by(1).await;
        stores::sweep(&sweeper).await.unwrap();
        gate.open();
    };
    let (begun, ()) = tokio::join!(begun, sweep);
    assert!(matches!(begun.map(drop), Err(Error::UploadUnknown { .. })));
    assert_eq!(everything(&store).await, ["profile"]);
}

/// An owner comes back after a sweep has read its old session: it keeps the upload and all bytes.
#[tokio::test(flavor = "multi_thread")]
async fn owner_that_comes_back_during_a_sweep_keeps_its_upload() {
    let (store, service) = stores::with_service().await;
    let (wire, sweeper) = stores::over_wire(&store).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(ramp(1, KIB)).await.unwrap();
    upload.close().await.unwrap();
    let gate = wire.hold(On::every(PutObject).key_ends("/session"));
    let sweep = async {
        stores::swept(&sweeper, Duration::ZERO, false)
            .await
            .unwrap()
    };
    let resume = async {
        gate.reached_by(1).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        upload.write_bytes(ramp(2, KIB)).await.unwrap();
        upload.close().await.unwrap();
        gate.open();
    };
    let (swept, ()) = tokio::join!(sweep, resume);
    assert_eq!(actions(&swept), []);
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(upload.offset(), 2 * KIB);
    let bytes = [ramp(1, KIB), ramp(2, KIB)].concat();
    upload.finish(2 * KIB, &sha256(&bytes)).await.unwrap();
}

/// What does not fill a part of this size is larger than any document.
#[tokio::test(flavor = "multi_thread")]
async fn old_upload_with_a_large_object_goes() {
    let store = stores::in_memory().await;
    let config = stores::config()
        .part_size(80 * MIB)
        .memory_budget(512 * MIB);
    let service = S3LayerService::connect(stores::sdk_client(&store), config);
    let service = service.await.unwrap();
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(ramp(1, 65 * MIB)).await.unwrap();
    upload.close().await.unwrap();
    let uuid = upload.uuid();
    // The next owner has not closed it.
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    upload.write_bytes(ramp(1, KIB)).await.unwrap();
    upload.flush().await.unwrap();
    drop(upload);
    let all = everything(&store).await;
    assert!(all.iter().any(|key| key.contains(".whole-")), "{all:?}");
    let swept = stores::service(&store).await;
    let swept = stores::swept(&swept, Duration::ZERO, false).await.unwrap();
    assert_eq!(actions(&swept), [(uuid, SweepAction::Remove)]);
    assert_eq!(everything(&store).await, ["profile"]);
}

/// Nothing else would end it, and a collection leaves all links alone for as long.
#[tokio::test(flavor = "multi_thread")]
async fn upload_with_a_damaged_session_is_removed() {
    for is_swept in [true, false] {
        let (store, service) = stores::with_service().await;
        let client = stores::sdk_client(&store);
        let uuid = open_upload(&service).await;
        let put = client.put_object().bucket(BUCKET);
        let put = put.key(format!("uploads/{uuid}/session"));
        let junk = ByteStream::from_static(b"junk");
        put.body(junk).send().await.unwrap();
        if is_swept {
            assert_eq!(
                actions(&stores::swept(&service, HOUR, false).await.unwrap()),
                []
            );
            let swept = stores::swept(&service, Duration::ZERO, false)
                .await
                .unwrap();
            assert_eq!(actions(&swept), [(uuid, SweepAction::RemoveOrphans)]);
        } else {
            service.cancel_upload(uuid).await.unwrap();
        }
        let left = keys(&client).await;
        let left: Vec<_> = left
            .iter()
            .filter(|key| key.starts_with("uploads/"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// What was removed before a listing failed comes before its error.
#[tokio::test(start_paused = true)]
async fn listing_that_fails_later_hides_nothing() {
    let (store, wire, service) = stores::connected().await;
    let client = stores::sdk_client(&store);
    let uuids: Vec<_> = (0..1001).map(|_| uuid::Uuid::new_v4()).collect();
    let puts = uuids.iter().map(|uuid| {
        let put = client.put_object().bucket(BUCKET);
        put.key(format!("uploads/{uuid}/tail/0-nonce")).send()
    });
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    wire.fault(On::nth(ListObjectsV2, 2).status(403));
    let mut swept: Vec<_> = service.sweep(Duration::ZERO, false).collect().await;
    let ended = swept.pop().unwrap().unwrap_err();
    assert!(ended.is_permission(), "{ended:?}");
    assert!(swept.len() >= 999, "{}", swept.len());
    assert!(swept.iter().all(Result::is_ok));
    let left = stores::swept(&service, Duration::ZERO, false)
        .await
        .unwrap();
    assert_eq!(left.len(), uuids.len() - swept.len());
}

/// An upload is reported while more are listed, and a caller that stops has lost nothing.
#[tokio::test]
async fn uploads_are_swept_as_they_are_asked_for() {
    let (store, wire, service) = stores::connected().await;
    let client = stores::sdk_client(&store);
    for _ in 0..1001 {
        let key = format!("uploads/{}/tail/0-nonce", uuid::Uuid::new_v4());
        let put = client.put_object().bucket(BUCKET).key(key);
        put.send().await.unwrap();
    }
    let second_page = wire.hold(On::nth(ListObjectsV2, 2));
    let mut sweep = service.sweep(Duration::ZERO, false);
    assert!(sweep.next().await.unwrap().is_ok());
    drop(sweep);
    second_page.open();
    let left = stores::swept(&service, Duration::ZERO, false)
        .await
        .unwrap();
    assert!((900..=1000).contains(&left.len()), "{}", left.len());
    assert!(keys(&client).await.is_empty());
}
