//! Threads that read an input or write an output, and hash it. A slow disk or a hash does not delay
//! the network, and a read that never returns does not keep the process from ending.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use s3layers::tarsum::{BrokenArchive, TarSummer};
use s3layers::{Algorithm, Digest, Hasher, TarSum};

/// Bytes of one read.
const PIECE: usize = 1024 * 1024;
/// A buffer is replaced when less than this is left of it, in bytes: the capacity of a pipe.
const WORTH_READING: usize = 64 * 1024;
/// Chunks that are queued between a thread and the network.
const WAITING: usize = 4;

/// A thread that reads an input.
pub(super) struct ReadThread {
    /// The bytes that were read, without the skipped ones.
    pub(super) pieces: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<io::Result<End>>,
    state: Arc<ReadState>,
}

/// The size and the checksums of an input.
#[derive(Debug)]
pub(super) struct End {
    /// In bytes, with the skipped ones.
    pub(super) size: u64,
    /// Its digest, if requested.
    pub(super) digest: Option<Digest>,
    /// Its TarSum, if requested.
    pub(super) tar_sum: Option<Result<TarSum, BrokenArchive>>,
}

/// The beginning of an input that the upload already has.
#[derive(Clone, Debug, Default)]
pub(super) struct Skip {
    /// In bytes. They are hashed, but not returned.
    pub(super) bytes: u64,
    /// The expected SHA-256 of them. On a mismatch nothing is returned, and the end is a
    /// [`WrongInput`].
    pub(super) digest: Option<Digest>,
}

/// The input does not begin with the bytes that it should.
#[derive(Debug, thiserror::Error)]
#[error("it begins with other bytes")]
pub(super) struct WrongInput;

/// The checksums to compute while reading.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) hasher: Option<Hasher>,
    pub(super) summer: Option<TarSummer>,
}

impl Sums {
    fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        if let Some(summer) = &mut self.summer {
            summer.update(bytes);
        }
    }
}

#[derive(Default)]
struct ReadState {
    stop: AtomicBool,
    /// Bytes read, with the skipped ones.
    read: AtomicU64,
}

impl ReadThread {
    /// Reads `input` to its end.
    pub(super) fn start(
        mut input: Box<dyn Read + Send>,
        skip: Skip,
        mut sums: Sums,
    ) -> io::Result<Self> {
        let (sender, pieces) = mpsc::channel(WAITING);
        let (ended, end) = oneshot::channel();
        let state = Arc::new(ReadState::default());
        let shared = Arc::clone(&state);
        std::thread::Builder::new()
            .name("read".to_owned())
            .spawn(move || {
                let size = read(&mut *input, skip, &mut sums, &sender, &shared);
                // The receiver does not wait for the checksums.
                drop(sender);
                let _ = ended.send(size.map(|size| End {
                    size,
                    digest: sums.hasher.map(|hasher| hasher.digest()),
                    tar_sum: sums.summer.map(TarSummer::finish),
                }));
            })?;
        Ok(ReadThread { pieces, end, state })
    }

    /// Begins no further read.
    pub(super) fn stop(&self) {
        self.state.stop.store(true, Ordering::SeqCst);
    }

    /// Bytes read so far, with the skipped ones. All of them are returned or about to be.
    pub(super) fn read(&self) -> u64 {
        self.state.read.load(Ordering::SeqCst)
    }

    /// A closure that returns the same.
    pub(super) fn watch(&self) -> impl Fn() -> u64 + Clone + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move || state.read.load(Ordering::SeqCst)
    }

    /// Waits for the end of the input.
    pub(super) async fn end(self) -> io::Result<End> {
        drop(self.pieces);
        self.end.await.unwrap_or_else(|_| Err(thread_died()))
    }
}

