//! Bytes that arrive, cut into parts, hashed and summed. Makes no request.

use bytes::Bytes;

use super::part_buffer::PartBuffer;
use super::sender::{EndedPart, PartEnd};
use super::tail::StoredTail;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::commit::claims::ReceivedContent;
use crate::s3::format::checksum::{Crc64, Tracker};
use crate::s3::format::document::Inline;
use crate::s3::format::keys::Key;
use crate::s3::session::plan::part_cursor::PartCursor;
use crate::s3::session::{Session, Tail};
use crate::tar_sum_claim::{Claim, TarSumTask};
use s3layers_tarsum::{Algorithm, Digest, Hasher, SavedHasher};

/// What an upload has received, and the bytes of the part under way.
pub(super) struct Intake {
    sha256: Hasher,
    others: Vec<Hasher>,
    /// The declared TarSum, where every byte from the first came through here: its state is in no
    /// session. Otherwise the bytes are read back at finish.
    tar_sum: Option<TarSumTask>,
    tracker: Tracker,
    offset: u64,
    cursor: PartCursor,
    /// Stored bytes of the part under way.
    tails: Vec<StoredTail>,
    /// Bytes of the part under way after its tails.
    buffer: PartBuffer,
}

impl Intake {
    /// Continues where the session is.
    ///
    /// # Errors
    ///
    /// `Damaged` where the session has no hash state that can be continued.
    pub(super) fn new(session: &Session, declared: Option<&LayerId>, key: &Key) -> Result<Self> {
        let restored: Option<Vec<Hasher>> =
            session.hashers.iter().map(SavedHasher::restore).collect();
        let mut hashers = restored.unwrap_or_default().into_iter();
        let Some(sha256) = hashers
            .next()
            .filter(|h| h.algorithm() == Algorithm::Sha256)
        else {
            let reason = "it has no hash state that this version can continue";
            return Err(Error::damaged(key, reason.to_owned()));
        };
        let tar_sum = declared.and_then(LayerId::as_tar_sum);
        let tar_sum = tar_sum.filter(|_| session.offset == 0);
        let mut buffer = PartBuffer::default();
        buffer.push(&session.inline.0);
        let filled = session.after_parts();
        let stored = |tail| StoredTail { tail, copy: None };
        Ok(Intake {
            sha256,
            others: hashers.collect(),
            // A TarSum that cannot be verified is refused at finish.
            tar_sum: tar_sum.and_then(|tar_sum| TarSumTask::new(tar_sum).ok()),
            tracker: Tracker::resume(session.sums.clone(), session.part_sum),
            offset: session.offset,
            cursor: PartCursor::new(session.schedule, session.recorded_parts(), filled),
            tails: session.tails.iter().cloned().map(stored).collect(),
            buffer,
        })
    }

    /// Bytes received.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The SHA-256 of the bytes up to there.
    pub(super) fn digest(&self) -> Digest {
        self.sha256.digest()
    }

    /// How many of `available` bytes belong to the part under way; `None` where S3 takes no
    /// further part.
    pub(super) fn take(&self, available: u64) -> Option<u64> {
        self.cursor.take(available)
    }

    /// Whether the part under way can be sent although it is not full.
    pub(super) fn may_end_early(&self) -> bool {
        self.cursor.may_end_early()
    }

    /// Takes bytes that belong to the part under way. Whether it is full now.
    pub(super) fn push(&mut self, chunk: Bytes) -> bool {
        if let Some(tar_sum) = &mut self.tar_sum {
            tar_sum.begin(&chunk);
        }
        self.sha256.update(&chunk);
        self.others
            .iter_mut()
            .for_each(|hasher| hasher.update(&chunk));
        self.tracker.update(&chunk);
        let length = chunk.len() as u64;
        self.offset += length;
        self.buffer.push(&chunk);
        self.cursor.fill(length)
    }

    /// Waits until the TarSum covers the bytes that were taken. Can be cancelled and repeated.
    pub(super) async fn summed(&mut self) {
        if let Some(tar_sum) = &mut self.tar_sum {
            tar_sum.done().await;
        }
    }

