//! The state of the service, and the steps that several of its methods have in common.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use uuid::Uuid;

use crate::contract::Manifest;
use crate::id::{LayerId, TarSum};
use crate::name::{RepositoryName, Tag};
use s3layers_tarsum::Digest;

/// What all clones share.
#[derive(Default)]
pub(super) struct Store {
    /// By every id that leads to it.
    pub(super) layers: HashMap<LayerId, Arc<StoredLayer>>,
    /// Which layers are linked in a repository, by every id that leads to them there.
    pub(super) links: BTreeMap<RepositoryName, HashMap<LayerId, Arc<StoredLayer>>>,
    pub(super) manifests: BTreeMap<RepositoryName, BTreeMap<Digest, Manifest>>,
    pub(super) tags: BTreeMap<RepositoryName, BTreeMap<Tag, Digest>>,
    pub(super) uploads: HashMap<Uuid, Session>,
    pub(super) claims: HashMap<(RepositoryName, LayerId), Uuid>,
    /// How many handles there were: the last one's number.
    handles: u64,
}

/// A published layer.
pub(super) struct StoredLayer {
    pub(super) name: RepositoryName,
    pub(super) tar_sum: Option<TarSum>,
    pub(super) digest: Digest,
    pub(super) created_at: SystemTime,
    pub(super) bytes: Bytes,
}

impl StoredLayer {
    /// The same layer, with the TarSum that it is found by.
    fn found_by(self: &Arc<Self>, id: &LayerId) -> Arc<Self> {
        match id {
            LayerId::TarSum(tar_sum) => Arc::new(self.known_as(Some(tar_sum))),
            LayerId::Digest(_) => Arc::clone(self),
        }
    }

    /// The same layer, found by a TarSum that was verified.
    fn known_as(&self, tar_sum: Option<&TarSum>) -> Self {
        StoredLayer {
            tar_sum: tar_sum.or(self.tar_sum.as_ref()).cloned(),
            name: self.name.clone(),
            digest: self.digest.clone(),
            created_at: self.created_at,
            bytes: self.bytes.clone(),
        }
    }
}

/// An upload, as far as it is stored.
pub(super) struct Session {
    pub(super) name: RepositoryName,
    pub(super) declared: Option<LayerId>,
    /// The number of the handle that owns it.
    pub(super) owner: u64,
    pub(super) pieces: Vec<Bytes>,
    pub(super) offset: u64,
}

/// No step under the lock can panic half way, so a poisoned store is as good as any.
pub(super) fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    pub(super) fn next_handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    /// Removes an upload, and with it the claim that it held.
    pub(super) fn remove(&mut self, uuid: Uuid) {
        let Some(session) = self.uploads.remove(&uuid) else {
            return;
        };
        if let Some(id) = session.declared {
            self.claims.remove(&(session.name, id));
        }
    }

    /// Publishes a layer, to be found by `ids` too, and links it in the repository `name`. Where
    /// its bytes are stored already, the first stays as it is, but returns the TarSum that it is
    /// found by.
    pub(super) fn publish(
        &mut self,
        name: &RepositoryName,
        layer: StoredLayer,
        ids: Vec<LayerId>,
    ) -> Arc<StoredLayer> {
        let by_sha256 = self.layers.entry(layer.digest.clone().into());
        let tar_sum = layer.tar_sum.clone();
        let stored = Arc::clone(by_sha256.or_insert_with(|| Arc::new(layer)));
        for id in &ids {
            let found = stored.found_by(id);
            self.layers.entry(id.clone()).or_insert(found);
        }
        self.link(name, &stored, ids);
        Arc::new(stored.known_as(tar_sum.as_ref()))
    }

    /// Links a layer in a repository, to be found there by its SHA-256 and `ids`.
    pub(super) fn link(
        &mut self,
        name: &RepositoryName,
        layer: &Arc<StoredLayer>,
        ids: impl IntoIterator<Item = LayerId>,
    ) {
        let links = self.links.entry(name.clone()).or_default();
        let sha256 = layer.digest.clone().into();
        for id in ids.into_iter().chain([sha256]) {
            let found = layer.found_by(&id);
            links.insert(id, found);
        }
    }

    /// Whether this repository holds a layer, a manifest or a tag.
    pub(super) fn has_repository(&self, name: &RepositoryName) -> bool {
        self.links.get(name).is_some_and(|links| !links.is_empty())
            || self.manifests.get(name).is_some_and(|all| !all.is_empty())
            || self.tags.get(name).is_some_and(|all| !all.is_empty())
    }
}
