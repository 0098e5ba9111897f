//! The removal of entries, and whether a repository has any.

use tokio::sync::RwLockWriteGuard;

use super::{Known, Marker, judge};
use crate::clock;
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::s3::bucket::{ROUNDS, Store, contended};
use crate::s3::format::document::{Document as _, TOMBSTONE_SIZE, decode, encode};
use crate::s3::wire::{Condition, ListedObject, Put};

/// The size of a live marker in bytes. One of another size was emptied.
const LIVE_SIZE: u64 = 49;

/// Objects of the first page of a look for entries: one of them nearly always is an entry.
const FIRST_PAGE: usize = 10;
/// Objects of its other pages.
const PAGE: usize = 1000;

/// Whether a marker of this size says that its repository has entries. The others say nothing.
pub(crate) fn is_live(size: u64) -> bool {
    size == LIVE_SIZE
}

/// Whether this repository has a link, a manifest or a tag.
///
/// # Cost
///
/// 1 request. One more for each thousand of tombstones, or of referrers that were left behind.
pub(crate) async fn has_entries(store: &Store, name: &RepositoryName) -> Result<bool> {
    let repository = store.keys.repository(name);
    let (prefix, referrers) = (format!("{repository}_"), format!("{repository}_referrers/"));
    // Every character of a key sorts before `~`.
    let mut after = format!("{repository}_claims/~");
    let mut limit = FIRST_PAGE;
    loop {
        let (objects, goes_on) = store.api.list_after(&prefix, Some(&after), limit).await?;
        let is_entry = |object: &ListedObject| {
            object.size != TOMBSTONE_SIZE && !object.key.as_str().starts_with(&referrers)
        };
        if objects.iter().any(is_entry) {
            return Ok(true);
        }
        let Some(last) = objects.last().filter(|_| goes_on) else {
            return Ok(false);
        };
        after = last.key.to_string();
        limit = PAGE;
    }
}

/// Runs the removal of an entry, which returns whether there was one. Where the repository has no
/// entries afterwards, its marker is written as emptied.
///
/// # Cost
///
/// 1 request; 2 more where there are no entries.
///
/// # Errors
///
/// Those of `remove`; `Storage` where the marker could not be written. A repeated call continues.
///
/// # Cancellation
///
/// As `remove`; the marker may say that there are entries, until a call is repeated.
pub(crate) async fn removal(
    store: &Store,
    name: &RepositoryName,
    remove: impl Future<Output = Result<bool>>,
) -> Result<bool> {
    let _turn = turn(store).await;
    let removed = remove.await?;
    if !has_entries(store, name).await? {
        mark_emptied(store, name, removed).await?;
    }
    Ok(removed)
}

/// As [`removal`] of one of many entries, without the look for others: that has to follow the last one.
pub(crate) async fn removal_of_many<T>(
    store: &Store,
    remove: impl Future<Output = Result<T>>,
) -> Result<T> {
    let _turn = turn(store).await;
    remove.await
}

/// Keeps the writers of entries out where the store has no conditional writes.
async fn turn(store: &Store) -> Option<RwLockWriteGuard<'_, ()>> {
    if store.profile.conditional_writes {
        return None;
    }
    Some(store.names.turns.write().await)
}

/// Writes the marker as emptied, unless there are entries by now.
async fn mark_emptied(store: &Store, name: &RepositoryName, removed: bool) -> Result<()> {
    let key = store.keys.name(name);
    let marker = encode(&Marker {
        version: Marker::VERSION,
        emptied: Some(clock::new_nonce()),
    })?;
    for _ in 0..ROUNDS {
        let standing = store.api.get_small(&key).await?;
        let condition = match &standing {
            // A request for what never was there leaves nothing behind.
            None if !removed => return Ok(()),
            None => Condition::Absent,
            Some(standing) => {
                let read = decode::<Marker>(&key, &standing.bytes);
                if let Err(Error::NewerVersion { .. }) = read {
                    return Ok(());
                }
                Condition::Matches(&standing.etag)
            }
        };
        let known = match store.api.put_if(&key, marker.clone(), condition).await? {
            Put::Written(etag) => Known::Emptied(etag),
            Put::Held(held) => judge(&key, &held),
            Put::Gone => continue,
        };
        let is_emptied = known != Known::Present;
        store.names.remember(&key, known);
        if is_emptied || has_entries(store, name).await? {
            return Ok(());
        }
    }
    Err(contended(&key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::live;
    use super::*;

    #[test]
    fn size_distinguishes_a_live_marker_from_an_emptied_one() {
        let emptied = || Marker {
            version: Marker::VERSION,
            emptied: Some(clock::new_nonce()),
        };
        let size = |marker: &Marker| encode(marker).unwrap().len() as u64;
        assert_eq!(size(&live()), LIVE_SIZE);
        assert_ne!(size(&emptied()), LIVE_SIZE);
        assert_ne!(encode(&emptied()).unwrap(), encode(&emptied()).unwrap());
    }
}
