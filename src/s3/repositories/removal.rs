//! The removal of a whole repository.

use std::sync::Arc;

use futures_util::TryStreamExt as _;

use crate::contract::RepositoryService as _;
use crate::error::Result;
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::S3LayerService;
use crate::s3::format::document::TOMBSTONE_SIZE;
use crate::s3::format::keys::EntryKind;
use crate::s3::maintenance::inventory::pages;

/// How many tags are listed at a time.
const TAGS: usize = 1000;

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
    /// Removes all manifests, tags and layers from a repository. What is pushed meanwhile may stay. The
    /// bytes of its layers go with the next collections; until then
    /// [`restore`](Self::restore) brings back its images.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage). Another call continues.
    ///
    /// # Cost
    ///
    /// 1 request for a thousand objects of the repository, and those of the removal of each.
    ///
    /// # Cancellation
    ///
    /// As after an error.
    pub async fn remove_repository(&self, name: &RepositoryName) -> Result<RemovedRepository> {
        let keys = &self.store.keys;
        let mut removed = RemovedRepository::default();
        let (mut manifests, mut layers) = (Vec::new(), Vec::new());
        let below = keys.repository(name);
        let mut pages = Box::pin(pages(Arc::clone(&self.store), below));
        while let Some(page) = pages.try_next().await? {
            let present = page.objects.iter();
            let present = present.filter(|object| object.size != TOMBSTONE_SIZE);
            for object in present {
                // Repositories whose names continue after a slash are below it, too.
                match keys.entry_of(object.key.as_str()) {
                    Some((found, EntryKind::Manifest(digest))) if found == *name => {
                        manifests.push(digest);
                    }
                    Some((found, EntryKind::Link(digest))) if found == *name => {
                        layers.push(LayerId::from(digest));
                    }
                    _ => {}
                }
            }
        }
        for digest in &manifests {
            removed.manifests += u64::from(self.delete_manifest(name, digest).await?);
        }
        while let Some(page) = self.tags(name, None, TAGS).await? {
            for tag in &page.items {
                removed.tags += u64::from(self.delete_tag(name, tag).await?);
            }
            if !page.more {
                break;
            }
        }
        for id in &layers {
            removed.layers += u64::from(self.unlink(name, id).await?);
        }
        Ok(removed)
    }
}
