//! Claims: which upload brings a declared id to a repository, so that a second client resumes that
//! one instead of sending the same bytes twice.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::parts::is_resumable;
use crate::clock;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::{ROUNDS, Store, StoredDocument, contended};
use crate::s3::format::document::{Document, decode, encode};
use crate::s3::format::keys::Key;
use crate::s3::wire::{Condition, ETag, Put};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    version: u32,
    id: LayerId,
    uuid: Uuid,
    nonce: String,
}

impl Document for Claim {
    const WHAT: &'static str = "claim";
    const VERSION: u32 = 1;
}

/// Claims `id` for an upload whose session exists. A claim of an upload that is gone or cannot be
/// resumed is taken over.
///
/// # Errors
///
/// `UploadInProgress` where the claim is another upload's.
pub(crate) async fn take(
    store: &Store,
    name: &RepositoryName,
    id: &LayerId,
    uuid: Uuid,
) -> Result<()> {
    let key = store.keys.claim(name, id);
    let claim = Claim {
        version: Claim::VERSION,
        id: id.clone(),
        uuid,
        nonce: clock::new_nonce(),
    };
    let document = encode(&claim)?;
    let mut standing: Option<ETag> = None;
    for _ in 0..=ROUNDS {
        let condition = standing.as_ref();
        let condition = condition.map_or(Condition::Absent, Condition::Matches);
        let put = store.api.put_if(&key, document.clone(), condition);
        let held = match put.await? {
            Put::Written(_) => return Ok(()),
            Put::Gone => {
                standing = None;
                continue;
            }
            Put::Held(held) => held,
        };
        let held_by = match decode::<Claim>(&key, &held.bytes) {
            Ok(other) if other.id == *id => Some(other),
            Ok(_) | Err(Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(other) = held_by
            && is_resumable(store, other.uuid).await?
        {
            let (name, id, uuid) = (name.clone(), id.clone(), other.uuid);
            return Err(Error::UploadInProgress { name, id, uuid });
        }
        standing = Some(held.etag);
    }
    Err(contended(&key))
}

/// The upload that a claim names.
///
/// # Errors
///
/// `Damaged` where the claim cannot be read.
pub(crate) async fn holder(store: &Store, key: &Key) -> Result<Option<Uuid>> {
    let loaded = store.load::<Claim>(key).await?;
    Ok(loaded.map(|loaded| loaded.document.uuid))
}

/// Removes the claim of an upload that ends. One that another upload has taken over stays.
///
/// Where the store deletes without a condition, another upload may take the claim over between the
/// look and the removal, and continue without a claim. A third upload of the same id then sends the
/// same bytes a second time; nothing is lost.
pub(crate) async fn release(
    store: &Store,
    name: &RepositoryName,
    id: &LayerId,
    uuid: Uuid,
) -> Result<()> {
    let key = store.keys.claim(name, id);
    match store.load::<Claim>(&key).await {
        Ok(Some(StoredDocument { document, etag, .. })) if document.uuid == uuid => {
            if store.profile.conditional_deletes {
                store.api.delete_if(&key, &etag).await?;
            } else {
                store.api.delete(&key).await?;
            }
            Ok(())
        }
        // The next upload that declares the id replaces a damaged one. A newer one is another upload's.
        Ok(_) => Ok(()),
        Err(error) if error.is_unreadable() => Ok(()),
        Err(error) => Err(error),
    }
}
