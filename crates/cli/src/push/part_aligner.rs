//! Holds chunks until they fill a part.
//!
//! Bytes of a file are written to the upload a part at a time, so that an upload that is closed early
//! ends with a whole part, and no byte is sent twice. Bytes of a pipe, which cannot be read again, are
//! written at once, so that the store keeps them.

use std::collections::VecDeque;

use bytes::Bytes;

/// Chunks that were read and not written, in order.
#[derive(Debug)]
pub(super) struct PartAligner {
    pieces: VecDeque<Bytes>,
    len: u64,
    can_be_read_again: bool,
}

impl PartAligner {
    pub(super) fn new(can_be_read_again: bool) -> Self {
        PartAligner {
            pieces: VecDeque::new(),
            len: 0,
            can_be_read_again,
        }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.len += piece.len() as u64;
        self.pieces.push_back(piece);
    }

    /// The chunks to write to an upload at `offset` whose part ends at `boundary`: all up to there, or
    /// none if they do not fill the part.
    pub(super) fn due(&mut self, offset: u64, boundary: Option<u64>) -> VecDeque<Bytes> {
        let Some(boundary) = boundary.filter(|_| self.can_be_read_again) else {
            return self.rest();
        };
        let mut missing = boundary.saturating_sub(offset);
        if missing > self.len {
            return VecDeque::new();
        }
        let mut due = VecDeque::new();
        while missing > 0 {
            let Some(mut piece) = self.pieces.pop_front() else {
                break;
            };
            let length = usize::try_from(missing).unwrap_or(usize::MAX);
            if length < piece.len() {
                self.pieces.push_front(piece.split_off(length));
            }
            missing -= piece.len() as u64;
            self.len -= piece.len() as u64;
            due.push_back(piece);
        }
        due
    }

    /// All chunks.
    pub(super) fn rest(&mut self) -> VecDeque<Bytes> {
        self.len = 0;
        std::mem::take(&mut self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(can_be_read_again: bool) -> PartAligner {
        let mut held = PartAligner::new(can_be_read_again);
        for piece in ["abc", "def", "ghi"] {
            held.push(piece.into());
        }
        held
    }

    fn text(pieces: VecDeque<Bytes>) -> String {
        let bytes: Vec<u8> = pieces.into_iter().flatten().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn file_is_written_a_part_at_a_time() {
        let mut held = held(true);
        for (case, offset, boundary, want) in [
            ("in a piece", 100, 104, "abcd"),
            ("at the end of a piece", 104, 106, "ef"),
            ("not there yet", 106, 110, ""),
            ("just there", 106, 109, "ghi"),
            ("nothing left", 109, 110, ""),
        ] {
            assert_eq!(text(held.due(offset, Some(boundary))), want, "{case}");
        }
    }

    #[test]
    fn rest_is_returned_at_the_end() {
        let mut held = held(true);
        assert_eq!(text(held.due(0, Some(10))), "");
        assert_eq!(text(held.rest()), "abcdefghi");
        assert_eq!(text(held.due(9, Some(10))), "");
    }

    #[test]
    fn pipe_is_written_at_once() {
        assert_eq!(text(held(false).due(0, Some(10))), "abcdefghi");
        assert_eq!(text(held(true).due(0, None)), "abcdefghi");
    }
}
