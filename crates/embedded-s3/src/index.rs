//! What the store knows: buckets, objects, uploads and where their bytes are. Pure data.
//!
//! It changes by a [`Change`] only. A folder stores the changes before they are applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::checksum::{Algorithm, Kind, Sum};

/// The name of some bytes. They never change, and belong to one part of one object or upload.
pub(crate) type BlobId = Uuid;

/// What a client may say about an object besides its bytes.
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

/// A part of an upload, or of the object that came of it. The body of a plain PUT is part 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) number: u16,
    pub(crate) size: u64,
    /// The MD5 of its bytes in hex.
    pub(crate) etag: String,
    pub(crate) modified: Timestamp,
    /// In the algorithm of its object or upload, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<String>,
    /// `None` if it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blob: Option<BlobId>,
}

/// An object. It is a list of immutable parts, so completing an upload moves no byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    pub(crate) attributes: Attributes,
    pub(crate) sum: Option<Sum>,
    pub(crate) kind: Kind,
    pub(crate) parts: Vec<Part>,
    /// The multipart upload it came of: how a second Complete knows that it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload_id: Option<String>,
}

/// A multipart upload that is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) initiated: Timestamp,
    pub(crate) attributes: Attributes,
    pub(crate) algorithm: Algorithm,
    pub(crate) kind: Kind,
    /// Whether the client chose the algorithm. If it did, S3 is stricter at Complete.
    pub(crate) declared: bool,
    /// Stored apart.
    #[serde(skip)]
    pub(crate) parts: BTreeMap<u16, Part>,
}

/// A bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) created: Timestamp,
    pub(crate) region: Option<String>,
    pub(crate) objects: BTreeMap<String, Arc<Object>>,
    /// By key, then by upload id. Ids begin with the time, so this is the order in which S3 lists.
    pub(crate) uploads: BTreeMap<(String, String), Upload>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) buckets: BTreeMap<String, Bucket>,
}

/// A change of the index.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    CreateBucket {
        bucket: String,
        created: Timestamp,
        region: Option<String>,
    },
    DeleteBucket {
        bucket: String,
    },
    PutObject {
        bucket: String,
        key: String,
        object: Object,
    },
    DeleteObject {
        bucket: String,
        key: String,
    },
    CreateUpload {
        bucket: String,
        key: String,
        upload_id: String,
        upload: Upload,
    },
    PutPart {
        bucket: String,
        key: String,
        upload_id: String,
        part: Part,
    },
    Abort {
        bucket: String,
        key: String,
        upload_id: String,
    },
    Complete {
        bucket: String,
        key: String,
        upload_id: String,
        object: Object,
    },
}

impl Index {
    /// Applies a change, and returns the blobs that are no longer referenced. A change that names
    /// what is not there changes nothing but frees the blobs it brought.
    pub(crate) fn apply(&mut self, change: Change) -> Vec<BlobId> {
        match change {
            Change::CreateBucket {
                bucket,
                created,
                region,
            } => {
                self.buckets.entry(bucket).or_insert_with(|| Bucket {
                    created,
                    region,
                    ..Bucket::default()
                });
                Vec::new()
            }
            Change::DeleteBucket { bucket } => self
                .buckets
                .remove(&bucket)
                .map(|bucket| bucket.blobs().collect())
                .unwrap_or_default(),
            Change::PutObject {
                bucket,
                key,
                object,
            } => match self.buckets.get_mut(&bucket) {
                Some(bucket) => bucket.put(key, object),
                None => object.blobs().collect(),
            },
            Change::DeleteObject { bucket, key } => self
                .buckets
                .get_mut(&bucket)
                .and_then(|bucket| bucket.objects.remove(&key))
                .map(|object| object.blobs().collect())
                .unwrap_or_default(),
            Change::CreateUpload {
                bucket,
                key,
                upload_id,
                upload,
            } => {
                if let Some(bucket) = self.buckets.get_mut(&bucket) {
                    bucket.uploads.insert((key, upload_id), upload);
                }
                Vec::new()
            }
            Change::PutPart {
                bucket,
                key,
                upload_id,
                part,
            } => {
                let upload = self
                    .buckets
                    .get_mut(&bucket)
                    .and_then(|bucket| bucket.uploads.get_mut(&(key, upload_id)));
                match upload {
                    Some(upload) => upload
                        .parts
                        .insert(part.number, part)
                        .and_then(|old| old.blob),
                    None => part.blob,
                }
                .into_iter()
                .collect()
            }
            Change::Abort {
                bucket,
                key,
                upload_id,
            } => self
                .buckets
                .get_mut(&bucket)
                .and_then(|bucket| bucket.uploads.remove(&(key, upload_id)))
                .map(|upload| upload.blobs().collect())
                .unwrap_or_default(),
            Change::Complete {
                bucket,
                key,
                upload_id,
                object,
            } => self.complete(&bucket, key, upload_id, object),
        }
    }

    fn complete(
        &mut self,
        bucket: &str,
        key: String,
        upload_id: String,
        object: Object,
    ) -> Vec<BlobId> {
        let Some(bucket) = self.buckets.get_mut(bucket) else {
            return object.blobs().collect();
        };
        let upload = bucket.uploads.remove(&(key.clone(), upload_id));
        let mut freed: Vec<BlobId> = upload.iter().flat_map(Upload::blobs).collect();
        let kept: std::collections::HashSet<BlobId> = object.blobs().collect();
        freed.retain(|blob| !kept.contains(blob));
        freed.extend(bucket.put(key, object));
        freed
    }

    /// Every blob that something refers to.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.buckets.values().flat_map(Bucket::blobs)
    }
}

impl Bucket {
    fn put(&mut self, key: String, object: Object) -> Vec<BlobId> {
        self.objects
            .insert(key, Arc::new(object))
            .map(|old| old.blobs().collect())
            .unwrap_or_default()
    }

    fn blobs(&self) -> impl Iterator<Item = BlobId> {
        let objects = self.objects.values().flat_map(|object| object.blobs());
        objects.chain(self.uploads.values().flat_map(Upload::blobs))
    }
}

impl Object {
    /// The blobs of its parts.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.parts.iter().filter_map(|part| part.blob)
    }
}

impl Upload {
    fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.parts.values().filter_map(|part| part.blob)
    }
}
