//! What a handle's task does with the bytes it is given: sends parts, stores what fills none, and
//! records in the session what has arrived.
//!
//! # Memory
//!
//! Bytes are counted as they arrive, unit by unit, in the uploads' pool of the
//! [budget](crate::s3::budget). While the task waits for a unit it stores what it has, if it is asked
//! to ([`spill`](Uploader::spill)): as a part where S3 takes one that is not full, otherwise as a
//! tail. Neither needs a unit, so every wait for a unit ends.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::intake::Intake;
use super::journal::Journal;
use super::sender::{PartEnd, Sender, Target};
use super::tail;
use crate::contract::UploadProgress;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::bucket::Store;
use crate::s3::budget::{Grant, Holder, UNIT};
use crate::s3::commit;
use crate::s3::format::record::{INLINE_LIMIT, Segment};
use crate::s3::relay::SendError;
use crate::s3::session::owned::{CancelScope, OwnedSession, Ownership};
use crate::s3::session::plan::checkpoint::UnrecordedBytes;
use crate::s3::session::{Multipart, Phase, Session, Tail};
use crate::telemetry::Event;
use s3layers_tarsum::Digest;

mod finish;

pub(super) use finish::finish;

/// An upload has no more tails: a further one takes the others in.
const MAX_TAILS: usize = 64;

/// An upload in this process.
pub(super) struct Uploader {
    store: Arc<Store>,
    journal: Journal,
    /// The id that finish has to verify beside the one it is given.
    declared: Option<LayerId>,
    intake: Intake,
    sender: Sender,
    holder: Holder,
    /// For the bytes of the part under way that are in memory.
    reservation: Option<Grant>,
    /// The last bytes of a layer, stored as a segment by a finish.
    last: Option<Segment>,
}

