//! Parts on their way to S3, several at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::session::Part;
use crate::error::{Error, Result};
use crate::s3::api::{ApiError, Gauge, ListedPart, UploadId};
use crate::s3::budget::Reservation;
use crate::s3::checksum::Crc64;
use crate::s3::store::Store;
use crate::service::Sent;

/// A part that is whole.
pub(super) struct Outgoing {
    pub(super) number: u32,
    pub(super) pieces: Vec<Bytes>,
    /// So many of its bytes were stored before, as tails.
    pub(super) stored: u64,
    pub(super) sum: Crc64,
    /// Given back when the part has arrived.
    pub(super) reservation: Option<Reservation>,
}

/// The parts of one upload that are under way or have arrived. Dropping aborts what is under way.
pub(super) struct Sender {
    store: Arc<Store>,
    uuid: Uuid,
    under_way: JoinSet<Result<(u32, Part)>>,
    arrived: BTreeMap<u32, Part>,
    /// Parts that S3 held already when the upload was resumed.
    spare: Vec<ListedPart>,
    sent: Sent,
}

impl Sender {
    /// A sender of what comes after the first `offset` bytes.
    pub(super) fn new(store: Arc<Store>, uuid: Uuid, offset: u64, spare: Vec<ListedPart>) -> Self {
        Sender {
            store,
            uuid,
            under_way: JoinSet::new(),
            arrived: BTreeMap::new(),
            spare,
            sent: Sent::from_offset(offset),
        }
    }

    /// How much has left.
    pub(super) fn sent(&self) -> Sent {
        self.sent.clone()
    }

    /// Sends a part, once fewer than the allowed number are under way.
    pub(super) async fn send(&mut self, upload_id: &UploadId, part: Outgoing) -> Result<()> {
        let gauge = Gauge::new(self.sent(), part.stored);
        if let Some(held) = self.spare_for(&part) {
            gauge.arrived(part.sum.len());
            self.arrived.insert(part.number, held);
            return Ok(());
        }
        while self.under_way.len() >= self.store.parallelism {
            self.next().await?;
        }
        let store = Arc::clone(&self.store);
        let key = store.keys.data(self.uuid);
        let (uuid, upload_id) = (self.uuid, upload_id.clone());
        self.under_way.spawn(async move {
            let Outgoing {
                number,
                pieces,
                sum,
                reservation,
                ..
            } = part;
            let crc64 = store.checksum(sum);
            let sent = store
                .api
                .upload_gauged_part(&key, &upload_id, number, &pieces, crc64, &gauge)
                .await;
            drop((pieces, reservation));
            match sent {
                Ok(etag) => Ok((number, Part { etag, sum })),
                // Finished or cancelled by another owner.
                Err(ApiError::NoSuchUpload(_)) => Err(Error::UploadConflict {
                    uuid,
                    reason: "its multipart upload was ended by another handle",
                }),
                Err(error) => Err(error.into()),
            }
        });
        Ok(())
    }

    /// A part that S3 holds with the checksum of these bytes. Sending it again could destroy it: R2 drops
    /// the old one when the new one fails, and on Ceph it can race with Complete.
    fn spare_for(&self, part: &Outgoing) -> Option<Part> {
        let held = self.spare.iter().find(|held| {
            let right = held.crc64.as_ref().is_some_and(|crc64| part.sum.is(crc64));
            held.number == part.number && held.size == part.sum.len() && right
        })?;
        Some(Part {
            etag: held.etag.clone(),
            sum: part.sum,
        })
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Waits for one part to arrive.
    pub(super) async fn next(&mut self) -> Result<()> {
        match self.under_way.join_next().await {
            None => Ok(()),
            Some(Ok(sent)) => {
                let (number, part) = sent?;
                self.arrived.insert(number, part);
                Ok(())
            }
            Some(Err(failed)) => {
                tracing::error!(%failed, "a task that sends a part ended");
                let reason = "a part could not be sent";
                Err(Error::UploadConflict {
                    uuid: self.uuid,
                    reason,
                })
            }
        }
    }

    /// Waits for all parts under way, also those behind one that failed.
    pub(super) async fn drain(&mut self) -> Result<()> {
        let mut first_failure = Ok(());
        while !self.is_idle() {
            let next = self.next().await;
            first_failure = first_failure.and(next);
        }
        first_failure
    }

    /// Takes back what is under way.
    pub(super) async fn abort(&mut self) {
        self.under_way.shutdown().await;
    }

    /// The part with this number, if it has arrived.
    pub(super) fn arrived(&self, number: u32) -> Option<&Part> {
        self.arrived.get(&number)
    }

    /// The part with this number is recorded and needs no place here.
    pub(super) fn forget(&mut self, number: u32) {
        self.arrived.remove(&number);
    }
}
