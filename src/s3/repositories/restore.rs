//! The restore of an image that a client has deleted: the record is written back to live, and the links, the
//! manifest and the tags are written as by a push.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::trash::{self, ListedManifest};
use super::{manifest_document, manifests, tags};
use crate::clock::Moment;
use crate::contract::Manifest;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::manifest;
use crate::name::{RepositoryName, Tag};
use crate::s3::S3LayerService;
use crate::s3::bucket::live::{self, LiveLayer};
use crate::s3::bucket::{Store, objects, presence};
use crate::s3::format::collection::TrashedManifest;
use crate::s3::format::keys::Key;
use crate::s3::names;
use crate::s3::publish;
use s3layers_tarsum::Digest;

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
pub struct RestoreReport {
    /// The manifest.
    pub digest: Digest,
    /// Manifests that it names and that were deleted as well: the images of an index.
    pub named: Vec<Digest>,
    /// Tags that name one of them again.
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
    /// The bytes of these are gone, or are in a copied bucket and not known to be right. All stays deleted.
    #[error("what it needs is gone, or not known to be right: {}", list(.digests))]
    Gone {
        /// What the manifest needs: layers, or manifests that lack something in turn.
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

/// What is restored, and what cannot be.
#[derive(Default)]
struct Plan {
    /// Deleted manifests with the layers that they need, each after those that it names.
    manifests: Vec<(Digest, Vec<(LayerId, LiveLayer)>)>,
    /// What was found to be gone: it is looked for once, however many manifests need it.
    gone: BTreeSet<Digest>,
}

impl Plan {
    fn has(&self, digest: &Digest) -> bool {
        self.manifests.iter().any(|(planned, _)| planned == digest)
    }

    /// Adds a deleted manifest and, before it, what it needs and was deleted as well. Their layers are kept from
    /// collections; nothing else is changed.
    async fn add(
        &mut self,
        store: &Arc<Store>,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), RestoreError> {
        let deleted = deleted(store, name, digest).await?;
        let needed = manifest::needed(&deleted.document.bytes.0);
        drop(deleted);
        let (mut layers, mut gone) = (Vec::new(), Vec::new());
        for digest in needed {
            match self.find(store, name, &digest).await? {
                Needed::Layer(id, live) => layers.push((id, *live)),
                Needed::Manifest => {}
                Needed::Gone => gone.push(digest),
            }
        }
        if !gone.is_empty() {
            return Err(RestoreError::Gone { digests: gone });
        }
        self.manifests.push((digest.clone(), layers));
        Ok(())
    }

    async fn find(
        &mut self,
        store: &Arc<Store>,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Needed> {
        if self.gone.contains(digest) {
            return Ok(Needed::Gone);
        }
        if self.has(digest) || manifest_document::get(store, name, digest).await?.is_some() {
            return Ok(Needed::Manifest);
        }
        let id = LayerId::from(digest.clone());
        if let Some(live) = live::revive(store, &id).await?
            && presence::look(store, &live.layer).await?
        {
            return Ok(Needed::Layer(id, Box::new(live)));
        }
        match Box::pin(self.add(store, name, digest)).await {
            Ok(()) => Ok(Needed::Manifest),
            Err(RestoreError::Unknown | RestoreError::Gone { .. }) => {
                self.gone.insert(digest.clone());
                Ok(Needed::Gone)
            }
            Err(RestoreError::Failed(error)) => Err(error),
        }
    }
}

/// Something that a manifest needs.
enum Needed {
    /// A layer that is to be linked.
    Layer(LayerId, Box<LiveLayer>),
    /// A manifest that is there, or will be restored.
    Manifest,
    Gone,
}

/// Whether all that a deleted manifest needs is there, or was deleted as well and can be restored in turn.
pub(super) async fn is_possible(store: &Arc<Store>, entry: &TrashedManifest) -> Result<bool> {
    let name = &entry.repository;
    for digest in manifest::needed(&entry.bytes.0) {
        if live::can_be_revived(store, &LayerId::from(digest.clone())).await? {
            continue;
        }
        if manifest_document::get(store, name, &digest)
            .await?
            .is_some()
        {
            continue;
        }
        let prefix = store.keys.trash_of_digest(name, &digest);
        if objects::below(store, &prefix).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The manifest that had this tag and was deleted last.
async fn tagged(
    store: &Arc<Store>,
    name: &RepositoryName,
    tag: &Tag,
) -> Result<Digest, RestoreError> {
    let mut newest: Option<(Duration, Digest)> = None;
    let add = |entry: ListedManifest| {
        let is_newer = newest.as_ref().is_none_or(|(age, _)| entry.age < *age);
        if is_newer && entry.document.tags.contains(tag) {
            newest = Some((entry.age, entry.document.digest));
        }
    };
    trash::each_entry(store, store.keys.trash_of(name), add).await?;
    let (_, digest) = newest.ok_or(RestoreError::Unknown)?;
    Ok(digest)
}

/// What was deleted.
struct Deleted {
    /// With the tags of all entries.
    document: TrashedManifest,
    /// A deletion that was repeated has an entry for each attempt.
    keys: Vec<Key>,
}

/// All entries of one digest.
async fn deleted(
    store: &Arc<Store>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Deleted, RestoreError> {
    let mut deleted: Option<Deleted> = None;
    let add = |entry: ListedManifest| {
        let ListedManifest { key, document, .. } = entry;
        match &mut deleted {
            _ if document.digest != *digest => {}
            Some(deleted) => {
                deleted.keys.push(key);
                deleted.document.tags.extend(document.tags);
            }
            None => {
                let keys = vec![key];
                deleted = Some(Deleted { document, keys });
            }
        }
    };
    trash::each_entry(store, store.keys.trash_of_digest(name, digest), add).await?;
    deleted.ok_or(RestoreError::Unknown)
}

/// Restores a manifest of which all is there.
async fn restore_one(
    store: &Arc<Store>,
    name: &RepositoryName,
    digest: &Digest,
    layers: &[(LayerId, LiveLayer)],
    restored: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let deleted = deleted(store, name, digest).await?;
    let entry = &deleted.document;
    let since = Moment::now();
    for (id, live) in layers {
        publish::link_found(store, name, live, id).await?;
    }
    let manifest = Manifest {
        digest: entry.digest.clone(),
        media_type: entry.media_type.clone(),
        bytes: entry.bytes.0.clone(),
        subject: entry.subject.clone(),
        artifact_type: entry.artifact_type.clone(),
        annotations: entry.annotations.clone(),
    };
    // First, as a restore that continues looks in the trash only for what is absent.
    for tag in &entry.tags {
        if tags::put_if_absent(store, name, tag, &entry.digest).await? {
            restored.tags.push(tag.clone());
        } else {
            restored.taken_tags.push(tag.clone());
        }
    }
    names::entry(store, name, manifests::put(store, name, &manifest, since)).await?;
    Ok(store.remove_all(&deleted.keys).await?)
}

async fn restore(
    store: &Arc<Store>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<RestoreReport, RestoreError> {
    let mut plan = Plan::default();
    plan.add(store, name, digest).await?;
    let mut restored = RestoreReport {
        digest: digest.clone(),
        named: Vec::new(),
        tags: Vec::new(),
        taken_tags: Vec::new(),
    };
    for (planned, layers) in &plan.manifests {
        restore_one(store, name, planned, layers, &mut restored).await?;
        if planned != digest {
            restored.named.push(planned.clone());
        }
    }
    Ok(restored)
}

impl S3LayerService {
    /// Brings back an image that a client has deleted: layers, links, manifest, and those of its
    /// tags that name no other manifest by now.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]. If content is gone, no link, manifest or tag was written, and layers that are there stay for
    /// another round of collections. After a failed request, images of an index may be restored, or layers linked;
    /// without their manifest a collection removes the links again.
    ///
    /// # Cost
    ///
    /// For each manifest some 7 requests, for each layer some 5, for each tag 2. By a tag, 1 more for each deleted manifest
    /// of the repository.
    ///
    /// # Cancellation
    ///
    /// As after an error.
    pub async fn restore(
        &self,
        name: &RepositoryName,
        reference: &TrashReference,
    ) -> Result<RestoreReport, RestoreError> {
        let digest = match reference {
            TrashReference::Digest(digest) => digest,
            TrashReference::Tag(tag) => &tagged(&self.store, name, tag).await?,
        };
        restore(&self.store, name, digest).await
    }
}
