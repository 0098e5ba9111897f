//! Parts on their way to S3, several at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

use super::tail::{self, StoredTail};
use crate::contract::UploadProgress;
use crate::error::{Error, StorageError, StorageErrorKind};
use crate::s3::bucket::Store;
use crate::s3::budget::Grant;
use crate::s3::format::checksum::{Crc64, Snapshot};
use crate::s3::format::keys::Key;
use crate::s3::relay::{self, SendError};
use crate::s3::session::{Part, Tail};
use crate::s3::wire::{Gauge, Payload, UploadId};
use crate::telemetry::UsageCounter;
use s3layers_tarsum::SavedHasher;

/// The multipart upload that parts are sent to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) key: Key,
    pub(super) upload_id: UploadId,
}

/// A part that is complete.
pub(super) struct EndedPart {
    pub(super) end: PartEnd,
    pub(super) sum: Crc64,
    pub(super) tails: Vec<StoredTail>,
    /// The bytes after them.
    pub(super) chunks: Vec<Bytes>,
}

/// All that the session records at the end of a part.
#[derive(Clone, Debug)]
pub(super) struct PartEnd {
    /// Else it is the last part of the layer.
    pub(super) can_be_followed: bool,
    pub(super) offset: u64,
    pub(super) hashers: Vec<SavedHasher>,
    pub(super) snapshot: Snapshot,
    /// Tails that are in this part.
    pub(super) tails: Vec<Tail>,
}

/// The parts of one handle that the session does not record yet. Dropping it aborts the requests.
pub(super) struct Sender {
    store: Arc<Store>,
    uuid: Uuid,
    in_flight: JoinSet<Result<(u32, Part), SendError>>,
    /// In order; the part is `None` while it is in flight.
    queue: VecDeque<(u32, PartEnd, Option<Part>)>,
    progress: UploadProgress,
}

impl Sender {
    /// For the bytes after the first `offset`.
    pub(super) fn new(store: Arc<Store>, uuid: Uuid, offset: u64) -> Self {
        Sender {
            store,
            uuid,
            in_flight: JoinSet::new(),
            queue: VecDeque::new(),
            progress: UploadProgress::from_offset(offset),
        }
    }

    pub(super) fn progress(&self) -> UploadProgress {
        self.progress.clone()
    }

    /// Parts that the session does not record yet.
    pub(super) fn unrecorded(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Sends a part, once fewer than the allowed number are in flight. `reservation` is released when it has arrived.
    pub(super) async fn send(
        &mut self,
        target: Target,
        number: u32,
        part: EndedPart,
        reservation: Option<Grant>,
    ) -> Result<(), SendError> {
        while self.in_flight.len() >= self.store.parallelism {
            self.next().await?;
        }
        // Tails were counted as sent when they were stored.
        let counted = part.end.tails.iter().map(|tail| tail.sum.len()).sum();
        let gauge = Gauge::new(self.progress(), counted);
        let (store, sum) = (Arc::clone(&self.store), part.sum);
        let runs = tail::runs(&store, self.uuid, part.tails, part.chunks);
        self.queue.push_back((number, part.end, None));
        self.in_flight.spawn(UsageCounter::inherit(async move {
            let crc64 = store.checksum(sum);
            let Target { key, upload_id } = target;
            let (api, key, id, gauge) = (&store.api, &key, &upload_id, &gauge);
            let upload = |payload: Payload| async move {
                let sent = api.upload_gauged_part(key, id, number, &payload, crc64, gauge);
                sent.await
            };
            let sent = relay::send(&store, runs, upload).await;
            drop(reservation);
            Ok((number, Part { etag: sent?, sum }))
        }));
        Ok(())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Waits for one part to arrive.
    pub(super) async fn next(&mut self) -> Result<(), SendError> {
        let Some(ended) = self.in_flight.join_next().await else {
            return Ok(());
        };
        let (number, part) =
            ended.map_err(|failed| SendError::Other(panicked("UploadPart", failed)))??;
        let sent = self.queue.iter_mut().find(|(queued, ..)| *queued == number);
        if let Some((_, _, arrived)) = sent {
            *arrived = Some(part);
        }
        Ok(())
    }

    /// Waits for all parts in flight, also those behind one that failed.
    pub(super) async fn drain(&mut self) -> Result<(), SendError> {
        let mut first_failure = Ok(());
        while !self.is_idle() {
            let next = self.next().await;
            first_failure = first_failure.and(next);
        }
        first_failure
    }

    /// Aborts the requests in flight.
    pub(super) async fn abort(&mut self) {
        self.in_flight.shutdown().await;
    }

    /// The parts that have arrived and follow the recorded ones without a gap.
    pub(super) fn arrived(&self) -> impl Iterator<Item = (&PartEnd, &Part)> {
        self.queue
            .iter()
            .map_while(|(_, end, part)| Some((end, part.as_ref()?)))
    }

    /// Forgets the first parts of the multipart upload, so many as are recorded now.
    pub(super) fn forget(&mut self, recorded: u32) {
        self.queue.retain(|(number, ..)| *number > recorded);
    }

    /// The tails in parts that are not recorded.
    pub(super) fn tails(&self) -> impl Iterator<Item = &Tail> {
        self.queue.iter().flat_map(|(_, end, _)| &end.tails)
    }
}

/// The error of a task that ended by a panic.
pub(super) fn panicked(operation: &'static str, failed: JoinError) -> Error {
    StorageError::new(operation, String::new(), StorageErrorKind::Other, failed).into()
}
