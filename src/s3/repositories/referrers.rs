//! Referrers: an entry for each manifest that has a subject, below the subject's digest. Its key has
//! a hash of the artifact type, so that a filter is a listing. What a descriptor says is read from
//! the manifest; [`manifests`](super::manifests) has the order in which both are written and removed.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{manifest_document, names_below};
use crate::clock;
use crate::contract::{Manifest, Page, Referrer, ReferrerKey};
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::format::document::{Document, TOMBSTONE_SIZE};
use crate::s3::format::keys::Key;
use crate::s3::wire::ETag;
use s3layers_tarsum::Digest;

/// The manifest refers to the subject, if the manifest is present.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u32,
    /// Fresh in every write.
    nonce: String,
    subject: Digest,
    manifest: Digest,
}

impl Document for Entry {
    const WHAT: &'static str = "referrer";
    const VERSION: u32 = 1;
}

/// How many manifests are read at a time.
const READS_AT_ONCE: usize = 8;
/// How many bytes of manifests are read for one page at most, but for the first one shown: a
/// descriptor can be much smaller than its manifest.
const READ_LIMIT: usize = 32 * 1024 * 1024;
/// How many entries are listed at least: some may lead to manifests that are absent.
const LISTED_AT_LEAST: usize = 100;

/// What a page is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReferrerQuery<'a> {
    pub(super) subject: &'a Digest,
    pub(super) artifact_type: Option<&'a str>,
    pub(super) limit: usize,
    /// All of its items together, but for the first one.
    pub(super) weight: usize,
}

fn key(store: &Store, name: &RepositoryName, subject: &Digest, manifest: &Manifest) -> Key {
    let own = ReferrerKey::new(manifest.artifact_type.as_deref(), &manifest.digest);
    store.keys.referrer(name, subject, &own.to_string())
}

/// Makes a manifest, as soon as it is stored, a referrer of its subject.
pub(super) async fn put(
    store: &Store,
    name: &RepositoryName,
    subject: &Digest,
    manifest: &Manifest,
) -> Result<()> {
    let entry = Entry {
        version: Entry::VERSION,
        nonce: clock::new_nonce(),
        subject: subject.clone(),
        manifest: manifest.digest.clone(),
    };
    let key = key(store, name, subject, manifest);
    store.overwrite(&key, &entry).await
}

/// The entry of a manifest as it is now, for [`remove`].
pub(super) async fn entry(
    store: &Store,
    name: &RepositoryName,
    subject: &Digest,
    manifest: &Manifest,
) -> Result<Option<(Key, ETag)>> {
    let key = key(store, name, subject, manifest);
    let read = store.read::<Entry>(&key).await?;
    Ok(read.map(|read| (key, read.etag)))
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
    let key = key(store, name, subject, manifest);
    let entry = store.load::<Entry>(&key).await?;
    Ok(entry.is_some_and(|entry| entry.document.manifest == manifest.digest))
}

/// The manifest that an entry names; `Damaged` where the entry is that of another subject.
pub(crate) async fn referring_manifest(
    store: &Store,
    name: &RepositoryName,
    key: &Key,
) -> Result<Option<Digest>> {
    let Some(entry) = store.load::<Entry>(key).await? else {
        return Ok(None);
    };
    let entry = entry.document;
    let folder = store.keys.referrers(name, &entry.subject);
    let own = key.as_str().strip_prefix(&folder);
    let own: Option<ReferrerKey> = own.and_then(|own| own.parse().ok());
    if own.is_none_or(|own| *own.digest() != entry.manifest) {
        let subject = &entry.subject;
        return Err(Error::damaged(key, format!("it is an entry of {subject}")));
    }
    Ok(Some(entry.manifest))
}

pub(super) async fn remove(store: &Store, entry: Option<(Key, ETag)>) -> Result<()> {
    match entry {
        Some((key, etag)) => store.remove(&key, &etag).await,
        None => Ok(()),
    }
}

