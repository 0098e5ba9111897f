//! The upload session: the one object of an upload that changes, and all that a process needs to
//! resume it. This file is the schema; [`owned`] loads it and writes it under a condition.
//!
//! # States
//!
//! ```text
//! Open ──> Committing ──> (removed)          published
//!   │        │  ▲   │
//!   │        ▼  │   └───> Cancelled{intent}  forced: a Complete that is refused for good
//!   │      Rejected ────> Cancelled          a read-back found that a claimed id is wrong
//!   └───────────────────> Cancelled ──> (removed)
//! ```
//!
//! Nothing returns to `Open`. A `Committing` session needs no further byte, and any process can
//! carry it to its end.
//!
//! # Where the bytes are
//!
//! In this order: [`segments`](Session::segments), which are complete objects; the recorded parts
//! of the [`multipart`](Session::multipart) upload; [`tails`](Session::tails), which fill no part
//! yet; [`inline`](Session::inline) bytes.
//!
//! # One owner for each multipart upload
//!
//! The process that wrote the session last owns the upload. An owner that closes its handle writes
//! `closed`: every part it ever sent is recorded, so the next owner continues the same multipart
//! upload. After an owner that did not close, the next one freezes the multipart upload: its first
//! write says `freezing`, then it completes the recorded parts, which become a segment. S3 itself
//! refuses parts that the previous owner sends later, and no part number ever has two contents
//! within one multipart upload.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::plan::schedule::Schedule;
use crate::clock;
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::format::checksum::{BLOCK, Crc64, Sums};
use crate::s3::format::document::Document;
pub(crate) use crate::s3::format::document::Inline;
use crate::s3::format::keys::{Key, Keys};
use crate::s3::format::record::{Segment, SegmentName};
use crate::s3::wire::{ETag, UploadId};
use s3layers_tarsum::{Algorithm, Digest, Hasher, SavedHasher};

pub(crate) mod claim;
pub(crate) mod owned;
pub(crate) mod parts;
pub(crate) mod plan;

/// An upload as of exactly [`offset`](Self::offset).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    pub(crate) version: u32,
    pub(crate) uuid: Uuid,
    /// Fresh in every write, so that a writer recognises its own.
    pub(crate) nonce: String,
    pub(crate) phase: Phase,
    pub(crate) repository: RepositoryName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) declared_id: Option<LayerId>,
    pub(crate) begun_at: Timestamp,
    pub(crate) schedule: Schedule,
    /// Complete objects, which cannot change any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) segments: Vec<Segment>,
    /// How many parts the segments were completed from; the schedule counts them too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) segment_parts: u32,
    /// How many multipart uploads the session has ever named. Also the number of the next one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) multiparts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) multipart: Option<Multipart>,
    /// Written by a close: the bucket holds nothing of this upload that the session does not name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) closed: bool,
    /// An owner did not close, and the bucket may hold data objects and multipart uploads that no
    /// session names. They are looked for when the upload ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) orphans: bool,
    /// What follows the parts and fills none yet, in order. In a `Committing` session: objects that
    /// are part of a segment by now, and to be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tails: Vec<Tail>,
    /// Tails among the data objects that are part of a multipart upload by now. No listing of
    /// sessions would find them, so they stay named and go when the upload ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) superseded: Vec<Tail>,
    /// What follows the tails: a few KiB at most.
    #[serde(default, skip_serializing_if = "Inline::is_empty")]
    pub(crate) inline: Inline,
    /// Bytes of the upload.
    pub(crate) offset: u64,
    /// Hash states at `offset`; the first one is SHA-256.
    pub(crate) hashers: Vec<SavedHasher>,
    /// Checksums at `offset`.
    pub(crate) sums: Sums,
    /// The checksum of the bytes after the last part.
    pub(crate) part_sum: Crc64,
}

/// Where an upload is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Phase {
    /// Takes bytes.
    Open,
    /// Takes none, and any process can carry it to its end.
    Committing(CommitIntent),
    /// Assembled, but reading the bytes showed that a claimed id is wrong. Can be committed with
    /// other claims, or cancelled.
    Rejected(CommitIntent),
    /// Is being removed.
    Cancelled(Cancellation),
}

/// All that publishing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommitIntent {
    /// The creation time of the layer.
    pub(crate) at: Timestamp,
    /// The SHA-256 of the bytes.
    pub(crate) digest: Digest,
    /// Other ids to publish under, verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aliases: Vec<LayerId>,
    /// Ids to be verified by reading the bytes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unverified: Vec<LayerId>,
}

/// When and in which state an upload was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancellation {
    pub(crate) at: Timestamp,
    /// The commit that was under way. Another process may still publish it, so the data objects are kept
    /// until a sweep has looked at the record and the link long after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<CommitIntent>,
}

/// The multipart upload that takes the parts, completed at the key of this number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Multipart {
    pub(crate) number: u32,
    pub(crate) upload_id: UploadId,
    /// Parts 1 to k, without holes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Part>,
    /// A new owner is completing it with these parts, so that it takes no others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) freezing: bool,
}

/// A part that S3 holds: its ETag, and the checksum and size of what was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(ETag, Crc64)", into = "(ETag, Crc64)")]
pub(crate) struct Part {
    pub(crate) etag: ETag,
    pub(crate) sum: Crc64,
}

impl From<Part> for (ETag, Crc64) {
    fn from(part: Part) -> Self {
        (part.etag, part.sum)
    }
}

impl From<(ETag, Crc64)> for Part {
    fn from((etag, sum): (ETag, Crc64)) -> Self {
        Part { etag, sum }
    }
}

