//! A process that is suspended within a commit, for longer than it may rely on what it has seen: the
//! upload or an equal layer may have been removed meanwhile. It looks again, so that no record names
//! bytes that are gone.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::Client;
use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::{
    Algorithm, CollectionTimes, Digest, Error, LayerId, LayerService as _, LayerServiceExt as _,
    RepositoryName, S3LayerService, StoreProfile,
};
use s3layers_registry::RepositoryService as _;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::bytes::{assert_same, ramp, sha256};
use crate::support::fault_client::{
    DeleteObject, Fault, FaultClient, GetObject, HeadObject, On, PutObject,
};
use crate::support::stores::{self, BUCKET, PART, name};
use crate::support::{aged, bucket};

const SIZE: u64 = PART + 1000;
/// Less than the late answers take.
const LOOK: u64 = 5;

fn other() -> RepositoryName {
    "library/other".parse().unwrap()
}

/// A process that relies on what it has seen for [`LOOK`] seconds.
async fn forgetful(store: &EmbeddedStore, wire: &FaultClient) -> S3LayerService {
    let mut profile = StoreProfile::AWS;
    profile.collection = CollectionTimes {
        look: LOOK,
        testing: true,
        ..CollectionTimes::DEFAULT
    };
    let client = stores::client(store, wire.http_client());
    let config = stores::config().profile(profile);
    S3LayerService::connect(client, config).await.unwrap()
}

/// Deletes every object with one of these texts in its key, as a collection does in the end.
async fn delete(bucket: &Client, parts: &[&str]) {
    let keys = bucket::keys(bucket).await;
    for part in parts {
        let mut found = keys.iter().filter(|key| key.contains(part)).peekable();
        assert!(found.peek().is_some(), "no {part} among {keys:?}");
        for key in found {
            let delete = bucket.delete_object().bucket(BUCKET).key(key);
            delete.send().await.unwrap();
        }
    }
}

