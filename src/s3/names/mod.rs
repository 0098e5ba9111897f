//! Which repositories there are: a marker for each below `names/`, so that one listing gives their
//! names in order. A repository exists while it has an *entry*: a link, a manifest or a tag.
//!
//! A marker is *absent*, *live* or *emptied*, and is never removed. Live and emptied are objects of
//! two constant sizes, which a listing shows. Live means that there are entries. Emptied says nothing:
//! readers look for entries. Emptied markers differ by a nonce, so each has an ETag of its own.
//!
//! A writer ([`entry`]) makes sure that there is a marker before it acknowledges an entry, and writes
//! it live only after its entry: over an absent one, or over an emptied one that it had read before
//! it began to write the entry. So a writer that is killed leaves no marker without an entry. It
//! remembers which markers are there: they are never removed, so that is no question of freshness.
//!
//! A remover ([`removal()`]) looks for entries after it removed one. Where there are none, it writes
//! the marker emptied, with a fresh nonce, also over an emptied one. Every write is conditional on
//! the marker that was read.
//!
//! 1. *An acknowledged entry has a marker*: the writer created it or has read it.
//! 2. *No entries, no live marker*, once all calls have finished. Let the last entry be removed at t.
//!    Its remover finds none and reads the marker after t. Its conditional write leaves a marker that
//!    was emptied after t (its own, or that of another remover which came first); where it finds one
//!    that became live instead, it starts again. Afterwards the marker can only become live by a
//!    writer whose condition is an absent marker, or one emptied before that writer's entry, and so
//!    before t: neither stands there any more.
//! 3. *Lost answers and stray attempts*: an attempt that the store carries out late has the same
//!    condition, so 2 holds of it too. A late *emptied* is always true.
//! 4. *Kills*: a writer killed before its marker leaves an entry that was never acknowledged, and
//!    that the catalog may not show until the push is repeated or continued. A remover killed before
//!    its marker leaves a live one, which the catalog shows, until the removal is repeated: one that
//!    finds nothing to remove looks for entries too. `check` finds such a marker, and its repair is that look.
//! 5. *No conditional writes* (one writer process, as was declared): writers and removers in that
//!    process take turns.
//!
//! `tests/it/names.rs` plays orders of the requests of writers and removers, strays and kills.

use serde::{Deserialize, Serialize};
use tokio::sync::RwLockReadGuard;

use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::bucket::markers::Known;
use crate::s3::format::document::{Document, decode, encode};
use crate::s3::format::keys::Key;
use crate::s3::wire::{Condition, ETag, Put, SmallObject};
pub(crate) use removal::{has_entries, is_live, removal, removal_of_many};

mod removal;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    version: u32,
    /// A fresh nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    emptied: Option<String>,
}

impl Document for Marker {
    const WHAT: &'static str = "marker of a repository";
    const VERSION: u32 = 1;
}

/// What a marker is, as it was read.
fn judge(key: &Key, marker: &SmallObject) -> Known {
    match decode::<Marker>(key, &marker.bytes) {
        Ok(Marker {
            emptied: Some(_), ..
        }) => Known::Emptied(marker.etag.clone()),
        _ => Known::Present,
    }
}

/// Runs the write of an entry, and makes sure that the repository has a marker before it returns.
///
/// # Cost
///
/// Nothing where this process knows the marker. Else 1 request at the same time; where that finds no
/// marker, 1 more afterwards. Where the repository was emptied, 1 more with the next entry.
///
/// # Errors
///
/// Those of `write`; `Storage` where the marker could not be read or written.
///
/// # Cancellation
///
/// As `write`; the entry may be there without a marker, until a call is repeated.
pub(crate) async fn entry<T>(
    store: &Store,
    name: &RepositoryName,
    write: impl Future<Output = Result<T>>,
) -> Result<T> {
    let key = store.keys.name(name);
    let _turn = shared_turn(store).await;
    match store.names.known.get(&key) {
        Some(Known::Present) => write.await,
        Some(Known::Emptied(etag)) => {
            let written = write.await?;
            Box::pin(revive(store, &key, &etag)).await;
            Ok(written)
        }
        None => {
            let (written, marker) = tokio::join!(write, store.api.get_small(&key));
            let (written, marker) = (written?, marker?);
            let known = match marker {
                Some(marker) => judge(&key, &marker),
                None => Box::pin(create(store, &key)).await?,
            };
            store.names.remember(&key, known);
            Ok(written)
        }
    }
}

async fn shared_turn(store: &Store) -> Option<RwLockReadGuard<'_, ()>> {
    if store.profile.conditional_writes {
        return None;
    }
    Some(store.names.turns.read().await)
}

fn live() -> Marker {
    Marker {
        version: Marker::VERSION,
        emptied: None,
    }
}

/// Writes a live marker where there was none.
async fn create(store: &Store, key: &Key) -> Result<Known> {
    let marker = encode(&live())?;
    match store.api.put_if(key, marker, Condition::Absent).await? {
        Put::Held(held) => Ok(judge(key, &held)),
        Put::Written(_) | Put::Gone => Ok(Known::Present),
    }
}

/// Writes a live marker over this emptied one. It is there in any case, so a failure only costs its
/// readers a look.
async fn revive(store: &Store, key: &Key, emptied: &ETag) {
    store.names.remember(key, Known::Present);
    let revived = async {
        let condition = Condition::Matches(emptied);
        store.api.put_if(key, encode(&live())?, condition).await?;
        Ok::<_, Error>(())
    };
    if let Err(error) = revived.await {
        tracing::debug!(%key, %error, "could not write a marker live");
    }
}
