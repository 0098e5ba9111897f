//! A sample of things, in bounded memory: another one in every pass, so that none is never in it.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};

use uuid::Uuid;

use crate::clock;

/// All of some things, or those whose hashes with a fresh seed begin with so many zero bits.
#[derive(Debug)]
pub(super) struct Sample<T> {
    pub(super) things: Vec<T>,
    limit: usize,
    seed: Uuid,
    zero_bits: u32,
}

impl<T: Hash> Sample<T> {
    pub(super) fn new(limit: usize) -> Self {
        Sample {
            things: Vec::new(),
            limit,
            seed: clock::new_uuid(),
            zero_bits: 0,
        }
    }

    pub(super) fn insert(&mut self, thing: T) {
        if self.has(&thing) {
            self.things.push(thing);
        }
        while self.things.len() > self.limit {
            self.zero_bits += 1;
            let all = std::mem::take(&mut self.things);
            self.things = all.into_iter().filter(|thing| self.has(thing)).collect();
        }
    }

    fn has(&self, thing: &T) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one((self.seed, thing));
        hash.leading_zeros() >= self.zero_bits
    }

    /// About how many there are of a kind of which the sample has so many.
    pub(super) fn in_all(&self, of_sample: usize) -> u64 {
        (of_sample as u64).saturating_mul(2_u64.saturating_pow(self.zero_bits))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn samples_are_bounded_and_have_everything_in_turn() {
        let mut seen = HashSet::new();
        for _ in 0..50 {
            let mut sample = Sample::new(100);
            (0..250).for_each(|number| sample.insert(number));
            let len = sample.things.len();
            assert!(len <= 100);
            assert!((100..=600).contains(&sample.in_all(len)), "{len}");
            seen.extend(sample.things);
        }
        assert_eq!(seen.len(), 250);
        let mut all = Sample::new(100);
        (0..100).for_each(|number| all.insert(number));
        assert_eq!(all.in_all(all.things.len()), 100);
    }
}
