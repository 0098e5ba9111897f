//! Which things are in use, in bounded memory: all of them up to a number, a Bloom filter above
//! that. One that is wrongly taken for marked is kept, never removed.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};

use uuid::Uuid;

use crate::clock;

/// Bits of each one in the filter.
const PROBES: u64 = 6;

/// A set of things, by hashes with a fresh seed.
#[derive(Debug)]
pub(super) struct Marks {
    seed: Uuid,
    /// So many are remembered one by one.
    limit: usize,
    /// Of the filter.
    bits: u64,
    exact: HashSet<u64>,
    /// Empty up to the limit.
    filter: Vec<u64>,
}

impl Marks {
    /// A filter of 8 MiB: of ten million marks, four of a hundred others look like one. It takes the place of a
    /// table of 2^19 places of 9 bytes, before that grows.
    pub(super) fn small() -> Self {
        Self::with_limit(7 << 16, 1 << 26)
    }

    /// A filter of 16 MiB: of ten million marks, two of a thousand others look like one.
    pub(super) fn precise() -> Self {
        Self::with_limit(7 << 17, 1 << 27)
    }

    fn with_limit(limit: usize, bits: u64) -> Self {
        Marks {
            seed: clock::new_uuid(),
            limit,
            bits,
            exact: HashSet::new(),
            filter: Vec::new(),
        }
    }

    pub(super) fn insert<T: Hash + ?Sized>(&mut self, thing: &T) {
        let hash = self.hash(thing);
        if self.filter.is_empty() && self.exact.len() == self.limit {
            self.filter = vec![0; (self.bits / 64) as usize];
            for hash in std::mem::take(&mut self.exact) {
                self.set(hash);
            }
        }
        if self.filter.is_empty() {
            self.exact.insert(hash);
        } else {
            self.set(hash);
        }
    }

    pub(super) fn contains<T: Hash + ?Sized>(&self, thing: &T) -> bool {
        let hash = self.hash(thing);
        if self.filter.is_empty() {
            return self.exact.contains(&hash);
        }
        self.places(hash)
            .all(|bit| self.filter[(bit / 64) as usize] & (1 << (bit % 64)) != 0)
    }

    /// Whether many things look marked that are not: one in six, from 15 million marks on where the filter is small.
    pub(super) fn is_crowded(&self) -> bool {
        let set: u64 = self
            .filter
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        set > self.bits / 4 * 3
    }

    fn set(&mut self, hash: u64) {
        for bit in self.places(hash) {
            self.filter[(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// The bits of a hash in the filter, by double hashing.
    fn places(&self, hash: u64) -> impl Iterator<Item = u64> + use<> {
        let bits = self.bits;
        let step = hash.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..PROBES).map(move |probe| hash.wrapping_add(probe.wrapping_mul(step)) % bits)
    }

    fn hash<T: Hash + ?Sized>(&self, thing: &T) -> u64 {
        BuildHasherDefault::<DefaultHasher>::new().hash_one((self.seed, thing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3layers_tarsum::{Algorithm, Digest};

    #[test]
    fn filter_with_most_bits_set_is_crowded() {
        let mut marks = Marks::with_limit(1, 1 << 26);
        marks.insert("a");
        marks.insert("b");
        assert!(!marks.is_crowded());
        let words = marks.filter.len();
        marks.filter[..words / 4 * 3 + 1].fill(u64::MAX);
        assert!(marks.is_crowded());
    }

    #[test]
    fn marks_are_found_and_few_others_are() {
        let digest = |n: u32| Digest::of(Algorithm::Sha256, &n.to_be_bytes());
        for limit in [100, 10_000] {
            let mut marks = Marks::with_limit(limit, 1 << 26);
            for n in 0..5_000 {
                marks.insert(&digest(n));
            }
            assert!((0..5_000).all(|n| marks.contains(&digest(n))), "{limit}");
            let others = (5_000..10_000).filter(|n| marks.contains(&digest(*n)));
            assert!(others.count() < 10, "{limit}");
        }
    }
}