/// Bytes that do not fill a part, in an immutable object of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tail {
    /// Where its first byte is in the layer.
    pub(crate) offset: u64,
    pub(crate) sum: Crc64,
    pub(crate) place: TailPlace,
}

/// The key of a tail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum TailPlace {
    /// The first tail of an upload without parts is stored where the layer's data will be, in case
    /// nothing follows.
    Whole { nonce: String, etag: ETag },
    /// An object named by the offset and this nonce.
    Tail(String),
}

impl Tail {
    pub(crate) fn key(&self, keys: &Keys, uuid: Uuid) -> Key {
        match &self.place {
            TailPlace::Whole { nonce, .. } => {
                keys.segment(uuid, &SegmentName::Whole(nonce.clone()))
            }
            TailPlace::Tail(nonce) => keys.tail(uuid, self.offset, nonce),
        }
    }

    /// This tail as the one segment of a layer, where it is stored as such.
    pub(crate) fn as_segment(&self) -> Option<Segment> {
        match &self.place {
            TailPlace::Whole { nonce, etag } => Some(Segment {
                name: SegmentName::Whole(nonce.clone()),
                etag: etag.clone(),
                sum: self.sum,
                object_size: None,
            }),
            TailPlace::Tail(_) => None,
        }
    }
}

impl Multipart {
    /// The bytes of the recorded parts.
    pub(crate) fn sum(&self) -> Crc64 {
        self.parts
            .iter()
            .fold(Crc64::default(), |sum, part| sum.then(part.sum))
    }
}

impl Session {
    /// Of an upload without bytes. It has no UUID yet.
    pub(crate) fn begun(name: &RepositoryName, id: Option<&LayerId>, schedule: Schedule) -> Self {
        let mut hashers = vec![Hasher::new(Algorithm::Sha256).save()];
        // Computed as the bytes arrive, it need not be read back at the end.
        if let Some(digest) = id.and_then(LayerId::as_digest)
            && digest.algorithm() != Algorithm::Sha256
        {
            hashers.push(Hasher::new(digest.algorithm()).save());
        }
        Session {
            version: Session::VERSION,
            uuid: Uuid::nil(),
            nonce: clock::new_nonce(),
            phase: Phase::Open,
            repository: name.clone(),
            declared_id: id.cloned(),
            begun_at: clock::now_timestamp(),
            schedule,
            segments: Vec::new(),
            segment_parts: 0,
            multiparts: 0,
            multipart: None,
            closed: false,
            orphans: false,
            tails: Vec::new(),
            superseded: Vec::new(),
            inline: Inline::default(),
            offset: 0,
            hashers,
            sums: Sums::default(),
            part_sum: Crc64::default(),
        }
    }

    /// Parts recorded so far, in segments and in the multipart upload.
    pub(crate) fn recorded_parts(&self) -> u32 {
        self.segment_parts.saturating_add(self.open_parts())
    }

    /// Parts recorded so far in the open multipart upload.
    pub(crate) fn open_parts(&self) -> u32 {
        let open = self.multipart.as_ref().map_or(0, |open| open.parts.len());
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    /// Whether the open multipart upload has parts that are recorded.
    pub(crate) fn has_parts(&self) -> bool {
        self.open_parts() > 0
    }

    /// Bytes after the last part.
    pub(crate) fn after_parts(&self) -> u64 {
        let tails: u64 = self.tails.iter().map(|tail| tail.sum.len()).sum();
        tails + self.inline.0.len() as u64
    }

    /// Whether all bytes are in the session itself.
    pub(crate) fn is_inline(&self) -> bool {
        self.offset == self.inline.0.len() as u64
    }

    /// The first write of a new owner. After an owner that did not close, what it sent and did not
    /// record must not reach the layer: parts of it may still be on their way.
    pub(crate) fn taken_over(&self) -> Self {
        let mut next = self.clone();
        next.orphans |= self.may_have_orphans();
        next.closed = false;
        if !self.closed {
            next.multipart = next.multipart.filter(|open| !open.parts.is_empty());
            if let Some(open) = &mut next.multipart {
                open.freezing = true;
            }
        }
        next
    }

    /// Whether its owner, if it is gone, may have left data objects or multipart uploads that it could
    /// not name. While its parts go to one that is named, it begins no other; and a sweep finds tails.
    pub(crate) fn may_have_orphans(&self) -> bool {
        let sends_parts = |open: &Multipart| !open.parts.is_empty() && !open.freezing;
        !self.closed && !self.multipart.as_ref().is_some_and(sends_parts)
    }

    /// Replaces the multipart upload by the segment that it was completed to.
    pub(crate) fn add_segment(&mut self, segment: Segment) {
        self.segment_parts = self.recorded_parts();
        self.multipart = None;
        self.segments.push(segment);
    }

    /// In memory, in bytes, roughly.
    pub(crate) fn weight(&self) -> u64 {
        let named = (self.tails.len() + self.segments.len()) as u64 + u64::from(self.open_parts());
        let blocks = self.offset / BLOCK * 8;
        2048 + 128 * named + blocks + self.inline.0.len() as u64
    }

    /// Whether both are open and hold the same bytes in the same places, so that an owner of one
    /// can continue from the other.
    pub(crate) fn has_the_bytes_of(&self, other: &Session) -> bool {
        let parts = |session: &Session| {
            let open = session.multipart.as_ref();
            open.filter(|open| !open.parts.is_empty())
                .map(|open| (open.number, open.parts.clone()))
        };
        self.phase == Phase::Open
            && other.phase == Phase::Open
            && self.offset == other.offset
            && self.segments == other.segments
            && parts(self) == parts(other)
            && self.tails == other.tails
            && self.inline == other.inline
    }
}

impl Document for Session {
    const WHAT: &'static str = "upload session";
    const VERSION: u32 = 1;
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
