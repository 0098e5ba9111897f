//! What every room of the adapter shares: the bucket, its keys, what it can do, and the byte
//! budget; and how a document is read.

use std::sync::Arc;
use std::time::Duration;

use super::api::{Api, ETag};
use super::budget::Budget;
use super::checksum::Crc64;
use super::document::{Document, decode};
use super::keys::{Key, Keys};
use super::profile::StoreProfile;
use super::record::Record;
use crate::error::{Error, Result};
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
        let key = self.keys.layer(id);
        let Some(Loaded { document, .. }) = self.load::<Record>(&key).await? else {
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
}
