//! One range of an object: asked for, picked up at the exact byte where its body breaks, and
//! checked.

use std::error::Error as StdError;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::{Bytes, BytesMut};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::s3::bucket::Store;
use crate::s3::bucket::presence;
use crate::s3::format::checksum::{Crc64, Running};
use crate::s3::format::keys::{Key, Keys};
use crate::s3::format::record::{Segment, StoredLayer};
use crate::s3::wire::{ApiError, ETag, RangeBody, pause};
use crate::telemetry::{Event, UsageCounter};

type Broken = Box<dyn StdError + Send + Sync>;

/// The bytes that are read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) store: Arc<Store>,
    /// The objects that hold them.
    pub(super) place: Arc<Place>,
    pub(super) size: u64,
    /// The layer, which has the checksums of the blocks.
    pub(super) layer: Option<Arc<StoredLayer>>,
    /// Where the bytes were found last, when an answer had said that they are not there.
    pub(super) found: Mutex<Option<Arc<Place>>>,
    /// A range took longer than [`NEAR`](super::plan::NEAR).
    pub(super) is_distant: AtomicBool,
}

/// Objects of an upload that hold bytes one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) upload: Uuid,
    pub(super) segments: Vec<Segment>,
}

/// The part of a range that one object holds.
struct Section {
    key: Key,
    etag: ETag,
    /// In the object.
    range: Range<u64>,
}

impl Place {
    /// The first part of a range that is in one object.
    fn locate(&self, keys: &Keys, range: &Range<u64>) -> Option<Section> {
        let mut start = 0;
        for segment in &self.segments {
            let end = start + segment.sum.len();
            if range.start < end {
                return Some(Section {
                    key: keys.segment(self.upload, &segment.name),
                    etag: segment.etag.clone(),
                    range: range.start - start..range.end.min(end) - start,
                });
            }
            start = end;
        }
        None
    }
}

/// What one task fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// The bytes that are handed out.
    pub(super) keep: Range<u64>,
    /// Fetch the whole block, and hand out nothing unless it is right.
    pub(super) check: Option<Check>,
    /// Large buffers are kept as they arrived, instead of being copied.
    pub(super) keeps_buffers: bool,
}

/// What a block must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Holds `keep`.
    pub(super) block: Range<u64>,
    /// Its CRC64NVME, as recorded.
    pub(super) want: u64,
    /// Of the first bytes of the block, which were handed out already: they must be the same.
    pub(super) prefix: Crc64,
    /// How often it may be read.
    pub(super) reads: u32,
}

/// The bytes of a job, in the pieces that they came in.
#[derive(Debug, Default)]
pub(super) struct LoadedRange {
    pieces: Vec<Piece>,
    /// Of all pieces.
    pub(super) crc: Crc64,
}

/// Some bytes and where they stand.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
    /// Of the pieces of the same job that come before.
    pub(super) before: Crc64,
}

impl Piece {
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The bytes from this position on, where it is in this piece.
    pub(super) fn from(&self, position: u64) -> Option<Bytes> {
        if position < self.start || position >= self.end() {
            return None;
        }
        let offset = usize::try_from(position - self.start).ok()?;
        Some(self.bytes.slice(offset..))
    }
}

impl LoadedRange {
    /// The piece that holds this position, which the job has kept.
    pub(super) fn at(&self, position: u64) -> Option<Piece> {
        let after = self.pieces.partition_point(|piece| piece.start <= position);
        self.pieces.get(after.checked_sub(1)?).cloned()
    }
}

impl Job {
    /// All of these bytes must have come before any is handed out.
    pub(super) fn fetched(&self) -> Range<u64> {
        self.check
            .as_ref()
            .map_or(&self.keep, |check| &check.block)
            .clone()
    }
}

impl Source {
    /// What errors and logs call the source.
    pub(super) fn name(&self) -> String {
        let first = self.place.segments.first();
        first.map_or_else(String::new, |segment| {
            self.store
                .keys
                .segment(self.place.upload, &segment.name)
                .to_string()
        })
    }

    pub(super) fn damaged(&self, reason: String) -> Error {
        Error::damaged(&self.name(), reason)
    }

    /// The recorded checksum of a block.
    pub(super) fn block_sum(&self, block: &Range<u64>) -> Option<u64> {
        let index = block.start / crate::s3::format::checksum::BLOCK;
        self.layer.as_ref()?.blocks.get(index)
    }

    /// Fetches the bytes of a job, and checks them where they are to be checked.
    ///
    /// Cancelling gives up the request.
    pub(super) async fn load(&self, job: &Job) -> Result<LoadedRange> {
        let mut reads = 0;
        loop {
            reads += 1;
            let mut sections = Sections::new(job);
            self.get(job.fetched(), |bytes| sections.take(bytes))
                .await?;
            let Some(check) = &job.check else {
                return Ok(sections.into_loaded());
            };
            match sections.verify(check) {
                Ok(()) => return Ok(sections.into_loaded()),
                Err(reason) if reads >= check.reads => return Err(self.damaged(reason)),
                Err(reason) => {
                    self.store.api.telemetry().note(Event::BlockReadAgain);
                    tracing::warn!(key = %self.name(), reason, "read a block again");
                }
            }
        }
    }

