//! The trash: a manifest that a client has deleted, with its tags, for as long as its layers can be
//! brought back.
//!
//! Each deletion writes an object with a fresh key before it removes anything, so entries are never
//! overwritten, and are removed without a condition. An entry keeps no layer: a collection sets a
//! layer to dead at the earliest one wait after its manifest was deleted, and frees it one `kept` later. Until
//! then a restore writes the record back to live, and the links, the manifest and the tags by the
//! ordinary ways.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::{manifests, tags};
use crate::clock::{self, Moment};
use crate::contract::Manifest;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::{RepositoryName, Tag};
use crate::s3::S3LayerService;
use crate::s3::bucket::live;
use crate::s3::bucket::{Store, presence};
use crate::s3::format::collection::TrashedManifest;
use crate::s3::format::document::{Document as _, Inline, encode};
use crate::s3::format::keys::Key;
use crate::s3::maintenance::inventory::pages;
use crate::s3::names;
use crate::s3::publish;
use crate::s3::wire::Condition;
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

/// An image to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrashReference {
    /// The manifest with this digest.
    Digest(Digest),
    /// The manifest that had this tag and was deleted last.
    Tag(Tag),
}

/// What a restore brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The manifest.
    pub digest: Digest,
    /// Tags that name it again.
    pub tags: Vec<Tag>,
    /// Tags that name another manifest by now, and stay so.
    pub taken_tags: Vec<Tag>,
}

/// Why an image was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// No such image was deleted, or too long ago.
    #[error("it is not in the trash")]
    Unknown,
    /// The bytes of these were removed. The manifest and its tags stay deleted.
    #[error("its content was removed already: {}", list(.digests))]
    Gone {
        /// What the manifest needs.
        digests: Vec<Digest>,
    },
    /// A request failed. Another restore continues.
    #[error(transparent)]
    Failed(#[from] Error),
}

fn list(digests: &[Digest]) -> String {
    let texts: Vec<String> = digests.iter().map(ToString::to_string).collect();
    texts.join(", ")
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
    let put = store.api.put_if(&key, encode(&entry)?, Condition::Absent);
    put.await?;
    Ok(())
}

/// An entry with its document.
struct Listed {
    key: Key,
    age: Duration,
    written_at: SystemTime,
    document: TrashedManifest,
}

/// What `map` makes of the entries below a prefix. One that cannot be read is left out.
async fn entries<T>(
    store: &Arc<Store>,
    prefix: String,
    map: impl Fn(Listed) -> Option<T>,
) -> Result<Vec<T>> {
    let (mut listed, map) = (Vec::new(), &map);
    let mut pages = Box::pin(pages(Arc::clone(store), prefix));
    while let Some(page) = pages.try_next().await? {
        let now = clock::now();
        let objects = page.objects.iter();
        let reads = objects.map(|object| (object.clone(), page.age(object, now)));
        let reads = reads.map(async |(object, age)| {
            let key = object.key;
            let document = match store.load::<TrashedManifest>(&key).await {
                Ok(loaded) => loaded.map(|loaded| loaded.document),
                Err(error @ (Error::Damaged { .. } | Error::NewerVersion { .. })) => {
                    tracing::warn!(%key, %error, "left out of the trash");
                    None
                }
                Err(error) => return Err(error),
            };
            let written_at = object.modified;
            Ok(document.and_then(|document| {
                map(Listed {
                    key,
                    age,
                    written_at,
                    document,
                })
            }))
        });
        let reads = stream::iter(reads.collect::<Vec<_>>()).buffered(READS_AT_ONCE);
        let read: Vec<_> = reads.try_collect().await?;
        listed.extend(read.into_iter().flatten());
    }
    Ok(listed)
}

/// Removes entries that were written so long ago. How many.
pub(crate) async fn expire(store: &Arc<Store>, older_than: Duration) -> Result<u64> {
    let mut removed = 0;
    let mut pages = Box::pin(pages(Arc::clone(store), store.keys.trash()));
    while let Some(page) = pages.try_next().await? {
        let now = clock::now();
        let is_old = |object: &&_| page.age(object, now) >= older_than;
        let old = page.objects.iter().filter(is_old);
        let keys: Vec<Key> = old.map(|object| object.key.clone()).collect();
        store.remove_all(&keys).await?;
        removed += keys.len() as u64;
    }
    Ok(removed)
}

/// Layers with these media types are kept elsewhere.
const KEPT_ELSEWHERE: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

fn is_kept_elsewhere(descriptor: &Value) -> bool {
    let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
    let mut prefixes = KEPT_ELSEWHERE.iter();
    prefixes.any(|prefix| media_type.starts_with(prefix))
}

/// What a manifest cannot be pulled without.
pub(crate) fn needed(bytes: &[u8]) -> BTreeSet<Digest> {
    let manifest = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let one = |value: &Value, field: &str| value[field].as_str().and_then(|text| text.parse().ok());
    let mut needed: BTreeSet<Digest> = one(&manifest["config"], "digest").into_iter().collect();
    for (lists, field) in [
        ("layers", "digest"),
        ("blobs", "digest"),
        ("manifests", "digest"),
        ("fsLayers", "blobSum"),
    ] {
        let list = manifest[lists].as_array().into_iter().flatten();
        let list = list.filter(|descriptor| !is_kept_elsewhere(descriptor));
        needed.extend(list.filter_map(|value| one(value, field)));
    }
    needed
}

