//! Documents of megabytes take turns: while one is read or written, its bytes, its text and its
//! content are in memory beside each other, outside the [budget](crate::s3::budget).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Documents up to this size, in bytes, take no turns.
const LARGE: u64 = 256 * 1024;
/// How many large documents are read at a time, and how many are written.
const AT_ONCE: usize = 2;

/// The turns of one service.
#[derive(Clone, Debug)]
pub(super) struct LargeDocuments {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

/// The turn of a large document, which ends when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for LargeDocuments {
    fn default() -> Self {
        LargeDocuments {
            reads: Arc::new(Semaphore::new(AT_ONCE)),
            writes: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl LargeDocuments {
    /// The turn of a reader. It makes no other request before the turn ends.
    pub(super) async fn read(&self, size: u64) -> Turn {
        turn(&self.reads, size).await
    }

    /// The turn of a writer, which may read documents meanwhile: a reader never waits for a writer.
    pub(super) async fn write(&self, size: u64) -> Turn {
        turn(&self.writes, size).await
    }
}

async fn turn(turns: &Arc<Semaphore>, size: u64) -> Turn {
    if size <= LARGE {
        return Turn::default();
    }
    // It is never closed.
    let permit = Arc::clone(turns).acquire_owned().await.ok();
    Turn { _permit: permit }
}
