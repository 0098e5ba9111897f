//! When a deleted manifest is forgotten: when it cannot be restored any more, or after long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;

use super::restore;
use super::trash::read;
use crate::clock;
use crate::error::Result;
use crate::s3::S3LayerService;
use crate::s3::bucket::Store;
use crate::s3::format::keys::Key;
use crate::s3::maintenance::inventory::pages;

/// Removes the entries that were deleted `most` ago or earlier, and those that were deleted `least` ago or earlier and
/// cannot be restored any more. How many.
async fn forget(store: &Arc<Store>, least: Duration, most: Duration) -> Result<u64> {
    let mut removed = 0;
    let mut pages = pages(store, store.keys.trash());
    while let Some(page) = pages.try_next().await? {
        let now = clock::now();
        let mut keys = Vec::new();
        // One after the other: as JSON values a manifest takes many times its 4 MiB.
        for object in &page.objects {
            let age = page.age(object, now);
            if age >= most || (age >= least && is_lost(store, &object.key).await?) {
                keys.push(object.key.clone());
            }
        }
        store.remove_all(&keys).await?;
        removed += keys.len() as u64;
    }
    Ok(removed)
}

/// Whether it cannot be restored any more.
async fn is_lost(store: &Arc<Store>, key: &Key) -> Result<bool> {
    let Some(entry) = read(store, key).await? else {
        return Ok(false);
    };
    match restore::is_possible(store, &entry).await {
        Ok(is_possible) => Ok(!is_possible),
        // What it needs may be repaired.
        Err(error) if error.is_unreadable() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Forgets manifests that cannot be restored any more, `settled` after their deletion: collections have freed their
/// layers by then, unless something kept them. After six times as long also the others: an image that shares
/// all of its layers could be restored forever.
///
/// # Cost
///
/// 1 request for a thousand; some 2 for each that is older than `settled`, and 1 for each layer that is there.
pub(crate) async fn expire(store: &Arc<Store>, settled: Duration) -> Result<u64> {
    forget(store, settled, settled * 6).await
}

impl S3LayerService {
    /// Forgets manifests that were deleted `older_than` ago or earlier: they cannot be restored any
    /// more. How many. Their bytes go with the next collections, as before.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage).
    ///
    /// # Cost
    ///
    /// 2 requests for a thousand.
    ///
    /// # Cancellation
    ///
    /// Some may be forgotten.
    pub async fn empty_trash(&self, older_than: Duration) -> Result<u64> {
        forget(&self.store, older_than, older_than).await
    }
}