/// Brings back what a manifest needs: a layer, or a manifest that was deleted as well. Whether it
/// is here now.
async fn restore_needed(
    store: &Arc<Store>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<bool> {
    if manifests::get(store, name, digest).await?.is_some() {
        return Ok(true);
    }
    let id = LayerId::from(digest.clone());
    if let Some(live) = live::revive(store, &id).await?
        && presence::look(store, &live.layer).await?
    {
        publish::link_found(store, name, &live, &id).await?;
        return Ok(true);
    }
    match Box::pin(restore(
        store,
        name,
        &TrashReference::Digest(digest.clone()),
    ))
    .await
    {
        Ok(_) => Ok(true),
        Err(RestoreError::Unknown | RestoreError::Gone { .. }) => Ok(false),
        Err(RestoreError::Failed(error)) => Err(error),
    }
}

async fn restore(
    store: &Arc<Store>,
    name: &RepositoryName,
    reference: &TrashReference,
) -> Result<Restored, RestoreError> {
    let has_it = |entry: &TrashedManifest| match reference {
        TrashReference::Digest(digest) => entry.digest == *digest,
        TrashReference::Tag(tag) => entry.tags.contains(tag),
    };
    let prefix = store.keys.trash_of(name);
    let only = |entry: Listed| {
        let is_it = has_it(&entry.document);
        is_it.then_some((entry.age, entry.document.digest))
    };
    let found = entries(store, prefix.clone(), only).await?;
    let newest = found.into_iter().min_by_key(|(age, _)| *age);
    let (_, digest) = newest.ok_or(RestoreError::Unknown)?;
    let only = |entry: Listed| (entry.document.digest == digest).then_some(entry);
    let same = entries(store, prefix, only).await?;
    let entry = same.first().map(|entry| &entry.document);
    let entry = entry.ok_or(RestoreError::Unknown)?;
    let since = Moment::now();
    let mut gone = Vec::new();
    for digest in needed(&entry.bytes.0) {
        if !restore_needed(store, name, &digest).await? {
            gone.push(digest);
        }
    }
    if !gone.is_empty() {
        return Err(RestoreError::Gone { digests: gone });
    }
    let manifest = Manifest {
        digest: entry.digest.clone(),
        media_type: entry.media_type.clone(),
        bytes: entry.bytes.0.clone(),
        subject: entry.subject.clone(),
        artifact_type: entry.artifact_type.clone(),
        annotations: entry.annotations.clone(),
    };
    names::entry(store, name, manifests::put(store, name, &manifest, since)).await?;
    let mut restored = Restored {
        digest: entry.digest.clone(),
        tags: Vec::new(),
        taken_tags: Vec::new(),
    };
    // A deletion that was repeated has an entry for each attempt.
    let tags: BTreeSet<&Tag> = same.iter().flat_map(|one| &one.document.tags).collect();
    for tag in tags {
        if tags::put_if_absent(store, name, tag, &entry.digest).await? {
            restored.tags.push(tag.clone());
        } else {
            restored.taken_tags.push(tag.clone());
        }
    }
    let keys: Vec<Key> = same.iter().map(|one| one.key.clone()).collect();
    store.remove_all(&keys).await?;
    Ok(restored)
}

impl S3LayerService {
    /// The manifests that clients have deleted and that can be restored, of one repository or of
    /// all, in the order of their names and digests.
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
        let entry = |listed: Listed| {
            Some(TrashEntry {
                name: listed.document.repository,
                digest: listed.document.digest,
                tags: listed.document.tags.into_iter().collect(),
                age: listed.age,
                deleted_at: listed.written_at,
            })
        };
        entries(&self.store, prefix, entry).await
    }

    /// Brings back an image that a client has deleted: layers, links, manifest, and those of its
    /// tags that name no other manifest by now.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]. What was restored before stays; without its manifest a collection takes it away
    /// again.
    ///
    /// # Cost
    ///
    /// 2 requests for each deleted manifest of the repository; for each layer some 5, for each tag 2.
    ///
    /// # Cancellation
    ///
    /// As after an error.
    pub async fn restore(
        &self,
        name: &RepositoryName,
        reference: &TrashReference,
    ) -> Result<Restored, RestoreError> {
        restore(&self.store, name, reference).await
    }

    /// Forgets manifests that were deleted `older_than` ago or earlier: they cannot be restored any
    /// more. How many. Their bytes go with the next collections, as before.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage).
    ///
    /// # Cost
    ///
    /// 2 requests for a thousand.
    ///
    /// # Cancellation
    ///
    /// Some may be forgotten.
    pub async fn empty_trash(&self, older_than: Duration) -> Result<u64> {
        expire(&self.store, older_than).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_needs() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let [a, b, c] = ["a", "b", "c"].map(digest);
        for (case, manifest, want) in [
            (
                "an image",
                format!(
                    r#"{{"config":{{"digest":"{a}"}},"layers":[{{"digest":"{b}"}}],"subject":{{"digest":"{c}"}}}}"#
                ),
                vec![&a, &b],
            ),
            (
                "an index",
                format!(r#"{{"manifests":[{{"digest":"{a}"}},{{"digest":"{c}"}}]}}"#),
                vec![&a, &c],
            ),
            (
                "schema 1",
                format!(r#"{{"fsLayers":[{{"blobSum":"{b}"}}]}}"#),
                vec![&b],
            ),
            (
                "a layer that is kept elsewhere",
                format!(
                    r#"{{"layers":[{{"digest":"{b}"}},{{"digest":"{c}","mediaType":"{}+gzip"}}]}}"#,
                    KEPT_ELSEWHERE[0]
                ),
                vec![&b],
            ),
            ("no JSON", "x".to_owned(), vec![]),
        ] {
            let needed: Vec<String> = needed(manifest.as_bytes())
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(needed.iter().collect::<Vec<_>>(), want, "{case}");
        }
    }
}
