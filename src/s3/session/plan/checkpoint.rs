//! When the session of an upload that receives bytes is written. Pure.

use std::time::Duration;

/// The session is written when so many bytes more have arrived: what a crash costs.
const BYTES: u64 = 128 * 1024 * 1024;
/// The first part is recorded so long after the session was written.
const FIRST: Duration = Duration::from_secs(1);
/// The session is written at least this often, so that its age distinguishes a live upload from a dead one.
const AGE: Duration = Duration::from_secs(600);

/// What is not on record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnrecordedBytes {
    /// Bytes of parts that have arrived.
    pub(crate) arrived: u64,
    /// No part was ever recorded.
    pub(crate) is_first: bool,
}

impl UnrecordedBytes {
    /// How long after the last write the next one is due, if bytes were taken since or not.
    pub(crate) fn due_after(self, is_behind: bool) -> Option<Duration> {
        if self.arrived >= BYTES {
            return Some(Duration::ZERO);
        }
        if self.is_first && self.arrived > 0 {
            return Some(FIRST);
        }
        is_behind.then_some(AGE)
    }

    /// Whether the parts that have arrived are to be recorded, so long after the last write.
    pub(crate) fn is_due(self, age: Duration) -> bool {
        self.arrived > 0 && self.due_after(true).is_some_and(|due| age >= due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_cases() {
        let second = Duration::from_secs(1);
        for (case, arrived, is_first, due) in [
            ("nothing arrived", 0, true, Some(600 * second)),
            ("the first part", 1, true, Some(second)),
            ("later parts", BYTES - 1, false, Some(600 * second)),
            ("much", BYTES, false, Some(Duration::ZERO)),
            ("much at once", BYTES, true, Some(Duration::ZERO)),
        ] {
            let unrecorded = UnrecordedBytes { arrived, is_first };
            assert_eq!(unrecorded.due_after(true), due, "{case}");
            let is_due = arrived > 0;
            assert_eq!(unrecorded.is_due(600 * second), is_due, "{case}");
        }
        let none = UnrecordedBytes {
            arrived: 0,
            is_first: true,
        };
        assert_eq!(none.due_after(false), None);
    }
}
