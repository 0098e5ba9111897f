//! The cache of closed sessions: an append that continues from memory saves requests, and never
//! loses a byte of another process.

use std::time::Duration;

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::{
    Error, Hasher, LayerService as _, LayerServiceExt as _, LayerUpload, S3Config, S3LayerService,
    StoreProfile,
};
use s3layers_registry::RepositoryService as _;
use uuid::Uuid;

use crate::support::bucket;
use crate::support::bytes::{KIB, MIB, assert_same, ramp, sha256};
use crate::support::fault_client::{FaultClient, GetObject, On, PutObject, UploadPart};
use crate::support::stores::{self, BUCKET, INLINE_LIMIT, PART, name};

async fn connect(store: &EmbeddedStore, wire: &FaultClient, config: S3Config) -> S3LayerService {
    let client = stores::client(store, wire.http_client());
    let config = config.profile(StoreProfile::AWS);
    S3LayerService::connect(client, config).await.unwrap()
}

/// A process with the settings of one that sets nothing.
async fn default_process() -> (EmbeddedStore, FaultClient, S3LayerService) {
    let (store, wire) = stores::with_wire().await;
    let service = connect(&store, &wire, S3Config::new(BUCKET)).await;
    (store, wire, service)
}

/// As [`default_process`], in a repository that exists and that the process has written to. Whether it
/// does is asked once: that is not in the log.
async fn default_process_in_use() -> (EmbeddedStore, FaultClient, S3LayerService) {
    let (store, wire, service) = default_process().await;
    let pushed = service.push(&name(), &mut &b"of another layer"[..]).await;
    pushed.unwrap();
    service.wait_for_background().await;
    wire.reset();
    (store, wire, service)
}

/// As a registry begins an upload: another request brings the first byte.
async fn begin(service: &S3LayerService) -> Uuid {
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.close().await.unwrap();
    upload.uuid()
}

async fn resume_at(service: &S3LayerService, uuid: Uuid, at: u64) -> Box<dyn LayerUpload> {
    let upload = service.resume_at(&name(), uuid, at).await.unwrap();
    assert_eq!(upload.offset(), at);
    upload
}

/// One request of a client: some more bytes, all acknowledged.
async fn patch(service: &S3LayerService, uuid: Uuid, bytes: &Bytes, from: u64, to: u64) {
    let mut upload = resume_at(service, uuid, from).await;
    let piece = bytes.slice(from as usize..to as usize);
    upload.write_bytes(piece).await.unwrap();
    upload.close().await.unwrap();
}

async fn assert_stored(store: &EmbeddedStore, bytes: &Bytes) {
    let mut got = Vec::new();
    let other = stores::service(store).await;
    let pulled = other.pull(&sha256(bytes).into(), &mut got).await;
    pulled.unwrap();
    assert_same(&got, bytes, "the layer");
}

