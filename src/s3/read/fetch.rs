//! One range of an object: asked for, picked up at the exact byte where its body breaks, and
//! checked.

use std::error::Error as StdError;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::clock;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::s3::api::{ApiError, ETag, RangeBody, pause};
use crate::s3::checksum::{Crc64, Running};
use crate::s3::keys::Key;
use crate::s3::presence;
use crate::s3::record::Record;
use crate::s3::store::Store;

/// How long the next bytes of a body may take. The SDK's own protection is quicker where it is on;
/// it does not see every body that hangs.
const STALL: Duration = Duration::from_secs(30);

type Broken = Box<dyn StdError + Send + Sync>;

/// The object that is read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) store: Arc<Store>,
    pub(super) data: Key,
    pub(super) etag: ETag,
    pub(super) size: u64,
    /// Who tells the checksums of the blocks.
    pub(super) record: Option<Arc<Record>>,
    /// Where the same bytes are, if not there.
    pub(super) moved: OnceLock<(Key, ETag)>,
}

/// What one task fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// The bytes that are handed out.
    pub(super) keep: Range<u64>,
    /// Fetch the whole block, and hand out nothing unless it is right.
    pub(super) check: Option<Check>,
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
pub(super) struct Loaded {
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

impl Loaded {
    /// The piece that holds this position, which the job has kept.
    pub(super) fn at(&self, position: u64) -> Option<Piece> {
        let after = self.pieces.partition_point(|piece| piece.start <= position);
        self.pieces.get(after.checked_sub(1)?).cloned()
    }
}

impl Job {
    /// All of these bytes must have come before any is handed out.
    fn fetched(&self) -> Range<u64> {
        self.check
            .as_ref()
            .map_or(&self.keep, |check| &check.block)
            .clone()
    }
}

impl Source {
    pub(super) fn damaged(&self, reason: String) -> Error {
        Error::Damaged {
            key: self.data.to_string(),
            reason,
        }
    }

    /// The recorded checksum of a block.
    pub(super) fn block_sum(&self, block: &Range<u64>) -> Option<u64> {
        let index = block.start / crate::s3::checksum::BLOCK;
        self.record.as_ref()?.blocks.get(index)
    }

    /// Fetches the bytes of a job, and checks them where they are to be checked.
    ///
    /// Cancelling gives up the request.
    pub(super) async fn load(&self, job: &Job) -> Result<Loaded> {
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
                Err(reason) => tracing::warn!(key = %self.data, reason, "read again"),
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
                return Ok(());
            };
            attempts += 1;
            // Whatever came is kept, so a store that gives a little each time is read to the end.
            if at > from {
                (failures, first) = (0, asked);
            }
            failures += 1;
            let since_first = asked.duration_since(first);
            let Some(pause) = pause(failures, since_first, false, clock::jitter()) else {
                let kind = StorageErrorKind::Unavailable;
                let error = StorageError::new("GetObject", self.data.as_str(), kind, broken)
                    .after(attempts, begun.elapsed());
                return Err(error.into());
            };
            tracing::debug!(key = %self.data, at, error = %broken, "a body broke");
            tokio::time::sleep(pause).await;
        }
    }

    /// One request for the range. `Some` where its body broke.
    async fn body(
        &self,
        range: Range<u64>,
        mut take: impl FnMut(Bytes) + Send,
    ) -> Result<Option<Broken>> {
        let mut body = self.ask(&range).await?;
        let mut left = range.end - range.start;
        loop {
            // Also asked after the last byte: a body that was read to its end gives its
            // connection back.
            let next = tokio::time::timeout(STALL, body.next()).await;
            match next {
                Ok(Some(Ok(bytes))) if bytes.len() as u64 > left => {
                    let over = "the store sent more bytes than were asked for";
                    return Err(self.damaged(over.to_owned()));
                }
                Ok(Some(Ok(bytes))) => {
                    left -= bytes.len() as u64;
                    if !bytes.is_empty() {
                        take(bytes);
                    }
                }
                _ if left == 0 => return Ok(None),
                Ok(Some(Err(error))) => return Ok(Some(error)),
                Ok(None) => return Ok(Some("the body ended early".into())),
                Err(elapsed) => return Ok(Some(elapsed.into())),
            }
        }
    }

    async fn ask(&self, range: &Range<u64>) -> Result<RangeBody> {
        let here = (&self.data, &self.etag);
        let mut place = self.moved.get().map_or(here, |(data, etag)| (data, etag));
        loop {
            let (data, etag) = place;
            match self.store.api.get_range(data, range.clone(), etag).await {
                Err(
                    gone @ (ApiError::NoSuchKey(_)
                    | ApiError::Precondition(_)
                    | ApiError::InvalidRange(_)),
                ) => {
                    presence::lost(&self.store, data);
                    match self.moved_from(place).await? {
                        Some(moved) => place = moved,
                        None => return Err(self.explain(gone)),
                    }
                }
                answer => return answer.map_err(|error| self.explain(error)),
            }
        }
    }

    /// Where the bytes are, if not here. A link repeats a record, and is not told when that is
    /// replaced since its data was lost. The bytes are the same, and so are their checksums.
    async fn moved_from(&self, here: (&Key, &ETag)) -> Result<Option<(&Key, &ETag)>> {
        // Another range may have found it since this one was asked for.
        if let Some((data, etag)) = self.moved.get() {
            return Ok(((data, etag) != here).then_some((data, etag)));
        }
        let Some(record) = &self.record else {
            return Ok(None);
        };
        let Some(now) = self.store.record(&record.digest.clone().into()).await? else {
            return Ok(None);
        };
        if (&now.data, &now.etag) == here || now.size != self.size {
            return Ok(None);
        }
        tracing::warn!(key = %here.0, now = %now.data, "a link is older than its record");
        let (data, etag) = self.moved.get_or_init(|| (now.data, now.etag));
        Ok(Some((data, etag)))
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
    pieces: Vec<Piece>,
}

const KEPT: usize = 2;

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
            pieces: Vec::new(),
        }
    }

    fn take(&mut self, mut bytes: Bytes) {
        for (section, (end, sum)) in self.ends.iter().zip(&mut self.sums).enumerate() {
            let room = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
            let now = bytes.split_to(room.min(bytes.len()));
            if now.is_empty() {
                continue;
            }
            let before = (section == KEPT).then(|| sum.get());
            sum.update(&now);
            let start = self.at;
            self.at += now.len() as u64;
            if let Some(before) = before {
                self.pieces.push(Piece {
                    start,
                    bytes: now,
                    before,
                });
            }
        }
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

    fn into_loaded(self) -> Loaded {
        Loaded {
            crc: self.sums[KEPT].get(),
            pieces: self.pieces,
        }
    }
}
