//! What every room of the adapter shares: the bucket, its keys, what it can do, and the byte
//! budget; and how a document is read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::api::{Api, Condition, ETag, Put};
use super::budget::Budget;
use super::cache::Cache;
use super::checksum::Crc64;
use super::document::{Document, decode};
use super::keys::{Key, Keys};
use super::profile::StoreProfile;
use super::record::Record;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::id::LayerId;

/// One bucket and root, as one service uses it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) api: Api,
    pub(crate) keys: Keys,
    pub(crate) profile: StoreProfile,
    pub(crate) budget: Arc<Budget>,
    /// In bytes; the budget's size.
    pub(crate) memory_budget: u64,
    /// In bytes.
    pub(crate) part_size: u64,
    /// Requests of one upload or reader at a time.
    pub(crate) parallelism: usize,
    pub(crate) presign_lifetime: Duration,
    /// Links that were read or written a moment ago.
    pub(crate) links: Cache<Arc<Record>>,
}

/// A document as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) document: T,
    pub(crate) etag: ETag,
}

/// How often a document that does not have its own checksum is read again: once may have been the
/// wire.
const READS: u32 = 3;

/// How often a document is contended for before that is told as an error that can be retried.
const ROUNDS: u32 = 5;

/// How long this process may not see that another one removed or changed a link, a tag or a
/// manifest.
pub(crate) const LINK_LIFETIME: Duration = Duration::from_secs(3);

/// The links that are remembered weigh no more than this, in bytes. Nobody asks for them where
/// there is no registry.
const LINK_BYTES: u64 = match cfg!(feature = "registry") {
    true => 16 * 1024 * 1024,
    false => 0,
};

/// None is remembered yet.
pub(crate) fn recent_links() -> Cache<Arc<Record>> {
    Cache::new(LINK_LIFETIME, LINK_BYTES)
}

impl Store {
    /// Reads a document; `None` where there is none.
    pub(crate) async fn load<T: Document>(&self, key: &Key) -> Result<Option<Loaded<T>>> {
        let mut reads = 0;
        loop {
            let Some(found) = self.api.get_small(key).await? else {
                return Ok(None);
            };
            reads += 1;
            match decode(key, &found.bytes) {
                Ok(document) => {
                    return Ok(Some(Loaded {
                        document,
                        etag: found.etag,
                    }));
                }
                Err(error) if reads == READS => return Err(error),
                Err(error) => tracing::warn!(%key, %error, "read again"),
            }
        }
    }

    /// The checksum to send along, where the store holds us to it.
    pub(crate) fn checksum(&self, sum: Crc64) -> Option<Crc64> {
        self.profile.crc64nvme.then_some(sum)
    }

    /// The record of a layer, found by any of its ids.
    pub(crate) async fn record(&self, id: &LayerId) -> Result<Option<Record>> {
        self.record_at(&self.keys.layer(id)).await
    }

    /// A record, an alias or a link.
    pub(crate) async fn record_at(&self, key: &Key) -> Result<Option<Record>> {
        let Some(Loaded { document, .. }) = self.load::<Record>(key).await? else {
            return Ok(None);
        };
        // A size that its checksums belie would be an early end of file.
        if !document.blocks.fit(document.size) {
            return Err(Error::Damaged {
                key: key.to_string(),
                reason: format!("{} bytes do not have these block sums", document.size),
            });
        }
        Ok(Some(document))
    }

    /// Stores a document, whatever stands there, unless that will do as it is: `keep` judges. Every
    /// write is conditional, the first one on `known`, if that is given. The ETag of what was
    /// written; `None` where the other was kept.
    ///
    /// # Errors
    ///
    /// One that can be retried, where others keep replacing it.
    pub(crate) async fn overwrite(
        &self,
        key: &Key,
        document: Bytes,
        known: Option<ETag>,
        keep: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<ETag>> {
        let mut standing = known;
        for _ in 0..ROUNDS {
            let condition = standing.as_ref();
            let condition = condition.map_or(Condition::Absent, Condition::Matches);
            match self.api.put_if(key, document.clone(), condition).await? {
                Put::Written(etag) => return Ok(Some(etag)),
                Put::Held(held) if keep(&held.bytes) => return Ok(None),
                Put::Held(held) => standing = Some(held.etag),
                Put::Gone => standing = None,
            }
        }
        let why = "others keep replacing it";
        let kind = StorageErrorKind::Unavailable;
        let key = key.as_str();
        Err(StorageError::new("PutObject", key, kind, why).into())
    }
}
