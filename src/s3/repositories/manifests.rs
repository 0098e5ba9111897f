//! Writes and removes [manifests](super::manifest_document).
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

use super::manifest_document::{ManifestDocument, get, read};
use super::{referrers, tags, trash};
use crate::clock::Moment;
use crate::contract::Manifest;
use crate::error::Result;
use crate::name::RepositoryName;
use crate::s3::bucket::{OverwriteOutcome, Store, StoredDocument};
use s3layers_tarsum::Digest;

/// No request that makes the manifest visible is signed later than a look lasts after `since`.
pub(super) async fn put(
    store: &Store,
    name: &RepositoryName,
    manifest: &Manifest,
    since: Moment,
) -> Result<()> {
    let until = Some((since, store.times().look()));
    let _turn = store.api.turn_to_write(manifest.bytes.len()).await;
    let stored = ManifestDocument::new(manifest);
    let key = store.keys.manifest(name, &manifest.digest);
    let mut removed = None;
    loop {
        if let Some(subject) = &manifest.subject {
            referrers::put(store, name, subject, manifest).await?;
        }
        let written = store.overwrite_unless_removed(&key, &stored, removed, until);
        match written.await? {
            OverwriteOutcome::Yes => return Ok(()),
            OverwriteOutcome::Removed(tombstone) => removed = tombstone,
        }
    }
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
    let Some(StoredDocument { document, etag, .. }) = read(store, name, digest).await? else {
        return Ok(false);
    };
    let named = tags::tags_of(store, name, &[digest.clone()].into()).await?;
    if let Ok(manifest) = &document {
        let tags = named.iter().map(|named| named.tag.clone()).collect();
        trash::keep(store, name, manifest, tags).await?;
    }
    tags::remove(store, &named).await?;
    let key = store.keys.manifest(name, digest);
    match &document {
        Ok(manifest) => match &manifest.subject {
            None => store.remove(&key, &etag).await?,
            Some(subject) => {
                let entry = referrers::entry(store, name, subject, manifest).await?;
                if store.bury(&key, &etag).await? {
                    referrers::remove(store, entry).await?;
                }
            }
        },
        // It can be removed; what it refers to is not known.
        Err(_) => drop(store.bury(&key, &etag).await?),
    }
    Ok(true)
}
