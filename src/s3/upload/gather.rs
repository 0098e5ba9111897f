//! The bytes of the part under way that are in memory, in the pieces that they arrived in.

use bytes::{Bytes, BytesMut};

/// A piece shorter than this is copied, in bytes. It may be a slice of a much larger buffer, which
/// it would keep in memory uncounted; and a part of many tiny pieces would cost more in
/// bookkeeping than in bytes.
const COPIED: usize = 64 * 1024;

/// Copied pieces are gathered in buffers of this size, in bytes.
const BUFFER: usize = 256 * 1024;

/// Pieces, in order.
#[derive(Debug, Default)]
pub(super) struct Gather {
    pieces: Vec<Bytes>,
    filling: BytesMut,
    len: u64,
}

impl Gather {
    /// Bytes in all.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.len += piece.len() as u64;
        if piece.len() >= COPIED {
            self.flush();
            self.pieces.push(piece);
            return;
        }
        if self.filling.capacity() - self.filling.len() < piece.len() {
            self.flush();
            self.filling.reserve(BUFFER);
        }
        self.filling.extend_from_slice(&piece);
    }

    fn flush(&mut self) {
        if !self.filling.is_empty() {
            self.pieces.push(self.filling.split().freeze());
        }
    }

    /// All pieces; they stay here as well.
    pub(super) fn pieces(&mut self) -> Vec<Bytes> {
        self.flush();
        self.pieces.clone()
    }

    /// All pieces; nothing stays.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.flush();
        self.len = 0;
        std::mem::take(&mut self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_the_order_they_went_in() {
        let mut gather = Gather::default();
        let mut want = Vec::new();
        for (index, len) in [1, 70_000, 3, 300_000, 65_535, 65_535, 65_535, 65_535, 9]
            .iter()
            .enumerate()
        {
            let piece = vec![index as u8; *len];
            want.extend_from_slice(&piece);
            gather.push(piece.into());
        }
        assert_eq!(gather.len(), want.len() as u64);
        assert_eq!(gather.pieces().concat(), want);
        assert_eq!(gather.take().concat(), want);
        assert_eq!(gather.len(), 0);
    }
}
