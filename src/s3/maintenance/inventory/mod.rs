//! What is in the bucket: uploads under way, layers, and what is known of one of them.
//!
//! 1. A listing is a stream: it holds a page of a thousand keys, and the few documents that are
//!    read at a time, however much there is.
//! 2. An unreadable entry is listed among the others, with the reason, and does not end the listing.
//! 3. An entry that is removed meanwhile is left out; a new one may be listed or not.
//! 4. The age of an upload is that of its youngest object, by the store's clock. A
//!    [sweep](crate::s3::maintenance::sweep) goes by the same [walk].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{BoxStream, StreamExt as _};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::S3LayerService;
use crate::s3::bucket::{Store, objects};
use crate::s3::commit::{self, cleanup};
use crate::s3::format::record::{Segment, StoredLayer};
use crate::s3::session::owned::{CancelScope, OwnedSession};
use s3layers_tarsum::{Algorithm, Digest};

mod find;
mod layers;
mod plan;
mod uploads;
mod walk;

pub use plan::UploadPhase;
pub(crate) use plan::{Found, ListedSession};
pub(crate) use walk::{digests, found, pages};

/// How many documents one listing reads at a time.
const READS_AT_ONCE: usize = 8;

/// An upload that is not finished or removed.
#[derive(Debug)]
pub struct UploadEntry {
    /// The upload.
    pub uuid: Uuid,
    /// How long ago its youngest object was written, by the store's clock.
    pub age: Duration,
    /// When that was.
    pub written_at: SystemTime,
    /// What its session says, or why that could not be read. `None` where there is no session, but
    /// objects of an owner that lost the upload: nothing can come of it.
    pub state: Result<Option<UploadState>>,
}

/// What the session of an upload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadState {
    /// The repository that it was begun for.
    pub name: RepositoryName,
    /// The id that it was begun for, where one was declared.
    pub declared: Option<LayerId>,
    /// Where it is in its life.
    pub phase: UploadPhase,
    /// The bytes that were acknowledged: a resume continues there, or a little later.
    pub offset: u64,
    /// When it was begun, by the clock of that process.
    pub begun_at: SystemTime,
}

/// A layer in a listing.
#[derive(Debug)]
#[non_exhaustive]
pub struct LayerEntry {
    /// The SHA-256 of the layer's bytes.
    pub digest: Digest,
    /// What its record says, or why that could not be read.
    pub info: Result<LayerInfo>,
}

/// What the record of a layer says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerInfo {
    /// The SHA-256 of the layer's bytes.
    pub digest: Digest,
    /// Other ids that were verified for these bytes, and that this record knows of: another digest,
    /// a TarSum.
    pub aliases: Vec<LayerId>,
    /// In bytes.
    pub size: u64,
    /// The repository that the layer was first published in. Where a repository is listed and the
    /// bytes are within the link itself (16 KiB at most), that repository.
    pub name: RepositoryName,
    /// When it was published, by the clock of that process.
    pub created_at: SystemTime,
    /// The objects that have the bytes, in order. None where the record itself has them.
    pub objects: Vec<LayerObject>,
}

/// An object that has bytes of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerObject {
    /// Its key.
    pub key: String,
    /// The ETag that was recorded.
    pub etag: String,
    /// How many bytes of the layer it has.
    pub size: u64,
}

/// A layer, and how its object was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerStat {
    /// What its record says.
    pub info: LayerInfo,
    /// What is wrong with the objects that have its bytes, in words. `None` where all are there with
    /// the recorded size, and the recorded ETag or checksum.
    pub damage: Option<String>,
}

impl LayerInfo {
    fn new(layer: &StoredLayer, store: &Store) -> Self {
        // Every timestamp that a record can hold is one of the system's as well.
        let created_at = SystemTime::try_from(layer.created_at);
        let object = |segment: &Segment| LayerObject {
            key: store.keys.segment(layer.upload, &segment.name).to_string(),
            etag: segment.etag.to_string(),
            size: segment.sum.len(),
        };
        LayerInfo {
            digest: layer.digest.clone(),
            aliases: layer.aliases.clone(),
            size: layer.size,
            name: layer.repository.clone(),
            created_at: created_at.unwrap_or(SystemTime::UNIX_EPOCH),
            objects: layer.segments().iter().map(object).collect(),
        }
    }
}

