//! The trash: a manifest that a client has deleted, with its tags, for as long as its layers can be
//! restored.
//!
//! Each deletion writes an object with a fresh key before it removes anything, so entries are never
//! overwritten, and are removed without a condition. An entry keeps no layer: a collection sets a
//! layer to dead at the earliest one wait after its manifest was deleted, and frees it one `kept` later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::clock;
use crate::contract::Manifest;
use crate::error::{Error, Result};
use crate::name::{RepositoryName, Tag};
use crate::s3::S3LayerService;
use crate::s3::bucket::Store;
use crate::s3::format::collection::TrashedManifest;
use crate::s3::format::document::{Document as _, Inline};
use crate::s3::format::keys::Key;
use crate::s3::maintenance::inventory::pages;
use s3layers_tarsum::Digest;

/// How many entries are read at a time: a manifest has up to 4 MiB.
const READS_AT_ONCE: usize = 4;

/// A manifest that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrashEntry {
    /// Its repository.
    pub name: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// The tags that named it.
    pub tags: Vec<Tag>,
    /// How long ago it was deleted, by the store's clock.
    pub age: Duration,
    /// When that was.
    pub deleted_at: SystemTime,
}

/// Keeps a manifest that is about to be deleted.
///
/// # Cost
///
/// 1 request.
pub(super) async fn keep(
    store: &Store,
    name: &RepositoryName,
    manifest: &Manifest,
    tags: BTreeSet<Tag>,
) -> Result<()> {
    let key = store
        .keys
        .trashed(name, &manifest.digest, &clock::new_nonce());
    let entry = TrashedManifest {
        version: TrashedManifest::VERSION,
        repository: name.clone(),
        digest: manifest.digest.clone(),
        deleted_at: clock::now_timestamp(),
        tags,
        media_type: manifest.media_type.clone(),
        subject: manifest.subject.clone(),
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
        bytes: Inline(manifest.bytes.clone()),
    };
    store.put_over(&key, &entry, None).await?;
    Ok(())
}

/// An entry with its document.
pub(super) struct ListedManifest {
    pub(super) key: Key,
    pub(super) age: Duration,
    written_at: SystemTime,
    pub(super) document: TrashedManifest,
}

/// Gives the entries below a prefix to `take`, one after the other. One that cannot be read is left out.
pub(super) async fn each_entry(
    store: &Arc<Store>,
    prefix: String,
    mut take: impl FnMut(ListedManifest),
) -> Result<()> {
    let mut pages = pages(store, prefix);
    while let Some(page) = pages.try_next().await? {
        let now = clock::now();
        let objects = page.objects.iter();
        let reads = objects.map(|object| (object.clone(), page.age(object, now)));
        let reads = reads.map(async |(object, age)| {
            let document = read(store, &object.key).await?;
            Ok::<_, Error>(document.map(|document| ListedManifest {
                key: object.key,
                age,
                written_at: object.modified,
                document,
            }))
        });
        let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffered(READS_AT_ONCE);
        while let Some(read) = reads.try_next().await? {
            read.into_iter().for_each(&mut take);
        }
    }
    Ok(())
}

/// `None` where it is absent or cannot be read.
pub(super) async fn read(store: &Store, key: &Key) -> Result<Option<TrashedManifest>> {
    match store.load::<TrashedManifest>(key).await {
        Ok(loaded) => Ok(loaded.map(|loaded| loaded.document)),
        Err(error) if error.is_unreadable() => {
            tracing::warn!(%key, %error, "left out of the trash");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl S3LayerService {
    /// The manifests that clients have deleted, of one repository or of all, in the order of their names and
    /// digests. A collection forgets one when something that it needs is gone, after 132 hours at the earliest.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage).
    ///
    /// # Cost
    ///
    /// 1 request for a thousand, and 1 for each.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    pub async fn trash(&self, name: Option<&RepositoryName>) -> Result<Vec<TrashEntry>> {
        let keys = &self.store.keys;
        let prefix = name.map_or_else(|| keys.trash(), |name| keys.trash_of(name));
        let mut entries = Vec::new();
        let add = |listed: ListedManifest| {
            entries.push(TrashEntry {
                name: listed.document.repository,
                digest: listed.document.digest,
                tags: listed.document.tags.into_iter().collect(),
                age: listed.age,
                deleted_at: listed.written_at,
            });
        };
        each_entry(&self.store, prefix, add).await?;
        Ok(entries)
    }
}
