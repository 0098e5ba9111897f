//! The repositories of a registry in memory: what [`RepositoryService`] promises, as plainly as it
//! can be written.

use async_trait::async_trait;

use super::MemoryLayerService;
use super::layer::MemoryLayer;
use super::store::Store;
use crate::contract::Layer;
use crate::contract::{Manifest, Page, Referrer, ReferrerKey, RepositoryService};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::{RepositoryName, Tag};
use s3layers_tarsum::Digest;

#[async_trait]
impl RepositoryService for MemoryLayerService {
    async fn layer(&self, name: &RepositoryName, id: &LayerId) -> Result<Box<dyn Layer>> {
        match self.store().links.get(name).and_then(|links| links.get(id)) {
            Some(layer) => Ok(MemoryLayer::open(layer)),
            None => Err(Error::LayerUnknown { id: id.clone() }),
        }
    }

    async fn mount(
        &self,
        name: &RepositoryName,
        id: &LayerId,
        from: Option<&RepositoryName>,
    ) -> Result<bool> {
        let mut store = self.store();
        let found = match from {
            Some(from) => store.links.get(from).and_then(|links| links.get(id)),
            None => store.layers.get(id),
        };
        let Some(layer) = found.cloned() else {
            return Ok(false);
        };
        let same = store.layers.iter();
        let same = same.filter(|(_, stored)| stored.digest == layer.digest);
        let ids: Vec<_> = same.map(|(id, _)| id.clone()).collect();
        store.link(name, &layer, ids);
        Ok(true)
    }

    async fn unlink(&self, name: &RepositoryName, id: &LayerId) -> Result<bool> {
        let mut store = self.store();
        let Some(links) = store.links.get_mut(name) else {
            return Ok(false);
        };
        let Some(layer) = links.get(id).cloned() else {
            return Ok(false);
        };
        // By none of its ids is it found here any more.
        links.retain(|_, linked| linked.digest != layer.digest);
        Ok(true)
    }

    async fn put_manifest(&self, name: &RepositoryName, manifest: &Manifest) -> Result<()> {
        let mut store = self.store();
        let manifests = store.manifests.entry(name.clone()).or_default();
        let standing = manifests.entry(manifest.digest.clone());
        let standing = standing.or_insert_with(|| manifest.clone());
        standing.media_type.clone_from(&manifest.media_type);
        Ok(())
    }

    async fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Manifest>> {
        let store = self.store();
        let manifests = store.manifests.get(name);
        Ok(manifests.and_then(|all| all.get(digest)).cloned())
    }

    async fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool> {
        let mut store = self.store();
        let Store {
            manifests, tags, ..
        } = &mut *store;
        let removed = manifests.get_mut(name).and_then(|all| all.remove(digest));
        if removed.is_some()
            && let Some(tags) = tags.get_mut(name)
        {
            tags.retain(|_, named| named != digest);
        }
        Ok(removed.is_some())
    }

    async fn put_tag(&self, name: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<()> {
        let mut store = self.store();
        let tags = store.tags.entry(name.clone()).or_default();
        tags.insert(tag.clone(), digest.clone());
        Ok(())
    }

    async fn tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>> {
        let store = self.store();
        let tags = store.tags.get(name);
        Ok(tags.and_then(|all| all.get(tag)).cloned())
    }

    async fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<bool> {
        let mut store = self.store();
        let tags = store.tags.get_mut(name);
        Ok(tags.and_then(|all| all.remove(tag)).is_some())
    }

    async fn tags(
        &self,
        name: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<Tag>>> {
        let store = self.store();
        if !store.has_repository(name) {
            return Ok(None);
        }
        let tags = store.tags.get(name).into_iter().flatten();
        let tags = tags.map(|(tag, _)| tag.clone());
        let rest = tags.filter(|tag| after.is_none_or(|after| tag.as_str() > after));
        Ok(Some(page(rest, limit)))
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&ReferrerKey>,
        limit: usize,
        weight: usize,
    ) -> Result<Page<Referrer>> {
        let store = self.store();
        let Some(manifests) = store.manifests.get(name) else {
            return Ok(page([], limit));
        };
        let is_sought = |manifest: &&Manifest| {
            let own = manifest.artifact_type.as_deref();
            manifest.subject.as_ref() == Some(subject)
                && artifact_type.is_none_or(|sought| own == Some(sought))
        };
        let sought = manifests.values().filter(is_sought);
        let mut sought: Vec<_> = sought.cloned().map(Referrer::from).collect();
        sought.sort_by_key(Referrer::key);
        sought.retain(|referrer| after.is_none_or(|after| referrer.key() > *after));
        let mut page = page(sought, limit);
        let mut sum = 0;
        let fitting = page.items.iter().take_while(|referrer| {
            sum += referrer.weight();
            sum <= weight
        });
        let fitting = fitting.count().max(1);
        page.more |= fitting < page.items.len();
        page.items.truncate(fitting);
        Ok(page)
    }

    async fn repositories(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RepositoryName>> {
        let store = self.store();
        let Store {
            manifests, tags, ..
        } = &*store;
        let names = store.links.keys().chain(manifests.keys());
        let mut names: Vec<_> = names.chain(tags.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names.retain(|name| store.has_repository(name));
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        Ok(page(names, limit))
    }

    async fn ready(&self) -> Result<()> {
        Ok(())
    }
}

/// The first `limit` of `items`.
fn page<T>(items: impl IntoIterator<Item = T>, limit: usize) -> Page<T> {
    let mut rest = items.into_iter();
    let items = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    Page { items, more }
}
