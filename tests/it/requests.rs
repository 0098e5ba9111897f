//! What each call costs, counted on the wire: requests, and bytes moved.

use std::time::Duration;

use bytes::Bytes;
use s3layers::{Algorithm, Digest, Hasher, LayerService as _, S3Config, S3LayerService};
use s3layers_registry::{Manifest, RepositoryService as _};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, SeekFrom};

use crate::support::bytes::{KIB, MIB, ramp, sha256};
use crate::support::fault_client::{
    CompleteMultipartUpload, CopyObject, CreateMultipartUpload, FaultClient, GetObject, HeadObject,
    On, Other, PutObject, Request, UploadPart, UploadPartCopy,
};
use crate::support::stores::{self, BUCKET, PART, name};

/// Settings as a user has them who sets nothing.
fn defaults() -> S3Config {
    S3Config::new(BUCKET)
}

/// A store whose profile is there already, and the wire to it.
async fn wire() -> (embedded_s3::EmbeddedStore, FaultClient) {
    let store = stores::in_memory().await;
    stores::service(&store).await;
    let wire = FaultClient::over(store.http_client());
    (store, wire)
}

async fn connect(
    store: &embedded_s3::EmbeddedStore,
    wire: &FaultClient,
    config: S3Config,
) -> S3LayerService {
    let client = stores::client(store, wire.http_client());
    S3LayerService::connect(client, config).await.unwrap()
}

/// Makes the repository known to the process.
async fn make_repository(service: &S3LayerService) {
    let (tag, digest) = ("latest".parse().unwrap(), sha256(b"a manifest"));
    service.put_tag(&name(), &tag, &digest).await.unwrap();
}

/// So many MiB, one piece again and again, and their digest.
fn pieces(count: u64) -> (Bytes, Digest) {
    let piece = ramp(1, MIB);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    (0..count).for_each(|_| hasher.update(&piece));
    (piece, hasher.digest())
}

/// Pushes 512 MiB, with the default part size of 16 MiB. All requests but the one for the profile.
async fn push_512_mib(declared: bool) -> usize {
    const COUNT: u64 = 512;
    let (piece, digest) = pieces(COUNT);
    let (store, wire) = wire().await;
    let gate = wire.hold(On::every(UploadPart));
    let service = connect(&store, &wire, defaults()).await;
    make_repository(&service).await;
    wire.reset();
    let id = digest.clone().into();
    let id = declared.then_some(&id);
    let mut upload = service.upload(&name(), id).await.unwrap();
    let write = async {
        for _ in 0..COUNT {
            upload.write_bytes(piece.clone()).await.unwrap();
        }
    };
    // Nothing is answered before several are under way: no luck is needed to see it.
    let several = async {
        gate.reached_by(4).await;
        gate.open();
    };
    tokio::join!(write, several);
    upload.finish(COUNT * MIB, &digest).await.unwrap();
    service.wait_for_background().await;

    let log = wire.log();
    println!("512 MiB, declared {declared}: {} requests", log.len());
    assert_eq!(wire.count(UploadPart), 32);
    assert!(wire.most_in_flight(UploadPart) >= 4);
    for never in [CopyObject, UploadPartCopy, Other] {
        assert_eq!(wire.count(never), 0, "{never:?}");
    }
    let reads = |one: &&Request| one.operation == GetObject && one.key.contains("data/");
    assert_eq!(log.iter().filter(reads).count(), 0, "an object was read");
    let sent: u64 = log.iter().map(|one| one.sent).sum();
    assert!(sent < COUNT * MIB + 64 * KIB, "{sent} bytes were sent");
    log.len()
}

/// 32 parts; the session is written at the beginning, before the first part, when that part has
/// arrived, up to 3 times after 128 MiB more, and at the end; create, complete, record, link and the
/// removal of the session; the profile.
#[tokio::test(flavor = "multi_thread")]
async fn push_of_512_mib_costs_45_requests_and_reads_nothing() {
    let requests = push_512_mib(false).await + 1;
    assert!(
        requests <= 45,
        "{requests} requests, that for the profile included"
    );
}

