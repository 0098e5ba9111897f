//! Which range to ask for next. Pure: no clock, no request, no memory is moved here.

use std::ops::Range;
use std::time::Duration;

use crate::s3::format::checksum::BLOCK;

/// What a first read asks for, in bytes, where the end is not known. At 10 ms and 25 MB/s to the
/// store, 128 KiB take 5 ms to arrive and 10 ms to begin to: asking for less saves little, and
/// asking for more delays a caller that needs a few KiB.
pub(super) const FIRST: u64 = 128 * 1024;
/// Ranges of a known end are no smaller, in bytes, where there is memory.
pub(super) const WINDOW: u64 = 1024 * 1024;
/// What a reader that holds nothing waits for, in bytes: among many slow ones, each uses what it has before
/// the others need it.
pub(super) const LITTLE: u64 = 256 * 1024;
/// So many bytes without a seek are taken for sequential reading. Below that nothing is asked for
/// ahead: a small read after a seek costs one request.
const PROOF: u64 = FIRST / 2;
/// How far ahead ranges are asked for, as a multiple of what was read without a seek. With 32,
/// eight connections are busy some 50 ms after the first read (512 KiB were read then), and a
/// caller that stops after 64 KiB has asked for 2 MiB.
const AHEAD: u64 = 32;

/// Within this time the ranges of a near store arrive.
pub(super) const NEAR: Duration = Duration::from_millis(100);
/// How many ranges of a known end are under way at a near store. They arrive as fast as bytes are handed out: more of
/// them would take more memory, which costs a near reader more time than a request.
pub(super) const NEAR_RANGES: usize = 4;

/// Where a reader stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// The next byte to hand out; less than `until`.
    pub(super) position: u64,
    /// Where the reader was sought to last: sequential reading began here.
    pub(super) run_start: u64,
    /// Where the ranges end that were asked for; `position` where none was.
    pub(super) end: u64,
    /// Of the object.
    pub(super) size: u64,
    /// The ranges that have not arrived.
    pub(super) loading: usize,
    /// How many of those there may be.
    pub(super) parallelism: usize,
    /// The caller needs everything up to there, and nothing beyond; at most `size`.
    pub(super) wanted: Option<u64>,
    /// The block at `end` did not have its checksum when it was read: all of it is fetched.
    pub(super) suspect: bool,
    /// Memory that the reader holds, in bytes.
    pub(super) held: u64,
    /// Memory that it may have more, in bytes.
    pub(super) available: u64,
}

/// The block that holds this byte; the last one of an object may be shorter.
pub(super) fn block_at(position: u64, size: u64) -> Range<u64> {
    let start = position / BLOCK * BLOCK;
    start..(start + BLOCK).min(size)
}

/// The next range to ask for, if one is to be asked for now.
///
/// Ranges follow each other without gap or overlap, and none crosses the end of a block. Where the
/// end is known they are as large as [`largest`] says from the start, else they double up to that
/// from [`FIRST`].
pub(super) fn next_range(view: &View) -> Option<Range<u64>> {
    let until = view.wanted.unwrap_or(view.size);
    let has_some = view.end > view.position;
    let has_enough = view.loading >= view.parallelism || view.end >= view.position + ahead(view);
    if view.end >= until || (has_some && has_enough) {
        return None;
    }
    let block_end = block_at(view.end, view.size).end;
    if view.suspect {
        return Some(view.end..block_end);
    }
    let stop = block_end.min(until);
    let largest = largest(view, until);
    let length = match view.wanted {
        Some(_) => largest,
        None => FIRST + (view.end - view.run_start),
    };
    let end = if length >= largest {
        aligned(view.end, largest)
    } else if stop - view.end <= 2 * length {
        // A shorter rest is no range of its own.
        stop
    } else {
        view.end + length
    };
    Some(view.end..end.min(stop))
}

/// The largest range at present: a block, if all that is left fits in memory. Otherwise as much as
/// lets all requests be under way at a time.
fn largest(view: &View, until: u64) -> u64 {
    if until - view.end <= view.available {
        return BLOCK;
    }
    let each = (view.held + view.available) / view.parallelism as u64;
    // A power of two, so that ranges fill blocks.
    let step = each.checked_ilog2().map_or(0, |exponent| 1 << exponent);
    step.clamp(WINDOW, BLOCK)
}

/// The next multiple of `step`, or the one after it if the next one is near.
fn aligned(position: u64, step: u64) -> u64 {
    let next = (position / step + 1) * step;
    if next - position < step / 2 {
        next + step
    } else {
        next
    }
}

