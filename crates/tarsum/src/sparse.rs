//! Sparse files: the map of their regions, in three notations, and the walk along it.
//!
//! The body of a sparse file is stored without its holes and hashed with them, as zeros. Maps are
//! held in memory, so their length is bounded by [`MAX_REGIONS`]. How far the holes may reach is
//! for the caller to bound.

use std::collections::VecDeque;

use super::error::Cause;
use super::extensions::decimal;
use super::header::{BLOCK, Block, number};

/// The most regions that one file may have: 1 MiB of memory.
const MAX_REGIONS: usize = 1 << 16;

/// Data of a sparse file: where it lies in the file, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    offset: i64,
    len: i64,
}

/// The regions of one file, as they are stored.
#[derive(Debug, Default)]
pub(super) struct Map(VecDeque<Region>);

impl Map {
    fn push(&mut self, offset: i64, len: i64) -> Result<(), Cause> {
        if self.0.len() == MAX_REGIONS {
            return Err(Cause::Malformed(
                "a sparse file has more than 65536 regions",
            ));
        }
        if offset < 0 || len < 0 {
            return Err(Cause::Malformed("a region of a sparse file is negative"));
        }
        self.0.push_back(Region { offset, len });
        Ok(())
    }

    /// The old GNU format: real size and first regions in the header, and whether a block with
    /// more of them follows.
    pub(super) fn of_old_header(block: &Block) -> Result<(i64, Map, bool), Cause> {
        let size = number(&block[483..495], "the size of a sparse file")?;
        let mut map = Map::default();
        map.add_old_pairs(&block[386..482])?;
        Ok((size, map, block[482] != 0))
    }

    /// Takes a block that follows such a header; whether yet another follows.
    pub(super) fn add_old_block(&mut self, block: &Block) -> Result<bool, Cause> {
        self.add_old_pairs(&block[..504])?;
        Ok(block[504] != 0)
    }

    /// A pair of zeros ends the list of its block.
    fn add_old_pairs(&mut self, pairs: &[u8]) -> Result<(), Cause> {
        for pair in pairs.chunks_exact(24) {
            let offset = number(&pair[..12], "the offset of a region")?;
            let len = number(&pair[12..], "the length of a region")?;
            if (offset, len) == (0, 0) {
                break;
            }
            self.push(offset, len)?;
        }
        Ok(())
    }

    /// The PAX formats 0.0 and 0.1: `offset,length,offset,length…`.
    pub(super) fn of_list(list: &[u8], regions: i64) -> Result<Map, Cause> {
        let wrong = Cause::Malformed("the map of a sparse file has not the length it says");
        let numbers = list.split(|&byte| byte == b',');
        if i64::try_from(numbers.clone().count()).ok() != regions.checked_mul(2) {
            return Err(wrong);
        }
        let mut map = Map::default();
        let mut numbers = numbers.map(decimal);
        while let (Some(offset), Some(len)) = (numbers.next(), numbers.next()) {
            let not_a_number = Cause::NotANumber("a region of a sparse file");
            let (offset, len) = offset.zip(len).ok_or(not_a_number)?;
            map.push(offset, len)?;
        }
        Ok(map)
    }
}

/// A map of the PAX format 1.0 while its blocks arrive: the number of regions, then offset and
/// length of each, a line each.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The line that continues in the next block.
    begun: Vec<u8>,
    /// Regions that are still to come, once their number is known.
    awaited: Option<i64>,
    offset: Option<i64>,
    map: Map,
}

