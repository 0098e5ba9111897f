//! The list of entries, the order it is summed in, and the sum.
//!
//! Entries are summed in the order of their hashes. If a name repeats, entries of one name are to
//! stay in the order of the archive, and the original compared so: by position where the names are
//! equal, else by hash. That is no order (it can go round in circles), so what comes out depends on
//! how the sort goes about it, and [`go_sort`] goes about it as Go's did.

use std::hash::{BuildHasher, RandomState};

use crate::digest::{Algorithm, Digest, Hasher, to_hex};

use super::go_sort;

/// The entries so far.
///
/// An entry costs its hash and 16 bytes, independent of the length of its name: a name is only ever
/// compared for equality, so a fingerprint stands for it. It is made with a random key, so no
/// archive can be built to have two names that share one.
pub(super) struct Entries {
    pub(super) algorithm: Algorithm,
    /// The values of the hashes, one behind the other.
    hashes: Vec<u8>,
    names: Vec<u128>,
    keys: [RandomState; 2],
}

impl Entries {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        Entries {
            algorithm,
            hashes: Vec::new(),
            names: Vec::new(),
            keys: Default::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// What stands for this name among these entries.
    pub(super) fn fingerprint(&self, name: &[u8]) -> u128 {
        let name = clean(name);
        let [high, low] = self
            .keys
            .each_ref()
            .map(|key| u128::from(key.hash_one(name)));
        high << 64 | low
    }

    pub(super) fn push(&mut self, name: u128, hash: &[u8]) {
        self.names.push(name);
        self.hashes.extend_from_slice(hash);
    }

    fn hash(&self, position: u32) -> &[u8] {
        let len = self.hashes.len() / self.names.len().max(1);
        let begin = position as usize * len;
        self.hashes.get(begin..begin + len).unwrap_or_default()
    }

    fn name(&self, position: u32) -> Option<&u128> {
        self.names.get(position as usize)
    }

    /// The hash over the hashes, in hex digits, in their order. Takes four bytes an entry.
    pub(super) fn sum(&self) -> Digest {
        let mut sum = Hasher::new(self.algorithm);
        for position in self.order() {
            sum.update(to_hex(self.hash(position)).as_bytes());
        }
        sum.digest()
    }

    fn order(&self) -> Vec<u32> {
        let positions = || (0u32..).take(self.len()).collect::<Vec<_>>();
        let mut order = positions();
        order.sort_unstable_by_key(|&position| self.name(position));
        let is_same_name = |pair: &[u32]| self.name(pair[0]) == self.name(pair[1]);
        if order.windows(2).any(is_same_name) {
            order = positions();
            go_sort::sort(&mut order, |&a, &b| {
                if self.name(a) == self.name(b) {
                    a < b
                } else {
                    self.hash(a) < self.hash(b)
                }
            });
        } else {
            order.sort_unstable_by_key(|&position| self.hash(position));
        }
        order
    }
}

/// The name by which entries are the same: without one `./` in front and one `/` behind.
fn clean(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    name.strip_suffix(b"/").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_cases() {
        for (name, want) in [
            ("a", "a"),
            ("./a", "a"),
            ("a/", "a"),
            ("./a/", "a"),
            ("/a", "/a"),
            ("././a", "./a"),
            ("a//", "a/"),
            ("./", ""),
            (".", "."),
            ("", ""),
        ] {
            assert_eq!(clean(name.as_bytes()), want.as_bytes(), "{name}");
        }
    }

    fn order(entries: &[(&str, &str)]) -> Vec<u32> {
        let mut list = Entries::new(Algorithm::Sha256);
        for (name, content) in entries {
            let name = list.fingerprint(name.as_bytes());
            let mut hasher = Hasher::new(Algorithm::Sha256);
            hasher.update(content.as_bytes());
            list.push(name, &hasher.value());
        }
        list.order()
    }

    #[test]
    fn order_cases() {
        // The hashes of "1" (6b86…), "2" (d473…) and "3" (4e07…) stand in the order 3, 1, 2.
        for (case, entries, want) in [
            ("none", &[][..], &[][..]),
            (
                "other names: by hash",
                &[("a", "1"), ("b", "2"), ("c", "3")],
                &[2, 0, 1],
            ),
            (
                "one name: by position",
                &[("a", "2"), ("./a", "3"), ("a/", "1")],
                &[0, 1, 2],
            ),
            (
                "one name, rising",
                &[("a", "3"), ("a", "1"), ("b", "2")],
                &[0, 1, 2],
            ),
            (
                "in a circle",
                &[("a", "2"), ("b", "1"), ("a", "3")],
                &[1, 0, 2],
            ),
        ] {
            assert_eq!(order(entries), want, "{case}");
        }
    }

    #[test]
    fn nothing_sums_to_the_hash_of_nothing() {
        assert_eq!(
            Entries::new(Algorithm::Sha256).sum().to_string(),
            Digest::EMPTY_SHA256
        );
    }
}