    /// Gives every byte of the range, once and in order.
    async fn get(&self, range: Range<u64>, mut take: impl FnMut(Bytes) + Send) -> Result<()> {
        let begun = Instant::now();
        let (mut at, mut attempts) = (range.start, 0);
        // Of the requests since the last one that brought a byte.
        let (mut failures, mut first) = (0, begun);
        loop {
            let (from, asked) = (at, Instant::now());
            let body = self.body(at..range.end, |bytes| {
                at += bytes.len() as u64;
                take(bytes);
            });
            let Some(broken) = body.await? else {
                if at == range.end {
                    return Ok(());
                }
                // The rest is in the next object.
                (failures, first) = (0, Instant::now());
                continue;
            };
            attempts += 1;
            // The bytes that came are kept, so a store that gives a little each time is read to the end.
            if at > from {
                (failures, first) = (0, asked);
            }
            failures += 1;
            let since_first = asked.duration_since(first);
            let Some(pause) = pause(failures, since_first, false, clock::jitter()) else {
                let kind = StorageErrorKind::Unavailable;
                let error = StorageError::new("GetObject", self.name(), kind, broken)
                    .after(attempts, begun.elapsed());
                return Err(error.into());
            };
            tracing::debug!(key = %self.name(), at, error = %broken, "a body broke");
            tokio::time::sleep(pause).await;
        }
    }

    /// One request for as much of the range as is in one object. `Some` where its body broke.
    async fn body(
        &self,
        range: Range<u64>,
        mut take: impl FnMut(Bytes) + Send,
    ) -> Result<Option<Broken>> {
        let _read = self.store.budget.reads.acquire().await;
        let (mut body, mut left) = self.ask(&range).await?;
        loop {
            // Also asked after the last byte: a body that was read to its end gives its
            // connection back.
            match body.next().await {
                Some(Ok(bytes)) if bytes.len() as u64 > left => {
                    let over = "the store sent more bytes than were asked for";
                    return Err(self.damaged(over.to_owned()));
                }
                Some(Ok(bytes)) => {
                    left -= bytes.len() as u64;
                    if !bytes.is_empty() {
                        take(bytes);
                    }
                }
                _ if left == 0 => return Ok(None),
                Some(Err(error)) => return Ok(Some(error)),
                None => return Ok(Some("the body ended early".into())),
            }
        }
    }

