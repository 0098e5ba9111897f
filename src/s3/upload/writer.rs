//! The task that owns an open upload: takes bytes, cuts them into parts, keeps the session.
//!
//! It runs apart from the handle, so that it can act while nobody writes: give back memory that
//! others wait for, keep the session young, and carry a close or finish to its end when the caller
//! went away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::gather::Gather;
use super::plan::cut::Cut;
use super::remove;
use super::send::{Outgoing, Sender};
use super::session::{Inline, Phase, Session, Tail, TailPlace};
use super::stored::Stored;
use super::summing::Summing;
use super::tail;
use crate::digest::{Hasher, SavedHasher};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::api::ListedPart;
use crate::s3::budget::Reservation;
use crate::s3::checksum::{Snapshot, Tracker};
use crate::s3::keys::Key;
use crate::s3::store::Store;

/// What may wait in memory without a reservation, in bytes.
const UNRESERVED: u64 = 64 * 1024;
/// What travels within the session instead of in a tail, in bytes.
const MAX_INLINE: u64 = 4 * 1024;
/// A session is written when this many bytes more are stored, in bytes: what a crash costs.
const CHECKPOINT_BYTES: u64 = 128 * 1024 * 1024;
/// But not more often than this.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);
/// And at least this often while bytes arrive, so that its age tells a live upload from a dead one.
pub(super) const CHECKPOINT_AGE: Duration = Duration::from_secs(600);

/// An upload in the hands of this process.
pub(super) struct Writer {
    pub(super) store: Arc<Store>,
    pub(super) stored: Stored,
    /// The id that finish has to verify beside the one it is given.
    pub(super) declared: Option<LayerId>,
    /// This handle wrote the session last, as far as it knows.
    pub(super) owner: bool,
    /// It knows so from memory only: another handle may have written it since ([`warm`](super::warm)).
    pub(super) unproven: bool,
    /// This handle began the upload, so nobody else can have left anything behind.
    pub(super) pristine: bool,
    /// This handle began the multipart upload that the session names.
    pub(super) began_multipart: bool,
    /// Empty where the saved states are of an unknown version: the object is read back at finish.
    pub(super) hashers: Vec<Hasher>,
    /// The TarSum that was declared, where this handle has every byte from the first: its state is
    /// in no session. Where it has not, the object is read back at finish.
    pub(super) summing: Option<Summing>,
    tracker: Tracker,
    /// Bytes taken.
    pub(super) offset: u64,
    cut: Cut,
    /// Stored bytes of the part under way.
    pub(super) tails: Vec<Tail>,
    /// The bytes of all these tails, where they are in memory too, under the reservation.
    pub(super) held: Vec<Bytes>,
    /// Bytes of the part under way in memory, after its tails.
    pub(super) gather: Gather,
    pub(super) reservation: Option<Reservation>,
    pub(super) sender: Sender,
    /// All bytes are in the `.whole` object, which the session does not name yet.
    pub(super) unrecorded_whole: bool,
    /// Parts cut that the session does not have yet, in order.
    cuts: VecDeque<PartEnd>,
    /// Tails that no session names any more.
    pub(super) dropped: Vec<Key>,
    pub(super) recorded_at: Instant,
}

/// All that a checkpoint at the end of a part needs.
struct PartEnd {
    number: u32,
    offset: u64,
    hashers: Vec<SavedHasher>,
    snapshot: Snapshot,
    /// Tails that went into this part.
    drops: Vec<Key>,
}

impl Writer {
    pub(super) fn new(
        store: Arc<Store>,
        mut stored: Stored,
        declared: Option<LayerId>,
        begun_here: bool,
        spare: Vec<ListedPart>,
    ) -> Self {
        // Until it is closed again.
        stored.session.settled = false;
        let session = &stored.session;
        let restored: Option<Vec<Hasher>> =
            session.hashers.iter().map(SavedHasher::restore).collect();
        let parts = u32::try_from(session.parts.len()).unwrap_or(u32::MAX);
        let tar_sum = declared.as_ref().and_then(LayerId::as_tar_sum);
        let tar_sum = tar_sum.filter(|_| session.offset == 0);
        let mut gather = Gather::default();
        gather.push(session.inline.0.clone());
        Writer {
            owner: begun_here,
            unproven: false,
            pristine: begun_here,
            began_multipart: false,
            hashers: restored.unwrap_or_default(),
            // What cannot be verified is told at finish.
            summing: tar_sum.and_then(|tar_sum| Summing::of(tar_sum).ok()),
            tracker: Tracker::resume(session.sums.clone(), session.part_sum),
            offset: session.offset,
            cut: Cut::new(session.schedule, parts, session.after_parts()),
            tails: session.tails.clone(),
            held: Vec::new(),
            gather,
            reservation: None,
            sender: Sender::new(Arc::clone(&store), stored.uuid, session.offset, spare),
            unrecorded_whole: false,
            cuts: VecDeque::new(),
            dropped: Vec::new(),
            recorded_at: Instant::now(),
            store,
            stored,
            declared,
        }
    }