/// How far beyond the position a range may begin.
fn ahead(view: &View) -> u64 {
    let run = view.position - view.run_start;
    let most = view.parallelism as u64 * BLOCK;
    match run {
        _ if view.wanted.is_some() => most,
        0..PROOF => 0,
        PROOF.. => most.min(run * AHEAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    fn at(position: u64, run_start: u64, end: u64) -> View {
        View {
            position,
            run_start,
            end,
            size: 20 * MIB,
            loading: 0,
            parallelism: 8,
            wanted: None,
            suspect: false,
            held: 0,
            available: 64 * MIB,
        }
    }

    #[test]
    fn next_range_cases() {
        let begun = at(0, 0, 0);
        for (case, view, want) in [
            ("the first read asks for little", begun, Some(0..128 * KIB)),
            (
                "a small read asks for no more",
                at(4 * KIB, 0, 128 * KIB),
                None,
            ),
            (
                "half the first range read in order: the next, doubled",
                at(64 * KIB, 0, 128 * KIB),
                Some(128 * KIB..384 * KIB),
            ),
            (
                "up to 32 times what was read",
                at(64 * KIB, 0, 2 * MIB + 64 * KIB),
                None,
            ),
            (
                "a short rest of a block is taken along",
                at(4 * MIB, 0, 4 * MIB),
                Some(4 * MIB..8 * MIB),
            ),
            (
                "then whole blocks",
                at(4 * MIB, 0, 8 * MIB),
                Some(8 * MIB..16 * MIB),
            ),
            (
                "the last block is short",
                at(10 * MIB, 0, 16 * MIB),
                Some(16 * MIB..20 * MIB),
            ),
            ("everything was asked for", at(10 * MIB, 0, 20 * MIB), None),
            (
                "after a seek: little",
                at(9 * MIB, 9 * MIB, 9 * MIB),
                Some(9 * MIB..9 * MIB + 128 * KIB),
            ),
            (
                "a short layer is one range",
                View {
                    size: 200 * KIB,
                    ..begun
                },
                Some(0..200 * KIB),
            ),
            (
                "as many as may be under way are",
                View {
                    loading: 8,
                    ..at(7 * MIB, 0, 8 * MIB)
                },
                None,
            ),
            (
                "a known end: whole blocks from the start",
                View {
                    wanted: Some(20 * MIB),
                    ..at(0, 0, 0)
                },
                Some(0..8 * MIB),
            ),
            (
                "a known end and no more memory than that: as many requests as may be",
                View {
                    wanted: Some(20 * MIB),
                    available: 19 * MIB,
                    ..at(0, 0, 0)
                },
                Some(0..2 * MIB),
            ),
            (
                "what is held counts as memory",
                View {
                    wanted: Some(20 * MIB),
                    held: 16 * MIB,
                    available: 3 * MIB,
                    ..at(0, 0, 16 * MIB)
                },
                Some(16 * MIB..18 * MIB),
            ),
            (
                "a known end and little memory",
                View {
                    wanted: Some(20 * MIB),
                    available: 0,
                    ..at(0, 0, 0)
                },
                Some(0..MIB),
            ),
            (
                "ranges from the middle of a block meet its end",
                View {
                    wanted: Some(20 * MIB),
                    available: MIB,
                    ..at(7 * MIB - 5, 7 * MIB - 5, 7 * MIB - 5)
                },
                Some(7 * MIB - 5..8 * MIB),
            ),
            (
                "no end is known and little memory",
                View {
                    available: MIB,
                    ..at(5 * MIB, 0, 5 * MIB)
                },
                Some(5 * MIB..6 * MIB),
            ),
            (
                "a few bytes are one range of no more",
                View {
                    wanted: Some(9 * MIB + 100),
                    ..at(9 * MIB, 9 * MIB, 9 * MIB)
                },
                Some(9 * MIB..9 * MIB + 100),
            ),
            (
                "a part ends where it was said to, within a block",
                View {
                    wanted: Some(17 * MIB),
                    ..at(0, 0, 16 * MIB)
                },
                Some(16 * MIB..17 * MIB),
            ),
            (
                "nothing beyond the part",
                View {
                    wanted: Some(17 * MIB),
                    ..at(0, 0, 17 * MIB)
                },
                None,
            ),
            (
                "but all of a suspect block",
                View {
                    wanted: Some(9 * MIB + 100),
                    suspect: true,
                    ..at(9 * MIB, 9 * MIB, 9 * MIB)
                },
                Some(9 * MIB..16 * MIB),
            ),
            (
                "a suspect block is read up to its end",
                View {
                    suspect: true,
                    ..at(9 * MIB, 9 * MIB, 9 * MIB)
                },
                Some(9 * MIB..16 * MIB),
            ),
        ] {
            assert_eq!(next_range(&view), want, "{case}");
        }
    }

    proptest! {
        #[test]
        fn ranges_tile_and_keep_their_bounds(
            size in 1..200 * MIB,
            start in 0.0..1.0f64,
            step in 1..5 * MIB,
            parallelism in 1..20usize,
            memory in 0..100 * MIB,
            part in 0.0..1.0f64,
            is_part: bool,
        ) {
            let run_start = (size as f64 * start) as u64;
            let part_end = run_start + ((size - run_start) as f64 * part).ceil() as u64;
            let wanted = is_part.then_some(part_end);
            let until = wanted.unwrap_or(size);
            let (mut position, mut end) = (run_start, run_start);
            let mut under_way: Vec<Range<u64>> = Vec::new();
            while position < until {
                let loading = under_way.len();
                let held = end - position;
                let view = View {
                    position, run_start, end, size, loading, parallelism, wanted, suspect: false,
                    held, available: memory.saturating_sub(held),
                };
                match next_range(&view) {
                    Some(range) => {
                        prop_assert_eq!(range.start, end);
                        prop_assert!(range.end > range.start && range.end <= until);
                        prop_assert!(range.end <= block_at(range.start, size).end);
                        prop_assert!(range.start < position.max(1) + parallelism as u64 * BLOCK);
                        end = range.end;
                        under_way.push(range);
                        prop_assert!(under_way.len() <= parallelism);
                    }
                    None => {
                        prop_assert!(end > position, "something is always asked for");
                        position = (position + step).min(end);
                        under_way.retain(|range| range.end > position);
                    }
                }
            }
            prop_assert_eq!(end, until.max(run_start));
        }
    }
}
