//! A layer to show: a tar archive of one file of noise, the same in every run.

use bytes::Bytes;

/// The size of a tar block, in bytes.
const BLOCK: usize = 512;

/// An archive of `size` bytes, a multiple of a tar block.
pub(super) fn make(size: usize) -> Bytes {
    let end = 2 * BLOCK;
    let content = size.saturating_sub(BLOCK + end);
    let mut layer = Vec::with_capacity(size);
    layer.extend_from_slice(&header("noise", content));
    // xorshift64: does not compress, and two places do not look alike.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..content / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        layer.extend_from_slice(&state.to_le_bytes());
    }
    layer.resize(size, 0);
    layer.into()
}

/// A ustar header of a file.
fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The sum is taken with blanks in its place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_archive() {
        let layer = make(4 * BLOCK);
        assert_eq!(layer.len(), 4 * BLOCK);
        assert_eq!(&layer[..5], b"noise");
        assert_eq!(&layer[124..135], b"00000001000");
        assert!(layer[2 * BLOCK..].iter().all(|&byte| byte == 0));
    }
}
