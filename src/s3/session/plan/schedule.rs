//! How large each part is. The schedule of an upload is fixed when it begins and kept in its
//! session, so that a process with other settings keeps to it.

use serde::{Deserialize, Serialize};

/// S3 takes part numbers 1 to this.
pub(crate) const MAX_PARTS: u32 = 10_000;
/// The size doubles after this many parts.
const STEP: u32 = 1_000;
/// The smallest part that S3 takes before others.
pub(crate) const MIN_PART_SIZE: u64 = 5 * 1024 * 1024;
/// The largest part that S3 takes.
const MAX_PART_SIZE: u64 = 5 * 1024 * 1024 * 1024;

/// Part sizes: `base`, doubling every 1,000 parts up to `cap`; `last` parts at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    base: u64,
    cap: u64,
    /// Fewer than S3's limit where more would pass the store's maximum size of an object.
    #[serde(default = "all_parts", skip_serializing_if = "is_all_parts")]
    last: u32,
}

fn all_parts() -> u32 {
    MAX_PARTS
}

fn is_all_parts(last: &u32) -> bool {
    *last == MAX_PARTS
}

impl Schedule {
    /// Parts of `base` bytes, larger later unless the store wants all of them equal. No part is
    /// larger than a quarter of the byte budget, so that several move at a time. All together have
    /// at most `max_size` bytes.
    pub(crate) fn new(base: u64, budget: u64, equal_parts: bool, max_size: u64) -> Self {
        let ceiling = if equal_parts {
            base
        } else {
            (budget / 4).min(MAX_PART_SIZE).max(base)
        };
        let mut cap = base;
        while cap * 2 <= ceiling {
            cap *= 2;
        }
        let mut schedule = Schedule {
            base,
            cap,
            last: MAX_PARTS,
        };
        let fitting = schedule.ends().take_while(|end| *end <= max_size);
        schedule.last = fitting.fold(0, |parts, _| parts + 1);
        schedule
    }

    /// The size of part `number` (from 1) in bytes, if it is not the last; `None` past the last
    /// number that the store takes.
    pub(crate) fn part_size(self, number: u32) -> Option<u64> {
        if !(1..=self.last).contains(&number) {
            return None;
        }
        let doublings = (number - 1) / STEP;
        Some(self.base.saturating_mul(1 << doublings).min(self.cap))
    }

    /// The bytes of all parts. An upload that has ended parts early can hold less.
    pub(crate) fn max_size(self) -> u64 {
        self.ends().last().unwrap_or(0)
    }

    /// Where the first part ends that ends beyond `offset`; `None` where S3 takes no such part.
    pub(crate) fn end_beyond(self, offset: u64) -> Option<u64> {
        self.ends().find(|end| *end > offset)
    }

    /// Where each part ends, if all are as long as they can be.
    fn ends(self) -> impl Iterator<Item = u64> {
        let sizes = (1..=MAX_PARTS).map_while(move |number| self.part_size(number));
        sizes.scan(0_u64, |end, size| {
            *end = end.saturating_add(size);
            Some(*end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn no_part_passes_the_largest_object() {
        for (max_mib, parts) in [
            (31, 1),
            (32, 2),
            (16_000, 1000),
            (16_031, 1000),
            (16_032, 1001),
        ] {
            let schedule = Schedule::new(16 * MIB, 256 * MIB, false, max_mib * MIB);
            assert!(schedule.part_size(parts).is_some(), "{max_mib}");
            assert_eq!(schedule.part_size(parts + 1), None, "{max_mib}");
            let total: u64 = (1..=parts)
                .filter_map(|number| schedule.part_size(number))
                .sum();
            assert!(total <= max_mib * MIB, "{max_mib}");
            assert_eq!(schedule.max_size(), total, "{max_mib}");
        }
    }

    #[test]
    fn sizes_double_as_far_as_the_budget_allows() {
        let growing = Schedule::new(16 * MIB, 256 * MIB, false, 5 << 40);
        let equal = Schedule::new(16 * MIB, 256 * MIB, true, 5 << 40);
        let tight = Schedule::new(5 * MIB, 10 * MIB, false, 5 << 40);
        for (case, schedule, number, want) in [
            ("the first", growing, 1, Some(16 * MIB)),
            ("last of the first thousand", growing, 1000, Some(16 * MIB)),
            ("doubled", growing, 1001, Some(32 * MIB)),
            ("doubled again", growing, 2001, Some(64 * MIB)),
            ("at the cap", growing, 10_000, Some(64 * MIB)),
            ("no part zero", growing, 0, None),
            ("past the end", growing, 10_001, None),
            ("equal parts", equal, 5000, Some(16 * MIB)),
            ("a small budget", tight, 10_000, Some(5 * MIB)),
        ] {
            assert_eq!(schedule.part_size(number), want, "{case}");
        }
        for (offset, want) in [
            (0, Some(16)),
            (16 * MIB - 1, Some(16)),
            (16 * MIB, Some(32)),
            (16_000 * MIB, Some(16_032)),
            ((16 + 32 + 8 * 64) * 1000 * MIB, None),
        ] {
            let want = want.map(|end| end * MIB);
            assert_eq!(growing.end_beyond(offset), want, "{offset}");
        }
        assert_eq!(
            Schedule::new(16 * MIB, u64::MAX, false, u64::MAX).part_size(10_000),
            Some(4096 * MIB)
        );
    }
}