impl Lines {
    /// Takes a block; whether the map is complete. The rest of its last block is no data.
    ///
    /// No line is longer than a block, or the reader of 2014 gave up.
    pub(super) fn add(&mut self, block: &Block) -> Result<bool, Cause> {
        let mut lines = block.split_inclusive(|&byte| byte == b'\n');
        if !block.contains(&b'\n') {
            return Err(Cause::Malformed(
                "the map of a sparse file has a line too long",
            ));
        }
        while self.awaited != Some(0) {
            match lines.next().map(|line| line.split_last()) {
                Some(Some((b'\n', line))) => {
                    let line = [std::mem::take(&mut self.begun).as_slice(), line].concat();
                    self.add_line(&line)?;
                }
                Some(Some((last, line))) => {
                    self.begun.extend_from_slice(line);
                    self.begun.push(*last);
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn add_line(&mut self, line: &[u8]) -> Result<(), Cause> {
        let number = decimal(line).ok_or(Cause::NotANumber("a line of a sparse file's map"))?;
        match (self.awaited, self.offset.take()) {
            (None, _) if number < 0 => {
                return Err(Cause::Malformed(
                    "a sparse file has a negative number of regions",
                ));
            }
            (None, _) => self.awaited = Some(number),
            (Some(_), None) => self.offset = Some(number),
            (Some(awaited), Some(offset)) => {
                self.map.push(offset, number)?;
                self.awaited = Some(awaited - 1);
            }
        }
        Ok(())
    }

    pub(super) fn into_map(self) -> Map {
        self.map
    }
}

/// What comes next in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many zeros.
    Hole(u64),
    /// So many stored bytes.
    Data(u64),
    /// Nothing. What is stored beyond is not looked at.
    End,
}

/// The way through a sparse file, from region to region.
#[derive(Debug)]
pub(super) struct Walk {
    regions: VecDeque<Region>,
    position: i64,
    size: i64,
}

impl Walk {
    pub(super) fn new(map: Map, size: i64) -> Self {
        let Map(regions) = map;
        Walk {
            regions,
            position: 0,
            size,
        }
    }

    /// The next step, with so many bytes still stored. The caller takes it whole.
    ///
    /// The regions are not checked beforehand: the reader of 2014 took what it could, even past the
    /// size of the file. A crash or an endless read of that reader is an error here.
    pub(super) fn step(&mut self, stored: u64) -> Result<Step, Cause> {
        while let Some(&Region { offset, len }) = self.regions.front() {
            if self.size < offset {
                return Err(Cause::Malformed("a sparse file has data behind its end"));
            }
            if self.position < offset {
                return Ok(Step::Hole(self.go_to(offset)));
            }
            let left = len - (self.position - offset);
            if left < 0 {
                return Err(Cause::Malformed("regions of a sparse file overlap"));
            }
            if stored == 0 && self.position >= self.size {
                return Ok(Step::End);
            }
            if left == 0 {
                self.regions.pop_front();
                continue;
            }
            let left = left.unsigned_abs().min(stored);
            if left == 0 {
                return Err(Cause::Malformed("a sparse file has less data than regions"));
            }
            let beyond = Cause::Malformed("a sparse file is too large");
            let end = self.position.checked_add_unsigned(left).ok_or(beyond)?;
            return Ok(Step::Data(self.go_to(end)));
        }
        if self.position < self.size {
            Ok(Step::Hole(self.go_to(self.size)))
        } else {
            Ok(Step::End)
        }
    }

    /// Moves forward, and returns by how many bytes.
    fn go_to(&mut self, position: i64) -> u64 {
        position.abs_diff(std::mem::replace(&mut self.position, position))
    }
}

/// Fails if the rest of the entry has no further block of the map.
pub(super) fn has_block(stored: u64) -> Result<(), Cause> {
    if stored < BLOCK as u64 {
        return Err(Cause::Malformed(
            "the map of a sparse file is longer than its entry",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(regions: &[(i64, i64)]) -> Map {
        Map(regions
            .iter()
            .map(|&(offset, len)| Region { offset, len })
            .collect())
    }

    fn walk(regions: &[(i64, i64)], size: i64, mut stored: u64) -> Option<Vec<Step>> {
        let mut walk = Walk::new(map(regions), size);
        let mut steps = Vec::new();
        loop {
            let step = walk.step(stored).ok()?;
            match step {
                Step::Data(len) => stored -= len,
                Step::End => return Some(steps),
                Step::Hole(_) => {}
            }
            steps.push(step);
        }
    }

    #[test]
    fn walk_cases() {
        use Step::{Data, Hole};
        for (case, regions, size, stored, want) in [
            (
                "a hole in front",
                &[(5, 3)][..],
                8,
                3,
                Some(vec![Hole(5), Data(3)]),
            ),
            (
                "a hole behind",
                &[(0, 3)],
                8,
                3,
                Some(vec![Data(3), Hole(5)]),
            ),
            (
                "between",
                &[(0, 1), (2, 1)],
                3,
                2,
                Some(vec![Data(1), Hole(1), Data(1)]),
            ),
            ("nothing but a hole", &[], 8, 0, Some(vec![Hole(8)])),
            ("nothing at all", &[], 0, 0, Some(vec![])),
            (
                "an empty region at the end",
                &[(0, 3), (8, 0)],
                8,
                3,
                Some(vec![Data(3), Hole(5)]),
            ),
            (
                "an empty region in front",
                &[(0, 0), (2, 1)],
                3,
                1,
                Some(vec![Hole(2), Data(1)]),
            ),
            (
                "more stored than mapped",
                &[(0, 3)],
                3,
                9,
                Some(vec![Data(3)]),
            ),
            ("less stored than mapped", &[(0, 3)], 8, 2, None),
            ("data past the end", &[(0, 9)], 3, 9, Some(vec![Data(9)])),
            (
                "data cut behind the end",
                &[(0, 9)],
                3,
                5,
                Some(vec![Data(5)]),
            ),
            ("a region behind the end", &[(9, 1)], 3, 1, None),
            ("regions that overlap", &[(0, 9), (2, 3)], 9, 12, None),
            (
                "a region inside one, longer",
                &[(0, 3), (2, 3)],
                5,
                5,
                Some(vec![Data(3), Data(2)]),
            ),
        ] {
            assert_eq!(walk(regions, size, stored), want, "{case}");
        }
    }

    #[test]
    fn list_cases() {
        for (list, regions, ok) in [
            ("0,10,20,5", 2, true),
            ("0,10", 2, false),
            ("0,10,", 1, false),
            ("", 0, false),
            ("0,", 1, false),
            ("0,-1", 1, false),
            ("0,z", 1, false),
            ("0,10", i64::MAX, false),
        ] {
            let map = Map::of_list(list.as_bytes(), regions);
            assert_eq!(map.is_ok(), ok, "{list:?}: {map:?}");
        }
    }

    fn lines(text: &str) -> Option<Vec<Region>> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        let mut lines = Lines::default();
        for (number, block) in blocks.iter().enumerate() {
            if lines.add(block).ok()? {
                assert_eq!(number + 1, blocks.len());
                return Some(lines.into_map().0.into());
            }
        }
        None
    }

    #[test]
    fn line_cases() {
        let many: String = (0..99).map(|at| format!("{}\n10\n", at * 1000)).collect();
        for (case, text, want) in [
            ("none", "0\n", Some(0)),
            ("two", "2\n0\n5\n9\n1\n", Some(2)),
            ("across blocks", &format!("99\n{many}"), Some(99)),
            ("a line as long as a block", &"1".repeat(512), None),
            ("no number", "2z\n", None),
            ("a negative number", "-2\n", None),
            ("a negative region", "1\n-2\n1\n", None),
            ("fewer lines than it says", "2\n0\n5\n", None),
            ("more regions than are kept", "99999999\n0\n0\n", None),
        ] {
            assert_eq!(lines(text).map(|map| map.len()), want, "{case}");
        }
    }
}
