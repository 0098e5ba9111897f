//! The contract suite, stamped on everything that claims to be a `LayerService`.

use std::sync::Arc;

use async_trait::async_trait;
use embedded_s3::EmbeddedStore;
use s3layers::{
    Layer, LayerId, LayerService, LayerUpload, MemoryLayerService, RepositoryName, Result,
};
use s3layers_conformance::{Subject, repositories};
use uuid::Uuid;

use crate::support::stores;

/// The model. It has no parts; this is large enough that hashing them takes a while, in which
/// another handle can get in between.
async fn memory() -> Subject {
    let service = MemoryLayerService::new();
    Subject {
        here: Arc::new(service.clone()),
        elsewhere: Arc::new(service),
        part_size: 1024 * 1024,
    }
}

/// The adapter over the embedded store, as two processes would have it.
async fn adapter(store: EmbeddedStore) -> Subject {
    let store = stores::with_bucket(store).await;
    Subject {
        here: Arc::new(stores::service(&store).await),
        elsewhere: Arc::new(stores::service(&store).await),
        part_size: stores::PART,
    }
}

async fn folder() -> Subject {
    let (folder, store) = stores::in_folder().await;
    let Subject {
        here,
        elsewhere,
        part_size,
    } = adapter(store).await;
    Subject {
        here: Arc::new(Keeping {
            service: here,
            _folder: folder,
        }),
        elsewhere,
        part_size,
    }
}

/// A service whose folder lives as long as it does.
struct Keeping {
    service: Arc<dyn LayerService>,
    _folder: tempfile::TempDir,
}

#[async_trait]
impl LayerService for Keeping {
    async fn exists(&self, id: &LayerId) -> Result<bool> {
        self.service.exists(id).await
    }

    async fn fetch(&self, id: &LayerId) -> Result<Box<dyn Layer>> {
        self.service.fetch(id).await
    }

    async fn upload(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
    ) -> Result<Box<dyn LayerUpload>> {
        self.service.upload(name, id).await
    }

    async fn resume(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
        uuid: Uuid,
    ) -> Result<Box<dyn LayerUpload>> {
        self.service.resume(name, id, uuid).await
    }
}

s3layers_conformance::suite!(memory, memory());
s3layers_conformance::suite!(embedded_memory, adapter(EmbeddedStore::in_memory()));
s3layers_conformance::suite!(embedded_folder, folder());

/// The model again, as a registry's storage.
async fn memory_repositories() -> repositories::Subject {
    let service = MemoryLayerService::new();
    repositories::Subject {
        here: Arc::new(service.clone()),
        elsewhere: Arc::new(service),
    }
}

async fn adapter_repositories() -> repositories::Subject {
    let store = stores::in_memory().await;
    repositories::Subject {
        here: Arc::new(stores::service(&store).await),
        elsewhere: Arc::new(stores::service(&store).await),
    }
}

repositories::suite!(memory_registry, memory_repositories());
repositories::suite!(embedded_registry, adapter_repositories());
