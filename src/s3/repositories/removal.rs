//! The removal of a whole repository.
//!
//! Manifests are removed first, then tags that name none, then links. That takes minutes for a large repository. A
//! manifest that a client puts meanwhile was acknowledged, because what it names was there. So the manifests are listed
//! again before every few removals: one that was not there when the removal began, or that was put again after it was
//! removed, stays with all that it names.
//!
//! That leaves a few seconds: a manifest that is put after such a listing, when the check of its layers came before the
//! removals that follow. Links that are condemned instead of removed would leave none, but the repository would
//! be in the catalog for a day.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::TryStreamExt as _;

use super::{links, list, manifest_document, manifests, tags};
use crate::error::Result;
use crate::id::LayerId;
use crate::name::{RepositoryName, Tag};
use crate::s3::S3LayerService;
use crate::s3::bucket::Store;
use crate::s3::format::keys::EntryKind;
use crate::s3::maintenance::inventory::pages;
use crate::s3::names;
use s3layers_tarsum::Digest;

/// How many tags are listed at a time.
const TAGS: usize = 1000;
/// How many manifests or links are removed before the manifests are listed again.
const REMOVALS: usize = 16;

/// What was removed of a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedRepository {
    /// Manifests; the trash has them, with their tags.
    pub manifests: u64,
    /// Tags that named no manifest.
    pub tags: u64,
    /// Links of layers.
    pub layers: u64,
}

impl S3LayerService {
    /// Removes all manifests, tags and layers from a repository. An image that is pushed meanwhile is removed, or
    /// stays whole. Only an image whose manifest is being put just when something that it names is removed may lack
    /// that; the push repairs it when it is repeated.
    ///
    /// The bytes of the layers go with the next collections; until then [`restore`](Self::restore) brings back the
    /// images.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage); [`Damaged`](crate::Error::Damaged) where a manifest that was pushed
    /// meanwhile cannot be read. Another call continues.
    ///
    /// # Cost
    ///
    /// 1 request for a thousand objects of the repository, and those of the removal of each. For each sixteen of
    /// them, 1 for a thousand manifests.
    ///
    /// # Cancellation
    ///
    /// Another call continues. A repository without entries may stay in the catalog until then.
    pub async fn remove_repository(&self, name: &RepositoryName) -> Result<RemovedRepository> {
        let mut removal = Removal::begin(&self.store, name).await?;
        let ended = Box::pin(removal.run()).await;
        // After an error too, so that the catalog does not show what has no entries; and a removal that was killed may
        // have left a marker.
        let has_removed = removal.removed != RemovedRepository::default();
        let marked = names::removal(&self.store, name, async { Ok(has_removed) }).await;
        ended.and(marked)?;
        Ok(removal.removed)
    }
}

/// A repository that is being removed.
struct Removal<'a> {
    store: &'a Arc<Store>,
    name: &'a RepositoryName,
    /// Manifests that are left to remove.
    manifests: BTreeSet<Digest>,
    links: Vec<LayerId>,
    /// Manifests that stay.
    kept: BTreeSet<Digest>,
    /// What they name.
    named: BTreeSet<Digest>,
    removed: RemovedRepository,
}

impl<'a> Removal<'a> {
    async fn begin(store: &'a Arc<Store>, name: &'a RepositoryName) -> Result<Self> {
        let mut removal = Removal {
            store,
            name,
            manifests: BTreeSet::new(),
            links: Vec::new(),
            kept: BTreeSet::new(),
            named: BTreeSet::new(),
            removed: RemovedRepository::default(),
        };
        let mut pages = pages(store, store.keys.repository(name));
        while let Some(page) = pages.try_next().await? {
            for object in page.present() {
                // Repositories whose names continue after a slash are below it, too.
                match store.keys.entry_of(object.key.as_str()) {
                    Some((found, EntryKind::Manifest(digest))) if found == *name => {
                        removal.manifests.insert(digest);
                    }
                    Some((found, EntryKind::Link(digest))) if found == *name => {
                        removal.links.push(LayerId::from(digest));
                    }
                    _ => {}
                }
            }
        }
        Ok(removal)
    }

    async fn run(&mut self) -> Result<()> {
        self.remove_manifests().await?;
        self.remove_tags().await?;
        for links in std::mem::take(&mut self.links).chunks(REMOVALS) {
            self.look().await?;
            for id in links {
                let unlink = links::unlink(self.store, self.name, id, &self.named);
                let unlinked = names::removal_of_many(self.store, unlink).await?;
                self.removed.layers += u64::from(unlinked);
            }
        }
        Ok(())
    }

    async fn remove_manifests(&mut self) -> Result<()> {
        for nth in 0.. {
            if nth % REMOVALS == 0 {
                self.look().await?;
            }
            let Some(digest) = self.manifests.pop_first() else {
                break;
            };
            if self.named.contains(&digest) {
                self.keep(digest).await?;
            } else {
                let delete = manifests::delete(self.store, self.name, &digest);
                let deleted = names::removal_of_many(self.store, delete).await?;
                self.removed.manifests += u64::from(deleted);
            }
        }
        Ok(())
    }

    async fn remove_tags(&mut self) -> Result<()> {
        let mut after: Option<Tag> = None;
        loop {
            let from = after.as_ref().map(Tag::as_str);
            let page = tags::page(self.store, self.name, from, TAGS).await?;
            for tag in &page.items {
                let delete = tags::delete_dangling(self.store, self.name, tag);
                let deleted = names::removal_of_many(self.store, delete).await?;
                self.removed.tags += u64::from(deleted);
            }
            after = page.items.last().filter(|_| page.more).cloned();
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Keeps the manifests that are there and not left to remove: they were pushed meanwhile.
    async fn look(&mut self) -> Result<()> {
        let mut digests = Box::pin(list::digests(self.store, self.name));
        while let Some(digest) = digests.try_next().await? {
            if !self.manifests.contains(&digest) {
                self.keep(digest).await?;
            }
        }
        Ok(())
    }

    /// Keeps a manifest, unless it is gone, with what it names.
    async fn keep(&mut self, digest: Digest) -> Result<()> {
        if self.kept.contains(&digest) {
            return Ok(());
        }
        let named = manifest_document::names_of_manifest(self.store, self.name, &digest).await?;
        if let Some(named) = named {
            self.named.extend(named);
            self.kept.insert(digest);
        }
        Ok(())
    }
}
