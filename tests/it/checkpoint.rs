//! Checkpoints: what of an upload is on record while its handle is open, and that the session never
//! says what is not so.

use std::time::Duration;

use s3layers::{Error, LayerService as _};
use tokio::io::AsyncWriteExt as _;

use crate::support::bucket;
use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::fault_client::{FaultClient, On, PutObject, UploadPart};
use crate::support::session;
use crate::support::stores::{self, PART, name};

/// Writes of the session so far.
fn session_writes(wire: &FaultClient) -> usize {
    let log = wire.log();
    log.iter()
        .filter(|one| one.key.ends_with("/session") && one.operation == PutObject)
        .count()
}

async fn wait_for_session_writes(wire: &FaultClient, count: usize) {
    while session_writes(wire) < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn first_part_is_recorded_a_second_after_it_arrived() {
    let (_, wire, service) = stores::connected().await;
    let bytes = ramp(4, 3 * PART);
    let mut upload = service.upload(&name(), None).await.unwrap();
    let first = bytes.slice(..PART as usize + 1000);
    upload.write_bytes(first).await.unwrap();
    upload.flush().await.unwrap();
    assert_eq!(session_writes(&wire), 2, "begun, and named its parts");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(session_writes(&wire), 3);

    // Later parts are recorded after 128 MiB.
    let second = bytes.slice(PART as usize + 1000..2 * PART as usize);
    upload.write_bytes(second).await.unwrap();
    upload.flush().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(session_writes(&wire), 3);
    let uuid = upload.uuid();
    // As a process that is killed leaves it.
    drop(upload);

    let mut resumed = service.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(resumed.offset(), PART);
    let rest = bytes.slice(PART as usize..);
    resumed.write_bytes(rest).await.unwrap();
    resumed.finish(3 * PART, &sha256(&bytes)).await.unwrap();
}

/// However fast they arrived.
#[tokio::test(start_paused = true)]
async fn less_than_128_mib_that_arrived_are_not_on_record() {
    let (_, _, service) = stores::connected().await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(ramp(5, 31 * PART)).await.unwrap();
    upload.flush().await.unwrap();
    let uuid = upload.uuid();
    drop(upload);
    let resumed = service.resume(&name(), None, uuid).await.unwrap();
    let lost = 31 * PART - resumed.offset();
    assert!(lost < 128 * MIB, "{lost} bytes are not on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_checkpoint_is_repeated_by_the_next_write_of_the_session() {
    let (store, wire, service) = stores::connected().await;
    // The first part is recorded after a second, and the following ones at 128 MiB. Then one more
    // part is on its way.
    let late = wire.hold(On::nth(UploadPart, 28));
    wire.fault(On::nth(PutObject, 4).key_ends("/session").status(403));
    let mut upload = service.upload(&name(), None).await.unwrap();
    let bytes = ramp(1, 31 * PART);
    let first = bytes.slice(..PART as usize);
    upload.write_bytes(first).await.unwrap();
    wait_for_session_writes(&wire, 3).await;
    let refused = async {
        wait_for_session_writes(&wire, 4).await;
        late.open();
    };
    let writes = async {
        let wrote = upload.write_bytes(bytes.slice(PART as usize..)).await;
        let closed = upload.close().await;
        wrote.and(closed)
    };
    let (outcome, ()) = tokio::join!(writes, refused);
    assert!(outcome.unwrap_err().is_permission());

    let mut resumed = stores::connect(&store, &FaultClient::over(store.http_client()))
        .await
        .resume(&name(), None, upload.uuid())
        .await
        .unwrap();
    let offset = resumed.offset();
    assert!(offset >= 128 * MIB, "what arrived is recorded: {offset}");
    let rest = bytes.slice(offset as usize..);
    resumed.write_bytes(rest).await.unwrap();
    let digest = sha256(&bytes);
    resumed.finish(31 * PART, &digest).await.unwrap();
}

#[tokio::test]
async fn unreadable_hash_state_is_refused_and_not_overwritten() {
    let (store, service) = stores::with_service().await;
    let client = stores::sdk_client(&store);
    let bytes = ramp(2, 300_000);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.slice(..100_000)).await.unwrap();
    upload.close().await.unwrap();
    let uuid = upload.uuid();

    session::edit(&store, uuid, |text| text.replace("sha256/1:", "sha256/9:")).await;
    let key = format!("uploads/{uuid}/session");
    let before = bucket::get(&client, &key).await;
    let other = stores::service(&store).await;
    for service in [&service, &other] {
        let refused = service.resume(&name(), None, uuid).await.map(drop);
        assert!(
            matches!(&refused, Err(Error::Damaged { key: named, .. }) if *named == key),
            "{refused:?}"
        );
    }
    assert_eq!(bucket::get(&client, &key).await, before);

    // A process that can read it resumes.
    session::edit(&store, uuid, |text| text.replace("sha256/9:", "sha256/1:")).await;
    let mut upload = other.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(upload.offset(), 100_000);
    upload.write_bytes(bytes.slice(100_000..)).await.unwrap();
    upload.finish(300_000, &sha256(&bytes)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failed_finish_keeps_the_parts_that_arrived() {
    let (_, wire, service) = stores::connected().await;
    let bytes = ramp(3, 2 * PART + 1000);
    let mut upload = service.upload(&name(), None).await.unwrap();
    // The third part is the last one, which only the finish sends.
    wire.fault(On::nth(UploadPart, 3).status(403));
    upload.write_bytes(bytes.clone()).await.unwrap();
    let failed = upload.finish(2 * PART + 1000, &sha256(&bytes)).await;
    assert!(failed.map(drop).unwrap_err().is_permission());
    let resumed = service.resume(&name(), None, upload.uuid()).await;
    assert_eq!(resumed.unwrap().offset(), 2 * PART);
}
