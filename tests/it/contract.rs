//! The contract suite, stamped on everything that claims to be a `LayerService`.

use std::sync::Arc;

use s3layers::MemoryLayerService;
use s3layers::conformance::{self, Subject};

/// The model. It has no parts; the size only makes the layers as large as they are worth.
async fn memory() -> Subject {
    let service = MemoryLayerService::new();
    Subject {
        here: Arc::new(service.clone()),
        elsewhere: Arc::new(service),
        part_size: 64 * 1024,
    }
}

conformance::suite!(memory, memory());
