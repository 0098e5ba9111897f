//! Progress of an upload, for display.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes of an upload have left for the store, those of earlier handles included. Clones
/// count the same, and can be watched while the upload is at work.
///
/// For showing progress, and for nothing else: what has left may still be lost. It goes back where
/// something has to be sent again, and stays behind where bytes do not fill a part yet.
#[derive(Clone, Debug, Default)]
pub struct UploadProgress(Arc<AtomicU64>);

impl UploadProgress {
    /// A count that begins at so many bytes.
    pub fn from_offset(offset: u64) -> Self {
        UploadProgress(Arc::new(AtomicU64::new(offset)))
    }

    /// The bytes until now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many bytes more.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many have to be sent again.
    pub fn rewind(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}
