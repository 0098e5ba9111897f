//! Beginning an upload: the session first, then the claim, then a look whether the session is still
//! there: a sweep in between would leave the claim of an upload that does not exist.

use std::sync::Arc;

use super::S3LayerUpload;
use super::session_cache::SessionCache;
use super::uploader::Uploader;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::bucket::presence;
use crate::s3::session::owned::OwnedSession;
use crate::s3::session::plan::schedule::Schedule;
use crate::s3::session::{Phase, Session, claim};

/// A fresh upload.
pub(crate) async fn begin(
    store: &Arc<Store>,
    sessions: &Arc<SessionCache>,
    name: &RepositoryName,
    id: Option<&LayerId>,
) -> Result<S3LayerUpload> {
    if let Some(id) = id {
        match store.layer(id).await {
            Ok(Some(layer)) if presence::present(store, &layer).await?.is_some() => {
                return Err(Error::LayerExists { id: id.clone() });
            }
            // An upload replaces a damaged record, and one whose bytes are gone.
            Ok(_) | Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let session = Session::begun(name, id, schedule(store));
    let owned = OwnedSession::create(store, session).await?;
    let uuid = owned.uuid();
    if let Some(id) = id {
        if let Err(refusal) = claim::take(store, name, id, uuid).await {
            if let Err(error) = store.api.delete(&store.keys.session(uuid)).await {
                tracing::warn!(%uuid, ?error, "left an upload that did not begin to the sweep");
            }
            return Err(refusal);
        }
        let now = OwnedSession::load(store, uuid).await?;
        if now.is_none_or(|now| now.get().phase != Phase::Open) {
            // A sweep or a cancel came between session and claim, and has not seen the claim.
            claim::release(store, name, id, uuid).await?;
            return Err(Error::UploadUnknown { uuid });
        }
    }
    let uploader = Uploader::new(Arc::clone(store), owned, id.cloned())?;
    Ok(S3LayerUpload::start(uploader, sessions))
}

/// The part sizes of an upload that begins now.
pub(crate) fn schedule(store: &Store) -> Schedule {
    let profile = &store.profile;
    Schedule::new(
        store.part_size,
        store.memory_budget,
        profile.equal_parts,
        profile.max_object_size,
    )
}