/// A finish to [`other`] that waits for the answer to such a request, which the store has carried out.
async fn suspended(
    (wire, service): (&FaultClient, &S3LayerService),
    request: On,
    bytes: &Bytes,
    digest: Digest,
) -> (Uuid, JoinHandle<Result<(), Error>>) {
    // It knows the marker, which it would read beside the link, so that the answer would be due.
    service.push(&other(), &mut &bytes[..10]).await.unwrap();
    service.wait_for_background().await;
    wire.fault(request.with(Fault::Late));
    let mut upload = service.upload(&other(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let uuid = upload.uuid();
    let finish = tokio::spawn(async move { upload.finish(SIZE, &digest).await.map(drop) });
    // The paused clock moves when nothing else is left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!finish.is_finished());
    (uuid, finish)
}

/// Whether every record, and every link, leads to bytes that can be read.
async fn assert_nothing_names_lost_bytes(bucket: &Client) {
    let keys = bucket::keys(bucket).await;
    for layer in bucket::stored_layers(bucket).await {
        for object in layer.objects {
            assert!(keys.contains(&object), "{object} is gone: {keys:?}");
        }
    }
}

/// Its bytes were read back; meanwhile another process published them, and a collection removed that.
#[tokio::test(start_paused = true)]
async fn commit_that_is_suspended_before_its_record_looks_at_its_bytes_again() {
    let (store, wire) = stores::with_wire().await;
    let bucket = stores::sdk_client(&store);
    let bytes = ramp(1, SIZE);
    let service = forgetful(&store, &wire).await;
    // A digest that only reading can verify.
    let digest = Digest::of(Algorithm::Sha512, &bytes);
    let read_back = On::every(GetObject).key_contains("data/");
    let (process, id) = ((&wire, &service), digest.clone().into());
    let (uuid, finish) = suspended(process, read_back, &bytes, digest).await;
    assert_eq!(wire.count(HeadObject), 0);

    let elsewhere = stores::service(&store).await;
    stores::sweep(&elsewhere).await.unwrap();
    elsewhere.wait_for_background().await;
    elsewhere.fetch(&id).await.unwrap();
    delete(&bucket, &["layers/", &uuid.to_string()]).await;

    let refused = finish.await.unwrap();
    assert!(
        matches!(refused, Err(Error::UploadUnknown { .. })),
        "{refused:?}"
    );
    assert_eq!(wire.count(HeadObject), 1);
    service.wait_for_background().await;
    assert_nothing_names_lost_bytes(&bucket).await;
    assert!(!elsewhere.exists(&id).await.unwrap());
}

/// It looks at its bytes just before a sweep removes them.
#[tokio::test(start_paused = true)]
async fn commit_that_was_cancelled_long_ago_publishes_nothing_that_a_sweep_is_removing() {
    let (store, wire) = stores::with_wire().await;
    let bucket = stores::sdk_client(&store);
    let bytes = ramp(4, SIZE);
    let service = forgetful(&store, &wire).await;
    let read_back = wire.hold(On::every(GetObject).key_contains("data/"));
    let mut upload = service.upload(&other(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(bytes.clone()).await.unwrap();
    // A digest that only reading can verify.
    let digest = Digest::of(Algorithm::Sha512, &bytes);
    let finish = tokio::spawn(async move { upload.finish(SIZE, &digest).await.map(drop) });
    read_back.reached_by(1).await;

    let denied = FaultClient::over(store.http_client());
    denied.fault(On::every(HeadObject).status(403));
    let elsewhere = stores::connect(&store, &denied).await;
    elsewhere.cancel_upload(uuid).await.unwrap();
    let sweeper = FaultClient::over(store.http_client());
    let removal = sweeper.hold(On::every(DeleteObject).key_contains("data/"));
    let sweep = aged::sweep_by(aged::client(&store, sweeper.http_client()));
    let sweep = tokio::spawn(sweep);
    removal.reached_by(1).await;
    tokio::time::sleep(Duration::from_secs(2 * LOOK)).await;

    read_back.open();
    let ended = finish.await.unwrap();
    let is_over = matches!(ended, Err(Error::UploadUnknown { .. }));
    assert!(is_over, "{ended:?}");
    removal.open();
    sweep.await.unwrap();
    assert_nothing_names_lost_bytes(&bucket).await;
    assert_eq!(bucket::stored_layers(&bucket).await.len(), 0);
}

/// The equal layer may be collected, and the upload be published by another process.
#[tokio::test(start_paused = true)]
async fn removal_of_a_duplicate_that_takes_too_long_is_left_to_the_sweep() {
    let (store, wire) = stores::with_wire().await;
    let bucket = stores::sdk_client(&store);
    let bytes = ramp(5, SIZE);
    let elsewhere = stores::service(&store).await;
    elsewhere.push(&name(), &mut &bytes[..]).await.unwrap();
    elsewhere.wait_for_background().await;
    let service = forgetful(&store, &wire).await;
    wire.fault(On::every(DeleteObject).key_contains("data/").status(503));
    let mut upload = service.upload(&other(), None).await.unwrap();
    let uuid = upload.uuid().to_string();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2 * LOOK)).await;
    assert!(wire.count(DeleteObject) > 0);
    wire.clear_faults();
    service.wait_for_background().await;
    let of_upload = |keys: &BTreeSet<String>| keys.iter().filter(|key| key.contains(&uuid)).count();
    assert_eq!(of_upload(&bucket::keys(&bucket).await), 2);

    stores::sweep(&elsewhere).await.unwrap();
    elsewhere.wait_for_background().await;
    assert_eq!(of_upload(&bucket::keys(&bucket).await), 0);
    stores::assert_served(&store, &bytes).await;
}

/// The cancellation has reported that nothing comes of the upload. A later sweep finds the layer, and
/// keeps it.
#[tokio::test(start_paused = true)]
async fn commit_that_is_cancelled_while_it_is_suspended_does_not_answer_for_its_layer() {
    let (store, wire) = stores::with_wire().await;
    let bytes = ramp(2, SIZE);
    let service = forgetful(&store, &wire).await;
    let link = On::every(PutObject).key_contains("/_layers/");
    let process = (&wire, &service);
    let (uuid, finish) = suspended(process, link, &bytes, sha256(&bytes)).await;

    let denied = FaultClient::over(store.http_client());
    denied.fault(On::every(PutObject).key_contains("layers/").status(403));
    denied.fault(On::every(HeadObject).status(403));
    let elsewhere = stores::connect(&store, &denied).await;
    elsewhere.cancel_upload(uuid).await.unwrap();

    let ended = finish.await.unwrap();
    assert!(
        matches!(ended, Err(Error::UploadUnknown { .. })),
        "{ended:?}"
    );
    service.wait_for_background().await;
    aged::sweep(&store).await;
    stores::assert_served(&store, &bytes).await;
}

/// It found an equal layer, which a collection has removed since. Then another process has published
/// the upload's own bytes, and died before it removed the session.
#[tokio::test(start_paused = true)]
async fn commit_of_a_duplicate_that_is_suspended_leaves_its_bytes_to_the_sweep() {
    let (store, wire) = stores::with_wire().await;
    let bucket = stores::sdk_client(&store);
    let bytes = ramp(3, SIZE);
    let id = LayerId::from(sha256(&bytes));
    let elsewhere = stores::service(&store).await;
    elsewhere.push(&name(), &mut &bytes[..]).await.unwrap();
    elsewhere.wait_for_background().await;
    let equal = bucket::stored_layers(&bucket).await.remove(0).objects;

    let service = forgetful(&store, &wire).await;
    let link = On::every(PutObject).key_contains("/_layers/");
    let process = (&wire, &service);
    let (uuid, finish) = suspended(process, link, &bytes, sha256(&bytes)).await;

    delete(&bucket, &["layers/", &equal[0]]).await;
    let dies = FaultClient::over(store.http_client());
    dies.fault(On::every(DeleteObject).key_ends("/session").status(403));
    let dying = stores::connect(&store, &dies).await;
    stores::sweep(&dying).await.unwrap();
    dying.wait_for_background().await;

    finish.await.unwrap().unwrap();
    service.wait_for_background().await;
    assert_nothing_names_lost_bytes(&bucket).await;
    let session = format!("uploads/{uuid}/session");
    assert!(bucket::keys(&bucket).await.contains(&session));
    let last = stores::service(&store).await;
    stores::sweep(&last).await.unwrap();
    last.wait_for_background().await;
    assert!(!bucket::keys(&bucket).await.contains(&session));
    let mut got = Vec::new();
    last.pull(&id, &mut got).await.unwrap();
    assert_same(&got, &bytes, "the layer");
    last.layer(&other(), &id).await.unwrap();
}
