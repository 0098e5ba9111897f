//! Uploads that share little memory: slow senders hold what they sent and no more, what waits for
//! memory is stored early and sent from there, and no order of requests, failures and deaths loses a
//! byte.

use std::time::Duration;

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::{
    Error, LayerService as _, LayerServiceExt as _, LayerUpload, S3LayerService, StoreProfile,
};
use tokio::io::AsyncReadExt as _;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::support::bytes::{KIB, MIB, assert_same, ramp, sha256};
use crate::support::fault_client::{
    End, Fault, FaultClient, Gate, GetObject, On, Position, PutObject, Request, UploadPart,
};
use crate::support::stores::{self, PART, name};
use crate::support::{bucket, cases};

/// Seven sixteenths of it are for uploads: 100 units of 64 KiB, and a part has 80.
const SMALL: u64 = 100 * 64 * 1024 * 16 / 7 + 16;
/// What an upload has stored early.
const SPILLED: u64 = MIB;

async fn connect(store: &EmbeddedStore, wire: &FaultClient, budget: u64) -> S3LayerService {
    let client = stores::client(store, wire.http_client());
    let config = stores::config().memory_budget(budget);
    let config = config.profile(StoreProfile::AWS);
    S3LayerService::connect(client, config).await.unwrap()
}

fn is_tail(request: &Request) -> bool {
    request.operation == PutObject && request.key.contains("/tail/")
}

fn tails(wire: &FaultClient) -> usize {
    wire.log().iter().filter(|request| is_tail(request)).count()
}

fn tail_reads(wire: &FaultClient) -> usize {
    let is_read =
        |request: &&Request| request.operation == GetObject && request.key.contains("/tail/");
    wire.log().iter().filter(is_read).count()
}

async fn assert_stored(store: &EmbeddedStore, bytes: &Bytes, case: &str) {
    let service = stores::service(store).await;
    let mut got = Vec::new();
    let id = sha256(bytes).into();
    service.pull(&id, &mut got).await.unwrap();
    assert_same(&got, bytes, case);
}

/// Sends `bytes` from where the upload is, in pieces as they come off a socket, and finishes.
async fn send_rest(upload: &mut Box<dyn LayerUpload>, bytes: &Bytes) -> Result<(), Error> {
    let from = usize::try_from(upload.offset()).unwrap();
    for piece in bytes[from..].chunks(64 * 1024) {
        upload.ready().await?;
        upload.write_bytes(Bytes::copy_from_slice(piece)).await?;
    }
    let size = bytes.len() as u64;
    upload.finish(size, &sha256(bytes)).await.map(drop)
}

/// Writes the first bytes of an upload, and has another upload ask for memory until they are stored.
/// The other one's first part waits at the gate.
async fn spill(
    service: &S3LayerService,
    wire: &FaultClient,
    bytes: &Bytes,
) -> (Box<dyn LayerUpload>, JoinHandle<Result<(), Error>>, Gate) {
    let mut upload = service.upload(&name(), None).await.unwrap();
    let first = bytes.slice(..SPILLED as usize);
    upload.write_bytes(first).await.unwrap();
    let gate = wire.hold(On::nth(UploadPart, 1));
    let mut other = service.upload(&name(), None).await.unwrap();
    let others = ramp(77, 2 * PART);
    let other = tokio::spawn(async move { send_rest(&mut other, &others).await });
    (upload, other, gate)
}

