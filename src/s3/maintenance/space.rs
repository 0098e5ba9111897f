//! How many bytes each repository has, and how many nothing needs: from links, manifests, and the sizes in the records.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::inventory::pages;
use crate::error::Result;
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::S3LayerService;
use crate::s3::bucket::Store;
use crate::s3::format::keys::EntryKind;
use crate::s3::format::record::Record;
use crate::s3::repositories;
use s3layers_tarsum::{Algorithm, Digest};

/// How many records are read at a time.
const READS_AT_ONCE: usize = 16;

/// The layers of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepositorySpace {
    /// The repository.
    pub name: RepositoryName,
    /// Layers that it has.
    pub layers: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those that no other repository has.
    pub own_bytes: u64,
}

/// The layers of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// Every repository that has a layer, in the order of keys.
    pub repositories: Vec<RepositorySpace>,
    /// Layers that are there, each counted once.
    pub layers: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that no manifest names: collections free them.
    pub unused_layers: u64,
    /// Their bytes.
    pub unused_bytes: u64,
    /// Layers that a collection has removed, and whose bytes are kept a while.
    pub removed_layers: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// What removed documents have left, 96 bytes each.
    pub tombstones: u64,
}

impl S3LayerService {
    /// How many bytes each repository has, and what a collection would free.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage). A record that cannot be read counts as none, a manifest as one that needs
    /// all of its repository.
    ///
    /// # Cost
    ///
    /// 1 request for a thousand links, manifests and records, and 1 for each layer and each manifest. In memory some
    /// 200 bytes for each layer, and 4 for each link.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    pub async fn space(&self) -> Result<Space> {
        let mut space = Space::default();
        let uses = uses(&self.store, &mut space).await?;
        add_records(&self.store, &uses, &mut space).await?;
        Ok(space)
    }
}

/// What uses layers.
#[derive(Default)]
struct Uses {
    /// In which repositories each layer is, by their place in the list.
    linked: HashMap<Digest, Vec<u32>>,
    /// By any of their ids, also manifests.
    named: HashSet<Digest>,
    /// Repositories of a manifest that cannot be read.
    unreadable: HashSet<RepositoryName>,
}

async fn uses(store: &Arc<Store>, space: &mut Space) -> Result<Uses> {
    let mut uses = Uses::default();
    let mut pages = pages(store, store.keys.repositories());
    while let Some(page) = pages.try_next().await? {
        let mut manifests = Vec::new();
        for object in page.objects {
            let Some((name, kind)) = store.keys.entry_of(object.key.as_str()) else {
                continue;
            };
            if object.is_tombstone() {
                space.tombstones += 1;
                continue;
            }
            let digest = match kind {
                EntryKind::Link(digest) => digest,
                EntryKind::Manifest(digest) => {
                    manifests.push((name, digest));
                    continue;
                }
                _ => continue,
            };
            let last = space.repositories.last();
            if last.is_none_or(|last| last.name != name) {
                space.repositories.push(RepositorySpace {
                    name,
                    layers: 0,
                    bytes: 0,
                    own_bytes: 0,
                });
            }
            let place = space.repositories.len() - 1;
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            uses.linked.entry(digest).or_default().push(place);
        }
        let reads = manifests.into_iter().map(async |(name, digest)| {
            match repositories::names_of_manifest(store, &name, &digest).await {
                Err(error) if error.is_unreadable() => {
                    tracing::warn!(%name, %digest, %error, "all of its repository counts as needed");
                    Ok((None, Some(name)))
                }
                names => names.map(|names| (names, None)),
            }
        });
        let reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READS_AT_ONCE);
        let read: Vec<_> = reads.try_collect().await?;
        for (names, unreadable) in read {
            uses.named.extend(names.into_iter().flatten());
            uses.unreadable.extend(unreadable);
        }
    }
    Ok(uses)
}

async fn add_records(store: &Arc<Store>, uses: &Uses, space: &mut Space) -> Result<()> {
    let below = store.keys.layers(Algorithm::Sha256, "");
    let mut pages = pages(store, below);
    while let Some(page) = pages.try_next().await? {
        let objects = page.objects.iter();
        let tombstones = objects.clone().filter(|object| object.is_tombstone());
        space.tombstones += tombstones.count() as u64;
        let digests = objects.filter_map(|object| store.keys.digest_of(object.key.as_str()));
        let reads = digests.map(async |digest| {
            let id = LayerId::from(digest);
            match store.record(&id).await {
                Err(error) if error.is_unreadable() => {
                    tracing::warn!(%id, %error, "left out of the sum");
                    Ok(None)
                }
                record => record,
            }
        });
        let reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READS_AT_ONCE);
        let records: Vec<_> = reads.try_collect().await?;
        for record in records.into_iter().flatten() {
            add(&record.document, uses, space);
        }
    }
    Ok(())
}

fn add(record: &Record, uses: &Uses, space: &mut Space) {
    let size = record.layer.size;
    if !record.state.is_present() {
        space.removed_layers += 1;
        space.removed_bytes += size;
        return;
    }
    space.layers += 1;
    space.bytes += size;
    let layer = &record.layer;
    let places = uses.linked.get(&layer.digest);
    let places = places.map_or(&[][..], Vec::as_slice);
    let mut ids = layer.aliases.iter().filter_map(LayerId::as_digest);
    let is_named = uses.named.contains(&layer.digest)
        || ids.any(|id| uses.named.contains(id))
        || places.iter().any(|place| {
            let repository = space.repositories.get(*place as usize);
            repository.is_some_and(|one| uses.unreadable.contains(&one.name))
        });
    if !is_named {
        space.unused_layers += 1;
        space.unused_bytes += size;
    }
    for place in places {
        if let Some(repository) = space.repositories.get_mut(*place as usize) {
            repository.layers += 1;
            repository.bytes += size;
            if places.len() == 1 {
                repository.own_bytes += size;
            }
        }
    }
}
