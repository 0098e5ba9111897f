//! The upload session: the one object of an upload that changes, and what every process that
//! resumes it goes by. A pure schema; `tests/fixtures/session-v1.json` pins version 1.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan::part_size::Schedule;
use crate::digest::{Digest, SavedHasher};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::api::{ETag, UploadId};
use crate::s3::checksum::{BLOCK, Crc64, Sums};
use crate::s3::document::Document;
pub(crate) use crate::s3::document::Inline;
use crate::s3::keys::{Key, Keys};

/// What is known of an upload, at exactly [`offset`](Self::offset).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) version: u32,
    /// Fresh in every write, so that a writer recognises its own.
    pub(crate) nonce: String,
    pub(crate) phase: Phase,
    pub(crate) name: RepositoryName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) declared: Option<LayerId>,
    pub(crate) begun_at: Timestamp,
    pub(crate) schedule: Schedule,
    /// S3's id of the multipart upload, from the first full part on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload_id: Option<UploadId>,
    /// Parts 1 to k, without holes.
    pub(crate) parts: Vec<Part>,
    /// Written by a close, when no part was under way any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) settled: bool,
    /// Some part may have other bytes than were sent for it ([`found`](Self::found)): the object is
    /// read back before it is published.
    #[serde(
        rename = "found_parts",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub(crate) doubted: bool,
    /// What follows the parts and does not fill one yet, in order.
    pub(crate) tails: Vec<Tail>,
    /// What follows the tails: a few KiB at most.
    pub(crate) inline: Inline,
    /// Bytes in parts, tails and inline together.
    pub(crate) offset: u64,
    /// Hash states at `offset`; the first one is SHA-256. None where bytes were taken by a version
    /// that could not read them.
    pub(crate) hashers: Vec<SavedHasher>,
    /// Checksums at `offset`.
    pub(crate) sums: Sums,
    /// Of the bytes after the last part.
    pub(crate) part_sum: Crc64,
}

/// Where an upload is in its life. Nothing goes back to `Open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Takes bytes.
    Open,
    /// Takes none, and is driven to its end by whoever comes by.
    Sealing(Sealed),
    /// Assembled, but a read-back found other bytes than were claimed. Can be finished with
    /// another id, or cancelled.
    Sealed(Sealed),
    /// Is being removed.
    Cancelled,
}

/// All that publishing needs; no byte is needed any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// When the layer counts as published.
    pub(crate) at: Timestamp,
    /// The object that has the bytes, or will have them.
    pub(crate) data: Data,
    /// The SHA-256 of the bytes, where it is known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    /// Other ids to publish under, known to be right.
    pub(crate) also: Vec<LayerId>,
    /// Ids to be verified by reading the object, before it is published under them.
    pub(crate) unverified: Vec<LayerId>,
}

/// Where the bytes of a sealed upload are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Data {
    /// In the parts, to be completed.
    Parts,
    /// In the `.whole` object, which has this ETag.
    Whole(ETag),
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
pub(crate) struct Tail {
    /// Where its first byte is in the layer.
    pub(crate) offset: u64,
    pub(crate) sum: Crc64,
    pub(crate) place: TailPlace,
}

/// The key of a tail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TailPlace {
    /// The first tail of an upload without parts stands where the layer will be if nothing
    /// follows. It has this ETag.
    Whole(ETag),
    /// An object named by the offset and this nonce.
    Tail(String),
}

impl Tail {
    pub(crate) fn key(&self, keys: &Keys, uuid: Uuid) -> Key {
        match &self.place {
            TailPlace::Whole(_) => keys.whole(uuid),
            TailPlace::Tail(nonce) => keys.tail(uuid, self.offset, nonce),
        }
    }
}

impl Session {
    /// Bytes after the last part.
    pub(crate) fn after_parts(&self) -> u64 {
        let tails: u64 = self.tails.iter().map(|tail| tail.sum.len()).sum();
        tails + self.inline.0.len() as u64
    }

    /// As whoever goes on from it has it. Where its writer may still be sending, a part of it can
    /// arrive late and replace a recorded one of the next owner. S3 notices at Complete, mostly: a
    /// part that arrives in the middle of that LocalStack takes for the one before.
    pub(crate) fn found(mut self) -> Self {
        self.doubted |= !self.settled && !self.parts.is_empty();
        self
    }

    /// Whether it may be the first one of its upload: it names nothing that is stored.
    pub(crate) fn is_as_begun(&self) -> bool {
        self.offset == 0 && self.upload_id.is_none() && self.tails.is_empty()
    }

    /// Whether nobody goes on with this multipart upload, that somebody else began and could not
    /// record. The owner of an open one that names none may have found it already.
    pub(crate) fn leaves_alone(&self, upload_id: &UploadId) -> bool {
        match &self.upload_id {
            Some(named) => named != upload_id,
            None => self.phase != Phase::Open,
        }
    }

    /// In memory, in bytes, roughly.
    pub(crate) fn weight(&self) -> u64 {
        let (parts, tails) = (self.parts.len(), self.tails.len());
        let blocks = self.offset / BLOCK * 8;
        2048 + 128 * (parts + tails) as u64 + blocks + self.inline.0.len() as u64
    }

    /// Whether both are open and hold the same bytes in the same places, so that a writer that
    /// goes on from one can go on from the other.
    pub(crate) fn has_the_bytes_of(&self, other: &Session) -> bool {
        self.phase == Phase::Open
            && other.phase == Phase::Open
            && self.offset == other.offset
            && self.parts == other.parts
            && self.tails == other.tails
            && self.inline == other.inline
    }
}

impl Document for Session {
    const WHAT: &'static str = "upload session";
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}