pub(super) async fn page(
    store: &Store,
    name: &RepositoryName,
    after: Option<&ReferrerKey>,
    query: ReferrerQuery<'_>,
) -> Result<Page<Referrer>> {
    let folder = store.keys.referrers(name, query.subject);
    let beginning = query.artifact_type.map(ReferrerKey::beginning);
    let beginning = beginning.unwrap_or_default();
    let at_once = query.limit.max(LISTED_AT_LEAST);
    let mut page = ReferrerPage::new(query);
    let mut after = after.cloned();
    loop {
        let from = after.as_ref().map(ToString::to_string);
        let parse = |own: &str, size| own.parse().ok().filter(|_| size != TOMBSTONE_SIZE);
        let listed = names_below(store, &folder, &beginning, from.as_deref(), at_once, parse);
        let listed: Page<ReferrerKey> = listed.await?;
        after = listed.items.last().cloned();
        let is_full = page.add_all(store, name, listed.items).await?;
        let more = is_full || listed.more;
        if is_full || page.is_enough() || !listed.more {
            let items = page.items;
            return Ok(Page { items, more });
        }
    }
}

/// A page that is being gathered.
struct ReferrerPage<'a> {
    query: ReferrerQuery<'a>,
    items: Vec<Referrer>,
    /// How much the items still to come may weigh.
    weight: usize,
    /// How many bytes of manifests may still be read.
    bytes: usize,
    /// The size of the largest manifest so far, in bytes.
    largest: Option<usize>,
}

impl<'a> ReferrerPage<'a> {
    fn new(query: ReferrerQuery<'a>) -> Self {
        ReferrerPage {
            query,
            items: Vec::new(),
            weight: query.weight,
            bytes: READ_LIMIT,
            largest: None,
        }
    }

    /// Reads the manifests of these entries, as many as fit. Whether some of them do not.
    async fn add_all(
        &mut self,
        store: &Store,
        name: &RepositoryName,
        listed: Vec<ReferrerKey>,
    ) -> Result<bool> {
        let mut listed = listed.into_iter();
        while listed.len() > 0 {
            if self.is_enough() {
                return Ok(true);
            }
            let batch = listed.by_ref().take(self.reads_at_once());
            let reads = batch.map(|own| read(store, name, own));
            let reads = stream::iter(reads).buffered(READS_AT_ONCE);
            let read: Vec<_> = reads.try_collect().await?;
            for referrer in read.into_iter().flatten() {
                if !self.add(referrer) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn is_enough(&self) -> bool {
        let is_read = self.bytes == 0 && !self.items.is_empty();
        is_read || self.items.len() >= self.query.limit
    }

    /// Nothing gives the size of a manifest before it is read; so the first one is read alone, and
    /// then as many as fit if they are as the largest so far.
    fn reads_at_once(&self) -> usize {
        let left = self.weight.min(self.bytes);
        let fitting = self.largest.map_or(1, |largest| left / largest.max(1));
        let expected = self.query.limit.saturating_sub(self.items.len());
        fitting.min(expected).clamp(1, READS_AT_ONCE)
    }

    /// Adds a referrer of the type that the query has. Whether it fits.
    fn add(&mut self, referrer: Referrer) -> bool {
        let size = usize::try_from(referrer.size).unwrap_or(usize::MAX);
        self.largest = self.largest.max(Some(size));
        self.bytes = self.bytes.saturating_sub(size);
        let artifact_type = self.query.artifact_type;
        // Two types can have the same hash.
        if artifact_type.is_some_and(|expected| referrer.artifact_type.as_deref() != Some(expected))
        {
            return true;
        }
        let weight = referrer.weight();
        if weight > self.weight && !self.items.is_empty() {
            return false;
        }
        self.weight = self.weight.saturating_sub(weight);
        self.items.push(referrer);
        true
    }
}

/// What is listed of a manifest. `None` where it is not there, or cannot be read: neither can be pulled.
async fn read(store: &Store, name: &RepositoryName, own: ReferrerKey) -> Result<Option<Referrer>> {
    match manifest_document::get(store, name, own.digest()).await {
        Err(error @ Error::Damaged { .. }) => {
            tracing::warn!(%error, "left a damaged manifest out of the referrers");
            Ok(None)
        }
        // The bytes are released before the others of the batch are read.
        read => Ok(read?.map(Referrer::from)),
    }
}