impl Uploader {
    /// # Errors
    ///
    /// `Damaged` where the session cannot be continued.
    pub(super) fn new(
        store: Arc<Store>,
        owned: OwnedSession,
        declared: Option<LayerId>,
    ) -> Result<Self> {
        let key = store.keys.session(owned.uuid());
        let intake = Intake::new(owned.get(), declared.as_ref(), &key)?;
        Ok(Uploader {
            sender: Sender::new(Arc::clone(&store), owned.uuid(), intake.offset()),
            intake,
            declared,
            holder: store.budget.uploads.holder(),
            reservation: None,
            last: None,
            journal: Journal::new(Arc::clone(&store), owned),
            store,
        })
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(super) fn session(&self) -> &Session {
        self.journal.session()
    }

    pub(super) fn declared(&self) -> Option<&LayerId> {
        self.declared.as_ref()
    }

    pub(super) fn offset(&self) -> u64 {
        self.intake.offset()
    }

    /// The SHA-256 of the bytes up to there.
    pub(super) fn digest(&self) -> Digest {
        self.intake.digest()
    }

    pub(super) fn progress(&self) -> UploadProgress {
        self.sender.progress()
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    pub(super) fn is_owner(&self) -> bool {
        self.journal.ownership() != Ownership::None
    }

    /// Bytes were taken that the session does not have.
    pub(super) fn is_behind(&self) -> bool {
        self.offset() > self.session().offset
    }

    /// Every byte is recorded, and another request of the same client may follow.
    pub(super) fn can_be_cached(&self) -> bool {
        self.is_owner() && self.session().phase == Phase::Open && !self.is_behind()
    }

    /// Becomes the owner before the first byte is taken: no earlier owner can acknowledge anything
    /// after that.
    pub(super) async fn own(&mut self) -> Result<()> {
        if self.is_owner() {
            return Ok(());
        }
        self.journal.confirm_ownership().await
    }

    /// Takes bytes. Waits where the byte budget or the number of parts in flight require it. `place` is
    /// released when all of them are counted.
    pub(super) async fn accept(
        &mut self,
        mut bytes: Bytes,
        place: OwnedSemaphorePermit,
    ) -> Result<()> {
        let mut place = Some(place);
        self.journal.owned().require_open()?;
        self.own().await?;
        self.holder.touch();
        while !bytes.is_empty() {
            let Some(take) = self.intake.take(UNIT.min(bytes.len() as u64)) else {
                self.journal.confirm_assumed().await?;
                let limit = self.offset();
                return Err(Error::LayerTooLarge { limit });
            };
            self.reserve(take).await?;
            let chunk = bytes.split_to(usize::try_from(take).unwrap_or(usize::MAX));
            if bytes.is_empty() {
                place.take();
            }
            if self.intake.push(chunk) {
                Box::pin(self.send_part(false)).await?;
                self.checkpoint_if_due().await?;
            }
            self.summed().await?;
        }
        Ok(())
    }

    /// Waits until so many bytes more are counted, one unit at a time.
    async fn reserve(&mut self, bytes: u64) -> Result<()> {
        loop {
            let reserved = self.reservation.as_ref().map_or(0, Grant::bytes);
            if reserved >= self.intake.in_memory() + bytes {
                return Ok(());
            }
            tokio::select! {
                biased;
                grant = self.holder.reserve(UNIT) => match &mut self.reservation {
                    Some(reservation) => reservation.merge(grant),
                    None => self.reservation = Some(grant),
                },
                () = self.holder.reclaim_requested() => Box::pin(self.spill()).await?,
            }
        }
    }

    /// Waits until the TarSum covers all bytes. It can take long, so memory that others wait for
    /// meanwhile is released.
    async fn summed(&mut self) -> Result<()> {
        loop {
            tokio::select! {
                biased;
                () = self.intake.summed() => return Ok(()),
                () = self.holder.reclaim_requested() => {}
            }
            Box::pin(self.spill()).await?;
        }
    }

    /// Ends the part under way and sends it.
    async fn send_part(&mut self, is_early: bool) -> Result<()> {
        let target = self.target().await?;
        let part = self.intake.end_part(is_early);
        let number = self.session().open_parts() + self.sender.unrecorded() + 1;
        let mut reservation = self.reservation.take();
        reservation.iter_mut().for_each(Grant::pin);
        let sent = self.sender.send(target, number, part, reservation).await;
        self.journal.explained(sent).await
    }

    /// The multipart upload, which the session names before the first part is sent.
    async fn target(&mut self) -> Result<Target> {
        // The write that names a multipart upload confirms as well. After a close it comes too late:
        // a multipart upload that no session names is never found.
        let session = self.session();
        let is_assumed = self.journal.ownership() == Ownership::Assumed;
        if !is_assumed || session.closed || session.multipart.is_some() {
            self.journal.confirm_ownership().await?;
        }
        if let Some(open) = &self.session().multipart
            && !open.freezing
        {
            let upload_id = open.upload_id.clone();
            let key = self.store.keys.multipart(self.journal.uuid(), open.number);
            return Ok(Target { key, upload_id });
        }
        self.journal.finish_freezing().await?;
        self.begin_multipart().await
    }

    /// Begins the next multipart upload, and writes the session that names it.
    async fn begin_multipart(&mut self) -> Result<Target> {
        let (uuid, number) = (self.journal.uuid(), self.session().multiparts);
        let key = self.store.keys.multipart(uuid, number);
        // A stray request may have brought back the first session of an upload that has ended since: its layer may have
        // this key.
        let session = self.session();
        if number == 0 && session.orphans && commit::is_over(&self.store, session).await? {
            return Err(Error::UploadUnknown { uuid });
        }
        let checksummed = self.store.profile.crc64nvme;
        let created = self.store.api.create_multipart(&key, checksummed).await?;
        let mut others = Vec::new();
        if created.repeated {
            // An attempt whose answer was lost may have begun another one.
            others = self.store.api.multiparts_at(&key).await?;
            others.retain(|other| *other != created.id);
        }
        let mut next = self.draft();
        next.multiparts = number + 1;
        next.orphans |= !others.is_empty();
        next.multipart = Some(Multipart {
            number,
            upload_id: created.id.clone(),
            parts: Vec::new(),
            freezing: false,
        });
        let recorded = self.record(next).await;
        let obsolete = match &recorded {
            Ok(()) => others,
            // One of the others may be that of a newer owner. It looks for what this one has left.
            Err(Error::UploadConflict { .. } | Error::UploadUnknown { .. }) => {
                vec![created.id.clone()]
            }
            Err(_) => Vec::new(),
        };
        for upload_id in obsolete {
            if let Err(error) = self.store.api.abort_multipart(&key, &upload_id).await {
                tracing::warn!(%uuid, ?error, "could not end a second multipart upload");
            }
        }
        recorded?;
        let upload_id = created.id;
        Ok(Target { key, upload_id })
    }

    async fn drain(&mut self) -> Result<()> {
        let drained = self.sender.drain().await;
        self.journal.explained(drained).await
    }

    /// What the task waits for beside commands: a part, and memory that others wait for.
    pub(super) fn waits(&mut self) -> (&mut Sender, &Holder) {
        (&mut self.sender, &self.holder)
    }

    /// A part has arrived, or has not.
    pub(super) async fn part_ended(&mut self, sent: Result<(), SendError>) -> Result<()> {
        self.journal.explained(sent).await?;
        self.checkpoint_if_due().await
    }

    /// Waits until all full parts have arrived.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.drain().await?;
        self.checkpoint_if_due().await
    }

    /// The session with the parts that have arrived. Nothing is forgotten until it is written: a write that fails is
    /// followed by another one.
    fn draft(&self) -> Session {
        self.draft_while(|_| true)
    }

    fn draft_while(&self, is_included: impl Fn(&PartEnd) -> bool) -> Session {
        let mut next = self.journal.draft();
        let arrived = self.sender.arrived();
        for (end, part) in arrived.take_while(|(end, _)| is_included(end)) {
            if let Some(open) = &mut next.multipart {
                open.parts.push(part.clone());
            }
            let is_data = |tail: &&Tail| tail.as_segment().is_some();
            next.superseded
                .extend(end.tails.iter().filter(is_data).cloned());
            self.intake.describe_end(end, &mut next);
        }
        next
    }

    /// Writes the session.
    async fn record(&mut self, next: Session) -> Result<()> {
        self.journal.record(next).await?;
        self.sender.forget(self.session().open_parts());
        Ok(())
    }

    fn unrecorded(&self) -> UnrecordedBytes {
        let (session, last) = (self.session(), self.sender.arrived().last());
        let end = last.map_or(0, |(end, _)| end.offset);
        UnrecordedBytes {
            arrived: end.saturating_sub(session.offset),
            is_first: session.recorded_parts() == 0,
        }
    }

    /// When the session is to be written next, if anything happens before or not.
    pub(super) fn next_checkpoint(&self) -> Option<Instant> {
        let due = self.unrecorded().due_after(self.is_behind())?;
        Some(self.journal.recorded_at() + due)
    }

    /// Records what has arrived, where enough has or the first part has.
    async fn checkpoint_if_due(&mut self) -> Result<()> {
        let age = self.journal.recorded_at().elapsed();
        if self.unrecorded().is_due(age) {
            self.record(self.draft()).await?;
            self.remove_obsolete().await;
        }
        Ok(())
    }

    /// The time of the [next checkpoint](Self::next_checkpoint) has come.
    pub(super) async fn checkpoint(&mut self) -> Result<()> {
        if self.unrecorded().arrived > 0 {
            return self.checkpoint_if_due().await;
        }
        self.drain().await?;
        if self.is_behind() {
            self.store_all(false).await?;
        }
        Ok(())
    }

    /// Removes objects that the session just written does not name.
    async fn remove_obsolete(&mut self) {
        let needed: Vec<&Tail> = self.intake.tails().chain(self.sender.tails()).collect();
        let is_needed = |tail: &Tail| needed.contains(&tail);
        self.journal.remove_obsolete(is_needed).await;
    }

    /// Stores every byte taken, so that any process resumes at the offset.
    pub(super) async fn close(&mut self) -> Result<()> {
        self.drain().await?;
        self.journal.finish_freezing().await?;
        let session = self.session();
        let is_new = session.offset == 0 && session.multipart.is_none();
        let has_to_say_closed = match self.journal.ownership() {
            Ownership::None => false,
            Ownership::Assumed => true,
            Ownership::Confirmed => session.phase == Phase::Open && !is_new && !session.closed,
        };
        if self.is_behind() || has_to_say_closed {
            self.store_all(true).await?;
        }
        Ok(())
    }

    /// Records every byte, when all parts have arrived.
    async fn store_all(&mut self, closed: bool) -> Result<()> {
        // The first tail of an upload without parts is stored where the layer's data will be. Such an
        // object, if no session names it, is looked for only after an unclosed session.
        let is_first = self.offset() == self.intake.buffered() && !self.session().closed;
        if self.intake.buffered() > INLINE_LIMIT && is_first {
            let tail = self.write_whole().await?;
            self.move_to_tail(tail);
        } else if self.intake.buffered() > INLINE_LIMIT {
            self.write_tail().await?;
        }
        let mut next = self.draft();
        self.intake.describe(&mut next);
        next.closed = closed;
        self.record(next).await?;
        self.remove_obsolete().await;
        Ok(())
    }

    async fn write_tail(&mut self) -> Result<()> {
        let folded = self.intake.tails_to_fold(MAX_TAILS);
        let chunks = self.intake.buffered_chunks();
        let (uuid, end) = (self.journal.uuid(), self.offset());
        let written = tail::write(&self.store, uuid, end, folded, chunks).await;
        let tail = self.journal.stored(written).await?;
        self.move_to_tail(tail);
        Ok(())
    }

    /// Stores the buffered bytes where the layer's data will be.
    async fn write_whole(&mut self) -> Result<Tail> {
        let (uuid, chunks) = (self.journal.uuid(), self.intake.buffered_chunks());
        let written = tail::write_whole(&self.store, uuid, chunks).await;
        self.journal.stored(written).await
    }

    fn move_to_tail(&mut self, tail: Tail) {
        self.sender.progress().add(self.intake.buffered());
        self.intake.move_to_tail(tail);
    }

    /// Stores what waits in memory, and releases the memory to others. The session need not say so: a
    /// process that finds the upload receives these bytes again.
    pub(super) async fn spill(&mut self) -> Result<()> {
        self.store.api.telemetry().note(Event::EarlyStore);
        if self.intake.in_memory() > 0
            && self.intake.may_end_early()
            && !self.store.profile.equal_parts
        {
            Box::pin(self.send_part(true)).await?;
            return self.checkpoint_if_due().await;
        }
        if self.intake.buffered() > 0 {
            self.write_tail().await?;
        }
        self.release();
        Ok(())
    }

    /// Prepares for [the cache](super::session_cache), where only what is cheap is kept.
    pub(super) fn shrink(&mut self) {
        self.intake.forget_tar_sum();
        self.journal.owned().assume_ownership();
    }

    /// Drops the copies of stored bytes.
    pub(super) fn release(&mut self) {
        self.intake.release();
        self.reservation = None;
    }

    /// Cancels the upload and removes all of it.
    pub(super) async fn cancel(&mut self) -> Result<()> {
        self.sender.abort().await;
        commit::cancel(&self.store, self.journal.owned(), CancelScope::Open).await
    }

    /// After a failure: records what has arrived, so that a resume finds it.
    pub(super) async fn salvage(&mut self) {
        let uuid = self.journal.uuid();
        if self.sender.drain().await.is_err() {
            tracing::debug!(%uuid, "some parts did not arrive");
        }
        // The last part of a layer is too short for others to follow it.
        let next = self.draft_while(|end| end.can_be_followed);
        if next.offset > self.session().offset
            && let Err(error) = self.record(next).await
        {
            tracing::warn!(%uuid, %error, "could not record what arrived");
        }
    }
}
