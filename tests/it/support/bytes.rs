//! Bytes that identify their place: each word of eight bytes encodes the layer and the offset.

use bytes::{Bytes, BytesMut};
use s3layers::{Algorithm, Digest};

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// `length` bytes of the layer `seed`.
pub fn ramp(seed: u32, length: u64) -> Bytes {
    let length = usize::try_from(length).unwrap();
    let mut bytes = BytesMut::with_capacity(length + 8);
    let mut word = u64::from(seed) << 40;
    while bytes.len() < length {
        bytes.extend_from_slice(&word.to_le_bytes());
        word += 1;
    }
    bytes.truncate(length);
    bytes.freeze()
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// Fails at the first byte that differs.
#[track_caller]
pub fn assert_same(got: &[u8], want: &[u8], what: &str) {
    if got == want {
        return;
    }
    let same = got.iter().zip(want).take_while(|(a, b)| a == b).count();
    let (got, want) = (got.len(), want.len());
    panic!("{what}: {got} bytes came instead of {want}, the same up to byte {same}");
}