/// What is in the store.
impl S3LayerService {
    /// All uploads that are not finished or removed, in the order of their UUIDs.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage) where the listing failed; the stream ends with it. An
    /// upload whose session could not be read is an item with the reason.
    ///
    /// # Cost
    ///
    /// One request for a thousand objects, and one for each upload. In memory a page, and eight
    /// sessions, of which one is a megabyte where an upload has ten thousand parts.
    pub fn uploads(&self) -> BoxStream<'static, Result<UploadEntry>> {
        uploads::entries(Arc::clone(&self.store)).boxed()
    }

    /// The digests of stored layers that begin with these hex digits, in order: at most `limit` of
    /// them, and at most a thousand. A layer is found by each digest that it was published under.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage) where the store gave no answer.
    ///
    /// # Cost
    ///
    /// One request, and more where many layers have been removed.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    pub async fn find(
        &self,
        algorithm: Algorithm,
        hex_prefix: &str,
        limit: usize,
    ) -> Result<Vec<Digest>> {
        find::beginning(&self.store, algorithm, hex_prefix, limit).await
    }

    /// Removes an upload and all its bytes, also if its handle is in another process: that handle fails with
    /// [`UploadUnknown`](crate::Error::UploadUnknown). One that is being committed is committed
    /// instead, and the answer is `UploadUnknown`. A failure of that which can be retried is returned, and
    /// nothing changes. After any other one it is cancelled: parts that are not assembled go at once, data objects stay for
    /// 20 hours, since another process may publish them, and a [`sweep`](Self::sweep) removes them then.
    /// Objects without a session, and a damaged session, are removed too; data and multipart upload of the latter stay, and a
    /// [`check`](Self::check) lists the data.
    ///
    /// # Errors
    ///
    /// [`UploadUnknown`](crate::Error::UploadUnknown) where there is none, or where it was committed;
    /// an [`UploadConflict`](crate::Error::UploadConflict) where its owner keeps writing;
    /// `NewerVersion` where its session is of a newer version; [`Storage`](crate::Error::Storage).
    ///
    /// # Cost
    ///
    /// As [`LayerUpload::cancel`](crate::contract::LayerUpload::cancel), and one request more.
    ///
    /// # Cancellation
    ///
    /// The upload may be there as before, or be cancelled with some of it left. Calling again continues,
    /// and so does a sweep.
    pub async fn cancel_upload(&self, uuid: Uuid) -> Result<()> {
        self.sessions.forget(&self.store.keys, uuid);
        match OwnedSession::load(&self.store, uuid).await {
            Ok(Some(mut owned)) => commit::cancel(&self.store, &mut owned, CancelScope::Open).await,
            Ok(None) => cleanup::remove_orphaned_tails(&self.store, uuid).await,
            Err(Error::Damaged { .. }) => {
                let below = objects::below(&self.store, &self.store.keys.upload(uuid)).await?;
                let keys: Vec<_> = below.into_iter().map(|object| object.key).collect();
                self.store.remove_all(&keys).await
            }
            Err(error) => Err(error),
        }
    }

    /// All layers in the bucket, in the order of their digests.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage) where the listing failed; the stream ends with it. A
    /// layer whose record could not be read is an item with the reason.
    ///
    /// # Cost
    ///
    /// One request for a thousand layers, and one for each. In memory a page, and eight records of
    /// a byte for each megabyte of their layers.
    pub fn layers(&self) -> BoxStream<'static, Result<LayerEntry>> {
        layers::entries(Arc::clone(&self.store), None).boxed()
    }

    /// The layers that are linked in a repository, in the order of their digests. None where there
    /// is no such repository.
    ///
    /// # Errors
    ///
    /// As [`layers`](Self::layers).
    ///
    /// # Cost
    ///
    /// As [`layers`](Self::layers).
    pub fn layers_of(&self, name: &RepositoryName) -> BoxStream<'static, Result<LayerEntry>> {
        layers::entries(Arc::clone(&self.store), Some(name.clone())).boxed()
    }

    /// What is known of a layer, and whether the object that has its bytes is there. The bytes are
    /// not read.
    ///
    /// # Errors
    ///
    /// [`LayerUnknown`](crate::Error::LayerUnknown); [`Damaged`](crate::Error::Damaged) where its
    /// record cannot be read; [`Storage`](crate::Error::Storage).
    ///
    /// # Cost
    ///
    /// 1 request, and 1 for each object; 1 more by another id than the SHA-256.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    pub async fn stat(&self, id: &LayerId) -> Result<LayerStat> {
        layers::stat(&self.store, id).await
    }
}
