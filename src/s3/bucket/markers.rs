//! The markers of repositories that this process knows; [`names`](crate::s3::names) writes and reads them.

use std::time::Duration;

use tokio::sync::RwLock;

use super::cache::{Cache, Weigh};
use crate::s3::format::keys::Key;
use crate::s3::wire::ETag;

/// How long a marker is remembered. It is never removed; but where an operator did, it comes back.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// What all remembered markers weigh, in bytes: some 7,000.
const CAPACITY: u64 = 4 * 1024 * 1024;

/// What a process knows of a marker that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Present,
    /// It was emptied, and had this ETag then.
    Emptied(ETag),
}

impl Weigh for Known {
    fn weight(&self) -> u64 {
        64
    }
}

/// The markers that this process knows.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) known: Cache<Known>,
    /// Only used where the store has no conditional writes.
    pub(crate) turns: RwLock<()>,
}

impl Default for Names {
    fn default() -> Self {
        Names {
            known: Cache::new(LIFETIME, CAPACITY),
            turns: RwLock::default(),
        }
    }
}

impl Names {
    /// True whenever it was true once: no ticket is needed.
    pub(crate) fn remember(&self, key: &Key, known: Known) {
        self.known.insert(self.known.ticket(key), key, known);
    }
}
