//! Whether the bytes of a layer are there.
//!
//! A record says where they are, but a lifecycle rule, an operator or the store itself may have
//! removed them. A layer whose bytes are gone must not look present: clients would skip its upload,
//! and it would never be repaired. So what says that a layer is present has looked at its data
//! object, or this process has within [`LOOK_LIFETIME`].

use std::time::Duration;

use super::api::ETag;
use super::cache::{Cache, Weigh};
use super::keys::Key;
use super::record::Record;
use super::store::Store;
use crate::error::Result;

/// How long a look at a data object is relied on.
const LOOK_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// What all of them weigh, in bytes: some 7,000 layers.
const LOOK_BYTES: u64 = 4 * 1024 * 1024;

/// The ETags of data objects that were there with the recorded size, by data key. A read that finds
/// the object missing or changed removes its entry.
pub(crate) type Looks = Cache<ETag>;

impl Weigh for ETag {
    fn weight(&self) -> u64 {
        64
    }
}

pub(crate) fn no_looks() -> Looks {
    Cache::new(LOOK_LIFETIME, LOOK_BYTES)
}

/// Looks whether the object that a record names is there, with the recorded size and ETag.
///
/// # Cost
///
/// 1 request.
pub(crate) async fn look(store: &Store, record: &Record) -> Result<bool> {
    let ticket = store.looks.ticket(&record.data);
    let found = store.api.head(&record.data).await?;
    let is_it = found.is_some_and(|found| found.size == record.size && found.etag == record.etag);
    if is_it {
        store
            .looks
            .insert(ticket, &record.data, record.etag.clone());
    } else {
        lost(store, &record.data);
    }
    Ok(is_it)
}

/// The object that a record names was just written or looked at.
pub(crate) fn seen(store: &Store, record: &Record) {
    let ticket = store.looks.ticket(&record.data);
    store
        .looks
        .insert(ticket, &record.data, record.etag.clone());
}

/// A data object turned out to be missing or another one.
pub(crate) fn lost(store: &Store, data: &Key) {
    store.looks.forget(data);
}

/// The record whose bytes are there: this one, or the one that replaced it, since an alias or a link
/// is not changed when the record that it repeats is replaced.
///
/// # Cost
///
/// None where this process looked within [`LOOK_LIFETIME`], else 1 request; up to 2 more where the
/// bytes are gone.
pub(crate) async fn present(store: &Store, record: &Record) -> Result<Option<Record>> {
    if is_known(store, record) || look(store, record).await? {
        return Ok(Some(record.clone()));
    }
    let Some(now) = store.record(&record.digest.clone().into()).await? else {
        return Ok(None);
    };
    let is_another = (&now.data, &now.etag) != (&record.data, &record.etag);
    if is_another && (is_known(store, &now) || look(store, &now).await?) {
        return Ok(Some(now.known_as(&record.also)));
    }
    Ok(None)
}

fn is_known(store: &Store, record: &Record) -> bool {
    let seen = store.looks.get(&record.data);
    seen.is_some_and(|etag| etag == record.etag)
}
