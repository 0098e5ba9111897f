//! The only source of wall-clock time and randomness. Code that measures durations uses tokio's
//! clock, so that tests can pause it.

#![allow(clippy::disallowed_methods, reason = "the one place that may")]

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use uuid::Uuid;

/// The time of day.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The time of day, as documents carry it.
pub fn now_timestamp() -> jiff::Timestamp {
    jiff::Timestamp::try_from(now()).unwrap_or_default()
}

/// A fresh UUID (version 4) for an upload.
pub fn new_uuid() -> Uuid {
    Uuid::new_v4()
}

/// A fresh 122-bit nonce, by which a conditional write recognises itself.
pub fn new_nonce() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A number from 0 inclusive to 1 exclusive, for the jitter of retries.
pub fn jitter() -> f64 {
    let bits = Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// A point in time, by a clock that also runs while the machine is suspended: the longer of what
/// the monotonic and the wall clock say. A wall clock that is set forward only makes it older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Moment {
            monotonic: Instant::now(),
            wall: now(),
        }
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        let wall = now().duration_since(self.wall).unwrap_or_default();
        self.monotonic.elapsed().max(wall)
    }

    /// Whether it is at most so long ago.
    pub fn is_within(self, lifetime: Duration) -> bool {
        self.elapsed() <= lifetime
    }
}
