//! Manifests: a document each, with the manifest's bytes and what a registry needs without parsing
//! them. Its digest is in its key, and is computed on every read.
//!
//! # The entry among the referrers of its subject
//!
//! No listing of referrers must miss a manifest that is present: clients find such a manifest by
//! HEAD and never put it again. So the entry is written before the manifest and removed after it, and
//! a listing leaves out an entry whose manifest is absent. A removal that runs beside a PUT must not
//! remove the entry that the PUT relies on:
//!
//! 1. Every write of entry and manifest has a fresh nonce.
//! 2. A removal reads the manifest and the entry, then writes a tombstone over the manifest that it
//!    read, then removes the entry that it read, each on condition.
//! 3. A PUT that finds a tombstone writes the entry again before it writes over the tombstone.
//!
//! A PUT whose entry the removal has read either wrote the manifest before the tombstone, which is
//! refused then, or finds the tombstone. So such a manifest is buried on every store.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::named_digests::named;
use super::{referrers, tags, trash};
use crate::clock::{self, Moment};
use crate::contract::Manifest;
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::s3::bucket::{Loaded, Overwritten, Store};
use crate::s3::format::document::{Document, Inline};
use crate::s3::format::record::EntryState;
use s3layers_tarsum::Digest;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestDocument {
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

/// How often a manifest that does not have its digest is read: once may have been the wire.
const READS: u32 = 2;

/// No request that makes the manifest visible is signed later than a look lasts after `since`.
pub(super) async fn put(
    store: &Store,
    name: &RepositoryName,
    manifest: &Manifest,
    since: Moment,
) -> Result<()> {
    let until = Some((since, store.times().look()));
    let _turn = store.api.turn_to_write(manifest.bytes.len()).await;
    let stored = ManifestDocument {
        version: ManifestDocument::VERSION,
        state: EntryState::Live,
        nonce: clock::new_nonce(),
        media_type: manifest.media_type.clone(),
        subject: manifest.subject.clone(),
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
        names: named(&manifest.bytes),
        bytes: Inline(manifest.bytes.clone()),
    };
    let key = store.keys.manifest(name, &manifest.digest);
    let mut removed = None;
    loop {
        if let Some(subject) = &manifest.subject {
            referrers::put(store, name, subject, manifest).await?;
        }
        let written = store.overwrite_unless_removed(&key, &stored, removed, until);
        match written.await? {
            Overwritten::Yes => return Ok(()),
            Overwritten::Removed(tombstone) => removed = tombstone,
        }
    }
}

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
async fn read(
    store: &Store,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Loaded<Result<Manifest>>>> {
    let key = store.keys.manifest(name, digest);
    let mut reads = 0;
    loop {
        let Some(read) = store.read::<ManifestDocument>(&key).await? else {
            return Ok(None);
        };
        let Loaded {
            document,
            etag,
            written,
        } = read;
        reads += 1;
        let document = document.and_then(|stored| manifest(digest, stored));
        match document {
            Err(error) if reads < READS => tracing::warn!(%key, %error, "read again"),
            document => {
                return Ok(Some(Loaded {
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

/// Whether a listing of the subject's referrers shows a manifest.
///
/// # Errors
///
/// `Damaged` where its entry cannot be read.
pub(crate) async fn has_referrer(
    store: &Store,
    name: &RepositoryName,
    subject: &Digest,
    manifest: &Manifest,
) -> Result<bool> {
    referrers::is_listed(store, name, subject, manifest).await
}

/// Writes the entry of a manifest among the referrers of its subject. It stays where the manifest was removed meanwhile, as
/// a PUT of the manifest may rely on it; a listing leaves it out.
pub(crate) async fn restore_referrer(
    store: &Store,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<()> {
    let Some(manifest) = get(store, name, digest).await? else {
        return Ok(());
    };
    let Some(subject) = &manifest.subject else {
        return Ok(());
    };
    referrers::put(store, name, subject, &manifest).await
}

pub(super) async fn delete(store: &Store, name: &RepositoryName, digest: &Digest) -> Result<bool> {
    let Some(Loaded { document, etag, .. }) = read(store, name, digest).await? else {
        return Ok(false);
    };
    let named = tags::all_of(store, name, digest).await?;
    if let Ok(manifest) = &document {
        let tags = named.iter().map(|named| named.tag.clone()).collect();
        trash::keep(store, name, manifest, tags).await?;
    }
    tags::remove(store, &named).await?;
    let key = store.keys.manifest(name, digest);
    let subject = document.as_ref().map(|manifest| manifest.subject.as_ref());
    match (subject, document.as_ref()) {
        (Ok(None), _) => store.remove(&key, &etag).await?,
        (Ok(Some(subject)), Ok(manifest)) => {
            let entry = referrers::entry(store, name, subject, manifest).await?;
            if store.bury(&key, &etag).await? {
                referrers::remove(store, entry).await?;
            }
        }
        // It can be removed; what it refers to is not known.
        _ => {
            store.bury(&key, &etag).await?;
        }
    }
    Ok(true)
}
