//! Manifests: a document each, with the manifest's bytes and what a registry needs without parsing
//! them. Its digest is in its key, and is computed on every read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::named_digests::named;
use crate::clock;
use crate::contract::Manifest;
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::s3::bucket::{Store, StoredDocument};
use crate::s3::format::document::{Document, Inline};
use crate::s3::format::record::EntryState;
use s3layers_tarsum::Digest;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestDocument {
    version: u32,
    state: EntryState,
    /// Fresh in every PUT.
    nonce: String,
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// Every digest that the manifest names.
    names: BTreeSet<Digest>,
    bytes: Inline,
}

impl Document for ManifestDocument {
    const WHAT: &'static str = "manifest";
    const VERSION: u32 = 1;
}

impl ManifestDocument {
    pub(super) fn new(manifest: &Manifest) -> Self {
        ManifestDocument {
            version: ManifestDocument::VERSION,
            state: EntryState::Live,
            nonce: clock::new_nonce(),
            media_type: manifest.media_type.clone(),
            subject: manifest.subject.clone(),
            artifact_type: manifest.artifact_type.clone(),
            annotations: manifest.annotations.clone(),
            names: named(&manifest.bytes),
            bytes: Inline(manifest.bytes.clone()),
        }
    }
}

/// How often a manifest that does not have its digest is read: once may have been the wire.
const READS: u32 = 2;

/// The manifest as it is stored; bytes that do not have its digest are damage.
pub(crate) async fn get(
    store: &Store,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Manifest>> {
    let read = read(store, name, digest).await?;
    read.map(|read| read.document).transpose()
}

/// Every digest that a manifest names; `None` where it is absent.
///
/// # Errors
///
/// `Damaged` where it cannot be read, or does not have its digest.
pub(crate) async fn names_of_manifest(
    store: &Store,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Option<BTreeSet<Digest>>> {
    let key = store.keys.manifest(name, digest);
    let Some(loaded) = store.load::<ManifestDocument>(&key).await? else {
        return Ok(None);
    };
    let names = loaded.document.names.clone();
    manifest(digest, loaded.document)?;
    Ok(Some(names))
}

/// As [`get`], with the ETag, also of damage.
pub(super) async fn read(
    store: &Store,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Option<StoredDocument<Result<Manifest>>>> {
    let key = store.keys.manifest(name, digest);
    let mut reads = 0;
    loop {
        let Some(read) = store.read::<ManifestDocument>(&key).await? else {
            return Ok(None);
        };
        let StoredDocument {
            document,
            etag,
            written,
        } = read;
        reads += 1;
        let document = document.and_then(|stored| manifest(digest, stored));
        match document {
            Err(error) if reads < READS => tracing::info!(%key, %error, "read again"),
            document => {
                return Ok(Some(StoredDocument {
                    document,
                    etag,
                    written,
                }));
            }
        }
    }
}

fn manifest(digest: &Digest, stored: ManifestDocument) -> Result<Manifest> {
    let bytes = stored.bytes.0;
    let computed = Digest::of(digest.algorithm(), &bytes);
    if computed != *digest {
        return Err(Error::Damaged {
            key: format!("manifest {digest}"),
            reason: format!("digest mismatch: expected {digest}, got {computed}"),
        });
    }
    Ok(Manifest {
        digest: computed,
        media_type: stored.media_type,
        bytes,
        subject: stored.subject,
        artifact_type: stored.artifact_type,
        annotations: stored.annotations,
    })
}
