//! Claims: which upload is bringing a declared id to a repository, so that a second client is told
//! to resume it and does not send the same bytes twice.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::resume::is_resumable;
use crate::clock;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::api::{Condition, Put};
use crate::s3::document::{Document, decode, encode};
use crate::s3::store::{Loaded, Store};

/// How often a claim is contended for before that is told as an error that can be retried.
const ROUNDS: u32 = 5;

#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    version: u32,
    uuid: Uuid,
    nonce: String,
}

impl Document for Claim {
    const WHAT: &'static str = "claim";
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

/// Claims `id` for an upload whose session exists. A claim of an upload that is gone or cannot be
/// resumed is taken over.
///
/// # Errors
///
/// `UploadInProgress` where the claim is another upload's.
pub(super) async fn take(
    store: &Store,
    name: &RepositoryName,
    id: &LayerId,
    uuid: Uuid,
) -> Result<()> {
    let key = store.keys.claim(name, id);
    let claim = Claim {
        version: Claim::VERSION,
        uuid,
        nonce: clock::new_nonce(),
    };
    let document = encode(&claim)?;
    let mut put = store
        .api
        .put_if(&key, document.clone(), Condition::Absent)
        .await?;
    for _ in 0..ROUNDS {
        let held = match put {
            Put::Written(_) => return Ok(()),
            Put::Gone => {
                put = store
                    .api
                    .put_if(&key, document.clone(), Condition::Absent)
                    .await?;
                continue;
            }
            Put::Held(held) => held,
        };
        if let Ok(other) = decode::<Claim>(&key, &held.bytes)
            && is_resumable(store, other.uuid).await?
        {
            let (name, id, uuid) = (name.clone(), id.clone(), other.uuid);
            return Err(Error::UploadInProgress { name, id, uuid });
        }
        put = store
            .api
            .put_if(&key, document.clone(), Condition::Matches(&held.etag))
            .await?;
    }
    let why = "others keep replacing the claim";
    let kind = StorageErrorKind::Unavailable;
    Err(Error::Storage(StorageError::new(
        "PutObject",
        key.as_str(),
        kind,
        why,
    )))
}

/// Removes the claim of an upload that ends. One that another upload has taken over stays.
///
/// A claim is only taken over from an upload that is gone, lost or cancelled. Of the last, somebody
/// may take it over between the look and the removal, and then go on without a claim: a third
/// upload of the same id is not sent to that one, and the same bytes may come twice. Nothing is
/// lost by it.
pub(super) async fn release(
    store: &Store,
    name: &RepositoryName,
    id: &LayerId,
    uuid: Uuid,
) -> Result<()> {
    let key = store.keys.claim(name, id);
    match store.load::<Claim>(&key).await {
        Ok(Some(Loaded { document, .. })) if document.uuid == uuid => {
            Ok(store.api.delete(&key).await?)
        }
        Ok(_) => Ok(()),
        // Whoever wants the id next replaces it.
        Err(Error::Damaged { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
