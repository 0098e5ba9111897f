//! The contract suite, stamped on everything that claims to be a `LayerService`.

use std::sync::Arc;

use s3layers::MemoryLayerService;
use s3layers::conformance::{self, Subject};

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

conformance::suite!(memory, memory());
