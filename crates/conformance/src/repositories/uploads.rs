//! Uploads that are resumed at an acknowledged offset. An instance may use its cache of the upload to
//! save requests, but never against another writer.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::case::{FEW, TINY, assert_over, finish, refused, sha256, try_finish};
use super::Case;
use s3layers::{Error, LayerUpload};

/// An upload that was finished is removed within this time after the answer.
const REMOVAL: Duration = Duration::from_secs(30);

impl Case {
    /// Begins an upload and closes it with the first `len` bytes of the content in it.
    async fn begin_closed(&self, len: u64) -> Uuid {
        let mut upload = self.here.upload(&self.name, None).await.unwrap();
        upload.write_bytes(self.bytes(0, len)).await.unwrap();
        upload.close().await.unwrap();
        upload.uuid()
    }

    async fn resume_at(&self, uuid: Uuid, offset: u64) -> Box<dyn LayerUpload> {
        let resumed = self.here.resume_at(&self.name, uuid, offset).await;
        resumed.unwrap()
    }

    async fn resume_elsewhere(&self, uuid: Uuid) -> Box<dyn LayerUpload> {
        let resumed = self.elsewhere.resume(&self.name, None, uuid).await;
        resumed.unwrap()
    }
}

pub(super) async fn upload_resumes_at_the_acknowledged_offset(case: Case) {
    for first in [0, TINY, FEW, 10_000, 200_000] {
        let bytes = case.bytes(0, first + FEW);
        let uuid = case.begin_closed(first).await;
        let mut upload = case.resume_at(uuid, first).await;
        assert_eq!((upload.uuid(), upload.offset()), (uuid, first));
        assert_eq!(*upload.name(), case.name);
        let rest = bytes.slice(first as usize..);
        upload.write_bytes(rest).await.unwrap();
        finish(&mut upload, &bytes).await;
        assert!(case.elsewhere.exists(&sha256(&bytes).into()).await.unwrap());
    }
}

pub(super) async fn many_resumes_at_acknowledged_offsets_are_one_layer(case: Case) {
    let bytes = case.bytes(0, 400_000);
    let uuid = case.begin_closed(0).await;
    let mut at = 0;
    for step in [1, 4000, 4096, 5000, 0, 70_000, 100_000] {
        let mut upload = case.resume_at(uuid, at).await;
        assert_eq!(upload.offset(), at);
        let piece = bytes.slice(at as usize..(at + step) as usize);
        upload.write_bytes(piece).await.unwrap();
        upload.close().await.unwrap();
        at += step;
        let found = case.resume_elsewhere(uuid).await.offset();
        assert_eq!(found, at, "what was closed is seen elsewhere");
    }
    let mut upload = case.resume_at(uuid, at).await;
    upload.write_bytes(bytes.slice(at as usize..)).await.unwrap();
    finish(&mut upload, &bytes).await;
}

pub(super) async fn resume_at_another_offset_returns_the_stored_one(case: Case) {
    let bytes = case.bytes(0, 3 * FEW);
    let uuid = case.begin_closed(FEW).await;
    for wrong in [0, TINY, FEW - 1, FEW + 1, u64::MAX] {
        let upload = case.resume_at(uuid, wrong).await;
        assert_eq!(upload.offset(), FEW, "requested {wrong}");
    }
    // Another instance continued, and the caller knows the offset.
    let mut upload = case.resume_elsewhere(uuid).await;
    let piece = bytes.slice(FEW as usize..2 * FEW as usize);
    upload.write_bytes(piece).await.unwrap();
    upload.close().await.unwrap();
    let mut upload = case.resume_at(uuid, 2 * FEW).await;
    assert_eq!(upload.offset(), 2 * FEW);
    let rest = bytes.slice(2 * FEW as usize..);
    upload.write_bytes(rest).await.unwrap();
    finish(&mut upload, &bytes).await;
}

pub(super) async fn an_upload_of_another_repository_is_unknown(case: Case) {
    let uuid = case.begin_closed(FEW).await;
    let resumed = case.here.resume_at(&case.other_name, uuid, FEW).await;
    refused!(resumed, Error::UploadUnknown { uuid: found } if found == uuid);
    let never = Uuid::from_u128(7);
    let resumed = case.here.resume_at(&case.name, never, 0).await;
    refused!(resumed, Error::UploadUnknown { uuid: found } if found == never);
    // The wrong request changed nothing.
    assert_eq!(case.resume_at(uuid, FEW).await.offset(), FEW);
}

