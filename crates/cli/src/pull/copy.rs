//! Copies a layer from the store to an output, in a thread that writes and hashes.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use futures_util::StreamExt as _;
use tokio::io::AsyncSeekExt as _;

use crate::blocking_io::WriteThread;
use crate::failure::Failure;
use crate::stop::interrupted;
use s3layers::{Digest, Error, Hasher, Layer};

/// Bytes of one read of a partial file.
const READ: usize = 1024 * 1024;

/// Why a download ended early.
pub(super) enum PullError {
    Interrupted,
    /// The layer could not be read.
    Layer(Error),
    /// The output could not be written.
    Output(io::Error),
    /// The bytes are whole, but not those of the digest.
    Mismatch(Error),
}

impl PullError {
    pub(super) fn into_failure(self, path: Option<&Path>) -> Failure {
        match (self, path) {
            (PullError::Interrupted, _) => interrupted(),
            (PullError::Layer(error) | PullError::Mismatch(error), _) => error.into(),
            (PullError::Output(error), None) => Failure::of_output(&error),
            (PullError::Output(error), Some(path)) => Failure::of_file_output(path, &error),
        }
    }
}

impl From<Error> for PullError {
    fn from(error: Error) -> Self {
        PullError::Layer(error)
    }
}

impl From<io::Error> for PullError {
    fn from(error: io::Error) -> Self {
        PullError::Output(error)
    }
}

/// Writes these bytes of a layer, unless `stop` resolves first. Chunks that arrived are written in any case.
/// Returns the digest of what `hasher` has hashed, these bytes included.
pub(super) async fn copy(
    mut layer: Box<dyn Layer>,
    range: Range<u64>,
    output: impl Write + Send + 'static,
    hasher: Hasher,
    stop: impl Future<Output = ()>,
) -> Result<Digest, PullError> {
    let start = SeekFrom::Start(range.start);
    layer.seek(start).await.map_err(Error::from_io)?;
    let mut chunks = layer.into_stream_to(range.end);
    let thread = WriteThread::start(output, hasher)?;
    let write = async {
        while let Some(chunk) = chunks.next().await {
            if !thread.put(chunk?).await {
                break;
            }
        }
        Ok(())
    };
    let read = tokio::select! {
        biased;
        () = stop => Err(PullError::Interrupted),
        done = write => done.map_err(PullError::Layer),
    };
    let written = thread.end().await;
    read?;
    Ok(written?)
}

/// Hashes the first `length` bytes of a file, and leaves its position at their end.
pub(super) fn hash(mut file: File, length: u64, mut hasher: Hasher) -> io::Result<Hasher> {
    file.rewind()?;
    let mut buffer = vec![0; READ];
    let mut left = length;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(READ).min(READ);
        match file.read(&mut buffer[..size]) {
            Ok(0) => return Err(io::Error::other("the file was truncated while it was read")),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                left -= read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher)
}
