//! The bytes that may wait in memory, all uploads and readers of a service together.
//!
//! 1. An upload reserves one whole part before it gathers more than a little of it, and waits in
//!    the order of asking. So whoever has begun a part can end it: no two half parts wait for each
//!    other.
//! 2. A reservation is held while the sender sends; when it is held for [`HOLD`] and others wait,
//!    [`Reservation::wanted_back`] says so, and the holder stores what it has as a tail.
//! 3. A reader never waits: [`Budget::try_reserve`] gives nothing while others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The grain of the ledger, in bytes. Semaphores count to 2^29 on small machines.
const UNIT: u64 = 64 * 1024;

/// How long a part may be gathered while others wait.
pub(crate) const HOLD: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: u32,
    waiting: AtomicUsize,
    queued: Notify,
}

/// Bytes that their holder may keep in memory. Dropping gives them back.
#[derive(Debug)]
pub(crate) struct Reservation {
    _permit: OwnedSemaphorePermit,
    budget: Arc<Budget>,
    since: Instant,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX >> 3);
        Arc::new(Budget {
            units: Arc::new(Semaphore::new(total as usize)),
            total,
            waiting: AtomicUsize::new(0),
            queued: Notify::new(),
        })
    }

    /// What is asked for, at most everything: a part of another process's schedule may be larger.
    fn units_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .min(self.total)
    }

    /// Waits in the order of asking.
    ///
    /// Cancelling leaves the queue.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if let Some(reservation) = self.try_reserve(bytes) {
            return Some(reservation);
        }
        let _waiting = Waiting::begin(self);
        let units = Arc::clone(&self.units);
        // The semaphore is never closed, so this is always `Some`.
        let permit = units.acquire_many_owned(self.units_of(bytes)).await.ok()?;
        Some(self.reservation(permit))
    }

    /// Never waits, and takes nothing while others wait.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if self.is_contended() {
            return None;
        }
        let units = Arc::clone(&self.units);
        let permit = units.try_acquire_many_owned(self.units_of(bytes)).ok()?;
        Some(self.reservation(permit))
    }

    /// Whether someone waits.
    pub(crate) fn is_contended(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    fn reservation(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Reservation {
        Reservation {
            _permit: permit,
            budget: Arc::clone(self),
            since: Instant::now(),
        }
    }
}

impl Reservation {
    /// Resolves when this was held for [`HOLD`] and others wait.
    pub(crate) async fn wanted_back(&self) {
        tokio::time::sleep_until(self.since + HOLD).await;
        loop {
            let queued = self.budget.queued.notified();
            tokio::pin!(queued);
            queued.as_mut().enable();
            if self.budget.is_contended() {
                return;
            }
            queued.await;
        }
    }
}

/// Counts a waiter, also when its future is dropped.
struct Waiting<'a>(&'a Budget);

impl<'a> Waiting<'a> {
    fn begin(budget: &'a Budget) -> Self {
        budget.waiting.fetch_add(1, SeqCst);
        budget.queued.notify_waiters();
        Waiting(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_held_reservation_is_wanted_back_only_when_another_waits() {
        let budget = Budget::new(4 * UNIT);
        let held = budget.reserve(4 * UNIT).await.unwrap();
        let idle = tokio::time::timeout(10 * HOLD, held.wanted_back()).await;
        assert!(idle.is_err(), "nobody waits");

        let waiter = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.reserve(UNIT).await.is_some() }
        });
        tokio::time::timeout(HOLD, held.wanted_back())
            .await
            .unwrap();
        assert!(
            budget.try_reserve(UNIT).is_none(),
            "nobody overtakes who waits"
        );
        drop(held);
        assert!(waiter.await.unwrap());
        assert!(!budget.is_contended());
        assert!(budget.try_reserve(4 * UNIT).is_some());
    }

    #[tokio::test]
    async fn more_than_everything_is_everything() {
        let budget = Budget::new(4 * UNIT);
        let all = budget.reserve(100 * UNIT).await.unwrap();
        assert!(budget.try_reserve(1).is_none());
        drop(all);
        assert!(budget.try_reserve(1).is_some());
    }

    #[tokio::test]
    async fn a_dropped_waiter_leaves_the_queue() {
        let budget = Budget::new(UNIT);
        let held = budget.reserve(UNIT).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(1), budget.reserve(UNIT)).await;
        assert!(waiting.is_err());
        assert!(!budget.is_contended());
        drop(held);
    }
}
