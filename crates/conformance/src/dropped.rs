//! Callers that go away half way: futures that are dropped before they are done, sooner or later.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::case::{Case, FEW, finish, try_finish};
use s3layers::Error;

/// How long a caller waits, in milliseconds.
const PATIENCE: [u64; 4] = [0, 1, 5, 20];

/// How often the end of work in the background is looked for, and how long apart.
const LOOKS: usize = 600;
const APART: Duration = Duration::from_millis(50);

fn patience(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) async fn a_write_that_nobody_waits_for_counts_what_it_took(case: Case) {
    let bytes = case.bytes(2 * case.part_size + FEW);
    let mut upload = case.begin().await;
    for millis in PATIENCE {
        let before = upload.offset();
        let rest = bytes.slice(usize::try_from(before).unwrap()..);
        // Whether it was taken, in whole or in part, is what the offset tells.
        let _ = timeout(patience(millis), upload.write_bytes(rest)).await;
        assert!((before..=bytes.len() as u64).contains(&upload.offset()));
    }
    let rest = bytes.slice(usize::try_from(upload.offset()).unwrap()..);
    upload.write_bytes(rest).await.unwrap();
    finish(&mut upload, &bytes).await;
    case.assert_stored(&bytes).await;
}

/// Sizes, and how long the caller waits for each.
fn rounds(case: &Case) -> impl Iterator<Item = (u64, u64, Duration)> {
    let small = PATIENCE.map(|millis| (FEW, millis));
    let large = [0, 20].map(|millis| (case.part_size + FEW, millis));
    let rounds = (0..).zip(small.into_iter().chain(large));
    rounds.map(|(nth, (size, millis))| (nth, size, patience(millis)))
}

pub(super) async fn a_close_that_nobody_waits_for_loses_nothing_that_was_closed_before(
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

/// Writes what the upload does not have yet, and finishes it. A close in the background may come
/// to its end at any time; whoever resumed before is told so, and resumes again.
async fn complete_elsewhere(case: &Case, uuid: Uuid, bytes: &Bytes) {
    for _ in 0..LOOKS {
        let mut upload = case.resume_elsewhere(uuid).await;
        let offset = upload.offset();
        assert!((FEW..=bytes.len() as u64).contains(&offset), "{offset}");
        let rest = bytes.slice(usize::try_from(offset).unwrap()..);
        let mut outcome = upload.write_bytes(rest).await;
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

pub(super) async fn a_finish_that_nobody_waits_for_can_be_finished_elsewhere(case: Case) {
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
