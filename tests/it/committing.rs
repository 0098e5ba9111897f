//! From `committing` on: a published layer stays, despite later claims and cancels; an upload that can
//! never be published is removed.

use std::time::Duration;

use std::collections::BTreeSet;

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::TarSumVersion;
use s3layers::tarsum::TarSummer;
use s3layers::{
    Algorithm, Digest, Error, LayerId, LayerService as _, LayerServiceExt as _, S3LayerService,
    SweepAction,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::support::bytes::{assert_same, ramp, sha256};
use crate::support::fault_client::{
    CompleteMultipartUpload, Fault, FaultClient, GetObject, HeadObject, On, Position, PutObject,
    UploadPart,
};
use crate::support::stores::{self, BUCKET, PART, name};
use crate::support::{aged, bucket};
use crate::tarsum::archive::member;

const SIZE: u64 = PART + 1000;

#[tokio::test(start_paused = true)]
async fn a_published_layer_outlives_a_later_finish_with_another_digest() {
    let (store, wire, service) = stores::connected().await;
    let bytes = ramp(1, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    // The driver ends between the record and the link.
    wire.fault(On::every(PutObject).key_contains("/_layers/").status(403));
    let right = Digest::of(Algorithm::Sha512, &bytes);
    let ended = upload.finish(SIZE, &right).await.map(drop);
    assert!(ended.unwrap_err().is_permission());
    drop(upload);
    wire.clear_faults();

    let elsewhere = stores::connect(&store, &FaultClient::over(store.http_client())).await;
    let uuid = wire.log().iter().find_map(|one| {
        let (_, rest) = one.key.split_once("uploads/")?;
        rest.split('/').next()?.parse().ok()
    });
    let mut resumed = elsewhere
        .resume(&name(), None, uuid.unwrap())
        .await
        .unwrap();
    let wrong = Digest::of(Algorithm::Sha512, b"something else");
    let refused = resumed.finish(SIZE, &wrong).await.map(drop);
    assert!(refused.is_err());
    let _ = resumed.cancel().await;
    stores::sweep(&elsewhere).await.unwrap();

    for id in [sha256(&bytes), right] {
        let mut layer = elsewhere.fetch(&id.into()).await.unwrap();
        let mut got = Vec::new();
        layer.read_to_end(&mut got).await.unwrap();
        assert_same(&got, &bytes, "the published layer");
    }
}

#[tokio::test(start_paused = true)]
async fn flipped_bit_during_readback_is_retried() {
    let (_, wire, service) = stores::connected().await;
    let bytes = ramp(2, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    wire.fault(
        On::nth(GetObject, 1)
            .key_contains("data/")
            .flip_bit(Position::Middle),
    );
    let right = Digest::of(Algorithm::Sha512, &bytes);
    upload.finish(SIZE, &right).await.unwrap();
}

/// Each would read all of the bytes.
#[tokio::test(start_paused = true)]
async fn second_finish_waits_for_the_readback_of_the_first() {
    let (_, wire, service) = stores::connected().await;
    let service = std::sync::Arc::new(service);
    let bytes = ramp(14, SIZE);
    let right = Digest::of(Algorithm::Sha512, &bytes);
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(bytes.clone()).await.unwrap();
    wire.fault(On::nth(GetObject, 1).key_contains("data/").status(403));
    let ended = upload.finish(SIZE, &right).await.map(drop);
    assert!(ended.unwrap_err().is_permission());
    drop(upload);

    wire.reset();
    let read_back = wire.hold(On::every(GetObject).key_contains("data/"));
    let finish = || {
        let (service, right) = (std::sync::Arc::clone(&service), right.clone());
        tokio::spawn(async move {
            let mut upload = service.resume(&name(), None, uuid).await.unwrap();
            upload.finish(SIZE, &right).await.map(drop)
        })
    };
    let first = finish();
    read_back.reached_by(1).await;
    let second = finish();
    // It has read the session.
    tokio::time::sleep(Duration::from_secs(1)).await;
    read_back.open();
    for finish in [first, second] {
        finish.await.unwrap().unwrap();
    }
    let log = wire.log();
    let reads = log.iter().filter(|one| one.operation == GetObject);
    let reads: Vec<_> = reads.filter(|one| one.key.contains("data/")).collect();
    assert_eq!(reads.len(), 1, "{reads:?}");
    let sessions = log.iter().filter(|one| one.key.ends_with("/session"));
    let sessions = sessions.filter(|one| one.operation == GetObject);
    assert!(sessions.count() >= 2, "{log:?}");
    assert!(service.exists(&right.into()).await.unwrap());
}

/// A gateway may answer for the store. What it says is no reason to remove what was acknowledged.
#[tokio::test(start_paused = true)]
async fn refused_read_during_readback_loses_nothing() {
    let (_, wire, service) = stores::connected().await;
    let bytes = ramp(7, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    wire.fault(On::nth(GetObject, 1).key_contains("data/").status(412));
    let right = Digest::of(Algorithm::Sha512, &bytes);
    let ended = upload.finish(SIZE, &right).await.map(drop);
    assert!(matches!(ended, Err(Error::Damaged { .. })), "{ended:?}");

    upload.finish(SIZE, &right).await.unwrap();
    let mut got = Vec::new();
    service.pull(&right.into(), &mut got).await.unwrap();
    assert_same(&got, &bytes, "the published layer");
}

/// No client has asked for the end of the upload, and the next sweep finds the store well.
#[tokio::test(start_paused = true)]
async fn sweep_whose_commit_is_refused_for_a_time_loses_nothing() {
    let odd_read = || On::nth(GetObject, 1).key_contains("data/").status(412);
    let expired = || On::every(CompleteMultipartUpload).with(Fault::Expire);
    let of_a_proxy = || On::every(CompleteMultipartUpload).status(412);
    for (case, fault) in [
        ("an odd answer to a read", odd_read as fn() -> _),
        ("an expired credential", expired),
        ("an answer of a proxy", of_a_proxy),
    ] {
        let (store, wire, service) = stores::connected().await;
        let bytes = ramp(7, SIZE);
        let right = Digest::of(Algorithm::Sha512, &bytes);
        let mut upload = service.upload(&name(), None).await.unwrap();
        let uuid = upload.uuid();
        upload.write_bytes(bytes.clone()).await.unwrap();
        wire.fault(fault());
        upload.finish(SIZE, &right).await.map(drop).unwrap_err();
        drop(upload);

        let (wire, elsewhere) = stores::over_wire(&store).await;
        wire.fault(fault());
        stores::sweep(&elsewhere).await.unwrap_err();
        wire.clear_faults();
        let mut upload = elsewhere.resume(&name(), None, uuid).await.unwrap();
        assert_eq!(upload.offset(), SIZE, "{case}");
        upload.finish(SIZE, &right).await.unwrap();
        stores::assert_served(&store, &bytes).await;
    }
}

/// One HEAD that contradicts the record is no reason to give up what was acknowledged.
#[tokio::test(start_paused = true)]
async fn odd_look_at_an_object_loses_nothing() {
    let odd = || {
        On::nth(HeadObject, 1)
            .key_contains("data/")
            .header("content-length", "7")
    };
    let (store, wire, service) = stores::connected().await;
    let bytes = ramp(8, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    wire.fault(On::nth(CompleteMultipartUpload, 1).lose_answer());
    wire.fault(odd());
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    assert!(wire.count(HeadObject) >= 2);

    // The first segment is that of an owner that died; this process has not seen it.
    let bytes = ramp(9, 2 * SIZE);
    let uuid = service.upload(&name(), None).await.unwrap().uuid();
    let process = async |wire: &FaultClient| {
        let service = stores::connect(&store, wire).await;
        service.resume(&name(), None, uuid).await.unwrap()
    };
    for part in [SIZE, 2 * SIZE] {
        let mut upload = process(&FaultClient::over(store.http_client())).await;
        let rest = bytes.slice(upload.offset() as usize..part as usize);
        upload.write_bytes(rest).await.unwrap();
        upload.close().await.unwrap();
        let mut dies = process(&FaultClient::over(store.http_client())).await;
        dies.write_bytes(ramp(99, 10)).await.unwrap();
        dies.flush().await.unwrap();
    }
    let wire = FaultClient::over(store.http_client());
    let mut upload = process(&wire).await;
    wire.fault(odd());
    upload.finish(2 * SIZE, &sha256(&bytes)).await.unwrap();
    assert!(wire.count(HeadObject) >= 2);
}

/// An upload whose finish fails when it says `committing`: the id that it declared, and the failure.
async fn failed_commit(service: &S3LayerService) -> (LayerId, Error) {
    let bytes = ramp(3, SIZE);
    let id = sha256(&bytes).into();
    let mut upload = service.upload(&name(), Some(&id)).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let ended = upload.finish(SIZE, &sha256(&bytes)).await.map(drop);
    (id, ended.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn committing_upload_whose_parts_are_lost_is_swept() {
    let (store, wire, service) = stores::connected().await;
    wire.fault(On::every(CompleteMultipartUpload).status(403));
    let (id, ended) = failed_commit(&service).await;
    assert!(ended.is_permission(), "{ended:?}");
    wire.clear_faults();
    bucket::abort_multiparts(&stores::sdk_client(&store)).await;

    let swept = stores::swept(&service, Duration::ZERO, false)
        .await
        .unwrap();
    let actions: Vec<_> = swept
        .iter()
        .map(|one| (one.action, one.outcome.is_ok()))
        .collect();
    assert_eq!(actions, [(SweepAction::CancelCommit, true)]);
    // Its data is kept for a while, which is nothing to report.
    assert!(
        stores::swept(&service, Duration::ZERO, false)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        stores::swept(&service, Duration::ZERO, true)
            .await
            .unwrap()
            .is_empty()
    );
    service.upload(&name(), Some(&id)).await.unwrap();
    nothing_is_left_in_the_end(&store).await;
}

#[tokio::test(start_paused = true)]
async fn commit_that_fails_is_reported_by_the_sweep_and_repeated() {
    let (_, wire, service) = stores::connected().await;
    wire.fault(On::every(CompleteMultipartUpload).status(403));
    let (id, ended) = failed_commit(&service).await;
    assert!(ended.is_permission(), "{ended:?}");
    wire.clear_faults();
    wire.fault(On::every(CompleteMultipartUpload).status(503));
    let swept = stores::swept(&service, Duration::ZERO, false)
        .await
        .unwrap();
    let [failed] = &swept[..] else {
        panic!("{swept:?}");
    };
    assert_eq!(failed.action, SweepAction::Commit);
    let error = failed.outcome.as_ref().unwrap_err();
    assert!(matches!(error, Error::Storage(_)), "{error:?}");
    wire.clear_faults();
    stores::sweep(&service).await.unwrap();
    assert!(service.exists(&id).await.unwrap());
}

/// They will be refused the next time as well, so its id can be pushed again at once.
#[tokio::test(start_paused = true)]
async fn committing_upload_whose_parts_are_refused_is_swept() {
    let (store, wire, service) = stores::connected().await;
    wire.fault(On::every(CompleteMultipartUpload).status(400));
    let (id, ended) = failed_commit(&service).await;
    assert!(matches!(ended, Error::Damaged { .. }), "{ended:?}");
    service.upload(&name(), Some(&id)).await.unwrap();
    nothing_is_left_in_the_end(&store).await;
}

/// A sweep removes all of it, but only when no other process can be committing it any more.
async fn nothing_is_left_in_the_end(store: &EmbeddedStore) {
    let client = stores::sdk_client(store);
    stores::sweep(&stores::service(store).await).await.unwrap();
    let sessions = |keys: BTreeSet<String>| {
        let is_session = |key: &&String| key.ends_with("/session");
        keys.iter().filter(is_session).count()
    };
    assert_eq!(sessions(bucket::keys(&client).await), 1);
    assert_eq!(bucket::multiparts(&client).await, [""; 0]);
    aged::sweep(store).await;
    let left: Vec<_> = bucket::keys(&client).await.into_iter().collect();
    assert_eq!(left, ["profile"]);
}

/// A policy may deny Complete for good: the upload must not stay for that.
#[tokio::test(start_paused = true)]
async fn upload_that_s3_refuses_to_complete_can_be_cancelled_and_swept() {
    for by in ["its handle", "its UUID", "a sweep"] {
        let (store, wire, service) = stores::connected().await;
        wire.fault(On::every(CompleteMultipartUpload).status(403));
        let bytes = ramp(12, SIZE);
        let id = sha256(&bytes).into();
        let mut upload = service.upload(&name(), Some(&id)).await.unwrap();
        let uuid = upload.uuid();
        upload.write_bytes(bytes.clone()).await.unwrap();
        let ended = upload.finish(SIZE, &sha256(&bytes)).await.map(drop);
        assert!(ended.unwrap_err().is_permission());
        match by {
            "its handle" => upload.cancel().await.unwrap(),
            "its UUID" => service.cancel_upload(uuid).await.unwrap(),
            _ => stores::sweep(&service).await.unwrap(),
        }
        let again = service.resume(&name(), None, uuid).await.map(drop);
        assert!(
            matches!(again, Err(Error::UploadUnknown { .. })),
            "{again:?}"
        );
        service.upload(&name(), Some(&id)).await.unwrap();
        assert!(!service.exists(&id).await.unwrap());
        nothing_is_left_in_the_end(&store).await;
    }
}

/// A driver that was suspended may publish after its upload was cancelled. A sweep that finds the
/// layer keeps it.
#[tokio::test(start_paused = true)]
async fn layer_that_was_published_after_its_cancel_is_kept() {
    let (store, wire, service) = stores::connected().await;
    let bytes = ramp(13, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let record = wire.hold(On::nth(PutObject, 1).key_contains("layers/sha256/"));
    let digest = sha256(&bytes);
    let finish = tokio::spawn(async move { upload.finish(SIZE, &digest).await.map(drop) });
    record.reached_by(1).await;
    let denied = FaultClient::over(store.http_client());
    denied.fault(On::every(PutObject).key_contains("layers/").status(403));
    let elsewhere = stores::connect(&store, &denied).await;
    elsewhere.cancel_upload(uuid).await.unwrap();
    record.open();
    // It saw the session `committing` a short time ago, so it may answer.
    finish.await.unwrap().unwrap();
    service.wait_for_background().await;

    aged::sweep(&store).await;
    let mut got = Vec::new();
    let id = sha256(&bytes).into();
    service.pull(&id, &mut got).await.unwrap();
    assert_same(&got, &bytes, "the published layer");
    let client = stores::sdk_client(&store);
    let left = bucket::keys(&client).await;
    assert!(
        !left.iter().any(|key| key.starts_with("uploads/")),
        "{left:?}"
    );
}

/// S3 assembles no part that is too short for others to follow it.
#[tokio::test(start_paused = true)]
async fn what_a_failed_finish_sent_last_can_be_followed_by_more() {
    let (store, wire, service) = stores::connected().await;
    let bytes = ramp(6, 2 * SIZE);
    let first = bytes.slice(..SIZE as usize);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(first.clone()).await.unwrap();
    upload.flush().await.unwrap();
    // The first part is recorded. Then no session can be written until the finish has given up.
    tokio::time::sleep(Duration::from_secs(2)).await;
    wire.fault(On::every(PutObject).key_ends("/session").status(503));
    let failed = upload.finish(SIZE, &sha256(&first)).await.map(drop);
    assert!(failed.unwrap_err().is_retryable());
    let uuid = upload.uuid();
    drop(upload);
    wire.clear_faults();

    let elsewhere = stores::service(&store).await;
    let mut upload = elsewhere.resume(&name(), None, uuid).await.unwrap();
    let offset = upload.offset() as usize;
    assert!(offset >= PART as usize, "{offset}");
    upload.write_bytes(bytes.slice(offset..)).await.unwrap();
    upload.finish(2 * SIZE, &sha256(&bytes)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sweep_spares_an_upload_that_was_resumed_after_it_was_listed() {
    let store = stores::in_memory().await;
    let bytes = ramp(4, SIZE);
    let elsewhere = stores::service(&store).await;
    let mut upload = elsewhere.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.slice(..1000)).await.unwrap();
    upload.close().await.unwrap();

    let wire = FaultClient::over(store.http_client());
    let sweeper = stores::connect(&store, &wire).await;
    let looks = wire.hold(On::every(GetObject).key_ends("/session"));
    let sweep = tokio::spawn(async move { stores::sweep(&sweeper).await });
    looks.reached_by(1).await;
    let mut resumed = elsewhere
        .resume(&name(), None, upload.uuid())
        .await
        .unwrap();
    resumed.write_bytes(bytes.slice(1000..)).await.unwrap();
    resumed.close().await.unwrap();
    looks.open();
    sweep.await.unwrap().unwrap();

    let resumed = elsewhere.resume(&name(), None, upload.uuid()).await;
    assert_eq!(resumed.unwrap().offset(), SIZE);
}

#[tokio::test]
async fn a_finish_whose_caller_goes_away_is_carried_to_its_end() {
    let (store, wire) = stores::with_wire().await;
    let client = stores::client(&store, wire.http_client());
    let config = stores::config().parallelism(1);
    let service = S3LayerService::connect(client, config).await.unwrap();
    let bytes = ramp(5, 2 * PART + 1000);
    let mut upload = service.upload(&name(), None).await.unwrap();
    // One part is under way, one is whole, and a piece waits.
    let parts = wire.hold(On::every(UploadPart));
    upload.write_bytes(bytes.clone()).await.unwrap();
    let digest = sha256(&bytes);
    let gone = std::time::Duration::from_millis(50);
    let asked = tokio::time::timeout(gone, upload.finish(2 * PART + 1000, &digest)).await;
    assert!(asked.is_err());
    drop(upload);
    parts.open();

    for _ in 0..500 {
        if service.exists(&digest.clone().into()).await.unwrap() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the finish was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_digest_that_is_wrong_twice_is_refused_twice() {
    let (store, service) = stores::with_service().await;
    let bytes = ramp(6, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let wrong = Digest::of(Algorithm::Sha512, b"something else");
    for _ in 0..2 {
        let refused = upload.finish(SIZE, &wrong).await.map(drop);
        assert!(
            matches!(refused, Err(Error::InvalidChecksum { .. })),
            "{refused:?}"
        );
    }
    upload.cancel().await.unwrap();
    assert!(!service.exists(&sha256(&bytes).into()).await.unwrap());
    let client = stores::sdk_client(&store);
    let mut left = bucket::keys(&client).await;
    left.remove("profile");
    assert!(left.is_empty(), "{left:?}");
}

/// An upload that another process has begun to commit under a wrong TarSum, before it could read the object.
async fn committed_under_a_wrong_tar_sum(store: &EmbeddedStore, bytes: &Bytes) -> Uuid {
    let wire = FaultClient::over(store.http_client());
    let service = stores::connect(store, &wire).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.close().await.unwrap();
    let wrong = format!("tarsum.v1+sha256:{}", "0".repeat(64));
    let wrong: LayerId = wrong.parse().unwrap();
    let uuid = upload.uuid();
    let mut upload = service.resume(&name(), Some(&wrong), uuid).await.unwrap();
    wire.fault(On::every(GetObject).key_contains("data/").status(403));
    let size = bytes.len() as u64;
    let ended = upload.finish(size, &sha256(bytes)).await.map(drop);
    assert!(ended.unwrap_err().is_permission());
    uuid
}

fn archive(seed: u32) -> (Bytes, LayerId) {
    let bytes: Bytes = member("layer", b'0', &ramp(seed, SIZE)).into();
    let summer = TarSummer::new(TarSumVersion::V1, Algorithm::Sha256);
    let mut summer = summer.unwrap();
    summer.update(&bytes);
    (bytes, summer.finish().unwrap().into())
}

#[tokio::test(start_paused = true)]
async fn commit_under_a_wrong_tar_sum_is_finished_under_the_right_one() {
    let store = stores::in_memory().await;
    let (bytes, right) = archive(7);
    let uuid = committed_under_a_wrong_tar_sum(&store, &bytes).await;
    let service = stores::service(&store).await;
    let upload = service.resume(&name(), Some(&right), uuid).await;
    let size = bytes.len() as u64;
    let finished = upload.unwrap().finish(size, &sha256(&bytes)).await;
    assert_eq!(finished.unwrap().tar_sum(), right.as_tar_sum());
    assert!(service.exists(&right).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn commit_under_a_wrong_tar_sum_is_swept() {
    let store = stores::in_memory().await;
    let (bytes, _) = archive(8);
    committed_under_a_wrong_tar_sum(&store, &bytes).await;
    let service = stores::service(&store).await;
    stores::sweep(&service).await.unwrap();
    let client = stores::sdk_client(&store);
    let mut left = bucket::keys(&client).await;
    left.remove("profile");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tar_sum_that_leads_to_another_layer_does_not_stand_for_lost_bytes() {
    let (store, service) = stores::with_service().await;
    let (bytes, tar_sum) = archive(9);
    let other: Bytes = [&bytes[..], &[0; 1024]].concat().into();
    let mut first = service.upload(&name(), Some(&tar_sum)).await.unwrap();
    first.write_bytes(other.clone()).await.unwrap();
    let size = other.len() as u64;
    first.finish(size, &sha256(&other)).await.unwrap();

    lost_before_it_was_read(&store, &bytes, tar_sum).await;
}

#[tokio::test(start_paused = true)]
async fn a_digest_that_leads_to_another_layer_does_not_stand_for_lost_bytes() {
    let (store, service) = stores::with_service().await;
    let (bytes, other) = (ramp(10, SIZE), ramp(11, SIZE));
    let sha512 = Digest::of(Algorithm::Sha512, &other);
    let mut first = service.upload(&name(), None).await.unwrap();
    first.write_bytes(other).await.unwrap();
    first.finish(SIZE, &sha512).await.unwrap();
    lost_before_it_was_read(&store, &bytes, sha512.into()).await;
}

/// An upload is committed under an id of another layer, and its bytes are lost before they were read.
/// The same bytes are a layer, but were not verified against this id.
async fn lost_before_it_was_read(store: &EmbeddedStore, bytes: &Bytes, wrong: LayerId) {
    let service = stores::service(store).await;
    let size = bytes.len() as u64;
    let wire = FaultClient::over(store.http_client());
    let elsewhere = stores::connect(store, &wire).await;
    let mut upload = elsewhere.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.close().await.unwrap();
    let uuid = upload.uuid();
    let upload = elsewhere.resume(&name(), Some(&wrong), uuid).await;
    wire.fault(On::every(GetObject).key_contains("data/").status(403));
    let failed = upload.unwrap().finish(size, &sha256(bytes)).await;
    assert!(failed.map(drop).unwrap_err().is_permission());
    let mut twin = service.upload(&name(), None).await.unwrap();
    twin.write_bytes(bytes.clone()).await.unwrap();
    twin.finish(size, &sha256(bytes)).await.unwrap();
    let client = stores::sdk_client(store);
    let data = format!("data/{}/{uuid}.0", &uuid.to_string()[..2]);
    let lost = client.delete_object().bucket(BUCKET).key(data);
    lost.send().await.unwrap();

    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    let finished = upload.finish(size, &sha256(bytes)).await.map(drop);
    assert!(
        matches!(finished, Err(Error::Damaged { .. })),
        "{finished:?}"
    );
}
