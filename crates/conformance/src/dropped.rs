//! Cancellation: futures that are dropped before they are done.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::case::{Case, FEW, try_finish, write_rest};
use s3layers::Error;

/// How long a caller waits before it drops the future, in milliseconds.
const PATIENCE: [u64; 4] = [0, 1, 5, 20];

/// The number of attempts until work in the background has ended, and their interval.
const LOOKS: usize = 600;
const APART: Duration = Duration::from_millis(50);

fn patience(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) async fn abandoned_write_counts_the_bytes_that_it_accepted(case: Case) {
    let bytes = case.bytes(2 * case.part_size + FEW);
    let mut upload = case.begin().await;
    for millis in PATIENCE {
        let before = upload.offset();
        // The offset shows how much was accepted.
        let _ = timeout(patience(millis), write_rest(&mut upload, &bytes)).await;
        assert!((before..=bytes.len() as u64).contains(&upload.offset()));
    }
    write_rest(&mut upload, &bytes).await.unwrap();
    case.finish_stored(&mut upload, &bytes).await;
}

/// Sizes, and how long the caller waits for each.
fn rounds(case: &Case) -> impl Iterator<Item = (u64, u64, Duration)> {
    let small = PATIENCE.map(|millis| (FEW, millis));
    let large = [0, 20].map(|millis| (case.part_size + FEW, millis));
    let rounds = (0..).zip(small.into_iter().chain(large));
    rounds.map(|(nth, (size, millis))| (nth, size, patience(millis)))
}

pub(super) async fn abandoned_close_keeps_the_bytes_closed_before(
    case: Case,
) {
    for (nth, more, patience) in rounds(&case) {
        let bytes = case.other_bytes(nth, FEW + more);
        let uuid = case.begin_closed(&bytes.slice(..FEW as usize)).await;
        let mut upload = case.resume_here(uuid).await;
        upload.write_bytes(bytes.slice(FEW as usize..)).await.unwrap();
        let _ = timeout(patience, upload.close()).await;
        drop(upload);
        complete_elsewhere(&case, uuid, &bytes).await;
        case.assert_stored(&bytes).await;
    }
}

/// Writes the missing bytes and finishes the upload. A close in the background may complete at any
/// time. A handle that was resumed before gets a conflict, and is resumed again.
async fn complete_elsewhere(case: &Case, uuid: Uuid, bytes: &Bytes) {
    for _ in 0..LOOKS {
        let mut upload = case.resume_elsewhere(uuid).await;
        let offset = upload.offset();
        assert!((FEW..=bytes.len() as u64).contains(&offset), "{offset}");
        let mut outcome = write_rest(&mut upload, bytes).await;
        if outcome.is_ok() {
            outcome = try_finish(&mut upload, bytes).await.map(drop);
        }
        match outcome {
            Ok(()) => return,
            Err(Error::UploadConflict { .. }) => sleep(APART).await,
            Err(other) => panic!("refused with {other:?}"),
        }
    }
    panic!("the upload should come to rest");
}

pub(super) async fn abandoned_finish_is_completed_elsewhere(case: Case) {
    for (nth, size, patience) in rounds(&case) {
        let bytes = case.other_bytes(nth, size);
        let uuid = case.begin_closed(&bytes).await;
        let mut upload = case.resume_here(uuid).await;
        let _ = timeout(patience, try_finish(&mut upload, &bytes)).await;
        drop(upload);
        bring_to_its_end(&case, uuid, &bytes).await;
        case.assert_stored(&bytes).await;
        case.assert_unknown(uuid).await;
    }
}

/// Finishes the upload elsewhere, unless that is being done or has been.
async fn bring_to_its_end(case: &Case, uuid: Uuid, bytes: &Bytes) {
    for _ in 0..LOOKS {
        let mut upload = match case.elsewhere.resume(&case.name, None, uuid).await {
            Ok(upload) => upload,
            Err(Error::UploadUnknown { .. }) => return,
            Err(other) => panic!("resume was refused with {other:?}"),
        };
        match try_finish(&mut upload, bytes).await {
            Ok(_) => return,
            Err(Error::UploadUnknown { .. } | Error::UploadConflict { .. }) => sleep(APART).await,
            Err(other) => panic!("refused with {other:?}"),
        }
    }
    panic!("the upload should come to an end");
}
