//! The times of a collection: the only place of its constants. All processes of a bucket read them
//! from its profile, so that none relies on what another one does not keep. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The most of any time, in seconds: a hundred years. Sums of times stay far from what a clock can hold.
const MOST: u64 = 100 * 365 * 24 * HOUR;

/// The least `wait` of a bucket that is not for tests, in seconds. A request that its sender gave up
/// on lands within a look and half an hour, where the store refuses old dates; others are slower.
const LEAST_WAIT: u64 = 12 * HOUR;

/// How long a collection waits for what, in seconds. `tests/it/collector_protocol` shows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectionTimes {
    /// A record that no link names is condemned at this age.
    pub record_age: u64,
    /// A link that no manifest names is condemned at this age.
    pub link_age: u64,
    /// A condemned link or record is removed after this time.
    pub wait: u64,
    /// The data of a removed record is kept for this time.
    pub kept: u64,
    /// A writer relies on what it has read for this time.
    pub look: u64,
    /// The bucket is for tests: the times may be shorter than is safe.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub testing: bool,
}

impl Default for CollectionTimes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl CollectionTimes {
    /// Those of every bucket whose profile names no others.
    pub const DEFAULT: CollectionTimes = CollectionTimes {
        record_age: 24 * HOUR,
        link_age: 72 * HOUR,
        wait: 20 * HOUR,
        kept: 20 * HOUR,
        look: 15 * MINUTE,
        testing: false,
    };

    /// What makes these times unsafe, or too long for a clock; `None` where nothing does.
    pub(crate) fn fault(&self) -> Option<String> {
        let default = Self::DEFAULT;
        let rows = [
            ("record_age", self.record_age, default.look, MOST),
            ("wait", self.wait, LEAST_WAIT, MOST),
            ("link_age", self.link_age, self.wait, MOST),
            ("kept", self.kept, default.look, MOST),
            ("look", self.look, MINUTE, default.look),
        ];
        let wrong = rows.iter().find(|(_, value, least, most)| {
            let allowed = if self.testing {
                0..=MOST
            } else {
                *least..=*most
            };
            !allowed.contains(value)
        });
        wrong.map(|(name, value, least, most)| {
            let exception = if *value > MOST {
                ""
            } else {
                ", or testing: true"
            };
            format!("{name} is {value} seconds; expected {least} to {most}{exception}")
        })
    }

    pub(crate) fn record_age(&self) -> Duration {
        Duration::from_secs(self.record_age)
    }

    pub(crate) fn link_age(&self) -> Duration {
        Duration::from_secs(self.link_age)
    }

    /// A link that is older is written again before it is reported to a client.
    pub(crate) fn touch_age(&self) -> Duration {
        self.link_age() / 2
    }

    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait)
    }

    pub(crate) fn kept(&self) -> Duration {
        Duration::from_secs(self.kept)
    }

    pub(crate) fn look(&self) -> Duration {
        Duration::from_secs(self.look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_unsafe_are_refused_by_name() {
        let times = |change: fn(&mut CollectionTimes)| {
            let mut times = CollectionTimes::DEFAULT;
            change(&mut times);
            times
        };
        for (case, times, want) in [
            ("default", CollectionTimes::DEFAULT, None),
            ("wait", times(|times| times.wait = 3600), Some("wait")),
            ("look", times(|times| times.look = 3600), Some("look")),
            (
                "link_age",
                times(|times| times.link_age = 3600),
                Some("link_age"),
            ),
            (
                "record_age",
                times(|times| times.record_age = 0),
                Some("record_age"),
            ),
            ("kept", times(|times| times.kept = 0), Some("kept")),
            (
                "link_age of centuries",
                times(|times| (times.link_age, times.testing) = (u64::MAX, true)),
                Some("link_age"),
            ),
            (
                "for tests",
                times(|times| (times.wait, times.testing) = (2, true)),
                None,
            ),
        ] {
            let fault = times.fault();
            let name = fault.as_deref().and_then(|fault| fault.split(' ').next());
            assert_eq!(name, want, "{case}: {fault:?}");
        }
    }
}
