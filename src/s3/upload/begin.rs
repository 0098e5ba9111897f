//! Beginning an upload: the session first, then the claim.

use std::sync::Arc;

use super::plan::part_size::Schedule;
use super::session::{Inline, Phase, Session};
use super::stored::Stored;
use super::writer::Writer;
use super::{S3LayerUpload, claim};
use crate::clock;
use crate::digest::{Algorithm, Hasher};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::checksum::{Crc64, Sums};
use crate::s3::document::Document as _;
use crate::s3::presence;
use crate::s3::store::Store;

/// A fresh upload.
pub(crate) async fn begin(
    store: &Arc<Store>,
    name: &RepositoryName,
    id: Option<&LayerId>,
) -> Result<S3LayerUpload> {
    if let Some(id) = id {
        match store.record(id).await {
            Ok(Some(record)) if presence::present(store, &record).await?.is_some() => {
                return Err(Error::LayerExists { id: id.clone() });
            }
            // An upload replaces a damaged record, and one whose bytes are gone.
            Ok(_) | Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let stored = Stored::create(store, fresh_session(store, name, id)).await?;
    let uuid = stored.uuid;
    if let Some(id) = id
        && let Err(refusal) = claim::take(store, name, id, uuid).await
    {
        store.api.delete(&store.keys.session(uuid)).await?;
        return Err(refusal);
    }
    let writer = Writer::new(Arc::clone(store), stored, id.cloned(), true, Vec::new());
    Ok(S3LayerUpload::start(writer))
}

fn fresh_session(store: &Store, name: &RepositoryName, id: Option<&LayerId>) -> Session {
    let mut hashers = vec![Hasher::new(Algorithm::Sha256).save()];
    // Computed as the bytes arrive, it need not be read back at the end.
    if let Some(digest) = id.and_then(LayerId::as_digest)
        && digest.algorithm() != Algorithm::Sha256
    {
        hashers.push(Hasher::new(digest.algorithm()).save());
    }
    let equal_parts = store.profile.equal_parts;
    Session {
        version: Session::VERSION,
        nonce: clock::new_nonce(),
        phase: Phase::Open,
        name: name.clone(),
        declared: id.cloned(),
        begun_at: clock::now_timestamp(),
        schedule: Schedule::new(store.part_size, store.memory_budget, equal_parts),
        upload_id: None,
        parts: Vec::new(),
        settled: false,
        doubted: false,
        tails: Vec::new(),
        inline: Inline::default(),
        offset: 0,
        hashers,
        sums: Sums::default(),
        part_sum: Crc64::default(),
    }
}
