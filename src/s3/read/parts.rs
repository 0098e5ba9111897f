//! Several parts of a layer, in order. Parts with little between them are read in one run: the gap
//! costs less than another request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;

use bytes::Bytes;

use super::plan::FIRST;
use super::reader::Reader;
use crate::error::Result;

/// The parts that are not read yet.
pub(super) struct Parts {
    reader: Reader,
    left: VecDeque<Part>,
}

#[derive(Debug, PartialEq, Eq)]
struct Part {
    range: Range<u64>,
    /// Where the run ends that the part belongs to.
    run_end: u64,
}

/// The parts of an object of `size` bytes, with the end of the run of each.
fn runs(parts: Vec<Range<u64>>, size: u64) -> VecDeque<Part> {
    let mut planned = VecDeque::with_capacity(parts.len());
    let mut next: Option<(u64, u64)> = None;
    for part in parts.into_iter().rev() {
        let range = part.start..part.end.min(size);
        if range.is_empty() {
            continue;
        }
        let run_end = match next {
            Some((start, run_end)) if start <= range.end.saturating_add(FIRST) => run_end,
            _ => range.end,
        };
        next = Some((range.start, run_end));
        planned.push_front(Part { range, run_end });
    }
    planned
}

impl Parts {
    pub(super) fn new(reader: Reader, parts: Vec<Range<u64>>, size: u64) -> Self {
        let left = runs(parts, size);
        Parts { reader, left }
    }

    /// The next piece; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(Part { range, run_end }) = self.left.front_mut() else {
            return Ok(None);
        };
        self.reader.seek(range.start);
        self.reader.want_all_to(*run_end);
        let piece = poll_fn(|cx| self.reader.poll_piece(cx)).await?;
        let Some(mut bytes) = piece else {
            return Ok(None);
        };
        let length = range.end - range.start;
        bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        self.reader.consume(bytes.len());
        range.start += bytes.len() as u64;
        if range.is_empty() {
            self.left.pop_front();
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_cases() {
        let far = 2 * FIRST;
        for (case, parts, want) in [
            ("none", vec![], vec![]),
            ("one and nothing", vec![1..2, 5..5], vec![(1..2, 2)]),
            ("near", vec![1..2, 9..10], vec![(1..2, 10), (9..10, 10)]),
            (
                "far",
                vec![0..1, far..far + 1],
                vec![(0..1, 1), (far..far + 1, far + 1)],
            ),
            (
                "near, then far",
                vec![0..1, 3..4, far..far + 1],
                vec![(0..1, 4), (3..4, 4), (far..far + 1, far + 1)],
            ),
            (
                "beyond the end",
                vec![0..1, 1 << 40..1 << 41],
                vec![(0..1, 1)],
            ),
        ] {
            let got = runs(parts, 1 << 30);
            let got: Vec<_> = got
                .into_iter()
                .map(|part| (part.range, part.run_end))
                .collect();
            assert_eq!(got, want, "{case}");
        }
    }
}