/// A look whether the layer is there, and to write, check and remove the claim, beside the 44.
#[tokio::test(flavor = "multi_thread")]
async fn declared_push_of_512_mib_costs_49_requests() {
    let requests = push_512_mib(true).await;
    assert!(requests <= 49, "{requests} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn push_of_3_kib_costs_5_requests() {
    let bytes = ramp(3, 3 * KIB);
    let (store, wire) = wire().await;
    let service = connect(&store, &wire, defaults()).await;
    make_repository(&service).await;
    wire.reset();
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(3 * KIB, &sha256(&bytes)).await.unwrap();
    service.wait_for_background().await;
    let log = wire.log();
    println!("3 KiB: {} requests", log.len());
    assert!(log.len() <= 5, "{log:#?}");
    assert_eq!(wire.count(GetObject), 0, "nothing is read");
}

/// The requests of `finish` alone.
async fn finish_of(count: u64) -> usize {
    let (piece, digest) = pieces(count);
    let (store, wire) = wire().await;
    let config = defaults().part_size(5 * MIB);
    let service = connect(&store, &wire, config).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    for _ in 0..count {
        upload.write_bytes(piece.clone()).await.unwrap();
    }
    upload.close().await.unwrap();
    let uuid = upload.uuid();
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    make_repository(&service).await;
    wire.reset();
    upload.finish(count * MIB, &digest).await.unwrap();
    service.wait_for_background().await;
    wire.log().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_costs_the_same_for_every_size() {
    // 32 and 160 MiB: 6 and 32 whole parts, and 2 and 0 MiB in a tail.
    let (small, large) = (finish_of(32).await, finish_of(162).await);
    println!("finish: {small} and {large} requests");
    assert_eq!(small, large);
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_costs_one_request_and_a_seek_none() {
    let bytes = ramp(4, MIB);
    let (store, wire) = wire().await;
    let service = connect(&store, &wire, defaults()).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(MIB, &sha256(&bytes)).await.unwrap();
    service.wait_for_background().await;
    let id = sha256(&bytes).into();

    wire.reset();
    assert!(service.exists(&id).await.unwrap());
    assert_eq!(wire.log().len(), 1, "exists");
    wire.reset();
    let mut layer = service.fetch(&id).await.unwrap();
    assert_eq!(wire.log().len(), 1, "fetch");
    wire.reset();
    assert_eq!(layer.seek(SeekFrom::End(-4)).await.unwrap(), MIB - 4);
    layer.seek(SeekFrom::Start(MIB * 2)).await.unwrap();
    let mut some = [0; 4];
    assert_eq!(layer.read(&mut some).await.unwrap(), 0);
    assert_eq!(wire.log().len(), 0, "seek");
    layer.seek(SeekFrom::End(-4)).await.unwrap();
    layer.read_exact(&mut some).await.unwrap();
    assert_eq!(some, bytes[bytes.len() - 4..]);
    assert_eq!(wire.log().len(), 1, "read");
    assert_eq!(wire.count(HeadObject), 0);
}

/// A process looks at the bytes of a layer once in 15 minutes, and at the link every time.
#[tokio::test(start_paused = true)]
async fn layer_of_a_repository_costs_one_request_to_look_up_and_one_more_to_read() {
    let bytes = ramp(4, MIB);
    let id = sha256(&bytes).into();
    let (store, wire) = wire().await;
    let service = connect(&store, &wire, defaults()).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(MIB, &sha256(&bytes)).await.unwrap();
    service.wait_for_background().await;
    wire.reset();
    let layer = service.layer(&name(), &id).await.unwrap();
    assert!(layer.is_stored().await.unwrap());
    assert_eq!(wire.log().len(), 1, "HEAD after the push");

    let service = connect(&store, &wire, defaults()).await;
    let absent = ramp(5, KIB);
    let absent = sha256(&absent).into();
    for round in ["at first", "15 minutes later"] {
        for (look, requests) in [("not looked at", 2), ("looked at", 1)] {
            wire.reset();
            let layer = service.layer(&name(), &id).await.unwrap();
            assert!(layer.is_stored().await.unwrap());
            assert_eq!(wire.log().len(), requests, "HEAD, {look}, {round}");
        }
        wire.reset();
        let mut layer = service.layer(&name(), &id).await.unwrap();
        layer.read_exact(&mut [0; 1000]).await.unwrap();
        assert_eq!(wire.log().len(), 2, "GET, {round}");
        for _ in 0..2 {
            wire.reset();
            assert!(service.layer(&name(), &absent).await.is_err());
            assert_eq!(wire.log().len(), 1, "an absent one");
        }
        tokio::time::sleep(Duration::from_secs(15 * 60)).await;
    }
}

#[tokio::test]
async fn what_a_registry_keeps_beside_layers_costs_a_request_each() {
    let (store, wire) = wire().await;
    let service = connect(&store, &wire, defaults()).await;
    let other = connect(&store, &wire, defaults()).await;
    let subject = sha256(b"subject");
    let manifest = Manifest {
        digest: sha256(b"a manifest"),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        bytes: Bytes::from_static(b"a manifest"),
        subject: Some(subject.clone()),
        artifact_type: None,
        annotations: Default::default(),
    };
    let (name, tag) = (name(), "latest".parse().unwrap());
    macro_rules! costs {
        ($requests:expr, $what:expr) => {{
            wire.reset();
            $what.await.unwrap();
            let log = wire.log();
            assert_eq!(log.len(), $requests, "{}: {log:#?}", stringify!($what));
        }};
    }
    // The first entry of a repository: a look for its marker, and the marker.
    costs!(4, service.put_manifest(&name, &manifest));
    costs!(1, service.put_tag(&name, &tag, &manifest.digest));
    costs!(3, service.put_tag(&name, &tag, &subject));
    costs!(3, service.put_tag(&name, &tag, &manifest.digest));
    costs!(1, service.tag(&name, &tag));
    costs!(1, service.manifest(&name, &manifest.digest));
    costs!(1, other.tag(&name, &tag));
    costs!(1, other.manifest(&name, &manifest.digest));
    costs!(1, service.tags(&name, None, 100));
    costs!(
        2,
        service.referrers(&name, &subject, None, None, 100, usize::MAX)
    );
    costs!(1, service.repositories(None, 100));
    costs!(1, service.ready());
    // A process that does not know the marker reads it.
    costs!(4, other.put_tag(&name, &tag, &subject));
    costs!(3, other.put_tag(&name, &tag, &manifest.digest));
    // Look, list, read and remove the tag; read the entry, remove manifest and entry; list what is
    // left, which is nothing: read and replace the marker.
    costs!(11, service.delete_manifest(&name, &manifest.digest));
    costs!(2, service.repositories(None, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn append_in_another_process_costs_6_requests_and_3_times_the_bytes() {
    const COUNT: u64 = 64;
    let bytes = ramp(5, COUNT * MIB);
    let (store, wire) = wire().await;
    let service = connect(&store, &wire, defaults()).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.close().await.unwrap();
    for append in 0..COUNT {
        // A process of its own, which has to read the profile as well.
        let service = connect(&store, &wire, defaults()).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        assert_eq!(upload.offset(), append * MIB);
        let from = (append * MIB) as usize;
        let piece = bytes.slice(from..from + MIB as usize);
        upload.write_bytes(piece).await.unwrap();
        upload.close().await.unwrap();
    }
    // Reading the profile is the price of a new process, not of an append.
    let appends = wire.log().iter().filter(|one| one.key != "profile").count();
    let service = connect(&store, &wire, defaults()).await;
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    let size = COUNT * MIB;
    upload.finish(size, &sha256(&bytes)).await.unwrap();
    service.wait_for_background().await;

    let log = wire.log();
    let moved: u64 = log.iter().map(|one| one.sent + one.received).sum();
    let (per_append, ratio) = (appends as f64 / COUNT as f64, moved as f64 / size as f64);
    println!(
        "64 appends of 1 MiB elsewhere: {appends} requests ({per_append:.2} an append), \
         {ratio:.2} x the bytes; PutObject {}",
        wire.count(PutObject)
    );
    assert!(appends as u64 <= 6 * COUNT, "{appends} requests");
    assert!(ratio <= 3.2, "{ratio:.2} times the bytes were moved");
}

/// What it costs to resume an upload of 20 parts in another process, and to finish it there: requests,
/// and bytes received. Its owner has closed it, or has ended without a close.
async fn cost_of_a_resume(is_closed: bool) -> (usize, u64) {
    let (store, gone) = wire().await;
    let bytes = ramp(4, 21 * PART + 100 * KIB);
    let recorded = 20 * PART;
    let service = connect(&store, &gone, stores::config()).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    let first = bytes.slice(..recorded as usize);
    upload.write_bytes(first).await.unwrap();
    upload.flush().await.unwrap();
    if is_closed {
        upload.close().await.unwrap();
    } else {
        // The parts that have arrived are recorded.
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(upload);
    }
    let wire = FaultClient::over(store.http_client());
    let service = connect(&store, &wire, stores::config()).await;
    wire.reset();
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(upload.offset(), recorded);
    let rest = bytes.slice(recorded as usize..);
    upload.write_bytes(rest).await.unwrap();
    let size = bytes.len() as u64;
    upload.finish(size, &sha256(&bytes)).await.unwrap();
    service.wait_for_background().await;
    let log = wire.log();
    (log.len(), log.iter().map(|one| one.received).sum())
}

#[tokio::test(start_paused = true)]
async fn takeover_costs_at_most_4_requests_more_than_a_resume_after_a_close() {
    let (closed, _) = cost_of_a_resume(true).await;
    let (unclosed, received) = cost_of_a_resume(false).await;
    println!("closed: {closed} requests, not closed: {unclosed} and {received} bytes");
    assert!(unclosed <= closed + 4, "{unclosed} and {closed} requests");
    assert!(received < 100_000, "{received} bytes were read");
}

#[tokio::test(start_paused = true)]
async fn appends_over_two_processes_in_turn_freeze_nothing() {
    let (store, wire) = wire().await;
    let bytes = ramp(5, 64 * MIB);
    let services = [
        connect(&store, &wire, stores::config()).await,
        connect(&store, &wire, stores::config()).await,
    ];
    let mut upload = services[0].upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.close().await.unwrap();
    for nth in 0..64 {
        let service = &services[nth % 2];
        let from = (nth as u64 * MIB) as usize;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        assert_eq!(upload.offset(), from as u64);
        let chunk = bytes.slice(from..from + MIB as usize);
        upload.write_bytes(chunk).await.unwrap();
        upload.close().await.unwrap();
    }
    let mut upload = services[0].resume(&name(), None, uuid).await.unwrap();
    upload.finish(64 * MIB, &sha256(&bytes)).await.unwrap();
    assert_eq!(wire.count(CreateMultipartUpload), 1);
    assert_eq!(wire.count(CompleteMultipartUpload), 1);
}
