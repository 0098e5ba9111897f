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
use super::presence::Looks;
use super::profile::StoreProfile;
use super::record::Record;
use super::upload::Left;
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
    /// Data objects that this process has looked at.
    pub(crate) looks: Looks,
    /// Uploads that a handle of this process has let go of.
    pub(crate) left: Cache<Left>,
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

    /// Stores a document, whatever stands there; the last writer wins. Every write is conditional,
    /// so that a stray attempt cannot undo a later write.
    ///
    /// A write that is refused because another one landed after this call had looked is not
    /// repeated: the call has taken effect just before the other one, which overwrote it at once.
    /// Nobody can have read in between, so this order explains every answer.
    ///
    /// # Cost
    ///
    /// 1 request where nothing stands there, else 3.
    pub(crate) async fn overwrite(&self, key: &Key, document: Bytes) -> Result<()> {
        let mut seen: Option<Option<ETag>> = None;
        loop {
            let standing = seen.as_ref().and_then(Option::as_ref);
            let condition = standing.map_or(Condition::Absent, Condition::Matches);
            match self.api.put_if(key, document.clone(), condition).await? {
                Put::Written(_) => return Ok(()),
                Put::Held(_) if seen.is_some() => return Ok(()),
                Put::Held(held) => seen = Some(Some(held.etag)),
                // What was removed has to be written again.
                Put::Gone => seen = Some(None),
            }
        }
    }

    /// Stores a document, unless the one that stands there will do: `keep` judges. The first write
    /// is conditional on `known`, if that is given.
    ///
    /// # Errors
    ///
    /// One that can be retried, where others keep replacing it with one that will not do.
    pub(crate) async fn put_unless(
        &self,
        key: &Key,
        document: Bytes,
        known: Option<ETag>,
        keep: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        let mut standing = known;
        for _ in 0..ROUNDS {
            let condition = standing.as_ref();
            let condition = condition.map_or(Condition::Absent, Condition::Matches);
            match self.api.put_if(key, document.clone(), condition).await? {
                Put::Written(_) => return Ok(()),
                Put::Held(held) if keep(&held.bytes) => return Ok(()),
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
