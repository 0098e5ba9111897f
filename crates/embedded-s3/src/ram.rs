//! Bytes kept in memory, as they came: a list of [`Bytes`], never joined.

use bytes::Bytes;

/// Bodies up to this size are copied into one piece of their own: a slice of a few bytes would
/// keep the whole receive buffer alive that it is a slice of.
const COPY_UP_TO: u64 = 64 << 10;

/// A body that is being received.
#[derive(Default)]
pub(crate) struct RamSink {
    chunks: Vec<Bytes>,
    size: u64,
}

impl RamSink {
    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: Bytes) {
        self.size += bytes.len() as u64;
        self.chunks.push(bytes);
    }

    /// The body as it will be kept.
    pub(crate) fn finish(self) -> Vec<Bytes> {
        if self.size > COPY_UP_TO {
            return self.chunks;
        }
        vec![Bytes::from(self.chunks.concat())]
    }
}
