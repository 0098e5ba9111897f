//! The bytes of a part, in either backing, and how they get there.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::folder::{BlobFile, FileSink};
use super::index::BlobId;
use super::ram::RamSink;

/// Bytes that never change. Whoever reads them holds the [`Arc`]: an object that is replaced or
/// deleted meanwhile is read to its end, and its bytes go when the last reader does.
#[derive(Debug)]
pub(super) enum Blob {
    Ram(Vec<Bytes>),
    File(BlobFile),
}

impl Blob {
    /// From now on the bytes stay when this value goes: the journal names them.
    pub(super) fn keep(&self) {
        if let Self::File(file) = self {
            file.keep();
        }
    }

    /// From now on the bytes go when this value goes: nothing names them.
    pub(super) fn discard(&self) {
        if let Self::File(file) = self {
            file.discard();
        }
    }
}

/// A blob that nothing names yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct NewBlob {
    pub(super) id: BlobId,
    pub(super) blob: Arc<Blob>,
}

/// Where a body is written while it arrives. Its methods block if it is a file.
pub(super) enum Sink {
    Ram(RamSink),
    File(FileSink),
}

impl Sink {
    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Ram(sink) => {
                sink.write(bytes);
                Ok(())
            }
            Self::File(sink) => sink.write(&bytes),
        }
    }

    /// The blob, safe from a crash; `None` if nothing was written.
    pub(super) fn finish(self, size: u64) -> io::Result<Option<NewBlob>> {
        if size == 0 {
            return Ok(None);
        }
        let (id, blob) = match self {
            Self::Ram(sink) => (Uuid::new_v4(), Blob::Ram(sink.finish())),
            Self::File(sink) => sink.finish()?,
        };
        Ok(Some(NewBlob {
            id,
            blob: Arc::new(blob),
        }))
    }

    /// Whether writing may wait for a disk.
    pub(super) fn blocks(&self) -> bool {
        matches!(self, Self::File(_))
    }
}
