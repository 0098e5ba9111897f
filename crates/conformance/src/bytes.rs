//! Bytes that identify their place: each word of eight bytes encodes a seed and the offset.

use bytes::Bytes;

/// Bytes of one word.
const WORD: usize = 8;
/// Bits of a word for the offset, in words. The others are the seed.
const OFFSET_BITS: u32 = 40;

fn word(seed: u64, index: usize) -> u64 {
    (seed << OFFSET_BITS) | index as u64
}

/// `len` bytes of the content that `seed` (of 24 bits) stands for. Contents of two seeds differ in
/// every word.
pub(super) fn ramp(seed: u64, len: u64) -> Bytes {
    let len = usize::try_from(len).expect("a layer that fits the memory");
    let mut bytes = Vec::with_capacity(len + WORD);
    for index in 0..len.div_ceil(WORD) {
        bytes.extend_from_slice(&word(seed, index).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// Panics unless `got` equals `want`, and reports the first difference.
#[track_caller]
pub(super) fn assert_same(got: &[u8], want: &[u8], what: &str) {
    if got == want {
        return;
    }
    let at = got.iter().zip(want).take_while(|(got, want)| got == want);
    let at = at.count();
    panic!(
        "{what}: {} bytes instead of {}, the same up to byte {at}, where there {}",
        got.len(),
        want.len(),
        describe(&got[at..]),
    );
}

/// Where in which content bytes come from, as two words in a row show.
fn describe(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "is the end".to_owned();
    }
    let word_at = |at: usize| {
        let word = bytes.get(at..)?.first_chunk::<WORD>()?;
        Some(u64::from_le_bytes(*word))
    };
    for phase in 0..WORD {
        let (Some(word), Some(next)) = (word_at(phase), word_at(phase + WORD)) else {
            continue;
        };
        let offset = (word & ((1 << OFFSET_BITS) - 1)) * WORD as u64;
        if next == word.wrapping_add(1) && offset >= phase as u64 {
            let seed = word >> OFFSET_BITS;
            let offset = offset - phase as u64;
            return format!("are those of byte {offset} of content {seed:06x}");
        }
    }
    "is something else".to_owned()
}

/// Numbers that look random and follow from a seed (the SplitMix64 generator,
/// <https://prng.di.unimi.it/splitmix64.c>).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramp_encodes_offset_and_seed() {
        let bytes = ramp(7, 4001);
        assert_eq!(bytes.len(), 4001);
        for at in [0, 1, 63, 64, 3970] {
            let want = format!("are those of byte {at} of content 000007");
            assert_eq!(describe(&bytes[at..]), want);
        }
        assert_eq!(describe(&[0; 100]), "is something else");
        assert_eq!(
            bytes[..100],
            ramp(7, 100)[..],
            "content does not depend on the length"
        );
        let other = ramp(8, 4001);
        assert!(
            bytes
                .chunks_exact(WORD)
                .zip(other.chunks_exact(WORD))
                .all(|(a, b)| a != b)
        );
    }

    #[test]
    #[should_panic(expected = "3 bytes instead of 4, the same up to byte 1")]
    fn difference_is_reported_with_its_position() {
        assert_same(b"abc", b"axcd", "some bytes");
    }
}
