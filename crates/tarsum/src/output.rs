//! The output of a decoder.

/// The bytes that come out of a decoder at a time.
pub(super) const BUFFER: usize = 1 << 16;

/// Receives them.
pub(super) type Output<'a> = &'a mut dyn FnMut(&[u8]);
