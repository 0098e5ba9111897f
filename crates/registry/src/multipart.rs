//! Several ranges of a blob in one answer: `multipart/byteranges` of RFC 9110, 15.3.7.2.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use s3layers::Result;

/// The frame around the parts of an answer.
pub(super) struct Multipart {
    boundary: String,
    /// What stands before each part, and the size of the part.
    parts: VecDeque<(Bytes, u64)>,
    end: Bytes,
}

impl Multipart {
    /// Frames these parts of a blob of `size` bytes. `boundary` must not occur in the blob, so it is
    /// random: the author of the blob cannot know it.
    pub(super) fn new(boundary: String, parts: &[Range<u64>], size: u64) -> Self {
        let heads = parts.iter().enumerate().map(|(at, part)| {
            let line_end = if at == 0 { "" } else { "\r\n" };
            let (first, last) = (part.start, part.end.saturating_sub(1));
            let head = format!(
                "{line_end}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {first}-{last}/{size}\r\n\r\n"
            );
            (head.into(), part.end - part.start)
        });
        Multipart {
            parts: heads.collect(),
            end: format!("\r\n--{boundary}--\r\n").into(),
            boundary,
        }
    }

    /// Unquoted: some clients look for it with a pattern.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The size of the whole answer, in bytes.
    pub(super) fn size(&self) -> u64 {
        let parts = self.parts.iter();
        parts
            .map(|(head, size)| head.len() as u64 + size)
            .sum::<u64>()
            + self.end.len() as u64
    }

    /// The answer. `bytes` are those of all parts, one after another. Ends early where they do.
    pub(super) fn frame(
        self,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let framing = Framing {
            bytes,
            piece: Bytes::new(),
            left: 0,
            parts: self.parts,
            end: Some(self.end),
        };
        stream::unfold(framing, |mut framing| async {
            let next = framing.next().await?;
            Some((next, framing))
        })
        .boxed()
    }
}

struct Framing {
    bytes: BoxStream<'static, Result<Bytes>>,
    /// What has come of the parts and is not handed out.
    piece: Bytes,
    /// How many bytes are missing from the present part.
    left: u64,
    parts: VecDeque<(Bytes, u64)>,
    end: Option<Bytes>,
}

impl Framing {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.left == 0 {
            let Some((head, size)) = self.parts.pop_front() else {
                return self.end.take().map(Ok);
            };
            self.left = size;
            return Some(Ok(head));
        }
        while self.piece.is_empty() {
            match self.bytes.next().await? {
                Ok(piece) => self.piece = piece,
                Err(error) => return Some(Err(error)),
            }
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let piece = self.piece.split_to(self.piece.len().min(left));
        self.left -= piece.len() as u64;
        Some(Ok(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The framed bytes of `abcdefghij` that come in pieces of `length`.
    async fn framed(parts: &[Range<u64>], length: usize, sent: usize) -> (Vec<u8>, u64) {
        let all = b"abcdefghij";
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|part| &all[part.start as usize..part.end as usize])
            .copied()
            .take(sent)
            .collect();
        let pieces: Vec<_> = bytes
            .chunks(length)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let multipart = Multipart::new("b".to_owned(), parts, 10);
        let size = multipart.size();
        let framed = multipart.frame(stream::iter(pieces).boxed());
        let framed: Vec<_> = framed.map(|piece| piece.unwrap().to_vec()).collect().await;
        (framed.concat(), size)
    }

    #[tokio::test]
    async fn parts_are_framed_however_the_bytes_come() {
        let want = "--b\r\nContent-Type: application/octet-stream\r\n\
                    Content-Range: bytes 0-1/10\r\n\r\nab\
                    \r\n--b\r\nContent-Type: application/octet-stream\r\n\
                    Content-Range: bytes 7-9/10\r\n\r\nhij\r\n--b--\r\n";
        for length in [1, 2, 3, 100] {
            let (got, size) = framed(&[0..2, 7..10], length, 100).await;
            assert_eq!(String::from_utf8(got).unwrap(), want, "{length}");
            assert_eq!(size, want.len() as u64);
        }
    }

    #[tokio::test]
    async fn an_answer_that_lacks_bytes_has_no_end() {
        let (got, size) = framed(&[0..2, 7..10], 2, 4).await;
        assert!(got.ends_with(b"hi"));
        assert!((got.len() as u64) < size);
    }
}
