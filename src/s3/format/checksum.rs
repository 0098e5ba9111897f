//! CRC64NVME: the checksum by which S3 verifies a part, a whole object, and we a block that was
//! read. The only file that names it.
//!
//! CRCs of adjacent pieces combine, so every byte is summed once: [`Tracker`] sums pieces that end
//! at every boundary of a block or a part, and combines each into its block, its part and the
//! whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm::Crc64Nvme;
use serde::{Deserialize, Serialize};

/// The bytes that one checksum of a record covers. A reader that has a whole block verifies it.
pub(crate) const BLOCK: u64 = 8 * 1024 * 1024;

/// The CRC64NVME of some bytes, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, String)", into = "(u64, String)")]
pub(crate) struct Crc64 {
    value: u64,
    len: u64,
}

impl Crc64 {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Crc64 {
            value: crc_fast::checksum(Crc64Nvme, bytes),
            len: bytes.len() as u64,
        }
    }

    /// The bytes that this sums.
    pub(crate) fn len(self) -> u64 {
        self.len
    }

    /// The checksum of these bytes followed by `next`'s.
    pub(crate) fn then(self, next: Crc64) -> Self {
        if self.len == 0 {
            return next;
        }
        if next.len == 0 {
            return self;
        }
        Crc64 {
            value: times(power_of_x(next.len), self.value) ^ next.value,
            len: self.len + next.len,
        }
    }

    /// As S3's headers carry it: the eight bytes, big-endian, in base64.
    pub(crate) fn to_base64(self) -> String {
        BASE64.encode(self.value.to_be_bytes())
    }

    /// The checksum of `len` bytes that an S3 header has.
    pub(crate) fn from_base64(base64: &str, len: u64) -> Option<Self> {
        let value = BASE64.decode(base64).ok()?;
        let value = u64::from_be_bytes(value.try_into().ok()?);
        Some(Crc64 { value, len })
    }

    /// Whether an S3 header has this value.
    pub(crate) fn is(self, base64: &str) -> bool {
        self.to_base64() == base64
    }

    pub(crate) fn value(self) -> u64 {
        self.value
    }
}

/// The polynomial of CRC64NVME, without its highest power. As in all values of this CRC, the bit of x^0 is the first.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

/// x to the power of each power of two of bytes, modulo the polynomial.
const POWERS: [u64; 64] = {
    let mut powers = [1 << 55; 64];
    let mut at = 1;
    while at < 64 {
        powers[at] = times(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
};

/// The product of two polynomials, modulo that of the CRC. `crc_fast::checksum_combine` squares matrices for each
/// call, which takes a hundred times as long, and was a twentieth of the time of a pull.
const fn times(mut left: u64, mut right: u64) -> u64 {
    let mut product = 0;
    while left != 0 {
        if left >> 63 == 1 {
            product ^= right;
        }
        left <<= 1;
        right = (right >> 1) ^ (POLYNOMIAL * (right & 1));
    }
    product
}

/// x to the power of the bits of so many bytes: what appending them does to a checksum.
fn power_of_x(bytes: u64) -> u64 {
    let set = (0..64).filter(|bit| bytes >> bit & 1 == 1);
    set.fold(1 << 63, |power, bit| times(POWERS[bit], power))
}

impl From<Crc64> for (u64, String) {
    fn from(crc: Crc64) -> Self {
        (crc.len, format!("{:016x}", crc.value))
    }
}

impl From<(u64, String)> for Crc64 {
    /// A value that is no hex cannot be right for any bytes but by accident: it is read as one
    /// that fails the comparison it is for. Documents carry a checksum of their own.
    fn from((len, hex): (u64, String)) -> Self {
        Crc64 {
            value: u64::from_str_radix(&hex, 16).unwrap_or(u64::MAX),
            len,
        }
    }
}

/// A running checksum.
#[derive(Clone)]
pub(crate) struct Running(crc_fast::Digest);

impl Running {
    pub(crate) fn new() -> Self {
        Running(crc_fast::Digest::new(Crc64Nvme))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn get(&self) -> Crc64 {
        Crc64 {
            value: self.0.finalize(),
            len: self.0.get_amount(),
        }
    }
}

/// Checksums of whole blocks, packed as base64 of big-endian words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct BlockSums(Vec<u64>);

impl BlockSums {
    /// The checksum of the block with this index.
    pub(crate) fn get(&self, index: u64) -> Option<u64> {
        self.0.get(usize::try_from(index).ok()?).copied()
    }

    /// Whether these are of an object of this size, or of none.
    pub(crate) fn fit(&self, size: u64) -> bool {
        self.0.is_empty() || self.0.len() as u64 == size.div_ceil(BLOCK)
    }

    fn truncated(&self, len: usize) -> Self {
        BlockSums(self.0[..len.min(self.0.len())].to_vec())
    }
}

impl From<BlockSums> for String {
    fn from(sums: BlockSums) -> Self {
        let bytes: Vec<u8> = sums.0.iter().flat_map(|sum| sum.to_be_bytes()).collect();
        BASE64.encode(bytes)
    }
}

impl TryFrom<String> for BlockSums {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64
            .decode(text)
            .map_err(|_| "block checksums are not base64")?;
        let (words, []) = bytes.as_chunks::<8>() else {
            return Err("block checksums are not whole words");
        };
        Ok(BlockSums(
            words.iter().map(|&word| u64::from_be_bytes(word)).collect(),
        ))
    }
}

/// The checksums of a layer up to some offset: enough to resume there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sums {
    /// Of all bytes.
    pub(crate) whole: Crc64,
    /// Of the bytes of the last block, while it is not whole.
    pub(crate) open_block: Crc64,
    /// Of each whole block.
    pub(crate) blocks: BlockSums,
}

impl Sums {
    /// All blocks of a layer that ends here, the last one possibly short.
    pub(crate) fn into_blocks(mut self) -> BlockSums {
        if self.open_block.len() > 0 {
            self.blocks.0.push(self.open_block.value);
        }
        self.blocks
    }
}

/// Sums a layer's bytes as they arrive.
pub(crate) struct Tracker {
    piece: Running,
    part: Crc64,
    open_block: Crc64,
    whole: Crc64,
    blocks: BlockSums,
}

/// What [`Tracker::snapshot`] remembers: constant in size, however long the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    whole: Crc64,
    open_block: Crc64,
    blocks: usize,
}

