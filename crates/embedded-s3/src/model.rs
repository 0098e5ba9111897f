//! Buckets, objects, uploads and parts, as the metadata stores them. Pure data.
//!
//! A field may be added if it has a default. Any other change of format needs a new version of the
//! metadata.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::checksum::{Algorithm, Kind, Sum};

/// The name of immutable bytes, which belong to one object or part.
pub(crate) type BlobId = Uuid;

/// The headers that a client stores with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A part of an upload, or of the object that the upload became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) number: u16,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) modified: Timestamp,
    /// In the algorithm of its object or upload, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<String>,
    /// `None` if it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blob: Option<BlobId>,
}

/// An object. If it was a multipart upload, its parts are those stored for the upload id, so Complete
/// moves no byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    pub(crate) attributes: Attributes,
    pub(crate) sum: Option<Sum>,
    pub(crate) kind: Kind,
    /// The bytes of an object that was not a multipart upload; `None` if it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blob: Option<BlobId>,
    /// The multipart upload that the object was. A repeated Complete is recognised by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload_id: Option<String>,
}

/// A multipart upload that was not completed or aborted. Its parts are stored apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) initiated: Timestamp,
    pub(crate) attributes: Attributes,
    pub(crate) algorithm: Algorithm,
    pub(crate) kind: Kind,
    /// Whether the client chose the algorithm. If it did, S3 is stricter at Complete.
    pub(crate) declared: bool,
}

/// A bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) created: Timestamp,
    pub(crate) region: Option<String>,
}

/// The store's clock, in milliseconds, as in S3.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
