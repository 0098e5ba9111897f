//! The values that go in and out of S3, as types of ours: two strings that must not be swapped are
//! two types.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::s3::format::checksum::Crc64;
use crate::s3::format::document::TOMBSTONE_SIZE;
use crate::s3::format::keys::Key;
use crate::s3::wire::large::Turn;

/// An entity tag, without its quotes: some stores leave them out in listings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ETag(String);

impl ETag {
    pub(super) fn parse(text: &str) -> Self {
        ETag(text.trim_start_matches("W/").trim_matches('"').to_owned())
    }

    /// As RFC 9110 has it.
    pub(super) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// S3's id of a multipart upload; our own id of an upload is its UUID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct UploadId(pub(super) String);

impl UploadId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A part that S3 holds, as uploaded or as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedPart {
    pub(crate) number: u32,
    pub(crate) size: u64,
    pub(crate) etag: ETag,
    /// In base64, if the store returns it.
    pub(crate) crc64: Option<String>,
}

/// A part as Complete names it.
#[derive(Clone, Debug)]
pub(crate) struct CompletePart {
    pub(crate) number: u32,
    pub(crate) etag: ETag,
    pub(crate) crc64: Crc64,
}

/// The answer to HEAD of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectInfo {
    pub(crate) size: u64,
    pub(crate) etag: ETag,
    /// The full-object CRC64NVME in base64, where the store has one.
    pub(crate) crc64: Option<String>,
}

/// A small object, read whole.
#[derive(Debug)]
pub(crate) struct SmallObject {
    pub(crate) bytes: Bytes,
    pub(crate) etag: ETag,
    pub(crate) written: Written,
    /// Held until the bytes are decoded.
    pub(crate) turn: Turn,
}

impl SmallObject {
    /// For a caller that may read other documents while it has this one.
    pub(super) fn without_turn(mut self) -> Self {
        self.turn = Turn::default();
        self
    }
}

/// When an object was written, and when the store said so: both by its own clock, to the second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) at: Option<SystemTime>,
    pub(crate) answered_at: Option<SystemTime>,
}

impl Written {
    /// How old it was at the answer; `None` where the store does not say.
    pub(crate) fn age(&self) -> Option<Duration> {
        let (at, answered_at) = self.at.zip(self.answered_at)?;
        Some(answered_at.duration_since(at).unwrap_or_default())
    }
}

/// What has to hold for a write to be carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition<'a> {
    /// Nothing is stored under the key.
    Absent,
    /// What is stored has this ETag.
    Matches(&'a ETag),
}

/// How the conditions of writes are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ConditionForm {
    /// ETags have quotes.
    #[default]
    Quoted,
    /// ETags have no quotes: Ceph RGW compares the header literally.
    Bare,
    /// No condition is sent, for a single writer: it looks before it writes, and its writes of one
    /// key take turns.
    Unsent,
}

impl Condition<'_> {
    /// Whether it holds of what is stored.
    pub(super) fn holds(self, stored: Option<&ObjectInfo>) -> bool {
        match self {
            Condition::Absent => stored.is_none(),
            Condition::Matches(etag) => stored.is_some_and(|stored| stored.etag == *etag),
        }
    }
}

/// How a conditional write ended.
#[derive(Debug)]
pub(crate) enum Put {
    /// Ours is stored.
    Written(ETag),
    /// Another object is stored.
    Held(SmallObject),
    /// Nothing is stored under the key that should have matched.
    Gone,
}

/// An object in a listing.
#[derive(Clone, Debug)]
pub(crate) struct ListedObject {
    pub(crate) key: Key,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    /// If the store returns it.
    pub(crate) etag: Option<ETag>,
}

impl ListedObject {
    /// Whether it is what a removed document has left, by its size.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.size == TOMBSTONE_SIZE
    }
}

/// A page of a listing.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<ListedObject>,
    pub(crate) next: Option<String>,
    /// The store's clock, if it is in the answer.
    pub(crate) date: Option<SystemTime>,
}

impl Page {
    /// The objects that are no tombstones.
    pub(crate) fn present(&self) -> impl Iterator<Item = &ListedObject> {
        self.objects.iter().filter(|object| !object.is_tombstone())
    }

    /// How long ago an object was written, by the store's own clock.
    pub(crate) fn age(&self, object: &ListedObject, now: SystemTime) -> Duration {
        self.date
            .unwrap_or(now)
            .duration_since(object.modified)
            .unwrap_or(Duration::ZERO)
    }
}
