//! The bytes of an object in order, from a position that can be moved: asks for ranges ahead,
//! admits each block that came whole, and hands out piece by piece.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::fetch::{Check, Job, Piece, Source};
use super::plan::{self, LITTLE, NEAR_RANGES, View, WINDOW, block_at};
use super::window::{Found, Memory, Slot, Window};
use crate::error::{Error, Result};
use crate::s3::budget::{self, Holder};
use crate::s3::format::checksum::Crc64;
use crate::telemetry::Event;

/// How often a block is read that no byte was handed out of: once more than it must.
const READS: u32 = 2;
/// Ranges of a reader under way for each part of an upload that may be: ranges are smaller.
const RANGES_PER_PART: usize = 2;

#[derive(Debug)]
pub(super) struct Reader {
    source: Arc<Source>,
    /// All bytes, where they came with the record.
    inline: Option<Bytes>,
    position: u64,
    run_start: u64,
    /// The end of the bytes that are needed, if the caller has named it.
    wanted: Option<u64>,
    window: Window,
    /// The memory of what is in the window.
    memory: Holder,
    /// The piece that bytes are handed out of.
    hand: Option<Piece>,
    /// What was left behind of the block that the reader is in, from its first byte on without a
    /// gap.
    behind: Behind,
    /// Blocks that did not have their checksum. Nothing more is handed out of one before all of
    /// it is right.
    suspects: BTreeSet<u64>,
    /// Large buffers are kept as they arrived.
    buffers: Option<OwnedSemaphorePermit>,
}

/// The bytes of a block up to `end`. Empty where the first ones were not read.
#[derive(Clone, Copy, Debug, Default)]
struct Behind {
    end: u64,
    crc: Crc64,
}

impl Reader {
    /// At the first byte. Nothing is asked for yet, and never if the bytes are in memory.
    pub(super) fn new(source: Source, inline: Option<Bytes>) -> Self {
        Reader {
            memory: source.store.budget.readers.holder(),
            source: Arc::new(source),
            inline,
            position: 0,
            run_start: 0,
            wanted: None,
            window: Window::default(),
            hand: None,
            behind: Behind::default(),
            suspects: BTreeSet::new(),
            buffers: None,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Everything from here to `end` is needed, and nothing beyond: as many ranges as permitted are
    /// requested at once, and the reader ends there.
    pub(super) fn want_all_to(&mut self, end: u64) {
        self.wanted = Some(end.min(self.source.size));
        if self.buffers.is_none() {
            let buffers = Arc::clone(&self.source.store.budget.buffers);
            self.buffers = buffers.try_acquire_owned().ok();
        }
    }

    /// Where the reader ends.
    fn until(&self) -> u64 {
        self.wanted.unwrap_or(self.source.size)
    }

    /// Continues at another byte. Buffered bytes there are kept.
    pub(super) fn seek(&mut self, position: u64) {
        if position == self.position {
            return;
        }
        self.position = position;
        self.run_start = position;
        let is_buffered = |window: Range<u64>| window.contains(&position);
        if !self.window.range().is_some_and(is_buffered) {
            self.close();
            self.behind = Behind::default();
        }
    }

    /// Releases everything buffered and in progress.
    pub(super) fn close(&mut self) {
        self.window.clear();
        self.hand = None;
    }

    /// The bytes at the position, as many as there are in one piece; `None` at the end. Those that
    /// were used are to be [consumed](Self::consume).
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            let left = self.until().saturating_sub(self.position);
            if left == 0 {
                self.close();
                return Poll::Ready(Ok(None));
            }
            if let Some(bytes) = &self.inline {
                let range = usize::try_from(self.position)
                    .ok()
                    .zip(usize::try_from(self.until()).ok());
                return Poll::Ready(Ok(range.map(|(start, end)| bytes.slice(start..end))));
            }
            if let Some(mut bytes) = self.hand.as_ref().and_then(|hand| hand.from(self.position)) {
                // A suspect block was fetched to its end.
                bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                return Poll::Ready(Ok(Some(bytes)));
            }
            while let Some(slot) = self.window.pop_before(self.position) {
                self.leave(&slot);
            }
            self.fill()?;
            let Some(front) = self.window.front() else {
                // `fill` asks for something whenever there is nothing.
                return Poll::Pending;
            };
            match ready!(front.poll_at(self.position, cx)) {
                Found::Piece { piece, crc } => {
                    if ready!(self.poll_admit(crc, cx)) {
                        self.hand = Some(piece);
                    }
                }
                Found::Failed(error) => {
                    if let Some(error) = self.fail(error) {
                        return Poll::Ready(Err(error));
                    }
                }
                Found::GivenBack => self.give_back(),
            }
        }
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.position += bytes as u64;
        self.memory.touch();
    }