#[tokio::test(flavor = "multi_thread")]
async fn append_in_the_same_process_costs_3_requests_and_twice_the_bytes_up() {
    const COUNT: u64 = 64;
    let bytes = ramp(5, COUNT * MIB);
    let (store, wire, service) = default_process().await;
    let uuid = begin(&service).await;
    for append in 0..COUNT {
        patch(&service, uuid, &bytes, append * MIB, (append + 1) * MIB).await;
    }
    let mut upload = resume_at(&service, uuid, COUNT * MIB).await;
    let finished = upload.finish(COUNT * MIB, &sha256(&bytes)).await;
    finished.unwrap();
    service.wait_for_background().await;

    let log = wire.log();
    let (requests, size) = (log.len() as u64, COUNT * MIB);
    let up: u64 = log.iter().map(|one| one.sent).sum();
    let down: u64 = log.iter().map(|one| one.received).sum();
    println!(
        "64 appends of 1 MiB here: {requests} requests ({:.2} an append), {:.2} x the bytes up, \
         {:.2} x down; PutObject {}, GetObject {}",
        requests as f64 / COUNT as f64,
        up as f64 / size as f64,
        down as f64 / size as f64,
        wire.count(PutObject),
        wire.count(GetObject),
    );
    assert!(requests <= 3 * COUNT, "{requests} requests");
    assert!(up * 10 <= 21 * size, "{up} bytes up");
    assert_stored(&store, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_of_3_kib_in_three_client_requests_costs_6() {
    let bytes = ramp(3, 3 * KIB);
    let (store, wire, service) = default_process_in_use().await;
    let uuid = begin(&service).await;
    patch(&service, uuid, &bytes, 0, 3 * KIB).await;
    let mut upload = resume_at(&service, uuid, 3 * KIB).await;
    upload.finish(3 * KIB, &sha256(&bytes)).await.unwrap();
    service.wait_for_background().await;
    let log = wire.log();
    println!("3 KiB in three requests: {} requests", log.len());
    assert!(log.len() <= 6, "{log:#?}");
    assert_stored(&store, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_of_512_mib_in_three_client_requests_costs_46() {
    const COUNT: u64 = 512;
    let piece = ramp(1, MIB);
    let mut hasher = Hasher::new(s3layers::Algorithm::Sha256);
    (0..COUNT).for_each(|_| hasher.update(&piece));
    let (_store, wire, service) = default_process_in_use().await;
    let uuid = begin(&service).await;
    let mut upload = resume_at(&service, uuid, 0).await;
    for _ in 0..COUNT {
        upload.write_bytes(piece.clone()).await.unwrap();
    }
    upload.close().await.unwrap();
    let mut upload = resume_at(&service, uuid, COUNT * MIB).await;
    let finished = upload.finish(COUNT * MIB, &hasher.digest()).await;
    finished.unwrap();
    service.wait_for_background().await;
    let (requests, gets) = (wire.log().len(), wire.count(GetObject));
    println!("512 MiB in three requests: {requests} requests");
    assert!(requests <= 46, "{:#?}", wire.log());
    assert_eq!(gets, 0);
}

/// What another process does with an upload in the meantime.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Other {
    AppendsALittle,
    AppendsParts,
    Finishes,
    Cancels,
}

#[tokio::test(flavor = "multi_thread")]
async fn overtaken_process_gets_an_error_and_changes_nothing() {
    let bytes = ramp(7, 4 * PART);
    let wrong = ramp(8, 4 * PART);
    for first in [0, KIB, 100 * KIB, PART + 100 * KIB] {
        for more in [KIB, 100 * KIB, 2 * PART] {
            for other_does in [
                Other::AppendsALittle,
                Other::AppendsParts,
                Other::Finishes,
                Other::Cancels,
            ] {
                let case = format!("after {first}, {other_does:?}, then {more} more");
                overtaken(&bytes, &wrong, first, more, other_does, &case).await;
            }
        }
    }
}

async fn overtaken(bytes: &Bytes, wrong: &Bytes, first: u64, more: u64, does: Other, case: &str) {
    let (store, wire) = stores::with_wire().await;
    let service = connect(&store, &wire, stores::config()).await;
    let other = stores::service(&store).await;
    let uuid = begin(&service).await;
    if first > 0 {
        patch(&service, uuid, bytes, 0, first).await;
    }

    let mut theirs = other.resume(&name(), None, uuid).await.unwrap();
    let to = match does {
        Other::AppendsALittle => first + 50 * KIB,
        Other::AppendsParts => first + 2 * PART,
        Other::Finishes | Other::Cancels => first,
    };
    let piece = bytes.slice(first as usize..to as usize);
    theirs.write_bytes(piece).await.unwrap();
    let content = bytes.slice(..to as usize);
    match does {
        Other::Finishes => drop(theirs.finish(to, &sha256(&content)).await.unwrap()),
        Other::Cancels => theirs.cancel().await.unwrap(),
        _ => theirs.close().await.unwrap(),
    }

    wire.reset();
    let mut stale = resume_at(&service, uuid, first).await;
    assert_eq!(wire.log().len(), 0, "{case}: it goes by memory");
    let mut outcome = stale.write_bytes(wrong.slice(..more as usize)).await;
    if outcome.is_ok() {
        outcome = stale.close().await;
    }
    let is_over = matches!(does, Other::Finishes | Other::Cancels);
    match outcome {
        Err(Error::UploadConflict { .. }) => {}
        Err(Error::UploadUnknown { .. }) if is_over => {}
        outcome => panic!("{case}: {outcome:?}"),
    }
    assert_eq!(wire.count(UploadPart), 0, "{case}: a part was sent");
    drop(stale);

    if !is_over {
        let mut upload = resume_at(&service, uuid, to).await;
        upload
            .write_bytes(bytes.slice(to as usize..))
            .await
            .unwrap();
        let finished = upload.finish(4 * PART, &sha256(bytes)).await;
        finished.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert_stored(&store, bytes).await;
    } else if does == Other::Finishes {
        assert_stored(&store, &content).await;
    }
    other.wait_for_background().await;
    service.wait_for_background().await;
    stores::sweep(&other).await.unwrap();
    let client = stores::sdk_client(&store);
    let keys = bucket::keys(&client).await;
    let left = keys.iter().filter(|key| key.starts_with("uploads/"));
    assert_eq!(left.count(), 0, "{case}: {keys:?}");
    let data = keys.iter().filter(|key| key.starts_with("data/")).count();
    let has_data = does != Other::Cancels && (!is_over || to > INLINE_LIMIT);
    assert_eq!(data, usize::from(has_data), "{case}: {keys:?}");
    assert_eq!(
        bucket::multiparts(&client).await,
        Vec::<String>::new(),
        "{case}"
    );
}

/// The other owner may be the newer one, although it has stored nothing yet. A client that asks for
/// the offset, or tries again, can continue.
#[tokio::test(flavor = "multi_thread")]
async fn append_from_memory_does_not_replace_an_owner_that_stored_nothing() {
    for (first, more) in [(0, KIB), (KIB, 100 * KIB), (100 * KIB, 2 * PART)] {
        for asks in [true, false] {
            let bytes = ramp(9, first + more);
            let (store, service) = stores::with_service().await;
            let other = stores::service(&store).await;
            let uuid = begin(&service).await;
            if first > 0 {
                patch(&service, uuid, &bytes, 0, first).await;
            }
            let mut theirs = other.resume(&name(), None, uuid).await.unwrap();
            theirs.write_bytes(bytes.slice(..1)).await.unwrap();
            let piece = bytes.slice(first as usize..);
            if asks {
                let outcome = service.resume(&name(), None, uuid).await.unwrap();
                assert_eq!(outcome.offset(), first);
            } else {
                let mut stale = resume_at(&service, uuid, first).await;
                let mut outcome = stale.write_bytes(piece.clone()).await;
                if outcome.is_ok() {
                    outcome = stale.close().await;
                }
                assert!(matches!(outcome, Err(Error::UploadConflict { .. })));
            }
            let mut upload = resume_at(&service, uuid, first).await;
            upload.write_bytes(piece).await.unwrap();
            upload.close().await.unwrap();
            let outcome = theirs.close().await;
            assert!(
                matches!(outcome, Err(Error::UploadConflict { .. })),
                "{outcome:?}"
            );
            let mut upload = resume_at(&service, uuid, first + more).await;
            upload.finish(first + more, &sha256(&bytes)).await.unwrap();
            assert_stored(&store, &bytes).await;
            let client = stores::sdk_client(&store);
            let multiparts = bucket::multiparts(&client).await;
            assert_eq!(multiparts, Vec::<String>::new());
        }
    }
}

/// Memory that others wait for is released, and so is that of a client that stays away.
#[tokio::test(start_paused = true)]
async fn released_tails_are_read_again() {
    let bytes = ramp(10, PART);
    let (store, wire) = stores::with_wire().await;
    let config = stores::config().memory_budget(2 * PART);
    let service = connect(&store, &wire, config).await;
    for away in [
        Duration::ZERO,
        Duration::from_secs(60),
        Duration::from_secs(3600),
    ] {
        let uuid = begin(&service).await;
        patch(&service, uuid, &bytes, 0, MIB).await;
        patch(&service, uuid, &bytes, MIB, 2 * MIB).await;
        if away.is_zero() {
            // Another upload needs all the memory there is, since its first part does not arrive.
            let others = ramp(11, 2 * PART);
            let gate = wire.hold(On::every(UploadPart));
            let mut upload = service.upload(&name(), None).await.unwrap();
            let both = async {
                gate.reached_by(2).await;
                gate.open();
            };
            let (wrote, ()) = tokio::join!(upload.write_bytes(others.clone()), both);
            wrote.unwrap();
            upload.finish(2 * PART, &sha256(&others)).await.unwrap();
        }
        tokio::time::sleep(away).await;
        wire.reset();
        let mut upload = resume_at(&service, uuid, 2 * MIB).await;
        upload
            .write_bytes(bytes.slice(2 * MIB as usize..))
            .await
            .unwrap();
        upload.finish(PART, &sha256(&bytes)).await.unwrap();
        assert!(wire.count(GetObject) >= 2, "the tails are read");
        assert_stored(&store, &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_never_continue_from_the_same_cache_entry() {
    let bytes = ramp(12, 300 * KIB);
    let (store, service) = stores::with_service().await;
    let uuid = begin(&service).await;
    patch(&service, uuid, &bytes, 0, 100 * KIB).await;
    let mut one = resume_at(&service, uuid, 100 * KIB).await;
    let mut other = resume_at(&service, uuid, 100 * KIB).await;
    let piece = bytes.slice(100 * KIB as usize..);
    one.write_bytes(piece.slice(..10)).await.unwrap();
    other.write_bytes(piece).await.unwrap();
    let outcome = one.close().await;
    assert!(
        matches!(outcome, Err(Error::UploadConflict { .. })),
        "{outcome:?}"
    );
    other.close().await.unwrap();
    let mut upload = resume_at(&service, uuid, 300 * KIB).await;
    upload.finish(300 * KIB, &sha256(&bytes)).await.unwrap();
    assert_stored(&store, &bytes).await;
}
