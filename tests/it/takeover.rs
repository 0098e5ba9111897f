//! A process that takes an upload over, while the one before it is still at work: the layer has the
//! bytes that were acknowledged and those that the last owner brought, and no others.

use std::time::Duration;

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::{Error, LayerService as _, LayerServiceExt as _, LayerUpload, S3LayerService};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::bucket;
use crate::support::bytes::{KIB, assert_same, ramp, sha256};
use crate::support::fault_client::{
    CompleteMultipartUpload, FaultClient, Gate, HeadObject, On, UploadPart,
};
use crate::support::stores::{self, BUCKET, PART, name};

/// Four parts and a tail.
const SIZE: u64 = 4 * PART + 100 * KIB;

fn is_replaced(error: &Error) -> bool {
    matches!(
        error,
        Error::UploadConflict { .. } | Error::UploadUnknown { .. }
    )
}

/// A process that need not probe the store first.
async fn process(store: &EmbeddedStore) -> S3LayerService {
    let (_, service) = stores::over_wire(store).await;
    service
}

/// The upload in a process of its own.
async fn resumed(store: &EmbeddedStore, uuid: Uuid) -> Box<dyn LayerUpload> {
    let service = process(store).await;
    service.resume(&name(), None, uuid).await.unwrap()
}

/// As [`stores::abandon`], in a process of its own.
async fn abandon(store: &EmbeddedStore, uuid: Uuid) {
    stores::abandon(&process(store).await, uuid).await;
}

/// The layer is there, and nothing else of any upload.
async fn assert_stored(store: &EmbeddedStore, bytes: &Bytes, segments: usize, case: &str) {
    let service = process(store).await;
    let mut got = Vec::new();
    let id = sha256(bytes).into();
    service.pull(&id, &mut got).await.unwrap();
    assert_same(&got, bytes, case);
    let stat = service.stat(&id).await.unwrap();
    assert_eq!(stat.damage, None, "{case}");
    assert_eq!(stat.info.objects.len(), segments, "{case}");
    let client = stores::sdk_client(store);
    let keys = bucket::keys(&client).await;
    let begin = |start: &str| keys.iter().filter(|key| key.starts_with(start)).count();
    assert_eq!(begin("data/"), segments, "{case}: {keys:?}");
    assert_eq!(begin("uploads/"), 0, "{case}: {keys:?}");
    assert_eq!(bucket::multiparts(&client).await, [""; 0], "{case}");
}

async fn finish(store: &EmbeddedStore, uuid: Uuid, bytes: &Bytes) -> u64 {
    let service = process(store).await;
    finish_in(&service, uuid, bytes).await;
    service.usage().bytes_received
}

