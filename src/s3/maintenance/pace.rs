//! A limit on how many requests are made a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The turns of the requests of one run.
#[derive(Debug)]
pub(super) struct Pace {
    /// Requests a second; `None` is no limit.
    rate: Option<u32>,
    /// When the next request may be made.
    turn: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<u32>) -> Self {
        Pace {
            rate: rate.filter(|rate| *rate > 0),
            turn: Mutex::new(Instant::now()),
        }
    }

    /// Waits for the turn of the next request.
    pub(super) async fn wait(&self) {
        let Some(rate) = self.rate else {
            return;
        };
        let turn = {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let now = (*turn).max(Instant::now());
            *turn = now + Duration::from_secs(1) / rate;
            now
        };
        sleep_until(turn).await;
    }
}
