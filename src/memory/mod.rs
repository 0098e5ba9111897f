//! Layers in a map: the reference model of the contract, and a backing for tests.
//!
//! It is written to be obviously right rather than fast, so that a test can hold the S3 adapter
//! against it. One lock guards one [`Store`]; every step of the contract is one turn under it.
//!
//! 1. A handle takes bytes on its own account. [`close`](LayerUpload::close) moves them into the
//!    store; a handle that is dropped takes them along, so a later resume finds the upload where
//!    it was closed last.
//! 2. An upload has one owner at a time: the handle that began it, until another handle writes
//!    its first byte, finishes or cancels. A former owner gets
//!    [`UploadConflict`](Error::UploadConflict) from then on. So does a resumed handle whose first
//!    step comes after another one stored more bytes: it would write over them.
//! 3. [`finish`](LayerUpload::finish) verifies without the lock, and asks for the ownership again
//!    before it publishes.
//! 4. One map leads from every id of a layer to the one copy of it. Who publishes the same bytes
//!    later gets the first layer, and adds the ids it verified. An id that leads to a layer already
//!    leads there for good: archives with one TarSum can differ in their bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use self::layer::MemoryLayer;
use self::upload::MemoryUpload;
use crate::clock;
use crate::contract::{Layer, LayerService, LayerUpload};
use crate::error::{Error, Result};
use crate::id::{LayerId, TarSum};
use crate::name::RepositoryName;
use s3layers_tarsum::Digest;

mod layer;
mod repositories;
mod upload;

/// A [`LayerService`] that keeps everything in memory, for as long as one of its clones lives.
///
/// A clone sees the same layers and uploads, as another process would that serves the same bucket.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use s3layers::{Algorithm, Digest, LayerService, MemoryLayerService};
///
/// let here = MemoryLayerService::new();
/// let name = "library/demo".parse()?;
/// let mut upload = here.upload(&name, None).await?;
/// upload.write_bytes("first, ".into()).await?;
/// upload.close().await?;
///
/// let elsewhere = here.clone();
/// let mut upload = elsewhere.resume(&name, None, upload.uuid()).await?;
/// assert_eq!(upload.offset(), 7);
/// upload.write_bytes("then the rest".into()).await?;
/// let digest = Digest::of(Algorithm::Sha256, b"first, then the rest");
/// upload.finish(20, &digest).await?;
/// assert!(here.exists(&digest.into()).await?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryLayerService {
    store: Arc<Mutex<Store>>,
}

/// What all clones share.
#[derive(Default)]
struct Store {
    /// By every id that leads to it.
    layers: HashMap<LayerId, Arc<Stored>>,
    /// Which layers are linked in a repository, by every id that leads to them there.
    links: BTreeMap<RepositoryName, HashMap<LayerId, Arc<Stored>>>,
    contents: repositories::Contents,
    uploads: HashMap<Uuid, Session>,
    claims: HashMap<(RepositoryName, LayerId), Uuid>,
    /// How many handles there were: the last one's number.
    handles: u64,
}

/// A published layer.
struct Stored {
    name: RepositoryName,
    tar_sum: Option<TarSum>,
    digest: Digest,
    created_at: SystemTime,
    bytes: Bytes,
}

impl Stored {
    /// The same layer, with the TarSum that it is found by.
    fn found_by(self: &Arc<Self>, id: &LayerId) -> Arc<Self> {
        match id {
            LayerId::TarSum(tar_sum) => Arc::new(self.known_as(Some(tar_sum))),
            LayerId::Digest(_) => Arc::clone(self),
        }
    }

    /// The same layer, found by a TarSum that was verified.
    fn known_as(&self, tar_sum: Option<&TarSum>) -> Self {
        Stored {
            tar_sum: tar_sum.or(self.tar_sum.as_ref()).cloned(),
            name: self.name.clone(),
            digest: self.digest.clone(),
            created_at: self.created_at,
            bytes: self.bytes.clone(),
        }
    }
}

/// An upload, as far as it is stored.
struct Session {
    name: RepositoryName,
    declared: Option<LayerId>,
    /// The number of the handle that owns it.
    owner: u64,
    pieces: Vec<Bytes>,
    offset: u64,
}

impl MemoryLayerService {
    /// A service without any layer.
    pub fn new() -> Self {
        Self::default()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }
}

/// No step under the lock can panic half way, so a poisoned store is as good as any.
fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    fn next_handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    /// Removes an upload, and with it the claim that it held.
    fn remove(&mut self, uuid: Uuid) {
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
    fn publish(&mut self, name: &RepositoryName, layer: Stored, ids: Vec<LayerId>) -> Arc<Stored> {
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
    fn link(
        &mut self,
        name: &RepositoryName,
        layer: &Arc<Stored>,
        ids: impl IntoIterator<Item = LayerId>,
    ) {
        let links = self.links.entry(name.clone()).or_default();
        let sha256 = layer.digest.clone().into();
        for id in ids.into_iter().chain([sha256]) {
            let found = layer.found_by(&id);
            links.insert(id, found);
        }
    }
}

#[async_trait]
impl LayerService for MemoryLayerService {
    async fn exists(&self, id: &LayerId) -> Result<bool> {
        Ok(self.store().layers.contains_key(id))
    }

    async fn fetch(&self, id: &LayerId) -> Result<Box<dyn Layer>> {
        match self.store().layers.get(id) {
            Some(layer) => Ok(MemoryLayer::open(layer)),
            None => Err(Error::LayerUnknown { id: id.clone() }),
        }
    }

    async fn upload(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
    ) -> Result<Box<dyn LayerUpload>> {
        let mut store = self.store();
        let uuid = clock::new_uuid();
        if let Some(id) = id {
            if store.layers.contains_key(id) {
                return Err(Error::LayerExists { id: id.clone() });
            }
            let claim = (name.clone(), id.clone());
            if let Some(&uuid) = store.claims.get(&claim) {
                let (name, id) = claim;
                return Err(Error::UploadInProgress { name, id, uuid });
            }
            store.claims.insert(claim, uuid);
        }
        let handle = store.next_handle();
        let session = Session {
            name: name.clone(),
            declared: id.cloned(),
            owner: handle,
            pieces: Vec::new(),
            offset: 0,
        };
        let upload = MemoryUpload::over(&self.store, uuid, &session, None, handle);
        store.uploads.insert(uuid, session);
        Ok(Box::new(upload))
    }

    async fn resume(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
        uuid: Uuid,
    ) -> Result<Box<dyn LayerUpload>> {
        let mut store = self.store();
        let handle = store.next_handle();
        let differs = |declared: &LayerId| id.is_some_and(|id| id != declared);
        match store.uploads.get(&uuid) {
            Some(session)
                if session.name == *name && !session.declared.as_ref().is_some_and(differs) =>
            {
                let upload = MemoryUpload::over(&self.store, uuid, session, id, handle);
                Ok(Box::new(upload))
            }
            _ => Err(Error::UploadUnknown { uuid }),
        }
    }
}