fn read(
    input: &mut dyn Read,
    skip: Skip,
    sums: &mut Sums,
    pieces: &mpsc::Sender<Bytes>,
    state: &ReadState,
) -> io::Result<u64> {
    let mut size = 0;
    let mut buffer = BytesMut::new();
    let digest = skip.digest.filter(|_| skip.bytes > 0);
    let mut beginning = digest.map(|digest| (Hasher::new(Algorithm::Sha256), digest));
    while !state.stop.load(Ordering::SeqCst) {
        if buffer.len() < WORTH_READING {
            buffer = BytesMut::zeroed(PIECE);
        }
        let read = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = buffer.split_to(read).freeze();
        let passed = skip.bytes.saturating_sub(size).min(read as u64);
        let passed = usize::try_from(passed).unwrap_or(read);
        size += read as u64;
        state.read.store(size, Ordering::SeqCst);
        if let Some((hasher, _)) = &mut beginning {
            hasher.update(&piece[..passed]);
        }
        if let Some((hasher, digest)) = beginning.take_if(|_| size >= skip.bytes)
            && hasher.digest() != digest
        {
            return Err(io::Error::other(WrongInput));
        }
        let rest = piece.slice(passed..);
        if !rest.is_empty() && pieces.blocking_send(rest).is_err() {
            break;
        }
        sums.update(&piece);
    }
    Ok(size)
}

/// A thread that writes an output.
pub(super) struct WriteThread {
    pieces: mpsc::Sender<Bytes>,
    end: oneshot::Receiver<io::Result<Digest>>,
}

impl WriteThread {
    /// Writes to `output`. `hasher` may have hashed earlier bytes.
    pub(super) fn start(
        mut output: impl Write + Send + 'static,
        mut hasher: Hasher,
    ) -> io::Result<Self> {
        let (pieces, mut incoming) = mpsc::channel::<Bytes>(WAITING);
        let (ended, end) = oneshot::channel();
        std::thread::Builder::new()
            .name("write".to_owned())
            .spawn(move || {
                let mut write = || {
                    while let Some(piece) = incoming.blocking_recv() {
                        output.write_all(&piece)?;
                        hasher.update(&piece);
                    }
                    output.flush()
                };
                let written = write();
                // A `put` must not wait.
                drop(incoming);
                let _ = ended.send(written.map(|()| hasher.digest()));
            })?;
        Ok(WriteThread { pieces, end })
    }

    /// Queues bytes. `false` if the output failed; [`end`](Self::end) returns the error.
    pub(super) async fn put(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until everything is written. Returns the digest.
    pub(super) async fn end(self) -> io::Result<Digest> {
        drop(self.pieces);
        self.end.await.unwrap_or_else(|_| Err(thread_died()))
    }
}

fn thread_died() -> io::Error {
    io::Error::other("the I/O thread panicked")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn wrong_beginning_is_refused() {
        let bytes = vec![7; 3_000_000];
        for (skip, size) in [(1, 1), (1_048_577, 3_000_000), (3_000_000, 3_000_000)] {
            let input = Box::new(io::Cursor::new(bytes[..size].to_vec()));
            let wrong = Skip {
                bytes: skip,
                digest: Some(Digest::of(Algorithm::Sha256, b"other")),
            };
            let mut reading = ReadThread::start(input, wrong, Sums::default()).unwrap();
            assert_eq!(reading.pieces.recv().await, None, "{skip}");
            let error = reading.end().await.unwrap_err();
            assert!(
                error.get_ref().unwrap().is::<WrongInput>(),
                "{skip}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn skipped_bytes_are_hashed_and_not_returned() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        for skip in [0, 1, 1_048_576, 2_999_999, 3_000_000, 4_000_000] {
            let input = Box::new(io::Cursor::new(bytes.clone()));
            let sums = Sums {
                hasher: Some(Hasher::new(Algorithm::Sha256)),
                summer: None,
            };
            let beginning = &bytes[..bytes.len().min(skip as usize)];
            let right = Skip {
                bytes: skip,
                digest: Some(Digest::of(Algorithm::Sha256, beginning)),
            };
            let mut reading = ReadThread::start(input, right, sums).unwrap();
            let mut got = Vec::new();
            while let Some(piece) = reading.pieces.recv().await {
                got.extend_from_slice(&piece);
            }
            let end = reading.end().await.unwrap();
            assert_eq!(end.size, 3_000_000, "{skip}");
            let digest = Digest::of(Algorithm::Sha256, &bytes);
            assert_eq!(end.digest, Some(digest), "{skip}");
            assert_eq!(got, bytes[bytes.len().min(skip as usize)..], "{skip}");
        }
    }
}
