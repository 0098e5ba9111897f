//! What a handle's task does with the bytes it is given: sends parts, and records in the session
//! what has arrived.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::intake::Intake;
use super::sender::{OutgoingPart, SendError, Sender, Target};
use super::tail;
use crate::clock;
use crate::digest::Digest;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::id::LayerId;
use crate::s3::budget::{Grant, Holder};
use crate::s3::commit::claims::{Claims, check};
use crate::s3::commit::{self, Concurrency, wrong_claim};
use crate::s3::document::Inline;
use crate::s3::keys::Key;
use crate::s3::record::{INLINE_LIMIT, Segment, SegmentName, StoredLayer};
use crate::s3::session::owned::{OwnedSession, Ownership};
use crate::s3::session::{CommitIntent, Multipart, Phase, Session, Tail, claim};
use crate::s3::store::Store;
use crate::service::Sent;

/// Bytes that may wait in memory without a reservation.
const UNRESERVED: u64 = 64 * 1024;
/// How often a finish is repeated over owners that store nothing.
const ROUNDS: u32 = 5;
/// The session is written when so many bytes more have arrived: what a crash costs.
const CHECKPOINT_BYTES: u64 = 128 * 1024 * 1024;
/// The first part is recorded so long after the session was written.
const FIRST_CHECKPOINT: Duration = Duration::from_secs(1);
/// The session of an upload that receives bytes is written at least this often, so that its age
/// tells a live upload from a dead one.
const CHECKPOINT_AGE: Duration = Duration::from_secs(600);

