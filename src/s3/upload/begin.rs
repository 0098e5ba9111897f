//! Beginning an upload: the session first, then the claim, then a look whether the session is still
//! there: a sweep in between would leave the claim of an upload that does not exist.

use std::sync::Arc;

use uuid::Uuid;

use super::S3LayerUpload;
use super::uploader::Uploader;
use crate::clock;
use crate::digest::{Algorithm, Hasher};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::checksum::{Crc64, Sums};
use crate::s3::document::{Document as _, Inline};
use crate::s3::presence;
use crate::s3::session::owned::OwnedSession;
use crate::s3::session::plan::schedule::Schedule;
use crate::s3::session::{Phase, Session, claim};
use crate::s3::store::Store;

/// A fresh upload.
pub(crate) async fn begin(
    store: &Arc<Store>,
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
    let owned = OwnedSession::create(store, fresh_session(store, name, id)).await?;
    let uuid = owned.uuid();
    if let Some(id) = id
        && let Err(refusal) = claim::take(store, name, id, uuid).await
    {
        store.api.delete(&store.keys.session(uuid)).await?;
        return Err(refusal);
    }
    if let Some(id) = id
        && !is_open(store, uuid).await?
    {
        // A sweep or a cancel came between session and claim, and has not seen the claim.
        claim::release(store, name, id, uuid).await?;
        return Err(Error::UploadUnknown { uuid });
    }
    let uploader = Uploader::new(Arc::clone(store), owned, id.cloned())?;
    Ok(S3LayerUpload::start(uploader))
}

async fn is_open(store: &Store, uuid: Uuid) -> Result<bool> {
    let session = OwnedSession::load(store, uuid).await?;
    Ok(session.is_some_and(|session| session.get().phase == Phase::Open))
}

fn fresh_session(store: &Store, name: &RepositoryName, id: Option<&LayerId>) -> Session {
    let mut hashers = vec![Hasher::new(Algorithm::Sha256).save()];
    // Computed as the bytes arrive, it need not be read back at the end.
    if let Some(digest) = id.and_then(LayerId::as_digest)
        && digest.algorithm() != Algorithm::Sha256
    {
        hashers.push(Hasher::new(digest.algorithm()).save());
    }
    let profile = &store.profile;
    let schedule = Schedule::new(
        store.part_size,
        store.memory_budget,
        profile.equal_parts,
        profile.max_object_size,
    );
    Session {
        version: Session::VERSION,
        uuid: Uuid::nil(),
        nonce: clock::new_nonce(),
        phase: Phase::Open,
        repository: name.clone(),
        declared_id: id.cloned(),
        begun_at: clock::now_timestamp(),
        schedule,
        segments: Vec::new(),
        segment_parts: 0,
        multiparts: 0,
        multipart: None,
        closed: false,
        orphans: false,
        tails: Vec::new(),
        superseded: Vec::new(),
        inline: Inline::default(),
        offset: 0,
        hashers,
        sums: Sums::default(),
        part_sum: Crc64::default(),
    }
}