    pub(super) fn must_be_open(&self) -> Result<()> {
        match self.stored.session.phase {
            Phase::Open => Ok(()),
            _ => Err(Error::UploadConflict {
                uuid: self.stored.uuid,
                reason: "it is being finished and takes no more bytes",
            }),
        }
    }

    /// Takes bytes. Waits where the byte budget or the number of parts under way say so.
    pub(super) async fn accept(&mut self, mut bytes: Bytes) -> Result<()> {
        self.must_be_open()?;
        self.own().await?;
        while !bytes.is_empty() {
            let limit = self.stored.session.schedule.limit();
            let take = self
                .cut
                .take(bytes.len() as u64)
                .ok_or(Error::LayerTooLarge { limit })?;
            self.make_room(take).await;
            let piece = bytes.split_to(usize::try_from(take).unwrap_or(usize::MAX));
            if let Some(summing) = &mut self.summing {
                summing.begin(&piece);
            }
            self.hashers
                .iter_mut()
                .for_each(|hasher| hasher.update(&piece));
            self.tracker.update(&piece);
            self.gather.push(piece);
            self.offset += take;
            if self.cut.fill(take) {
                self.send_part().await?;
                self.checkpoint_if_due().await?;
            }
            self.summed().await?;
        }
        Ok(())
    }

    /// Reserves a whole part before more than a little of it is gathered.
    async fn make_room(&mut self, more: u64) {
        if self.reservation.is_none() && self.gather.len() + more > UNRESERVED {
            self.reserve().await;
        }
    }

    pub(super) async fn reserve(&mut self) {
        if self.reservation.is_none() {
            let size = self.cut.size().unwrap_or(self.store.part_size);
            self.reservation = self.store.budget.reserve(size).await;
        }
    }

    /// Ends the part under way and sends it.
    pub(super) async fn send_part(&mut self) -> Result<()> {
        let upload_id = self.multipart().await?;
        let number = self.cut.number();
        let tails = std::mem::take(&mut self.tails);
        if !tails.is_empty() {
            self.reserve().await;
        }
        let mut pieces = match self.has_held(&tails) {
            true => std::mem::take(&mut self.held),
            false => tail::read(&self.store, &self.stored, &tails).await?,
        };
        // What came inline is too little to be told apart.
        let stored = tail::len_of(&tails);
        pieces.extend(self.gather.take());
        let sum = self.tracker.end_part();
        let keys = &self.store.keys;
        self.cuts.push_back(PartEnd {
            number,
            offset: self.offset,
            hashers: self.hashers.iter().map(Hasher::save).collect(),
            snapshot: self.tracker.snapshot(),
            drops: tails
                .iter()
                .map(|tail| tail.key(keys, self.stored.uuid))
                .collect(),
        });
        self.cut.next();
        let reservation = self.reservation.take();
        self.sender
            .send(
                &upload_id,
                Outgoing {
                    number,
                    pieces,
                    stored,
                    sum,
                    reservation,
                },
            )
            .await
    }

    /// Waits until all whole parts are stored.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.sender.drain().await?;
        self.checkpoint_if_due().await
    }

    /// Cancels the upload and removes all of it.
    pub(super) async fn cancel(&mut self) -> Result<()> {
        match self.owner && !self.unproven {
            true => remove::cancel(&self.store, &mut self.stored).await,
            false => remove::cancel_for_guest(&self.store, &mut self.stored).await,
        }
    }

    /// Becomes the owner before the first byte is taken: from then on whoever owned the upload
    /// before can acknowledge nothing.
    pub(super) async fn own(&mut self) -> Result<()> {
        match self.owner {
            true => Ok(()),
            false => self.prove().await,
        }
    }

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
        let mut next = self.stored.session.clone();
        let mut last = None;
        for end in &self.cuts {
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
        if !self.owner || self.unproven || has_nothing_to_say {
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
        let next = self.with_arrived_parts();
        if next.offset > self.stored.session.offset
            && let Err(error) = self.record(next).await
        {
            tracing::warn!(uuid = %self.stored.uuid, %error, "could not record what arrived");
        }
    }
}