/// An upload in this process.
pub(super) struct Uploader {
    store: Arc<Store>,
    owned: OwnedSession,
    /// The id that finish has to verify beside the one it is given.
    declared: Option<LayerId>,
    intake: Intake,
    sender: Sender,
    holder: Holder,
    reservation: Option<Grant>,
    /// Completes the parts of the previous owner. It survives this handle.
    freezing: Option<JoinHandle<Result<Segment>>>,
    /// What they were completed to; not recorded yet.
    frozen: Option<Segment>,
    /// Objects that the session does not name any more.
    obsolete: Vec<Tail>,
    /// An object with data that the session does not name yet.
    unrecorded: Option<Key>,
    /// The last bytes of a layer, stored as a segment by a finish.
    last: Option<Segment>,
    recorded_at: Instant,
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
            sender: Sender::new(Arc::clone(&store), intake.offset()),
            intake,
            declared,
            holder: store.budget.uploads.holder(),
            reservation: None,
            freezing: None,
            frozen: None,
            obsolete: Vec::new(),
            unrecorded: None,
            last: None,
            recorded_at: Instant::now(),
            store,
            owned,
        })
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(super) fn session(&self) -> &Session {
        self.owned.get()
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

    pub(super) fn progress(&self) -> Sent {
        self.sender.progress()
    }

    pub(super) fn reservation(&self) -> Option<&Grant> {
        self.reservation.as_ref()
    }

    pub(super) fn is_owner(&self) -> bool {
        self.owned.ownership() != Ownership::None
    }

    /// Bytes were taken that the session does not have.
    pub(super) fn is_behind(&self) -> bool {
        self.offset() > self.session().offset
    }

    /// Every byte is recorded, and another request of the same client may follow.
    pub(super) fn can_be_cached(&self) -> bool {
        cfg!(feature = "registry")
            && self.is_owner()
            && self.session().phase == Phase::Open
            && !self.is_behind()
    }

    /// Becomes the owner before the first byte is taken: no earlier owner can acknowledge anything
    /// after that.
    pub(super) async fn own(&mut self) -> Result<()> {
        if self.is_owner() {
            return Ok(());
        }
        self.confirm_ownership().await
    }

    /// Makes sure that this handle owns the upload, before it does what could harm another owner.
    async fn confirm_ownership(&mut self) -> Result<()> {
        if self.owned.ownership() == Ownership::Confirmed {
            return Ok(());
        }
        let is_freezing =
            |session: &Session| session.multipart.as_ref().is_some_and(|open| open.freezing);
        let was_freezing = is_freezing(self.session());
        self.owned.confirm(&self.store).await?;
        self.recorded_at = Instant::now();
        if is_freezing(self.session()) {
            let concurrency = match was_freezing {
                true => Concurrency::Possible,
                false => Concurrency::None,
            };
            let (store, session) = (Arc::clone(&self.store), self.session().clone());
            self.freezing = Some(tokio::spawn(async move {
                commit::freeze(&store, session, concurrency).await
            }));
        }
        Ok(())
    }

    /// What this process remembers may be old, and refuses nothing.
    async fn confirm_assumed(&mut self) -> Result<()> {
        match self.owned.ownership() {
            Ownership::Assumed => self.confirm_ownership().await,
            Ownership::None | Ownership::Confirmed => Ok(()),
        }
    }

    /// Waits until the parts of the previous owner are complete.
    async fn finish_freezing(&mut self) -> Result<()> {
        let Some(freezing) = &mut self.freezing else {
            return Ok(());
        };
        let ended = freezing.await;
        self.freezing = None;
        match ended {
            Ok(Ok(segment)) => {
                self.frozen = Some(segment);
                Ok(())
            }
            Ok(Err(lost @ Error::UploadUnknown { .. })) => {
                commit::cancel(&self.store, &mut self.owned).await?;
                Err(lost)
            }
            Ok(Err(error)) => Err(error),
            Err(failed) => {
                let kind = StorageErrorKind::Other;
                let operation = "CompleteMultipartUpload";
                Err(StorageError::new(operation, String::new(), kind, failed).into())
            }
        }
    }

    /// Takes bytes. Waits where the byte budget or the number of parts in flight require it.
    pub(super) async fn accept(&mut self, mut bytes: Bytes) -> Result<()> {
        self.owned.require_open()?;
        self.own().await?;
        while !bytes.is_empty() {
            let Some(take) = self.intake.take(bytes.len() as u64) else {
                self.confirm_assumed().await?;
                let limit = self.session().schedule.limit();
                return Err(Error::LayerTooLarge { limit });
            };
            // More than a little of a part is gathered only under a reservation for all of it.
            if self.intake.buffered() + take > UNRESERVED {
                self.reserve().await;
            }
            let chunk = bytes.split_to(usize::try_from(take).unwrap_or(usize::MAX));
            if self.intake.push(chunk) {
                self.send_part().await?;
                self.checkpoint_if_due().await?;
            }
            self.summed().await?;
        }
        Ok(())
    }

    async fn reserve(&mut self) {
        if self.reservation.is_none() {
            let size = self.intake.part_size().unwrap_or(self.store.part_size);
            self.reservation = Some(self.holder.reserve(size).await);
        }
    }

    /// Waits until the TarSum covers all bytes. It can take long, so memory that others wait for
    /// meanwhile is released.
    async fn summed(&mut self) -> Result<()> {
        loop {
            tokio::select! {
                biased;
                () = self.intake.summed() => return Ok(()),
                () = super::task::reclaim_requested(self.reservation.as_ref()) => {}
            }
            self.spill().await?;
        }
    }

    /// Ends the part under way and sends it.
    async fn send_part(&mut self) -> Result<()> {
        let target = self.target().await?;
        let tails = self.intake.tails().to_vec();
        if !tails.is_empty() {
            self.reserve().await;
        }
        let mut chunks = match self.intake.take_tail_bytes() {
            Some(chunks) => chunks,
            None => tail::read(&self.store, &self.owned, &tails).await?,
        };
        let counted = tails.iter().map(|tail| tail.sum.len()).sum();
        let ended = self.intake.end_part();
        chunks.extend(ended.chunks);
        let recorded = self
            .session()
            .multipart
            .as_ref()
            .map_or(0, |open| open.parts.len());
        let number = recorded + self.sender.unrecorded() + 1;
        let mut reservation = self.reservation.take();
        reservation.iter_mut().for_each(Grant::pin);
        let part = OutgoingPart {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            chunks,
            sum: ended.sum,
            counted,
            reservation,
            end: ended.end,
        };
        let sent = self.sender.send(target, part).await;
        self.explained(sent).await
    }

    /// The multipart upload, which the session names before the first part is sent.
    async fn target(&mut self) -> Result<Target> {
        // The write that names a multipart upload confirms as well. After a close it comes too late:
        // nobody would look for a multipart upload that no session names.
        let session = self.session();
        let is_assumed = self.owned.ownership() == Ownership::Assumed;
        if !is_assumed || session.closed || session.multipart.is_some() {
            self.confirm_ownership().await?;
        }
        let uuid = self.owned.uuid();
        let key = |number| {
            let name = SegmentName::Multipart(number);
            self.store.keys.segment(uuid, &name)
        };
        if let Some(open) = &self.session().multipart
            && !open.freezing
        {
            let upload_id = open.upload_id.clone();
            let key = key(open.number);
            return Ok(Target { key, upload_id });
        }
        let number = self.session().multiparts;
        let key = key(number);
        self.finish_freezing().await?;
        let checksummed = self.store.profile.crc64nvme;
        let created = self.store.api.create_multipart(&key, checksummed).await?;
        let mut others = Vec::new();
        if created.repeated {
            // An attempt whose answer was lost may have begun another one.
            others = self.store.api.multiparts_at(&key).await?;
            others.retain(|other| *other != created.id);
        }
        let (mut next, parts) = self.draft();
        next.multiparts = number + 1;
        next.multipart = Some(Multipart {
            number,
            upload_id: created.id.clone(),
            parts: Vec::new(),
            freezing: false,
        });
        let recorded = self.record(next, parts).await;
        if let Err(Error::UploadConflict { .. } | Error::UploadUnknown { .. }) = &recorded {
            others.push(created.id.clone());
        }
        for other in others {
            self.store.api.abort_multipart(&key, &other).await?;
        }
        recorded?;
        Ok(Target {
            key,
            upload_id: created.id,
        })
    }

    /// Why S3 does not know the multipart upload any more.
    async fn explained(&self, sent: Result<(), SendError>) -> Result<()> {
        match sent {
            Ok(()) => Ok(()),
            Err(SendError::Other(error)) => Err(error),
            Err(SendError::NoSuchUpload) => {
                let uuid = self.owned.uuid();
                let now = OwnedSession::load(&self.store, uuid).await?;
                let is_ours = |now: &OwnedSession| now.get().nonce == self.session().nonce;
                Err(match now {
                    Some(now) if !is_ours(&now) && now.get().phase == Phase::Open => {
                        Error::UploadConflict {
                            uuid,
                            reason: "another process owns it",
                        }
                    }
                    // Cancelled, finished, or its parts were removed by a lifecycle rule.
                    _ => Error::UploadUnknown { uuid },
                })
            }
        }
    }

    async fn drain(&mut self) -> Result<()> {
        let drained = self.sender.drain().await;
        self.explained(drained).await
    }

    /// What the task waits for beside commands: a part, and memory that others wait for.
    pub(super) fn waits(&mut self) -> (&mut Sender, Option<&Grant>) {
        (&mut self.sender, self.reservation.as_ref())
    }

    /// A part has arrived, or has not.
    pub(super) async fn part_ended(&mut self, sent: Result<(), SendError>) -> Result<()> {
        self.explained(sent).await?;
        self.checkpoint_if_due().await
    }

    /// Waits until all full parts have arrived.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.drain().await?;
        self.checkpoint_if_due().await
    }

    /// The session with the parts that have arrived, and how many they are. Nothing is forgotten
    /// until it is written: a write that fails is followed by another one.
    fn draft(&self) -> (Session, usize) {
        self.draft_while(|_| true)
    }

    fn draft_while(&self, is_wanted: impl Fn(bool) -> bool) -> (Session, usize) {
        let mut next = self.session().clone();
        // A finish can be the first write after an owner that did not close.
        next.orphans |= self.owned.ownership() == Ownership::None && next.may_have_orphans();
        next.closed = false;
        if let Some(segment) = &self.frozen {
            next.add_segment(segment.clone());
        }
        let mut parts = 0;
        let arrived = self.sender.arrived();
        for (end, part) in arrived.take_while(|(end, _)| is_wanted(end.is_full)) {
            if let Some(open) = &mut next.multipart {
                open.parts.push(part.clone());
            }
            let is_data = |tail: &&Tail| tail.as_segment().is_some();
            next.superseded
                .extend(end.tails.iter().filter(is_data).cloned());
            self.intake.describe_end(end, &mut next);
            parts += 1;
        }
        (next, parts)
    }

    /// Writes the session, in which `parts` more parts are recorded.
    async fn record(&mut self, next: Session, parts: usize) -> Result<()> {
        match self.owned.replace(&self.store, next).await {
            Ok(()) => {}
            Err(error) => {
                if let Error::UploadConflict { .. } | Error::UploadUnknown { .. } = &error {
                    self.remove_unrecorded(&error).await;
                }
                return Err(error);
            }
        }
        self.frozen = None;
        self.unrecorded = None;
        self.recorded_at = Instant::now();
        let recorded = self.sender.forget(parts).into_iter();
        self.obsolete
            .extend(recorded.filter(|tail| tail.as_segment().is_none()));
        Ok(())
    }

    /// Another handle has the upload, or nobody: no session will name what this one has just stored.
    async fn remove_unrecorded(&mut self, why: &Error) {
        let uuid = self.owned.uuid();
        let removed = async {
            self.last = None;
            if let Some(key) = self.unrecorded.take() {
                self.store.api.delete(&key).await?;
            }
            // A sweep may have come between the session and its claim.
            if let (Error::UploadUnknown { .. }, Some(id)) = (why, &self.session().declared_id) {
                claim::release(&self.store, &self.session().repository, id, uuid).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(%uuid, %error, "could not remove what was stored last");
        }
    }

    /// Bytes of parts that have arrived and are not recorded.
    fn arrived_bytes(&self) -> u64 {
        let last = self.sender.arrived().last();
        last.map_or(0, |(end, _)| {
            end.offset.saturating_sub(self.session().offset)
        })
    }

    /// When the session is to be written next, if anything happens before or not.
    pub(super) fn next_checkpoint(&self) -> Option<Instant> {
        let is_first = self.session().recorded_parts() == 0 && self.arrived_bytes() > 0;
        match is_first {
            true => Some(self.recorded_at + FIRST_CHECKPOINT),
            false => self.is_behind().then(|| self.recorded_at + CHECKPOINT_AGE),
        }
    }

    /// Records what has arrived, where enough has or the first part has.
    async fn checkpoint_if_due(&mut self) -> Result<()> {
        let (arrived, age) = (self.arrived_bytes(), self.recorded_at.elapsed());
        let is_first = self.session().recorded_parts() == 0 && arrived > 0;
        let is_old = arrived > 0 && age >= CHECKPOINT_AGE;
        if arrived >= CHECKPOINT_BYTES || (is_first && age >= FIRST_CHECKPOINT) || is_old {
            let (next, parts) = self.draft();
            self.record(next, parts).await?;
            self.remove_obsolete().await?;
        }
        Ok(())
    }

    /// The time of the [next checkpoint](Self::next_checkpoint) has come.
    pub(super) async fn checkpoint(&mut self) -> Result<()> {
        if self.arrived_bytes() > 0 {
            return self.checkpoint_if_due().await;
        }
        self.settle().await
    }

    /// Removes objects that the session just written does not name.
    async fn remove_obsolete(&mut self) -> Result<()> {
        let uuid = self.owned.uuid();
        let keys = self.obsolete.iter();
        let keys: Vec<Key> = keys.map(|tail| tail.key(&self.store.keys, uuid)).collect();
        let batched = self.store.profile.batch_delete;
        self.store.api.delete_all(&keys, batched).await?;
        self.obsolete.clear();
        Ok(())
    }

    /// Stores every byte taken, so that any process resumes at the offset.
    pub(super) async fn close(&mut self) -> Result<()> {
        self.drain().await?;
        self.finish_freezing().await?;
        let session = self.session();
        let is_new = session.offset == 0 && session.multipart.is_none();
        let is_confirmed = self.owned.ownership() == Ownership::Confirmed;
        let is_open = session.phase == Phase::Open;
        let may_say_closed = is_confirmed && is_open && !is_new && !session.closed;
        let is_assumed = self.owned.ownership() == Ownership::Assumed;
        if self.is_behind() || may_say_closed || is_assumed {
            return self.store_all(true).await;
        }
        Ok(())
    }

    /// Stores every byte taken; more may follow.
    async fn settle(&mut self) -> Result<()> {
        self.drain().await?;
        match self.is_behind() {
            true => self.store_all(false).await,
            false => Ok(()),
        }
    }

    /// Records every byte, when all parts have arrived.
    async fn store_all(&mut self, closed: bool) -> Result<()> {
        if self.intake.buffered() > INLINE_LIMIT {
            let tail = self.write_tail().await?;
            self.sender.progress().add(tail.sum.len());
            self.intake.move_to_tail(tail);
        }
        let (mut next, parts) = self.draft();
        self.intake.describe(&mut next);
        next.closed = closed;
        self.record(next, parts).await?;
        self.remove_obsolete().await
    }

    /// The first tail of an upload without parts is stored where the layer's data will be.
    async fn write_tail(&mut self) -> Result<Tail> {
        let chunks = self.intake.buffered_chunks();
        let offset = self.offset() - self.intake.buffered();
        let uuid = self.owned.uuid();
        // An object with data that no session names is looked for only after an unclosed session.
        if offset > 0 || self.session().closed {
            return tail::write(&self.store, uuid, offset, &chunks).await;
        }
        let tail = tail::write_whole(&self.store, uuid, &chunks).await?;
        self.unrecorded = Some(tail.key(&self.store.keys, uuid));
        Ok(tail)
    }

    /// Stores what waits in memory, and releases the memory to others.
    pub(super) async fn spill(&mut self) -> Result<()> {
        self.settle().await?;
        self.release();
        Ok(())
    }

    /// Prepares for [the cache](super::session_cache), where only what is cheap is kept.
    pub(super) fn shrink(&mut self) {
        self.intake.forget_tar_sum();
        self.owned.assume_ownership();
    }

    /// Drops the copies of stored bytes.
    pub(super) fn release(&mut self) {
        self.intake.release();
        self.reservation = None;
    }

    /// Cancels the upload and removes all of it.
    pub(super) async fn cancel(&mut self) -> Result<()> {
        self.sender.abort().await;
        commit::cancel(&self.store, &mut self.owned).await
    }

    /// After a failure: records what has arrived, so that a resume finds it.
    pub(super) async fn salvage(&mut self) {
        if self.sender.drain().await.is_err() {
            tracing::debug!(uuid = %self.owned.uuid(), "some parts did not arrive");
        }
        // The last part of a layer is too short for others to follow it.
        let (next, parts) = self.draft_while(|is_full| is_full);
        if next.offset > self.session().offset
            && let Err(error) = self.record(next, parts).await
        {
            tracing::warn!(uuid = %self.owned.uuid(), %error, "could not record what arrived");
        }
    }

    /// Verifies what is claimed, and publishes the layer. As a takeover, it is repeated over another
    /// owner that has stored nothing since: one that was dropped may still write.
    pub(super) async fn finish(&mut self, size: u64, digest: &Digest) -> Result<StoredLayer> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            // A commit is a large future.
            let finished = Box::pin(self.try_finish(size, digest)).await;
            // The first write of this handle was refused, and it has sent no part.
            let is_guest =
                self.owned.ownership() == Ownership::None && self.sender.unrecorded() == 0;
            let is_refused = matches!(finished, Err(Error::UploadConflict { .. }));
            let may_follow = is_guest && is_refused && rounds < ROUNDS;
            if !may_follow || !self.follow().await? {
                return finished;
            }
        }
    }

    /// Continues from the session as it is now, if it has the same bytes.
    async fn follow(&mut self) -> Result<bool> {
        let now = OwnedSession::load(&self.store, self.owned.uuid()).await?;
        let now = now.filter(|now| now.get().has_the_bytes_of(self.session()));
        let is_same = now.is_some();
        if let Some(now) = now {
            self.owned = now;
        }
        Ok(is_same)
    }

    async fn try_finish(&mut self, size: u64, digest: &Digest) -> Result<StoredLayer> {
        let declared = self.declared.as_ref();
        let received = self.intake.received(declared).await;
        let claims = match check(size, digest, declared, received) {
            Ok(claims) => claims,
            Err(wrong) => {
                self.confirm_assumed().await?;
                return Err(wrong);
            }
        };
        if let Phase::Committing(standing) = self.session().phase.clone()
            && let Some(layer) = self.complete_previous_commit(&standing, &claims).await?
        {
            return Ok(layer);
        }
        let intent = CommitIntent {
            at: clock::now_timestamp(),
            digest: claims.digest,
            aliases: claims.aliases,
            unverified: claims.unverified,
        };
        let (mut next, parts) = match &self.session().phase {
            Phase::Open if self.is_inline() => return self.publish_inline(intent).await,
            Phase::Open => self.store_last_bytes().await?,
            Phase::Committing(_) | Phase::Rejected(_) => (self.session().clone(), 0),
            Phase::Cancelled(_) => {
                let uuid = self.owned.uuid();
                return Err(Error::UploadUnknown { uuid });
            }
        };
        next.phase = Phase::Committing(intent);
        self.record(next, parts).await?;
        commit::commit(&self.store, &mut self.owned, Concurrency::None).await
    }

    /// Ends a commit that was begun before, whatever is claimed now: its driver may be publishing at
    /// this moment. `None` where its claims were wrong, so that it cannot have been published.
    async fn complete_previous_commit(
        &mut self,
        standing: &CommitIntent,
        claims: &Claims,
    ) -> Result<Option<StoredLayer>> {
        let concurrency = match self.owned.ownership() {
            Ownership::Confirmed => Concurrency::None,
            Ownership::None | Ownership::Assumed => Concurrency::Possible,
        };
        let layer = match commit::commit(&self.store, &mut self.owned, concurrency).await {
            Ok(layer) => layer,
            Err(error) => match wrong_claim(&error) {
                Some(wrong) if !claims.unverified.contains(&wrong) => return Ok(None),
                _ => return Err(error),
            },
        };
        let mut claimed = claims.aliases.iter().chain(&claims.unverified);
        let all_verified = claimed.all(|id| {
            layer.id() == *id || standing.aliases.contains(id) || standing.unverified.contains(id)
        });
        match all_verified {
            true => Ok(Some(layer)),
            false => Err(Error::UploadUnknown {
                uuid: self.owned.uuid(),
            }),
        }
    }

    /// All bytes are in memory, and fit the documents of the layer.
    fn is_inline(&self) -> bool {
        let is_stored = !self.session().segments.is_empty() || self.session().has_parts();
        self.offset() <= INLINE_LIMIT && self.intake.buffered() == self.offset() && !is_stored
    }

    async fn publish_inline(&mut self, intent: CommitIntent) -> Result<StoredLayer> {
        let (mut next, _) = self.draft();
        self.intake.describe(&mut next);
        next.phase = Phase::Committing(intent);
        commit::commit_inline(&self.store, &mut self.owned, next).await
    }

    /// Brings all bytes into segments and parts: the session that says so.
    async fn store_last_bytes(&mut self) -> Result<(Session, usize)> {
        self.drain().await?;
        self.finish_freezing().await?;
        let has_parts = self.draft().0.has_parts();
        if self.last.is_none() && !has_parts {
            self.last = self.store_last_segment().await?;
        }
        if self.last.is_none() && self.intake.unsent() > 0 {
            self.send_part().await?;
            self.drain().await?;
        }
        let (mut next, parts) = self.draft();
        next.segments.extend(self.last.clone());
        self.intake.describe(&mut next);
        next.inline = Inline::default();
        // Objects that are part of a segment now go when the upload ends.
        let arrived = self.sender.arrived().flat_map(|(end, _)| &end.tails);
        next.tails = self.obsolete.iter().chain(arrived).cloned().collect();
        Ok((next, parts))
    }

    /// What follows the segments, as one object: without parts, if it is a single one or in memory.
    async fn store_last_segment(&mut self) -> Result<Option<Segment>> {
        match self.intake.tails() {
            [only] if self.intake.buffered() == 0 => Ok(only.as_segment()),
            [] if self.intake.buffered() > 0 => {
                if self.session().closed {
                    self.confirm_ownership().await?;
                }
                let chunks = self.intake.buffered_chunks();
                let uuid = self.owned.uuid();
                let tail = tail::write_whole(&self.store, uuid, &chunks).await?;
                self.unrecorded = Some(tail.key(&self.store.keys, uuid));
                Ok(tail.as_segment())
            }
            _ => Ok(None),
        }
    }
}
