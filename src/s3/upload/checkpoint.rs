//! What of an upload is recorded, and when: so that a resume goes on where the session says, and a
//! crash costs no more than [`CHECKPOINT_BYTES`].

use std::time::Duration;

use super::session::{Inline, Phase, Session, Tail, TailPlace};
use super::tail;
use super::writer::Writer;
use crate::digest::{Hasher, SavedHasher};
use crate::error::{Error, Result};
use crate::s3::checksum::Snapshot;
use crate::s3::keys::Key;

/// What travels within the session instead of in a tail, in bytes.
const MAX_INLINE: u64 = 4 * 1024;
/// A session is written when this many bytes more are stored, in bytes: what a crash costs.
const CHECKPOINT_BYTES: u64 = 128 * 1024 * 1024;
/// But not more often than this.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);
/// And at least this often while bytes arrive, so that its age tells a live upload from a dead one.
pub(super) const CHECKPOINT_AGE: Duration = Duration::from_secs(600);

/// All that a checkpoint at the end of a part needs.
pub(super) struct PartEnd {
    pub(super) number: u32,
    /// Else it is the last one of a finish.
    pub(super) is_full: bool,
    pub(super) offset: u64,
    pub(super) hashers: Vec<SavedHasher>,
    pub(super) snapshot: Snapshot,
    /// Tails that went into this part.
    pub(super) drops: Vec<Key>,
}

impl Writer {
    pub(super) async fn record(&mut self, next: Session) -> Result<()> {
        let upload_id = next.upload_id.clone();
        let written = self.stored.replace(&self.store, next).await;
        if let Err(Error::UploadUnknown { .. }) = written {
            self.take_back(upload_id).await;
        }
        written?;
        self.unrecorded_whole = false;
        self.forget_recorded();
        self.proven();
        Ok(())
    }

    /// Writes the session where enough parts have arrived since it was written.
    pub(super) async fn checkpoint_if_due(&mut self) -> Result<()> {
        let arrived = self
            .cuts
            .iter()
            .take_while(|end| self.sender.arrived(end.number).is_some());
        let stored = arrived
            .last()
            .map_or(0, |end| end.offset - self.stored.session.offset);
        let age = self.recorded_at.elapsed();
        let due = stored >= CHECKPOINT_BYTES && age >= CHECKPOINT_PAUSE;
        if due || (stored > 0 && age >= CHECKPOINT_AGE) {
            let next = self.with_arrived_parts();
            self.record(next).await?;
            self.remove_dropped().await?;
        }
        Ok(())
    }

    /// The session at the end of the unbroken run of parts that arrived. Nothing is forgotten until
    /// it is written: a write that fails is followed by another one.
    pub(super) fn with_arrived_parts(&self) -> Session {
        self.with_arrived(self.cuts.iter())
    }