async fn spilled(wire: &FaultClient) {
    let all = async {
        while tails(wire) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), all).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn slow_senders_hold_only_what_they_sent() {
    let (store, wire) = stores::with_wire().await;
    // 288 units for uploads: 64 whole parts would need 5,120.
    let service = connect(&store, &wire, 32 * MIB).await;
    let mut slow = Vec::new();
    for seed in 0..64 {
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.write_bytes(ramp(seed, 100 * KIB)).await.unwrap();
        slow.push(upload);
    }
    let bytes = ramp(99, 8 * PART);
    let mut fast = service.upload(&name(), None).await.unwrap();
    timeout(Duration::from_secs(2), send_rest(&mut fast, &bytes))
        .await
        .expect("it waits for the slow ones")
        .unwrap();
    assert_eq!(tails(&wire), 0, "there is memory for all");
    assert_stored(&store, &bytes, "fast").await;
    for (seed, mut upload) in slow.into_iter().enumerate() {
        let bytes = ramp(seed as u32, 100 * KIB);
        send_rest(&mut upload, &bytes).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn writes_in_flight_are_limited_and_looks_are_not() {
    const LIMIT: usize = 64;
    let (store, wire) = stores::with_wire().await;
    let service = connect(&store, &wire, 64 * MIB).await;
    let gate = wire.hold(On::every(PutObject).key_contains(".whole-"));
    let mut uploads = JoinSet::new();
    for seed in 0..LIMIT as u32 + 36 {
        let mut upload = service.upload(&name(), None).await.unwrap();
        uploads.spawn(async move { send_rest(&mut upload, &ramp(seed, 100 * KIB)).await });
    }
    gate.reached_by(LIMIT as u32).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(wire.most_in_flight(PutObject), LIMIT);
    let absent = sha256(b"absent").into();
    let is_there = timeout(Duration::from_secs(1), service.exists(&absent));
    assert!(!is_there.await.expect("it waits for the writes").unwrap());
    gate.open();
    while let Some(sent) = uploads.join_next().await {
        sent.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn reads_in_flight_are_limited_and_looks_are_not() {
    const LIMIT: usize = 32;
    let (store, wire) = stores::with_wire().await;
    let service = connect(&store, &wire, 64 * MIB).await;
    let bytes = ramp(1, 100 * KIB);
    let mut upload = service.upload(&name(), None).await.unwrap();
    send_rest(&mut upload, &bytes).await.unwrap();
    let gate = wire.hold(On::every(GetObject).key_contains("data/"));
    let id = sha256(&bytes).into();
    let mut readers = JoinSet::new();
    for _ in 0..LIMIT + 20 {
        let mut layer = service.fetch(&id).await.unwrap();
        readers.spawn(async move {
            let mut read = Vec::new();
            layer.read_to_end(&mut read).await.unwrap();
            read
        });
    }
    gate.reached_by(LIMIT as u32).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(wire.most_in_flight(GetObject), LIMIT);
    let is_there = timeout(Duration::from_secs(1), service.exists(&id));
    assert!(is_there.await.expect("it waits for the reads").unwrap());
    gate.open();
    while let Some(read) = readers.join_next().await {
        assert_eq!(read.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parts_than_memory_are_no_deadlock() {
    let (store, wire) = stores::with_wire().await;
    let service = connect(&store, &wire, SMALL).await;
    let mut uploads = JoinSet::new();
    for seed in 0..12 {
        let service = service.clone();
        uploads.spawn(async move {
            let bytes = ramp(seed, 2 * PART + 100 * KIB);
            let mut upload = service.upload(&name(), None).await.unwrap();
            send_rest(&mut upload, &bytes).await.unwrap();
            bytes
        });
    }
    let all = timeout(Duration::from_secs(120), uploads.join_all());
    for bytes in all.await.expect("nothing moves") {
        assert_stored(&store, &bytes, "one of twelve").await;
    }
    println!("{} tails", tails(&wire));
    service.wait_for_background().await;
    let client = stores::sdk_client(&store);
    let keys = bucket::keys(&client).await;
    assert!(
        !keys.iter().any(|key| key.starts_with("uploads/")),
        "{keys:?}"
    );
    assert_eq!(bucket::multiparts(&client).await, [""; 0]);
}

/// The part of the other owner can be larger than the pool.
#[tokio::test(start_paused = true)]
async fn part_larger_than_the_pool_is_sent() {
    let store = stores::in_memory().await;
    let large = stores::config()
        .part_size(4 * PART)
        .memory_budget(32 * PART);
    let client = stores::sdk_client(&store);
    let first = S3LayerService::connect(client, large).await.unwrap();
    let uuid = first.upload(&name(), None).await.unwrap().uuid();
    let service = connect(&store, &FaultClient::over(store.http_client()), SMALL).await;
    let bytes = ramp(5, 9 * PART + 1);
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    let sent = timeout(Duration::from_secs(120), send_rest(&mut upload, &bytes));
    sent.await.expect("it waits for itself").unwrap();
    assert_stored(&store, &bytes, "large parts").await;
}

#[tokio::test(start_paused = true)]
async fn spilled_upload_continues() {
    let faults: [(&str, Option<(On, Fault)>); 7] = [
        ("no fault", None),
        (
            "the tail's answer is lost",
            Some((
                On::nth(PutObject, 1).key_contains("/tail/"),
                Fault::LoseAnswer,
            )),
        ),
        (
            "a part is refused",
            Some((On::nth(UploadPart, 3), Fault::Status(503))),
        ),
        (
            "a part's answer is lost",
            Some((On::nth(UploadPart, 3), Fault::LoseAnswer)),
        ),
        (
            "a part's body breaks off",
            Some((On::nth(UploadPart, 3), Fault::HalfBody)),
        ),
        (
            "a tail is read wrong",
            Some((
                On::nth(GetObject, 1).key_contains("/tail/"),
                Fault::FlipBit(Position::Middle),
            )),
        ),
        (
            "a tail is not readable at once",
            Some((
                On::nth(GetObject, 1).key_contains("/tail/"),
                Fault::Status(500),
            )),
        ),
    ];
    for (case, fault) in faults {
        let (store, wire) = stores::with_wire().await;
        let service = connect(&store, &wire, SMALL).await;
        if let Some((on, fault)) = fault {
            wire.fault(on.with(fault));
        }
        let bytes = ramp(1, 2 * PART + 100 * KIB);
        let (mut upload, other, gate) = spill(&service, &wire, &bytes).await;
        spilled(&wire).await;
        gate.open();
        other.await.unwrap().unwrap();
        assert_eq!(
            tail_reads(&wire),
            0,
            "{case}: tails are read when their part is sent"
        );
        send_rest(&mut upload, &bytes).await.unwrap();
        assert!(tail_reads(&wire) > 0, "{case}");
        assert_stored(&store, &bytes, case).await;
        service.wait_for_background().await;
        let client = stores::sdk_client(&store);
        let keys = bucket::keys(&client).await;
        assert!(
            !keys.iter().any(|key| key.starts_with("uploads/")),
            "{case}: {keys:?}"
        );
    }
}

/// The store loses the tail of an upload: before the session names it, nothing acknowledged is lost.
#[tokio::test(start_paused = true)]
async fn lost_tail_is_sent_again_by_the_client() {
    let (store, wire) = stores::with_wire().await;
    let service = connect(&store, &wire, SMALL).await;
    let bytes = ramp(2, 2 * PART);
    let (mut upload, other, gate) = spill(&service, &wire, &bytes).await;
    spilled(&wire).await;
    gate.open();
    other.await.unwrap().unwrap();
    let client = stores::sdk_client(&store);
    for key in bucket::keys(&client).await {
        if key.contains("/tail/") {
            let bucket = stores::BUCKET;
            client
                .delete_object()
                .bucket(bucket)
                .key(key)
                .send()
                .await
                .unwrap();
        }
    }
    let uuid = upload.uuid();
    let lost = send_rest(&mut upload, &bytes).await.unwrap_err();
    assert!(matches!(lost, Error::Damaged { .. }), "{lost}");
    let mut resumed = service.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(resumed.offset(), 0);
    send_rest(&mut resumed, &bytes).await.unwrap();
    assert_stored(&store, &bytes, "lost tail").await;
}

/// Each close adds a tail, up to 64; a further one takes the others in.
#[tokio::test(start_paused = true)]
async fn owners_that_each_leave_a_tail() {
    for owners in [1, 2, 63, 64, 65, 70] {
        let (store, service) = stores::with_service().await;
        let uuid = service.upload(&name(), None).await.unwrap().uuid();
        let bytes = ramp(owners, PART + MIB);
        let step = 20 * KIB as usize;
        for owner in 0..owners as usize {
            let service = stores::service(&store).await;
            let mut upload = service.resume(&name(), None, uuid).await.unwrap();
            assert_eq!(upload.offset(), (owner * step) as u64, "of {owners}");
            let piece = bytes.slice(owner * step..(owner + 1) * step);
            upload.write_bytes(piece).await.unwrap();
            upload.close().await.unwrap();
        }
        let client = stores::sdk_client(&store);
        let keys = bucket::keys(&client).await;
        let stored = keys.iter().filter(|key| key.contains("/tail/")).count();
        assert!(stored <= 64, "{stored} tails of {owners} owners");
        // A process that dies while it sends the tails changes nothing.
        let wire = FaultClient::over(store.http_client());
        let dying = stores::connect(&store, &wire).await;
        wire.end(End::KilledAfter(6));
        let mut upload = dying.resume(&name(), None, uuid).await.unwrap();
        tokio::select! {
            () = wire.died() => {}
            sent = send_rest(&mut upload, &bytes) => sent.unwrap(),
        }
        drop(upload);
        let service = stores::service(&store).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        send_rest(&mut upload, &bytes).await.unwrap();
        assert_stored(&store, &bytes, &format!("{owners} owners")).await;
    }
}

/// What one process does, which may die at any of its requests.
async fn spill_and_finish(service: &S3LayerService, wire: &FaultClient, bytes: &Bytes, uuid: Uuid) {
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    let first = bytes.slice(..SPILLED as usize);
    upload.write_bytes(first).await.unwrap();
    let gate = wire.hold(On::nth(UploadPart, 1));
    let mut other = service.upload(&name(), None).await.unwrap();
    let others = ramp(77, PART + 2 * MIB);
    let other = tokio::spawn(async move { send_rest(&mut other, &others).await });
    spilled(wire).await;
    gate.open();
    other.await.unwrap().unwrap();
    let middle = bytes.slice(SPILLED as usize..PART as usize + 30_000);
    upload.write_bytes(middle).await.unwrap();
    upload.close().await.unwrap();
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    send_rest(&mut upload, bytes).await.unwrap();
    service.wait_for_background().await;
}

/// The process dies after each of its requests; another one completes the upload.
#[test]
fn process_can_die_between_spill_and_record() {
    let bytes = ramp(3, PART + 200 * KIB);
    let run = |end: Option<End>| -> Result<usize, String> {
        let first = cases::runtime();
        let (store, uuid, requests) = first.block_on(async {
            let store = stores::in_memory().await;
            let uuid = stores::service(&store)
                .await
                .upload(&name(), None)
                .await
                .unwrap()
                .uuid();
            let wire = FaultClient::over(store.http_client());
            if let Some(end) = end {
                wire.end(end);
            }
            let service = connect(&store, &wire, SMALL).await;
            tokio::select! {
                biased;
                () = wire.died() => {}
                () = spill_and_finish(&service, &wire, &bytes, uuid) => {}
            }
            (store, uuid, wire.log().len())
        });
        drop(first);
        cases::runtime().block_on(async {
            let service = stores::service(&store).await;
            match service.resume(&name(), None, uuid).await {
                Ok(mut upload) => send_rest(&mut upload, &bytes)
                    .await
                    .map_err(|e| e.to_string())?,
                Err(Error::UploadUnknown { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
            assert_stored(&store, &bytes, "the layer").await;
            service.wait_for_background().await;
            sleep(Duration::from_secs(1)).await;
            stores::sweep(&service)
                .await
                .map_err(|error| error.to_string())?;
            // The sweep may have completed the commit of the other upload.
            service.wait_for_background().await;
            let client = stores::sdk_client(&store);
            let keys = bucket::keys(&client).await;
            let left: Vec<_> = keys
                .iter()
                .filter(|key| key.starts_with("uploads/"))
                .collect();
            let layers = keys.iter().filter(|key| key.starts_with("data/")).count();
            // Those of the layer, after a takeover in two segments, and of the other upload.
            match left.as_slice() {
                [] if layers <= 3 => Ok(requests),
                left => Err(format!("left: {left:?}, {layers} data objects")),
            }
        })
    };
    let requests = run(None).unwrap();
    let ends: Vec<End> = (1..=requests).map(End::KilledAfter).collect();
    cases::all(
        "deaths around a spill",
        &ends,
        |end| format!("{end:?}"),
        |end| run(Some(*end)).map(drop),
    );
}

/// Another process takes the upload over while its owner has bytes that only a tail has.
#[tokio::test(start_paused = true)]
async fn takeover_of_a_spilled_upload() {
    let (store, wire) = stores::with_wire().await;
    let service = connect(&store, &wire, SMALL).await;
    let bytes = ramp(6, 2 * PART);
    let (mut upload, other, gate) = spill(&service, &wire, &bytes).await;
    spilled(&wire).await;
    gate.open();
    other.await.unwrap().unwrap();
    let uuid = upload.uuid();
    let newer = stores::service(&store).await;
    let mut newer_upload = newer.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(newer_upload.offset(), 0, "it was not recorded");
    newer_upload.write_bytes(bytes.slice(..100)).await.unwrap();
    newer_upload.close().await.unwrap();
    let lost = upload.close().await.unwrap_err();
    assert!(matches!(lost, Error::UploadConflict { .. }), "{lost}");
    let client = stores::sdk_client(&store);
    let keys = bucket::keys(&client).await;
    assert!(!keys.iter().any(|key| key.contains("/tail/")), "{keys:?}");
    let mut newer_upload = newer.resume(&name(), None, uuid).await.unwrap();
    send_rest(&mut newer_upload, &bytes).await.unwrap();
    assert_stored(&store, &bytes, "takeover").await;
}
