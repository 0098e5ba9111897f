//! The session never says what is not so: neither after a write of it that failed, nor where the
//! hash state in it is of a version that this process does not read.

use std::time::Duration;

use s3layers::{Error, LayerService as _};

use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::session;
use crate::support::stores::{self, PART, name};
use crate::support::wire::{On, PutObject, UploadPart, Wire};

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_was_refused_is_made_up_for_by_the_next_one() {
    let store = stores::in_memory().await;
    let wire = Wire::over(store.http_client());
    let service = stores::connect(&store, &wire).await;
    // Parts are recorded at 128 MiB; the next one is still on its way then.
    let late = wire.hold(On::nth(UploadPart, 27));
    wire.fault(On::nth(PutObject, 3).key_ends("/session").status(403));
    let mut upload = service.upload(&name(), None).await.unwrap();
    let bytes = ramp(1, 30 * PART);
    upload
        .write_bytes(bytes.slice(..PART as usize))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let refused = async {
        loop {
            let sessions = |key: &str| key.ends_with("/session");
            let log = wire.log();
            if log.iter().filter(|one| sessions(&one.key)).count() >= 3 {
                late.open();
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let writes = async {
        let wrote = upload.write_bytes(bytes.slice(PART as usize..)).await;
        let closed = upload.close().await;
        wrote.and(closed)
    };
    let (outcome, ()) = tokio::join!(writes, refused);
    assert!(outcome.unwrap_err().is_permission());

    let mut resumed = stores::connect(&store, &Wire::over(store.http_client()))
        .await
        .resume(&name(), None, upload.uuid())
        .await
        .unwrap();
    let offset = resumed.offset();
    assert!(offset >= 128 * MIB, "what arrived is recorded: {offset}");
    let rest = bytes.slice(offset as usize..);
    resumed.write_bytes(rest).await.unwrap();
    let digest = sha256(&bytes);
    resumed.finish(30 * PART, &digest).await.unwrap();
}

#[tokio::test]
async fn a_hash_state_that_cannot_be_read_is_not_kept_beyond_its_offset() {
    let store = stores::in_memory().await;
    let service = stores::service(&store).await;
    let bytes = ramp(2, 300_000);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.slice(..100_000)).await.unwrap();
    upload.close().await.unwrap();
    let uuid = upload.uuid();

    session::edit(&store, uuid, |text| text.replace("sha256/1:", "sha256/9:")).await;
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    upload
        .write_bytes(bytes.slice(100_000..200_000))
        .await
        .unwrap();
    upload.close().await.unwrap();

    // A process of the version that wrote it comes by.
    session::edit(&store, uuid, |text| text.replace("sha256/9:", "sha256/1:")).await;
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(upload.offset(), 200_000);
    upload.write_bytes(bytes.slice(200_000..)).await.unwrap();
    let skipped = sha256(&[&bytes[..100_000], &bytes[200_000..]].concat());
    let lie = upload.finish(300_000, &skipped).await.map(drop);
    assert!(matches!(lie, Err(Error::InvalidChecksum { .. })), "{lie:?}");
    upload.finish(300_000, &sha256(&bytes)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_finish_that_fails_keeps_the_parts_that_arrived() {
    let store = stores::in_memory().await;
    let wire = Wire::over(store.http_client());
    let service = stores::connect(&store, &wire).await;
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
