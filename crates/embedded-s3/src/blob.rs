//! The bytes of a part, in either backing, and how they get there.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::folder::{BlobFile, FileSink};
use crate::index::BlobId;
use crate::ram::RamSink;

/// Bytes that never change. Whoever reads them holds the [`Arc`]: an object that is replaced or
/// deleted meanwhile is read to its end, and its bytes go when the last reader does.
#[derive(Debug)]
pub(crate) enum Blob {
    Ram(Vec<Bytes>),
    File(BlobFile),
}

impl Blob {
    /// From now on the bytes stay when this value goes: the journal names them.
    pub(crate) fn keep(&self) {
        if let Self::File(file) = self {
            file.keep();
        }
    }

    /// From now on the bytes go when this value goes: nothing names them.
    pub(crate) fn discard(&self) {
        if let Self::File(file) = self {
            file.discard();
        }
    }
}

/// A blob that nothing names yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct NewBlob {
    pub(crate) id: BlobId,
    pub(crate) blob: Arc<Blob>,
}

/// Where a body is written while it arrives. Its methods block if it is a file.
pub(crate) enum Sink {
    Ram(RamSink),
    File(FileSink),
}

impl Sink {
    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Ram(sink) => {
                sink.write(bytes);
                Ok(())
            }
            Self::File(sink) => sink.write(&bytes),
        }
    }

    /// The blob, safe from a crash; `None` if nothing was written.
    pub(crate) fn finish(self, size: u64) -> io::Result<Option<NewBlob>> {
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
    pub(crate) fn blocks(&self) -> bool {
        matches!(self, Self::File(_))
    }
}
