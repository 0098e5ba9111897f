//! The bytes of the part under way.

use bytes::{Bytes, BytesMut};

/// In bytes: that of a unit of the budget.
const BUFFER: usize = 64 * 1024;

/// Pieces, in order. They are copied: what arrives may be a slice of a much larger buffer, which it
/// would keep in memory uncounted; and a part of many tiny chunks would cost more in bookkeeping
/// than in bytes.
#[derive(Debug, Default)]
pub(super) struct PartBuffer {
    chunks: Vec<Bytes>,
    filling: BytesMut,
    len: u64,
}

impl PartBuffer {
    /// Bytes in all.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        self.len += piece.len() as u64;
        let mut rest = piece;
        while !rest.is_empty() {
            let space = self.filling.capacity() - self.filling.len();
            if space == 0 {
                self.flush();
                self.filling = BytesMut::with_capacity(BUFFER);
                continue;
            }
            let (first, others) = rest.split_at(space.min(rest.len()));
            self.filling.extend_from_slice(first);
            rest = others;
        }
    }

    fn flush(&mut self) {
        if !self.filling.is_empty() {
            self.chunks.push(self.filling.split().freeze());
        }
    }

    /// All chunks; they stay here as well.
    pub(super) fn chunks(&mut self) -> Vec<Bytes> {
        self.flush();
        self.chunks.clone()
    }

    /// All chunks; nothing stays.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.flush();
        self.len = 0;
        std::mem::take(&mut self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_in_the_order_they_went_in() {
        let mut buffer = PartBuffer::default();
        let mut want = Vec::new();
        for (index, len) in [1, 70_000, 3, 300_000, 65_535, 65_535, 65_535, 65_535, 9]
            .iter()
            .enumerate()
        {
            let chunk = vec![index as u8; *len];
            want.extend_from_slice(&chunk);
            buffer.push(&chunk);
        }
        assert_eq!(buffer.len(), want.len() as u64);
        assert_eq!(buffer.chunks().concat(), want);
        assert_eq!(buffer.take().concat(), want);
        assert_eq!(buffer.len(), 0);
    }
}