impl Tracker {
    /// Resumes after the bytes that `sums` covers, of which `part` belong to the current part.
    pub(crate) fn resume(sums: Sums, part: Crc64) -> Self {
        Tracker {
            piece: Running::new(),
            part,
            open_block: sums.open_block,
            whole: sums.whole,
            blocks: sums.blocks,
        }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        loop {
            let missing = BLOCK - self.open_block.len() - self.piece.0.get_amount();
            let take = bytes
                .len()
                .min(usize::try_from(missing).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(take);
            self.piece.update(now);
            if take as u64 == missing {
                self.settle();
                self.blocks.0.push(self.open_block.value);
                self.open_block = Crc64::default();
            }
            if later.is_empty() {
                return;
            }
            bytes = later;
        }
    }

    /// Brings the running piece into the sums.
    fn settle(&mut self) {
        let piece = std::mem::replace(&mut self.piece, Running::new()).get();
        self.part = self.part.then(piece);
        self.open_block = self.open_block.then(piece);
        self.whole = self.whole.then(piece);
    }

    /// Ends a part: its checksum.
    pub(crate) fn end_part(&mut self) -> Crc64 {
        self.settle();
        std::mem::take(&mut self.part)
    }

    /// The checksum of the part under way, as far as it goes.
    pub(crate) fn part_so_far(&mut self) -> Crc64 {
        self.settle();
        self.part
    }

    /// The position right now, to be turned into [`Sums`] later.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        self.settle();
        Snapshot {
            whole: self.whole,
            open_block: self.open_block,
            blocks: self.blocks.0.len(),
        }
    }

    /// The sums at an earlier or the present position.
    pub(crate) fn sums_at(&self, snapshot: Snapshot) -> Sums {
        Sums {
            whole: snapshot.whole,
            open_block: snapshot.open_block,
            blocks: self.blocks.truncated(snapshot.blocks),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vector_of_the_crc_catalogue() {
        assert_eq!(Crc64::of(b"123456789").value(), 0xae8b_1486_0a79_9888);
        assert_eq!(Crc64::of(b""), Crc64::default());
        assert_eq!(Running::new().get(), Crc64::default());
    }

    #[test]
    fn sums_of_split_input_equal_those_of_the_whole() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 12_345)
            .map(|i| (i / 7) as u8 ^ i as u8)
            .collect();
        let mut tracker = Tracker::resume(Sums::default(), Crc64::default());
        let (one, rest) = bytes.split_at(5_000_001);
        let (two, three) = rest.split_at(9_000_000);
        tracker.update(one);
        assert_eq!(tracker.end_part(), Crc64::of(one));
        let snapshot = tracker.snapshot();
        tracker.update(two);
        let sums = tracker.sums_at(snapshot);
        assert_eq!(sums.whole, Crc64::of(one));

        let text = serde_json::to_string(&sums).unwrap();
        let mut tracker = Tracker::resume(serde_json::from_str(&text).unwrap(), Crc64::default());
        tracker.update(two);
        assert_eq!(tracker.end_part(), Crc64::of(two));
        tracker.update(three);
        let end = tracker.snapshot();
        let sums = tracker.sums_at(end);
        assert_eq!(sums.whole, Crc64::of(&bytes));
        let blocks = sums.into_blocks();
        for (index, block) in bytes.chunks(BLOCK as usize).enumerate() {
            assert_eq!(
                blocks.get(index as u64),
                Some(Crc64::of(block).value()),
                "block {index}"
            );
        }
        assert_eq!(blocks.get(3), None);
    }

    #[test]
    fn sum_of_adjacent_pieces_is_that_of_the_library() {
        let (one, next) = (Crc64::of(b"one"), Crc64::of(b"next"));
        for len in [1, 7, BLOCK, BLOCK - 1, 5 << 40, u64::MAX / 2] {
            let sum = one.then(Crc64 { len, ..next }).value();
            let want = crc_fast::checksum_combine(Crc64Nvme, one.value, next.value, len);
            assert_eq!(sum, want, "{len}");
        }
    }

    proptest! {
        #[test]
        fn then_is_concatenation(a: Vec<u8>, b: Vec<u8>) {
            let both = [a.as_slice(), b.as_slice()].concat();
            prop_assert_eq!(Crc64::of(&a).then(Crc64::of(&b)), Crc64::of(&both));
        }
    }
}