    /// What was received, for the claims of a finish.
    pub(super) async fn received(&mut self, declared: Option<&LayerId>) -> ReceivedContent<'_> {
        let tar_sum = match (declared.and_then(LayerId::as_tar_sum), &mut self.tar_sum) {
            (None, _) => None,
            (Some(_), Some(task)) => Some(task.verdict().await),
            // One that cannot be verified need not be read back first.
            (Some(declared), None) => Claim::new(declared).err().map(Err),
        };
        ReceivedContent {
            size: self.offset,
            sha256: &self.sha256,
            others: &self.others,
            tar_sum,
        }
    }

    /// Its state can be large: from here on the TarSum is verified by reading the bytes back.
    pub(super) fn forget_tar_sum(&mut self) {
        self.tar_sum = None;
    }

    /// Bytes of the part under way that are in no tail.
    pub(super) fn buffered(&self) -> u64 {
        self.buffer.len()
    }

    /// Bytes of the part under way that are in memory.
    pub(super) fn in_memory(&self) -> u64 {
        let copied = self.tails.iter().filter(|stored| stored.copy.is_some());
        let copies: u64 = copied.map(|stored| stored.tail.sum.len()).sum();
        copies + self.buffer.len()
    }

    /// Bytes of the part under way.
    pub(super) fn unsent(&self) -> u64 {
        let tails: u64 = self.tails().map(|tail| tail.sum.len()).sum();
        tails + self.buffer.len()
    }

    pub(super) fn tails(&self) -> impl ExactSizeIterator<Item = &Tail> {
        self.tails.iter().map(|stored| &stored.tail)
    }

    /// The bytes after the tails; they stay here as well.
    pub(super) fn buffered_chunks(&mut self) -> Vec<Bytes> {
        self.buffer.chunks()
    }

    /// The tails that the next one takes in: all, where there are `most` already.
    pub(super) fn tails_to_fold(&self, most: usize) -> Vec<StoredTail> {
        if self.tails.len() < most {
            return Vec::new();
        }
        self.tails.clone()
    }

    /// The buffered bytes, and all tails that begin where this one does or later, are stored in this
    /// tail now.
    pub(super) fn move_to_tail(&mut self, tail: Tail) {
        let chunks = self.buffer.take();
        let before = self.tails.len();
        self.tails.retain(|stored| stored.tail.offset < tail.offset);
        let copy = (self.tails.len() == before).then_some(chunks);
        self.tails.push(StoredTail { tail, copy });
    }

    /// Drops the copies of stored bytes.
    pub(super) fn release(&mut self) {
        self.tails.iter_mut().for_each(|stored| stored.copy = None);
    }

    /// Ends the part under way.
    pub(super) fn end_part(&mut self, is_early: bool) -> EndedPart {
        let sum = self.tracker.end_part();
        let tails = std::mem::take(&mut self.tails);
        let end = PartEnd {
            can_be_followed: is_early || self.cursor.is_full(),
            offset: self.offset,
            hashers: self.saved_hashers(),
            snapshot: self.tracker.snapshot(),
            tails: tails.iter().map(|stored| stored.tail.clone()).collect(),
        };
        self.cursor.advance();
        let chunks = self.buffer.take();
        EndedPart {
            end,
            sum,
            tails,
            chunks,
        }
    }

    /// Sets the parts of a session that say where the upload is, as of an earlier part's end.
    pub(super) fn describe_end(&self, end: &PartEnd, session: &mut Session) {
        session.tails.clear();
        session.inline = Inline::default();
        session.part_sum = Crc64::default();
        session.offset = end.offset;
        session.hashers.clone_from(&end.hashers);
        session.sums = self.tracker.sums_at(end.snapshot);
    }

    /// Sets the parts of a session that say where the upload is, as of now.
    pub(super) fn describe(&mut self, session: &mut Session) {
        session.tails = self.tails().cloned().collect();
        session.inline = Inline(self.buffer.chunks().concat().into());
        session.offset = self.offset;
        session.hashers = self.saved_hashers();
        session.part_sum = self.tracker.part_so_far();
        let now = self.tracker.snapshot();
        session.sums = self.tracker.sums_at(now);
    }

    fn saved_hashers(&self) -> Vec<SavedHasher> {
        let hashers = std::iter::once(&self.sha256).chain(&self.others);
        hashers.map(Hasher::save).collect()
    }
}
