//! Manifests: a document each, which has the manifest's bytes and what a registry asks of it
//! without reading them. Its digest is in its key, and is computed on every read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{referrers, tags};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::registry::store::Manifest;
use crate::s3::document::{Document, Inline};
use crate::s3::store::Store;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    bytes: Inline,
}

impl Document for Stored {
    const WHAT: &'static str = "manifest";
    const VERSION: u32 = 1;
}

/// How often a manifest that does not have its digest is read: once may have been the wire.
const READS: u32 = 2;

pub(super) async fn put(store: &Store, name: &RepositoryName, manifest: &Manifest) -> Result<()> {
    let stored = Stored {
        version: Stored::VERSION,
        media_type: manifest.media_type.clone(),
        subject: manifest.subject.clone(),
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
        bytes: Inline(manifest.bytes.clone()),
    };
    let key = store.keys.manifest(name, &manifest.digest);
    // One that stands is the same, but for its media type.
    store.overwrite(&key, &stored).await?;
    match &manifest.subject {
        Some(subject) => referrers::put(store, name, subject, manifest).await,
        None => Ok(()),
    }
}

/// The manifest as it is stored; bytes that do not have its digest are damage.
pub(super) async fn get(
    store: &Store,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Manifest>> {
    let key = store.keys.manifest(name, digest);
    for _ in 0..READS {
        let Some(loaded) = store.load::<Stored>(&key).await? else {
            return Ok(None);
        };
        let stored = loaded.document;
        let bytes = stored.bytes.0;
        if Digest::of(digest.algorithm(), &bytes) == *digest {
            return Ok(Some(Manifest {
                digest: digest.clone(),
                media_type: stored.media_type,
                bytes,
                subject: stored.subject,
                artifact_type: stored.artifact_type,
                annotations: stored.annotations,
            }));
        }
        tracing::warn!(%key, "a manifest does not have its digest; read again");
    }
    Err(Error::Damaged {
        key: key.to_string(),
        reason: "the manifest in it has another digest".to_owned(),
    })
}

pub(super) async fn delete(store: &Store, name: &RepositoryName, digest: &Digest) -> Result<bool> {
    let subject = match get(store, name, digest).await {
        Ok(None) => return Ok(false),
        Ok(Some(manifest)) => manifest.subject,
        // It is there, and can be removed; what it refers to cannot be known any more.
        Err(Error::Damaged { .. }) => None,
        Err(error) => return Err(error),
    };
    tags::delete_all_of(store, name, digest).await?;
    if let Some(subject) = subject {
        let entry = store.keys.referrer(name, &subject, digest);
        store.api.delete(&entry).await?;
    }
    store.api.delete(&store.keys.manifest(name, digest)).await?;
    Ok(true)
}
