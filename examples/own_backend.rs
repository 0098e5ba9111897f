//! A `LayerService` of one's own, held to the contract by the exported suite. This one wraps
//! another and counts; a real one would store.
//!
//! `cargo run --example own_backend`

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use s3layers::{
    Layer, LayerId, LayerService, LayerUpload, MemoryLayerService, RepositoryName, Result,
};
use s3layers_conformance::Subject;
use uuid::Uuid;

#[derive(Default)]
struct Counting {
    inner: MemoryLayerService,
    uploads: AtomicU64,
}

#[async_trait]
impl LayerService for Counting {
    async fn exists(&self, id: &LayerId) -> Result<bool> {
        self.inner.exists(id).await
    }

    async fn fetch(&self, id: &LayerId) -> Result<Box<dyn Layer>> {
        self.inner.fetch(id).await
    }

    async fn upload(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
    ) -> Result<Box<dyn LayerUpload>> {
        self.uploads.fetch_add(1, Ordering::Relaxed);
        self.inner.upload(name, id).await
    }

    async fn resume(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
        uuid: Uuid,
    ) -> Result<Box<dyn LayerUpload>> {
        self.inner.resume(name, id, uuid).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut uploads = 0;
    // In a test file this is one line: `s3layers_conformance::suite!(counting, subject());`
    let cases = s3layers_conformance::cases();
    for case in &cases {
        let service = Arc::new(Counting::default());
        let (here, elsewhere) = (service.clone(), service.clone());
        (case.run)(Subject {
            here,
            elsewhere,
            part_size: 256 * 1024,
        })
        .await;
        uploads += service.uploads.load(Ordering::Relaxed);
    }
    println!("{} promises kept, in {uploads} uploads", cases.len());
    Ok(())
}