    /// Begins to read the first part of the range that is in one object, and how long that is.
    async fn ask(&self, range: &Range<u64>) -> Result<(RangeBody, u64)> {
        let found = self.found.lock().await.clone();
        let mut place = found.unwrap_or_else(|| Arc::clone(&self.place));
        let mut has_looked = false;
        loop {
            let Some(section) = place.locate(&self.store.keys, range) else {
                return Err(self.damaged(format!("it has no byte {}", range.start)));
            };
            let length = section.range.end - section.range.start;
            let api = &self.store.api;
            let asked = api.get_range(&section.key, section.range, Some(&section.etag));
            match asked.await {
                Ok(body) => return Ok((body, length)),
                Err(
                    gone @ (ApiError::NoSuchKey(_)
                    | ApiError::Precondition(_)
                    | ApiError::InvalidRange(_)),
                ) => {
                    // One odd answer is no damage: what is there as recorded is asked for again.
                    let found = if has_looked {
                        None
                    } else {
                        self.find(&place).await?
                    };
                    let Some(found) = found else {
                        presence::lost(&self.store, &section.key);
                        return Err(self.explain(gone));
                    };
                    (place, has_looked) = found;
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    /// Where the bytes are: the objects have other ETags since the bucket was copied, or a link
    /// repeats a record that was replaced. Only the first of the ranges that `lost` them looks: whether it was this one.
    async fn find(&self, lost: &Place) -> Result<Option<(Arc<Place>, bool)>> {
        let mut found = self.found.lock().await;
        if let Some(place) = found.as_ref().filter(|place| ***place != *lost) {
            return Ok(Some((Arc::clone(place), false)));
        }
        // The others may have been written again as well.
        for segment in &lost.segments {
            let key = self.store.keys.segment(lost.upload, &segment.name);
            presence::lost(&self.store, &key);
        }
        *found = self.look().await?.map(Arc::new);
        Ok(found.clone().map(|place| (place, true)))
    }

    async fn look(&self) -> Result<Option<Place>> {
        let Some(layer) = &self.layer else {
            return Ok(None);
        };
        let Some(now) = presence::present(&self.store, layer).await? else {
            return Ok(None);
        };
        if now.size != self.size {
            return Ok(None);
        }
        let place = Place {
            upload: now.upload,
            segments: now.segments().to_vec(),
        };
        if place == *self.place {
            return Ok(Some(place));
        }
        self.store.api.telemetry().note(Event::ObjectMoved);
        tracing::warn!(key = %self.name(), upload = %now.upload, "found the bytes elsewhere");
        if now.has_same_content(layer) {
            let store = Arc::clone(&self.store);
            self.store
                .background
                .spawn(UsageCounter::inherit(async move {
                    if let Err(error) = presence::record_etags(&store, &now).await {
                        tracing::warn!(digest = %now.digest, %error, "could not repair a record");
                    }
                }));
        }
        Ok(Some(place))
    }

    /// What the refusal of a read means, where the layer was published with this object.
    fn explain(&self, error: ApiError) -> Error {
        match error {
            ApiError::NoSuchKey(_) => self.damaged("the object is missing".to_owned()),
            ApiError::Precondition(_) => {
                self.damaged("the object was changed: it has another ETag".to_owned())
            }
            ApiError::InvalidRange(error) => self.damaged(format!(
                "the object is shorter than the {} bytes recorded, or another range was answered: \
                 {}",
                self.size,
                root_of(&error)
            )),
            error => error.into(),
        }
    }
}

/// The innermost cause. The SDK's outer errors say no more than "service error".
fn root_of(error: &StorageError) -> String {
    let mut root = error.source();
    while let Some(cause) = root.and_then(StdError::source) {
        root = Some(cause);
    }
    root.map(ToString::to_string).unwrap_or_default()
}

/// The bytes that are fetched fall into four sections: those that were handed out before, those
/// between, those to keep, and the rest of the block. Each is summed, one is kept.
struct Sections {
    at: u64,
    ends: [u64; 4],
    sums: [Running; 4],
    keeps_buffers: bool,
    pieces: Vec<Piece>,
    /// The piece under way, where it starts, and the sum before it.
    filling: BytesMut,
    start: u64,
    before: Crc64,
}

const KEPT: usize = 2;
/// Bytes of a piece: a client that reads nothing keeps two of them in the connection, beside the range that they are of.
const PIECE: usize = 32 * 1024;
/// Bytes that came at once and fill most of the largest buffer of a connection, which has 400 KiB: keeping that costs less
/// than a copy.
const LARGE: usize = 320 * 1024;

impl Sections {
    fn new(job: &Job) -> Self {
        let fetched = job.fetched();
        let prefix = job.check.as_ref().map_or(0, |check| check.prefix.len());
        Sections {
            at: fetched.start,
            ends: [
                fetched.start + prefix,
                job.keep.start,
                job.keep.end,
                fetched.end,
            ],
            sums: std::array::from_fn(|_| Running::new()),
            keeps_buffers: job.keeps_buffers,
            pieces: Vec::new(),
            filling: BytesMut::new(),
            start: 0,
            before: Crc64::default(),
        }
    }

    fn take(&mut self, mut bytes: Bytes) {
        let is_kept = self.keeps_buffers && bytes.len() >= LARGE;
        for section in 0..self.ends.len() {
            let missing = self.ends[section].saturating_sub(self.at);
            let missing = usize::try_from(missing).unwrap_or(usize::MAX);
            let mut now = bytes.split_to(missing.min(bytes.len()));
            while section == KEPT && !now.is_empty() {
                self.keep(&mut now, is_kept);
            }
            self.sums[section].update(&now);
            self.at += now.len() as u64;
        }
    }

    /// Copies bytes into the piece under way, unless their buffer is kept: what arrives can be a slice of a much larger
    /// buffer, which it would keep in memory uncounted.
    fn keep(&mut self, bytes: &mut Bytes, is_kept: bool) {
        if self.filling.is_empty() {
            self.start = self.at;
            self.before = self.sums[KEPT].get();
        }
        let now = bytes.split_to(bytes.len().min(PIECE - self.filling.len()));
        self.sums[KEPT].update(&now);
        self.at += now.len() as u64;
        if is_kept && now.len() == PIECE {
            self.push(now);
            return;
        }
        if self.filling.is_empty() {
            let missing = usize::try_from(self.ends[KEPT] - self.start).unwrap_or(PIECE);
            self.filling = BytesMut::with_capacity(missing.min(PIECE));
        }
        self.filling.extend_from_slice(&now);
        if self.filling.len() == PIECE {
            self.end_piece();
        }
    }

    fn end_piece(&mut self) {
        let bytes = std::mem::take(&mut self.filling).freeze();
        if !bytes.is_empty() {
            self.push(bytes);
        }
    }

    /// The bytes from `start` on.
    fn push(&mut self, bytes: Bytes) {
        self.pieces.push(Piece {
            start: self.start,
            bytes,
            before: self.before,
        });
    }

    fn verify(&self, check: &Check) -> Result<(), String> {
        let [prefix, between, kept, rest] = self.sums.each_ref().map(Running::get);
        let found = prefix.then(between).then(kept).then(rest).value();
        if found != check.want {
            return Err(format!(
                "bytes {} to {} have the CRC64NVME {found:016x}, {:016x} is recorded",
                check.block.start, check.block.end, check.want
            ));
        }
        if prefix != check.prefix {
            return Err(format!(
                "the {} bytes from {} on that were handed out differ from what is stored",
                prefix.len(),
                check.block.start
            ));
        }
        Ok(())
    }

    fn into_loaded(mut self) -> LoadedRange {
        self.end_piece();
        LoadedRange {
            crc: self.sums[KEPT].get(),
            pieces: self.pieces,
        }
    }
}
