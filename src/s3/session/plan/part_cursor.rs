//! Splits the bytes that arrive into parts. Pure.

use super::schedule::{MIN_PART_SIZE, Schedule};

/// Only the first parts of an upload may be shorter than the schedule says: it then still takes nine
/// tenths of what it could.
const EARLY_PARTS: u32 = 1_000;

/// The part under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartCursor {
    schedule: Schedule,
    number: u32,
    filled: u64,
}

impl PartCursor {
    /// The part after `parts` whole ones, of which `filled` bytes are there.
    pub(crate) fn new(schedule: Schedule, parts: u32, filled: u64) -> Self {
        PartCursor {
            schedule,
            number: parts.saturating_add(1),
            filled,
        }
    }

    /// Whether it can end here, short of its size, with others after it. Few do: each makes the
    /// largest possible layer smaller.
    pub(crate) fn may_end_early(self) -> bool {
        self.filled >= MIN_PART_SIZE && self.number <= EARLY_PARTS
    }

    /// Bytes that it takes in all; `None` where S3 takes no further part.
    fn size(self) -> Option<u64> {
        self.schedule.part_size(self.number)
    }

    /// How many of `available` bytes belong to it; `None` where S3 takes no further part.
    pub(crate) fn take(self, available: u64) -> Option<u64> {
        Some(available.min(self.size()?.saturating_sub(self.filled)))
    }

    /// `bytes` of it arrived. Whether it is whole now.
    pub(crate) fn fill(&mut self, bytes: u64) -> bool {
        self.filled += bytes;
        self.is_full()
    }

    /// Whether it is as long as it can be, so that another one may follow it.
    pub(crate) fn is_full(self) -> bool {
        self.size().is_some_and(|size| self.filled >= size)
    }

    /// Moves to the next part.
    pub(crate) fn advance(&mut self) {
        self.number += 1;
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1024 * 1024;

    proptest! {
        /// However the bytes arrive, parts are as long as the schedule says, and none is lost.
        #[test]
        fn parts_follow_the_schedule(writes in prop::collection::vec(0u64..40 * MIB, 0..40)) {
            let schedule = Schedule::new(5 * MIB, 40 * MIB, false, u64::MAX);
            let mut cut = PartCursor::new(schedule, 0, 0);
            let mut parts = Vec::new();
            for &write in &writes {
                let mut left = write;
                while left > 0 {
                    let take = cut.take(left).unwrap();
                    left -= take;
                    if cut.fill(take) {
                        parts.push(cut.filled);
                        cut.advance();
                    }
                }
            }
            for (index, &size) in parts.iter().enumerate() {
                prop_assert_eq!(Some(size), schedule.part_size(index as u32 + 1));
            }
            let total: u64 = writes.iter().sum();
            prop_assert_eq!(parts.iter().sum::<u64>() + cut.filled, total);
        }
    }

    #[test]
    fn after_the_last_part_there_is_none() {
        let schedule = Schedule::new(5 * MIB, 40 * MIB, false, u64::MAX);
        assert_eq!(PartCursor::new(schedule, 10_000, 0).take(1), None);
        assert_eq!(PartCursor::new(schedule, 9_999, 0).take(1), Some(1));
    }
}