/// At once, or when bytes are to be acknowledged.
pub(super) async fn ended_upload_becomes_unknown(case: Case) {
    for (nth, is_finished) in [(0, true), (1, false)] {
        let bytes = case.bytes(0, FEW + nth);
        let uuid = case.begin_closed(bytes.len() as u64).await;
        let mut other = case.resume_elsewhere(uuid).await;
        if is_finished {
            finish(&mut other, &bytes).await;
        } else {
            other.cancel().await.unwrap();
        }
        let resumed = case.here.resume_at(&case.name, uuid, bytes.len() as u64);
        let outcome = match resumed.await {
            Ok(mut upload) => {
                let more = case.bytes(3, 10_000);
                match upload.write_bytes(more).await {
                    Ok(()) => upload.close().await,
                    refused => refused,
                }
            }
            Err(error) => Err(error),
        };
        assert_over(outcome);
        // It is removed after the answer to `finish`.
        let mut resumed = case.here.resume_at(&case.name, uuid, bytes.len() as u64).await;
        let begun = Instant::now();
        while resumed.is_ok() && begun.elapsed() < REMOVAL {
            sleep(Duration::from_millis(10)).await;
            resumed = case.here.resume_at(&case.name, uuid, bytes.len() as u64).await;
        }
        refused!(resumed, Error::UploadUnknown { uuid: found } if found == uuid);
        let id = sha256(&bytes).into();
        assert_eq!(case.here.exists(&id).await.unwrap(), is_finished);
    }
}

pub(super) async fn bytes_of_another_writer_are_never_overwritten(case: Case) {
    for more in [10, 10_000, 100_000] {
        let uuid = case.begin_closed(FEW).await;
        let right = case.bytes(0, FEW + more);
        let mut other = case.resume_elsewhere(uuid).await;
        other.write_bytes(right.slice(FEW as usize..)).await.unwrap();
        other.close().await.unwrap();

        let wrong = case.bytes(1, more);
        let mut stale = case.resume_at(uuid, FEW).await;
        if stale.offset() == FEW {
            let mut outcome = stale.write_bytes(wrong).await;
            if outcome.is_ok() {
                outcome = stale.close().await;
            }
            refused!(outcome, Error::UploadConflict { .. });
        }
        let mut upload = case.resume_at(uuid, FEW + more).await;
        assert_eq!(upload.offset(), FEW + more);
        finish(&mut upload, &right).await;
    }
}

pub(super) async fn resuming_at_an_offset_does_not_disturb_the_writer(case: Case) {
    let bytes = case.bytes(0, 2 * FEW);
    let uuid = case.begin_closed(FEW).await;
    let mut writer = case.resume_elsewhere(uuid).await;
    writer
        .write_bytes(bytes.slice(FEW as usize..FEW as usize + 10))
        .await
        .unwrap();
    for offset in [FEW, 0] {
        drop(case.resume_at(uuid, offset).await);
    }
    writer
        .write_bytes(bytes.slice(FEW as usize + 10..))
        .await
        .unwrap();
    finish(&mut writer, &bytes).await;
}

pub(super) async fn overtaken_writer_gets_a_conflict(case: Case) {
    let bytes = case.bytes(0, 100_000);
    let uuid = case.begin_closed(FEW).await;
    let mut older = case.resume_at(uuid, FEW).await;
    older
        .write_bytes(bytes.slice(FEW as usize..2 * FEW as usize))
        .await
        .unwrap();
    let mut newer = case.resume_elsewhere(uuid).await;
    newer
        .write_bytes(bytes.slice(FEW as usize..))
        .await
        .unwrap();
    newer.close().await.unwrap();
    refused!(older.close().await, Error::UploadConflict { .. });
    let mut last = case.resume_at(uuid, 100_000).await;
    assert_eq!(last.offset(), 100_000);
    try_finish(&mut last, &bytes).await.unwrap();
}
