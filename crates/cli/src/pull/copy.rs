//! Bytes on their way from the store to an output, which a thread writes and hashes.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, SeekFrom, Write};
use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::io::AsyncSeekExt as _;

use crate::threads::Writing;
use s3layers::{Digest, Error, Hasher, Layer};

/// How much of a partial file is read at a time, in bytes.
const PIECE: usize = 1024 * 1024;

/// The bytes of a layer, as they arrive.
pub(super) type Pieces = stream::BoxStream<'static, Result<Bytes, Error>>;

/// Why the bytes ended too early. What had arrived by then is written.
pub(super) enum Cut {
    /// By a signal.
    Told,
    /// They did not come.
    Layer(Error),
    /// They could not be written.
    Output(io::Error),
}

/// These bytes of the layer.
pub(super) async fn pieces(mut layer: Box<dyn Layer>, range: Range<u64>) -> Result<Pieces, Error> {
    layer
        .seek(SeekFrom::Start(range.start))
        .await
        .map_err(Error::from_io)?;
    Ok(layer.into_stream_to(range.end))
}

/// Writes all pieces, unless it is `told` to stop. The digest of what `hasher` has seen and they are.
pub(super) async fn copy(
    mut pieces: Pieces,
    output: impl Write + Send + 'static,
    hasher: Hasher,
    told: impl Future<Output = ()>,
) -> Result<Digest, Cut> {
    let writing = Writing::start(output, hasher).map_err(Cut::Output)?;
    let hand_over = async {
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if !writing.put(piece).await {
                break;
            }
        }
        Ok(())
    };
    let handed_over = tokio::select! {
        biased;
        () = told => Err(Cut::Told),
        done = hand_over => done.map_err(Cut::Layer),
    };
    let written = writing.end().await.map_err(Cut::Output);
    handed_over.and(written)
}

/// What `hasher` is after the first `length` bytes of a file, which then stands at their end.
pub(super) fn hash(mut file: File, length: u64, mut hasher: Hasher) -> io::Result<Hasher> {
    io::Seek::rewind(&mut file)?;
    let mut buffer = vec![0; PIECE];
    let mut left = length;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        match file.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(io::Error::other("it became shorter while it was read")),
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