    /// The next piece, consumed.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let piece = ready!(self.poll_piece(cx))?;
        self.consume(piece.as_ref().map_or(0, Bytes::len));
        Poll::Ready(Ok(piece))
    }

    /// Asks for as many ranges as the plan says and memory allows.
    fn fill(&mut self) -> Result<()> {
        loop {
            let under_way = self.window.range();
            let end = under_way.as_ref().map_or(self.position, |range| range.end);
            let view = View {
                position: self.position,
                run_start: self.run_start,
                end,
                size: self.source.size,
                loading: self.window.loading(),
                parallelism: self.parallelism(),
                wanted: self.wanted,
                suspect: self.is_suspect(end),
                held: self.memory.held(),
                available: self.memory.available(),
            };
            let Some(range) = plan::next_range(&view) else {
                return Ok(());
            };
            let Some((job, memory)) = self.afford(range, under_way.is_none()) else {
                return Ok(());
            };
            let slot = Slot::begin(&self.source, job, memory)?;
            self.window.push(slot);
        }
    }

    /// How many ranges may be under way. A store is near until a range takes long.
    fn parallelism(&self) -> usize {
        let most = (self.source.store.parallelism * RANGES_PER_PART).min(budget::READS);
        if self.wanted.is_some() && !self.source.is_distant.load(Relaxed) {
            most.min(NEAR_RANGES)
        } else {
            most
        }
    }

    /// How much of the range there is memory for. A reader that has nothing waits for a little.
    fn afford(&self, range: Range<u64>, has_nothing: bool) -> Option<(Job, Memory)> {
        let job = self.job(range);
        let fetched = job.fetched();
        if let Some(grant) = self.memory.try_grow(fetched.end - fetched.start) {
            return Some((job, Memory::Granted(grant)));
        }
        if !has_nothing {
            return None;
        }
        let start = job.keep.start;
        // What it has read already is about to be released.
        let most = self.memory.held().clamp(LITTLE, WINDOW);
        let job = if self.is_suspect(start) {
            job
        } else {
            self.job(start..job.keep.end.min(start + most))
        };
        let fetched = job.fetched();
        let memory = Memory::Awaited(self.memory.clone(), fetched.end - fetched.start);
        Some((job, memory))
    }

    fn block_at(&self, position: u64) -> Range<u64> {
        block_at(position, self.source.size)
    }

    fn is_suspect(&self, position: u64) -> bool {
        !self.suspects.is_empty() && self.suspects.contains(&self.block_at(position).start)
    }

    /// How this range is fetched: a whole block is checked by the task, and what is kept of a
    /// suspect one only handed out if all of it is right.
    fn job(&self, keep: Range<u64>) -> Job {
        let block = self.block_at(keep.start);
        let is_suspect = self.is_suspect(keep.start);
        // The last range is copied: a connection can hold the end of a body after the reader is gone.
        let keeps_buffers = self.buffers.is_some() && keep == block && keep.end < self.until();
        let check = (is_suspect || keep == block)
            .then(|| self.source.block_sum(&block))
            .flatten()
            .map(|want| Check {
                want,
                // Found wrong already, or not read yet.
                reads: if is_suspect { READS - 1 } else { READS },
                prefix: self.behind_in(&block, keep.start),
                block,
            });
        Job {
            keep,
            check,
            keeps_buffers,
        }
    }

    /// What was left behind of this block, no further than a position in it.
    fn behind_in(&self, block: &Range<u64>, position: u64) -> Crc64 {
        let Behind { end, crc } = self.behind;
        if crc.len() > 0 && block.contains(&(end - 1)) && end <= position {
            crc
        } else {
            Crc64::default()
        }
    }

    /// Whether the first slot, whose bytes have this checksum, may be handed out. If it may not,
    /// it is gone. Where all of its block is under way and nothing of it was handed out, that waits
    /// for all of the block.
    fn poll_admit(&mut self, crc: Crc64, cx: &mut Context<'_>) -> Poll<bool> {
        let size = self.source.size;
        let Some(front) = self.window.front() else {
            return Poll::Ready(false);
        };
        if front.admitted.is_some() {
            return Poll::Ready(true);
        }
        let block = block_at(front.keep.start, size);
        let (keep, is_checked) = (front.keep.clone(), front.is_checked);
        if is_checked {
            front.admitted = Some(crc);
            self.suspects.remove(&block.start);
            return Poll::Ready(true);
        }
        let behind = self.behind_in(&block, keep.start);
        let is_whole = block.start + behind.len() == keep.start;
        let Some(want) = is_whole.then(|| self.source.block_sum(&block)).flatten() else {
            self.window.admit_to(keep.end);
            return Poll::Ready(true);
        };
        let (crc, end) = if behind.len() > 0 {
            (Some(crc), keep.end)
        } else {
            let all = ready!(self.window.poll_crc_to(block.end, cx));
            (all, all.map_or(keep.end, |_| block.end))
        };
        let is_right = |crc| behind.then(crc).value() == want;
        if end == block.end && !crc.is_none_or(is_right) {
            let telemetry = self.source.store.api.telemetry();
            telemetry.note(Event::BlockReadAgain);
            tracing::warn!(key = %self.source.name(), block = block.start, "read a block again");
            self.suspects.insert(block.start);
            self.close();
            return Poll::Ready(false);
        }
        self.window.admit_to(end);
        Poll::Ready(true)
    }

    /// The position is beyond this slot.
    fn leave(&mut self, slot: &Slot) {
        let block = self.block_at(slot.keep.start);
        self.behind = match slot.admitted {
            Some(crc) if slot.keep.end < block.end => self.extended(&block, slot.keep.start, crc),
            _ => Behind::default(),
        };
    }

    /// What is left behind when bytes with this checksum are, which begin at `start`.
    fn extended(&self, block: &Range<u64>, start: u64, crc: Crc64) -> Behind {
        let behind = self.behind_in(block, start);
        if block.start + behind.len() != start {
            return Behind::default();
        }
        Behind {
            end: start + crc.len(),
            crc: behind.then(crc),
        }
    }

    /// The failure of the first slot, if it is one of now. Everything under way is given up, and
    /// the next read starts over at the same position.
    fn fail(&mut self, error: Error) -> Option<Error> {
        let is_news = self.window.front().is_some_and(|front| front.is_awaited);
        self.close();
        if !is_news && error.is_retryable() {
            // The store may have recovered since this was fetched ahead.
            return None;
        }
        self.run_start = self.position;
        if matches!(error, Error::Damaged { .. }) {
            self.suspects.insert(self.block_at(self.position).start);
        }
        Some(error)
    }

    /// Releases the memory of the first slot, which others wait for.
    fn give_back(&mut self) {
        let front = self.window.front().map(|front| front.keep.clone());
        if let (Some(keep), Some(hand)) = (front, self.hand.take())
            && hand.start >= keep.start
            && (hand.start..=hand.end()).contains(&self.position)
        {
            // The block can still be checked at its end if the bytes so far are.
            let used = usize::try_from(self.position - hand.start).unwrap_or(usize::MAX);
            let used = &hand.bytes[..used.min(hand.bytes.len())];
            let crc = hand.before.then(Crc64::of(used));
            self.behind = self.extended(&self.block_at(keep.start), keep.start, crc);
        }
        self.close();
    }
}
