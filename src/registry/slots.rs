//! How many requests are worked on at a time. Waiting for a client is no work: a connection that
//! sends a byte a second has a place for as long as that byte takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// All places.
#[derive(Debug)]
pub(super) struct Slots(Arc<Semaphore>);

/// A place, or the right to come back to one.
#[derive(Debug)]
pub(super) struct Slot {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(super) fn new(places: usize) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        Slots(Arc::new(Semaphore::new(places)))
    }

    /// A place, in turn; `None` where there was none for so long.
    pub(super) async fn take(&self, patience: Duration) -> Option<Slot> {
        let all = self.0.clone();
        let held = timeout(patience, all.clone().acquire_owned()).await.ok()?;
        // It is never closed.
        Some(Slot {
            all,
            held: held.ok(),
        })
    }
}

impl Slot {
    pub(super) fn give_back(&mut self) {
        self.held = None;
    }

    /// A place again, in turn.
    pub(super) async fn take_again(&mut self) {
        if self.held.is_none() {
            self.held = self.all.clone().acquire_owned().await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_client_is_in_nobodys_way() {
        let slots = Slots::new(1);
        let patience = Duration::from_secs(1);
        let mut slow = slots.take(patience).await.unwrap();
        assert!(slots.take(patience).await.is_none());
        slow.give_back();
        let quick = slots.take(patience).await.unwrap();
        assert!(slots.take(patience).await.is_none());
        drop(quick);
        slow.take_again().await;
        assert!(slots.take(patience).await.is_none());
    }
}