async fn finish_in(service: &S3LayerService, uuid: Uuid, bytes: &Bytes) {
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    let rest = bytes.slice(upload.offset() as usize..);
    upload.write_bytes(rest).await.unwrap();
    let size = bytes.len() as u64;
    upload.finish(size, &sha256(bytes)).await.unwrap();
    service.wait_for_background().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_part_of_a_replaced_owner_is_refused() {
    let store = stores::in_memory().await;
    let bytes = ramp(1, SIZE);
    let first = process(&store).await;
    let mut upload = first.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload
        .write_bytes(bytes.slice(..PART as usize))
        .await
        .unwrap();
    upload.close().await.unwrap();

    let wire = FaultClient::over(store.http_client());
    let older = stores::connect(&store, &wire).await;
    let mut older = older.resume(&name(), None, uuid).await.unwrap();
    let late = wire.hold(On::nth(UploadPart, 1));
    older.write_bytes(ramp(2, 2 * PART)).await.unwrap();
    late.reached_by(1).await;
    finish(&store, uuid, &bytes).await;
    late.open();
    let closed = older.close().await.unwrap_err();
    assert!(is_replaced(&closed), "{closed}");
    assert_stored(&store, &bytes, 2, "late part").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_takeover_adds_a_segment_and_reads_nothing_back() {
    let store = stores::in_memory().await;
    let bytes = ramp(3, SIZE);
    let service = process(&store).await;
    let uuid = service.upload(&name(), None).await.unwrap().uuid();
    for part in 1..=3 {
        let mut upload = resumed(&store, uuid).await;
        let (from, to) = (upload.offset() as usize, part * PART as usize);
        upload.write_bytes(bytes.slice(from..to)).await.unwrap();
        upload.close().await.unwrap();
        abandon(&store, uuid).await;
    }
    let received = finish(&store, uuid, &bytes).await;
    assert!(received < 20 * KIB, "{received}");
    assert_stored(&store, &bytes, 4, "three takeovers").await;
}

/// An upload of one part, and the owner that took it over: its request to complete that part waits.
async fn freezing(store: &EmbeddedStore, part: Bytes) -> (Uuid, Box<dyn LayerUpload>, Gate) {
    let service = process(store).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(part).await.unwrap();
    upload.close().await.unwrap();
    abandon(store, uuid).await;

    let wire = FaultClient::over(store.http_client());
    let second = stores::connect(store, &wire).await;
    let mut second = second.resume(&name(), None, uuid).await.unwrap();
    let complete = wire.hold(On::every(CompleteMultipartUpload));
    second.write_bytes(ramp(5, 10)).await.unwrap();
    complete.reached_by(1).await;
    (uuid, second, complete)
}

/// The owner between them is still completing the parts of the first.
#[tokio::test(flavor = "multi_thread")]
async fn takeover_of_a_takeover_completes_the_parts_once() {
    let store = stores::in_memory().await;
    let bytes = ramp(4, SIZE);
    let (uuid, mut second, complete) = freezing(&store, bytes.slice(..PART as usize)).await;
    finish(&store, uuid, &bytes).await;
    complete.open();
    let closed = second.close().await.unwrap_err();
    assert!(is_replaced(&closed), "{closed}");
    assert_stored(&store, &bytes, 2, "two owners freeze").await;
}

/// S3 knows the parts no more, and shows the object a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn upload_whose_parts_are_being_completed_can_be_resumed() {
    let store = stores::in_memory().await;
    let part = ramp(8, PART);
    let (uuid, _second, _complete) = freezing(&store, part.clone()).await;

    let client = stores::sdk_client(&store);
    let key = format!("data/{}/{uuid}.0", &uuid.to_string()[..2]);
    bucket::abort_multiparts(&client).await;
    let wire = FaultClient::over(store.http_client());
    let third = stores::connect(&store, &wire).await;
    let last = wire.hold(On::nth(HeadObject, 5));
    let resumed = tokio::spawn(async move { third.resume(&name(), None, uuid).await });
    assert!(is_reached(&last, &resumed).await, "given up too early");
    let put = client.put_object().bucket(BUCKET).key(key);
    put.body(part.into()).send().await.unwrap();
    last.open();
    assert_eq!(resumed.await.unwrap().unwrap().offset(), PART);
}

/// Sends bytes until it is replaced, if it is.
async fn older(mut upload: Box<dyn LayerUpload>, bytes: Bytes) -> Result<(), Error> {
    upload
        .write_bytes(bytes.slice(..PART as usize + 10))
        .await?;
    upload.flush().await.map_err(Error::from_io)?;
    upload
        .write_bytes(bytes.slice(PART as usize + 10..))
        .await?;
    upload.close().await
}

/// Whether the gate was reached before the owner was done.
async fn is_reached<T>(gate: &Gate, owner: &JoinHandle<T>) -> bool {
    loop {
        let reached = gate.reached_by(1);
        if tokio::time::timeout(Duration::from_millis(20), reached)
            .await
            .is_ok()
        {
            return true;
        }
        if owner.is_finished() {
            return false;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takeover_at_every_request_mixes_nothing() {
    let (theirs, ours) = (ramp(6, 2 * PART + 30 * KIB), ramp(7, SIZE));
    for nth in 2.. {
        let (store, wire) = stores::with_wire().await;
        let service: S3LayerService = stores::connect(&store, &wire).await;
        let gate = wire.hold(On::request(nth));
        let upload = service.upload(&name(), None).await.unwrap();
        let uuid = upload.uuid();
        let owner = tokio::spawn(older(upload, theirs.clone()));
        if !is_reached(&gate, &owner).await {
            owner.await.unwrap().unwrap();
            assert!(nth > 6, "only {nth} requests");
            return;
        }
        let offset = resumed(&store, uuid).await.offset() as usize;
        let bytes: Bytes = [&theirs[..offset], &ours[offset..]].concat().into();
        finish(&store, uuid, &bytes).await;
        gate.open();
        let replaced = owner.await.unwrap().unwrap_err();
        let case = format!("at request {nth}");
        assert!(is_replaced(&replaced), "{case}: {replaced}");
        // A tail that arrives last is found by the sweep.
        stores::sweep(&process(&store).await).await.unwrap();
        let segments = bucket_segments(&store, &bytes).await;
        assert_stored(&store, &bytes, segments, &case).await;
    }
}

/// The store gets the older owner's part just before the nth request of the newer one, and answers it.
#[tokio::test(flavor = "multi_thread")]
async fn late_part_before_any_request_of_a_takeover_is_left_out() {
    let (theirs, ours) = (ramp(8, PART), ramp(9, 2 * PART + 100 * KIB));
    // An owner that was replaced and had replaced another one itself: every second request.
    for (is_second_takeover, stride) in [(false, 1), (true, 2)] {
        for nth in (1..).step_by(stride) {
            let case = format!("before request {nth}, second takeover: {is_second_takeover}");
            if !late_part_before(nth, is_second_takeover, &theirs, &ours, &case).await {
                assert!(nth > 12, "only {nth} requests");
                break;
            }
        }
    }
}

/// Whether the newer owner made so many requests.
async fn late_part_before(
    nth: usize,
    is_second_takeover: bool,
    theirs: &Bytes,
    ours: &Bytes,
    case: &str,
) -> bool {
    let store = stores::in_memory().await;
    let service = process(&store).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    let acknowledged = ours.slice(..PART as usize + 20);
    upload.write_bytes(acknowledged).await.unwrap();
    upload.close().await.unwrap();
    if is_second_takeover {
        abandon(&store, uuid).await;
    }

    let older_wire = FaultClient::over(store.http_client());
    let older = stores::connect(&store, &older_wire).await;
    let mut older = older.resume(&name(), None, uuid).await.unwrap();
    let late = older_wire.hold(On::nth(UploadPart, 1));
    older.write_bytes(theirs.clone()).await.unwrap();
    late.reached_by(1).await;

    let newer_wire = FaultClient::over(store.http_client());
    let newer = stores::connect(&store, &newer_wire).await;
    let gate = newer_wire.hold(On::request(nth));
    let whole = ours.clone();
    let mut newer = tokio::spawn(async move { finish_in(&newer, uuid, &whole).await });
    let is_reached = tokio::select! {
        () = gate.reached_by(1) => true,
        _ = &mut newer => false,
    };
    late.open();
    // The part has arrived, or it is refused.
    if let Err(error) = older.flush().await {
        let error = Error::from_io(error);
        assert!(is_replaced(&error), "{case}: {error}");
    }
    gate.open();
    if is_reached {
        newer.await.expect(case);
    }
    let closed = older.close().await.expect_err(case);
    assert!(is_replaced(&closed), "{case}: {closed}");
    stores::sweep(&service).await.unwrap();
    let segments = bucket_segments(&store, ours).await;
    assert_stored(&store, ours, segments, case).await;
    is_reached
}

/// How many objects the layer has.
async fn bucket_segments(store: &EmbeddedStore, bytes: &Bytes) -> usize {
    let service = process(store).await;
    let stat = service.stat(&sha256(bytes).into()).await.unwrap();
    stat.info.objects.len()
}
