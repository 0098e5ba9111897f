//! Limits concurrent requests. A request that waits for its client, or for another request, holds
//! no permit: a connection that sends a byte a second needs one for as long as that byte takes.
//!
//! A quarter of the permits is kept for [`Work::Lookup`]. So pushes to a slow store, however many,
//! never make a HEAD wait.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What a request needs of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A read that costs a few small requests.
    Lookup,
    /// A write or a listing: it may take as long as the storage takes for the last bytes of a layer.
    Long,
}

/// All permits.
#[derive(Clone, Debug)]
pub(super) struct RequestPermits {
    all: Arc<Semaphore>,
    /// Taken before one of `all`, so that lookups find the others.
    long: Arc<Semaphore>,
}

/// A permit, or the right to take one again.
#[derive(Debug)]
pub(super) struct RequestPermit {
    permits: RequestPermits,
    work: Work,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    _long: Option<OwnedSemaphorePermit>,
    _one: OwnedSemaphorePermit,
}

impl RequestPermits {
    pub(super) fn new(all: usize) -> Self {
        let all = all.clamp(1, Semaphore::MAX_PERMITS);
        let kept = (all / 4).max(1);
        let long = (all - kept).max(1);
        RequestPermits {
            all: Arc::new(Semaphore::new(all)),
            long: Arc::new(Semaphore::new(long)),
        }
    }

    /// Waits for a permit, in the order of asking; `None` after `patience`.
    pub(super) async fn acquire(&self, work: Work, patience: Duration) -> Option<RequestPermit> {
        let held = timeout(patience, self.held(work)).await.ok()?;
        Some(RequestPermit {
            permits: self.clone(),
            work,
            held,
        })
    }

    /// Always `Some`: the semaphores are never closed.
    async fn held(&self, work: Work) -> Option<Held> {
        let long = match work {
            Work::Lookup => None,
            Work::Long => Some(self.long.clone().acquire_owned().await.ok()?),
        };
        Some(Held {
            _long: long,
            _one: self.all.clone().acquire_owned().await.ok()?,
        })
    }
}

impl RequestPermit {
    /// Waits for something that needs no permit, and then for a permit again, in the order of asking.
    /// Cancelled, it leaves the permit released.
    pub(super) async fn released_during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.held = None;
        let done = wait.await;
        self.held = self.permits.held(self.work).await;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn waiting_request_holds_no_permit() {
        let permits = RequestPermits::new(1);
        let mut slow = permits.acquire(Work::Long, PATIENCE).await.unwrap();
        assert!(permits.acquire(Work::Long, PATIENCE).await.is_none());
        let another = slow.released_during(async {
            let quick = permits.acquire(Work::Long, PATIENCE).await;
            assert!(permits.acquire(Work::Long, PATIENCE).await.is_none());
            quick.is_some()
        });
        assert!(another.await);
        assert!(permits.acquire(Work::Lookup, PATIENCE).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn permits_are_kept_for_lookups() {
        for (all, long) in [(2, 1), (4, 3), (8, 6), (512, 384)] {
            let permits = RequestPermits::new(all);
            let mut held = Vec::new();
            while let Some(permit) = permits.acquire(Work::Long, PATIENCE).await {
                held.push(permit);
            }
            assert_eq!(held.len(), long, "of {all}");
            while let Some(permit) = permits.acquire(Work::Lookup, PATIENCE).await {
                held.push(permit);
            }
            assert_eq!(held.len(), all);
        }
    }
}
