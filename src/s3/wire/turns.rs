//! Turns of conditional writes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use crate::s3::format::keys::Key;

/// Writes of a single writer, one at a time for each key.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Vec<Mutex<()>>>);

impl Default for Turns {
    fn default() -> Self {
        Turns(Arc::new((0..64).map(|_| Mutex::default()).collect()))
    }
}

impl Turns {
    /// Waits for the other conditional writes of this key.
    pub(super) async fn turn(&self, key: &Key) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        key.as_str().hash(&mut hasher);
        let index = hasher.finish() as usize % self.0.len();
        Some(self.0.get(index)?.lock().await)
    }
}
