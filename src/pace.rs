//! A limit on how many requests are made a second.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The turns of the requests of one run.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The time between two requests.
    interval: Duration,
    /// When the next request may be made.
    turn: Mutex<Instant>,
}

impl Pace {
    /// So many requests a second.
    pub(crate) fn new(rate: NonZeroU32) -> Self {
        Pace {
            interval: Duration::from_secs(1) / rate.get(),
            turn: Mutex::new(Instant::now()),
        }
    }

    /// Waits for the turn of the next request.
    pub(crate) async fn wait(&self) {
        let turn = {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let now = (*turn).max(Instant::now());
            *turn = now + self.interval;
            now
        };
        sleep_until(turn).await;
    }
}
