//! Taking up an upload where the store has it.

use std::sync::Arc;

use uuid::Uuid;

use super::S3LayerUpload;
use super::plan::resume::{Resume, plan_resume};
use super::session::{Phase, Session};
use super::stored::Stored;
use super::warm::forget_unless;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::api::ListedPart;
use crate::s3::store::Store;

/// The upload, at the offset that the store has.
pub(crate) async fn resume(
    store: &Arc<Store>,
    name: &RepositoryName,
    id: Option<&LayerId>,
    uuid: Uuid,
) -> Result<S3LayerUpload> {
    let unknown = || Error::UploadUnknown { uuid };
    let mut seen = None;
    let (stored, declared, spare) = loop {
        let mut stored = Stored::load(store, uuid).await?.ok_or_else(unknown)?;
        forget_unless(store, &stored);
        let session = &stored.session;
        let is_another = match (id, &session.declared) {
            (Some(id), Some(declared)) => id != declared,
            _ => false,
        };
        if session.name != *name || is_another || session.phase == Phase::Cancelled {
            return Err(unknown());
        }
        let declared = id.cloned().or_else(|| session.declared.clone());
        let nonce = session.nonce.clone();
        if let Some(spare) = confirm_parts(store, &mut stored).await? {
            break (stored, declared, spare);
        }
        // Another process may have begun to finish the upload since its session was read, and its
        // parts are gone for that.
        if seen.replace(nonce) == Some(stored.session.nonce) {
            return Err(unknown());
        }
    };
    let writer = Writer::new(Arc::clone(store), stored, declared, false, spare);
    Ok(S3LayerUpload::start(writer))
}

/// Checks the recorded parts against those that S3 lists, and takes over the ETags they have now.
/// The parts that S3 has beyond them; `None` where a recorded one is gone.
async fn confirm_parts(store: &Store, stored: &mut Stored) -> Result<Option<Vec<ListedPart>>> {
    let Some(upload_id) = stored.session.upload_id.clone() else {
        return Ok(Some(Vec::new()));
    };
    // The parts of a sealing upload may be completed already: that is for the driver to find out.
    if stored.session.phase != Phase::Open {
        return Ok(Some(Vec::new()));
    }
    let data = store.keys.data(stored.uuid);
    let mut judged_twice = false;
    // Whoever goes on begins another multipart upload, with whose parts nobody else's can mix.
    if stored.session.parts.is_empty() {
        return Ok(Some(Vec::new()));
    }
    loop {
        let listed = store.api.list_parts(&data, &upload_id).await?;
        match plan_resume(&stored.session, listed.as_deref()) {
            Resume::At { parts, spare } => {
                // A part was taken for ours by its checksum, of which anyone can make another.
                stored.session.doubted |= stored.session.parts != parts || !spare.is_empty();
                stored.session.parts = parts;
                return Ok(Some(spare));
            }
            // A listing may lag behind.
            Resume::Lost { .. } if !judged_twice => judged_twice = true,
            Resume::Lost { part, reason } => {
                tracing::warn!(uuid = %stored.uuid, part, reason, "an upload is lost");
                return Ok(None);
            }
        }
    }
}

/// Whether an upload exists and could go on. One whose session is damaged cannot.
pub(super) async fn is_resumable(store: &Store, uuid: Uuid) -> Result<bool> {
    let mut stored = match Stored::load(store, uuid).await {
        Ok(Some(stored)) => stored,
        Ok(None) | Err(Error::Damaged { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let Session { phase, .. } = &stored.session;
    if *phase == Phase::Cancelled {
        return Ok(false);
    }
    Ok(confirm_parts(store, &mut stored).await?.is_some())
}