    fn with_arrived<'a>(&self, cuts: impl Iterator<Item = &'a PartEnd>) -> Session {
        let mut next = self.stored.session.clone();
        let mut last = None;
        for end in cuts {
            let Some(part) = self.sender.arrived(end.number) else {
                break;
            };
            next.parts.push(part.clone());
            last = Some(end);
        }
        if let Some(end) = last {
            next.tails.clear();
            next.inline = Inline::default();
            next.part_sum = Default::default();
            next.offset = end.offset;
            next.hashers.clone_from(&end.hashers);
            next.sums = self.tracker.sums_at(end.snapshot);
        }
        next
    }

    /// Forgets the parts that the session has now.
    fn forget_recorded(&mut self) {
        let recorded = self.stored.session.parts.len();
        let is_recorded = |end: &mut PartEnd| end.number as usize <= recorded;
        while let Some(end) = self.cuts.pop_front_if(is_recorded) {
            self.sender.forget(end.number);
            self.dropped.extend(end.drops);
        }
    }

    /// Removes tails that the session just written does not name.
    async fn remove_dropped(&mut self) -> Result<()> {
        let batched = self.store.profile.batch_delete;
        self.store.api.delete_all(&self.dropped, batched).await?;
        self.dropped.clear();
        Ok(())
    }

    /// Stores every byte taken, so that a resume anywhere goes on at `offset`, and says that nothing
    /// is under way any more.
    pub(super) async fn close(&mut self) -> Result<()> {
        self.sender.drain().await?;
        if self.is_behind() {
            return self.store_all(true).await;
        }
        let session = &self.stored.session;
        let has_nothing_to_say = session.parts.is_empty() || session.phase != Phase::Open;
        if !self.owner || (has_nothing_to_say && !self.unproven) {
            return Ok(());
        }
        let settled = true;
        let next = Session {
            settled,
            ..session.clone()
        };
        self.record(next).await
    }

    /// Stores every byte taken; more may follow.
    pub(super) async fn settle(&mut self) -> Result<()> {
        self.sender.drain().await?;
        match self.is_behind() {
            true => self.store_all(false).await,
            false => Ok(()),
        }
    }

    /// Records every byte, when all parts have arrived.
    async fn store_all(&mut self, settled: bool) -> Result<()> {
        let mut next = self.with_arrived_parts();
        if self.gather.len() > MAX_INLINE {
            let tail = self.write_tail(next.parts.is_empty()).await?;
            let had_all = self.has_held(&self.tails);
            let pieces = self.gather.take();
            match had_all {
                true => self.held.extend(pieces),
                false => self.held.clear(),
            }
            self.sender.sent().add(tail.sum.len());
            self.tails.push(tail);
        }
        next.tails.clone_from(&self.tails);
        next.inline = Inline(self.gather.pieces().concat().into());
        next.settled = settled;
        self.at_offset(&mut next);
        self.record(next).await?;
        self.remove_dropped().await
    }

    /// Stores what waits in memory, which others want.
    pub(super) async fn give_back(&mut self) -> Result<()> {
        self.settle().await?;
        self.release();
        Ok(())
    }

    /// The session with every byte in its parts, or in the `.whole` object.
    pub(super) fn whole_session(&mut self) -> Session {
        let mut next = self.with_arrived_parts();
        next.tails.clone_from(&self.tails);
        next.inline = Inline::default();
        self.at_offset(&mut next);
        next
    }

    /// Brings hash states and checksums to where they are now.
    fn at_offset(&mut self, next: &mut Session) {
        // A state that could not be read is kept, for a version that can, but not beyond its
        // offset: going on from there it would leave out the bytes since.
        if !self.hashers.is_empty() || next.offset != self.offset {
            next.hashers = self.hashers.iter().map(Hasher::save).collect();
        }
        next.offset = self.offset;
        next.part_sum = self.tracker.part_so_far();
        let now = self.tracker.snapshot();
        next.sums = self.tracker.sums_at(now);
    }

    async fn write_tail(&mut self, no_parts: bool) -> Result<Tail> {
        let pieces = self.gather.pieces();
        let offset = self.offset - self.gather.len();
        let uuid = self.stored.uuid;
        if no_parts && offset == 0 {
            let sum = tail::sum_of(&pieces);
            if let Some(etag) = tail::write_whole(&self.store, uuid, &pieces, sum).await? {
                self.unrecorded_whole = true;
                return Ok(Tail {
                    offset,
                    sum,
                    place: TailPlace::Whole(etag),
                });
            }
        }
        tail::write(&self.store, uuid, offset, &pieces).await
    }

    /// Whether bytes were taken that the session does not have.
    pub(super) fn is_behind(&self) -> bool {
        self.offset > self.stored.session.offset
    }

    /// After a failure: what arrived is recorded, so that a resume finds it.
    pub(super) async fn salvage(&mut self) {
        if self.sender.drain().await.is_err() {
            tracing::debug!(uuid = %self.stored.uuid, "some parts did not arrive");
        }
        // What a finish sent last is no part that others can follow: S3 would not assemble them.
        let next = self.with_arrived(self.cuts.iter().take_while(|end| end.is_full));
        if next.offset > self.stored.session.offset
            && let Err(error) = self.record(next).await
        {
            tracing::warn!(uuid = %self.stored.uuid, %error, "could not record what arrived");
        }
    }
}
