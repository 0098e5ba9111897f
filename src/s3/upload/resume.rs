//! Resuming an upload where the store has it.

use std::sync::Arc;

use uuid::Uuid;

use super::S3LayerUpload;
use super::session_cache::SessionCache;
use super::uploader::Uploader;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::session::Phase;
use crate::s3::session::owned::OwnedSession;
use crate::s3::session::parts::confirm_parts;

/// The upload, at the offset that the store has.
pub(crate) async fn resume(
    store: &Arc<Store>,
    sessions: &Arc<SessionCache>,
    name: &RepositoryName,
    id: Option<&LayerId>,
    uuid: Uuid,
) -> Result<S3LayerUpload> {
    let unknown = || Error::UploadUnknown { uuid };
    let mut lost: Option<String> = None;
    loop {
        let Some(mut owned) = OwnedSession::load(store, uuid).await? else {
            sessions.forget(&store.keys, uuid);
            return Err(unknown());
        };
        let session = owned.get();
        sessions.revalidate(&store.keys, session);
        let ids = id.zip(session.declared_id.as_ref());
        let is_another = ids.is_some_and(|(id, declared)| id != declared);
        let is_cancelled = matches!(session.phase, Phase::Cancelled(_));
        if session.repository != *name || is_another || is_cancelled {
            return Err(unknown());
        }
        let declared = id.cloned().or_else(|| session.declared_id.clone());
        let nonce = session.nonce.clone();
        if confirm_parts(store, &mut owned).await? {
            let uploader = Uploader::new(Arc::clone(store), owned, declared)?;
            return Ok(S3LayerUpload::start(uploader, sessions));
        }
        // Another process may have begun to commit the upload since its session was read, and have
        // completed its parts.
        if lost.replace(nonce.clone()) == Some(nonce) {
            return Err(unknown());
        }
    }
}

/// The upload as this process remembers it, if it is at this offset; otherwise as the store has it.
pub(crate) async fn resume_at(
    store: &Arc<Store>,
    sessions: &Arc<SessionCache>,
    name: &RepositoryName,
    uuid: Uuid,
    offset: u64,
) -> Result<S3LayerUpload> {
    match sessions.take(&store.keys.session(uuid), name, offset).await {
        Some(uploader) => Ok(S3LayerUpload::start(uploader, sessions)),
        None => resume(store, sessions, name, None, uuid).await,
    }
}
