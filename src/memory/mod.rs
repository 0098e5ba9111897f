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

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use uuid::Uuid;

use self::layer::MemoryLayer;
use self::store::{Session, Store, lock};
use self::upload::MemoryUpload;
use crate::clock;
use crate::contract::{Layer, LayerService, LayerUpload};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;

mod layer;
mod repositories;
mod store;
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

impl MemoryLayerService {
    /// A service without any layer.
    pub fn new() -> Self {
        Self::default()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
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
