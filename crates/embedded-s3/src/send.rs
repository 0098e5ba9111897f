//! An outgoing body: the requested bytes of pinned parts, in frames of bounded size.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::JoinHandle;

use crate::blob::Blob;
use crate::engine::PinnedPart;

/// The largest frame: of a file, what is read at once; of memory, a slice.
const FRAME: usize = 512 << 10;

/// Bytes that are still to be sent.
enum Piece {
    Memory(Bytes),
    File(Arc<Blob>, Range<u64>),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, range) => range.end - range.start,
        }
    }

    /// Takes up to a frame off the front.
    fn split_frame(&mut self) -> Self {
        match self {
            Self::Memory(bytes) => Self::Memory(bytes.split_to(bytes.len().min(FRAME))),
            Self::File(blob, range) => {
                let end = range.end.min(range.start + FRAME as u64);
                let frame = range.start..end;
                range.start = end;
                Self::File(blob.clone(), frame)
            }
        }
    }
}

/// A file that stays open from one frame to the next.
struct OpenFile {
    file: File,
    blob: Arc<Blob>,
}

/// A read that is under way: the file again, and the bytes.
type ReadTask = JoinHandle<io::Result<(OpenFile, Bytes)>>;

/// The stream of bytes. It ends after exactly as many as [`OutgoingBody::remaining`] says, or with an
/// error.
pub(crate) struct OutgoingBody {
    pieces: VecDeque<Piece>,
    remaining: u64,
    file: Option<OpenFile>,
    reading: Option<ReadTask>,
}

impl OutgoingBody {
    /// The bytes in `range` of an object that consists of these parts.
    pub(crate) fn new(parts: Vec<PinnedPart>, range: Range<u64>) -> io::Result<Self> {
        let mut pieces = VecDeque::new();
        let mut offset = 0;
        for PinnedPart { part, blob } in parts {
            let (start, end) = (offset, offset + part.size);
            offset = end;
            let part_range = range.start.max(start)..range.end.min(end);
            if part_range.is_empty() {
                continue;
            }
            let blob = blob.ok_or_else(|| io::Error::other("the bytes of a part are gone"))?;
            let part_range = part_range.start - start..part_range.end - start;
            match &*blob {
                Blob::Memory(chunks) => {
                    pieces.extend(slices(chunks, &part_range).map(Piece::Memory))
                }
                Blob::File(_) => pieces.push_back(Piece::File(blob, part_range)),
            }
        }
        let remaining = pieces.iter().map(Piece::len).sum();
        Ok(Self {
            pieces,
            remaining,
            file: None,
            reading: None,
        })
    }

    /// How many bytes are still to come.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    fn next_frame(&mut self) -> Option<Piece> {
        let piece = self.pieces.front_mut()?;
        let frame = piece.split_frame();
        if piece.len() == 0 {
            self.pieces.pop_front();
        }
        Some(frame)
    }

    /// Reads the next frame while the one before it is sent.
    fn read_ahead(&mut self) {
        if !matches!(self.pieces.front(), Some(Piece::File(..))) {
            return;
        }
        if let Some(Piece::File(blob, range)) = self.next_frame() {
            let file = self
                .file
                .take()
                .filter(|open| Arc::ptr_eq(&open.blob, &blob));
            self.reading = Some(tokio::task::spawn_blocking(move || {
                read_file(file, blob, range)
            }));
        }
    }

    fn sent(&mut self, bytes: Bytes) -> Option<io::Result<Bytes>> {
        self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
        Some(Ok(bytes))
    }
}

impl Stream for OutgoingBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.reading.is_none() {
            this.read_ahead();
        }
        let Some(reading) = &mut this.reading else {
            return Poll::Ready(match this.next_frame() {
                Some(Piece::Memory(bytes)) => this.sent(bytes),
                Some(Piece::File(..)) | None => None,
            });
        };
        let result = ready!(Pin::new(reading).poll(cx))
            .map_err(io::Error::other)
            .flatten();
        this.reading = None;
        Poll::Ready(match result {
            Ok((file, bytes)) => {
                this.file = Some(file);
                this.read_ahead();
                this.sent(bytes)
            }
            Err(error) => {
                this.pieces.clear();
                Some(Err(error))
            }
        })
    }
}

/// What of the chunks lies in the range.
fn slices(chunks: &[Bytes], range: &Range<u64>) -> impl Iterator<Item = Bytes> {
    let mut offset = 0;
    chunks.iter().filter_map(move |chunk| {
        let start = offset;
        offset += chunk.len() as u64;
        let from = range.start.clamp(start, offset) - start;
        let to = range.end.clamp(start, offset) - start;
        // Both fit: they are no larger than the chunk.
        (from < to).then(|| chunk.slice(from as usize..to as usize))
    })
}

fn read_file(
    file: Option<OpenFile>,
    blob: Arc<Blob>,
    range: Range<u64>,
) -> io::Result<(OpenFile, Bytes)> {
    let mut open = match (file, &*blob) {
        (Some(open), _) => open,
        (None, Blob::File(named)) => {
            let mut file = named.open()?;
            file.seek(SeekFrom::Start(range.start))?;
            OpenFile {
                file,
                blob: blob.clone(),
            }
        }
        (None, Blob::Memory(_)) => return Err(io::Error::other("not a file")),
    };
    let mut buffer = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    open.file.read_exact(&mut buffer)?;
    Ok((open, buffer.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_exactly_the_range() {
        let chunks = ["abc", "", "de", "fghi"].map(|text| Bytes::from_static(text.as_bytes()));
        for from in 0..=9 {
            for to in from..=9 {
                let got: Vec<Bytes> = slices(&chunks, &(from..to)).collect();
                assert_eq!(
                    got.concat(),
                    b"abcdefghi"[from as usize..to as usize],
                    "{from}..{to}"
                );
            }
        }
    }
}
