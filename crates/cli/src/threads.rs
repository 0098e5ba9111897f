//! Reading and writing files and pipes, each in a thread of its own that hashes as well: neither a
//! slow disk nor a hash holds up the network, and a read that waits for ever does not keep the
//! process from ending.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use s3layers::tarsum::{BrokenArchive, TarSummer};
use s3layers::{Algorithm, Digest, Hasher, TarSum};

/// How much is read at a time, in bytes.
const PIECE: usize = 1024 * 1024;
/// What is left of a buffer is read into unless it is less than this, in bytes: what a pipe holds.
const WORTH_READING: usize = 64 * 1024;
/// Pieces that wait between a thread and the network.
const WAITING: usize = 4;

/// An input that is being read.
pub(super) struct Reading {
    /// What was read, without what was skipped.
    pub(super) pieces: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<io::Result<End>>,
    state: Arc<ReadState>,
}

/// What an input turned out to be.
#[derive(Debug)]
pub(super) struct End {
    /// Its size in bytes, what was skipped included.
    pub(super) size: u64,
    /// Its digest, if that was asked for.
    pub(super) digest: Option<Digest>,
    /// Its TarSum, if that was asked for.
    pub(super) tar_sum: Option<Result<TarSum, BrokenArchive>>,
}

/// The beginning of an input, which an upload has already.
#[derive(Clone, Debug, Default)]
pub(super) struct Skip {
    /// In bytes. They are hashed with the others, and not handed out.
    pub(super) bytes: u64,
    /// The SHA-256 that they must have. Otherwise nothing is handed out, and the end is an
    /// [`OtherInput`].
    pub(super) digest: Option<Digest>,
}

/// The input does not begin with the bytes that it should.
#[derive(Debug, thiserror::Error)]
#[error("it begins with other bytes")]
pub(super) struct OtherInput;

/// What an input is to be asked while it is read.
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
    /// Bytes read, what was skipped included.
    read: AtomicU64,
}

impl Reading {
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
                // Nothing waits for a piece while these are computed.
                drop(sender);
                let _ = ended.send(size.map(|size| End {
                    size,
                    digest: sums.hasher.map(|hasher| hasher.digest()),
                    tar_sum: sums.summer.map(TarSummer::finish),
                }));
            })?;
        Ok(Reading { pieces, end, state })
    }

    /// No further read begins.
    pub(super) fn stop(&self) {
        self.state.stop.store(true, Ordering::SeqCst);
    }

    /// Bytes read so far, what was skipped included. All of them are handed out or about to be.
    pub(super) fn read(&self) -> u64 {
        self.state.read.load(Ordering::SeqCst)
    }

    /// The same, to be watched.
    pub(super) fn watch(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move || state.read.load(Ordering::SeqCst)
    }

    /// What the input was, once there are no more pieces.
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
            return Err(io::Error::other(OtherInput));
        }
        let rest = piece.slice(passed..);
        if !rest.is_empty() && pieces.blocking_send(rest).is_err() {
            break;
        }
        sums.update(&piece);
    }
    Ok(size)
}

/// An output that is being written.
pub(super) struct Writing {
    pieces: mpsc::Sender<Bytes>,
    end: oneshot::Receiver<io::Result<Digest>>,
}

impl Writing {
    /// Writes to `output` whatever is put. `hasher` may have seen bytes that came before.
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
                // Whoever puts more must not wait.
                drop(incoming);
                let _ = ended.send(written.map(|()| hasher.digest()));
            })?;
        Ok(Writing { pieces, end })
    }

    /// Hands bytes over. `false` where the output failed, which [`end`](Self::end) then tells.
    pub(super) async fn put(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until all is written. The digest of what the hasher has seen.
    pub(super) async fn end(self) -> io::Result<Digest> {
        drop(self.pieces);
        self.end.await.unwrap_or_else(|_| Err(thread_died()))
    }
}

fn thread_died() -> io::Error {
    io::Error::other("the thread that does it ended")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn other_bytes_at_the_beginning_are_refused() {
        let bytes = vec![7; 3_000_000];
        for (skip, size) in [(1, 1), (1_048_577, 3_000_000), (3_000_000, 3_000_000)] {
            let input = Box::new(io::Cursor::new(bytes[..size].to_vec()));
            let wrong = Skip {
                bytes: skip,
                digest: Some(Digest::of(Algorithm::Sha256, b"other")),
            };
            let mut reading = Reading::start(input, wrong, Sums::default()).unwrap();
            assert_eq!(reading.pieces.recv().await, None, "{skip}");
            let error = reading.end().await.unwrap_err();
            assert!(
                error.get_ref().unwrap().is::<OtherInput>(),
                "{skip}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn the_skipped_bytes_are_hashed_and_not_handed_out() {
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
            let mut reading = Reading::start(input, right, sums).unwrap();
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
