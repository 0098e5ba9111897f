//! A lock for each key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::locks::lock;

#[derive(Debug)]
pub(crate) struct KeyedLock<K>(Mutex<HashMap<K, Arc<AsyncMutex<()>>>>);

impl<K> Default for KeyedLock<K> {
    fn default() -> Self {
        KeyedLock(Mutex::default())
    }
}

impl<K: Eq + Hash> KeyedLock<K> {
    /// Waits for the turn of this caller, which ends when the guard is dropped; and whether it had
    /// to wait.
    pub(crate) async fn lock(&self, key: K) -> (OwnedMutexGuard<()>, bool) {
        let of_key = {
            let mut locks = lock(&self.0);
            // Those without a holder or a waiter.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key).or_default())
        };
        match Arc::clone(&of_key).try_lock_owned() {
            Ok(guard) => (guard, false),
            Err(_) => (of_key.lock_owned().await, true),
        }
    }
}
