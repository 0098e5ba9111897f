//! Sends objects of the store as parts of another one, without gathering them in memory.
//!
//! Two uploads that hold all memory between them, and each need more to gather what they stored,
//! would wait for each other. So stored bytes are read while they are sent, a few frames at a time,
//! and again for every attempt; [some](super::budget::STREAMS) sends do so at a time.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::s3::bucket::Store;
use crate::s3::bucket::objects::ObjectBytes;
use crate::s3::format::checksum::{Crc64, Running};
use crate::s3::format::keys::Key;
use crate::s3::wire::{ApiError, ApiResult, Payload};
use crate::telemetry::UsageCounter;

/// How often an object that does not have its checksum is read: once may have been the wire.
const READS: u32 = 2;

/// Bytes to send.
pub(crate) enum Run {
    Memory(Vec<Bytes>),
    /// An object that is never overwritten.
    Stored {
        key: Key,
        sum: Crc64,
    },
}

/// Why bytes were not sent.
pub(crate) enum SendError {
    /// A stored object is gone.
    Missing(Key),
    Api(ApiError),
    Other(Error),
}

impl From<ApiError> for SendError {
    fn from(error: ApiError) -> Self {
        SendError::Api(error)
    }
}

/// Why the bytes of an object did not come.
enum Failure {
    WrongBytes(Key),
    Send(SendError),
}

impl Run {
    fn size(&self) -> u64 {
        match self {
            Run::Memory(chunks) => chunks.iter().map(|chunk| chunk.len() as u64).sum(),
            Run::Stored { sum, .. } => sum.len(),
        }
    }

    fn in_memory(&self) -> Option<&Vec<Bytes>> {
        match self {
            Run::Memory(chunks) => Some(chunks),
            Run::Stored { .. } => None,
        }
    }
}

/// Sends the bytes of all runs by `send`.
///
/// # Errors
///
/// Those of `send`; [`SendError::Missing`]; `Damaged` where an object does not have its checksum.
///
/// # Cancellation
///
/// Ends all requests.
pub(crate) async fn send<T, Sent>(
    store: &Arc<Store>,
    runs: Vec<Run>,
    send: impl Fn(Payload) -> Sent,
) -> Result<T, SendError>
where
    Sent: Future<Output = ApiResult<T>>,
{
    let in_memory: Option<Vec<&Vec<Bytes>>> = runs.iter().map(Run::in_memory).collect();
    let _stream = match in_memory {
        Some(_) => None,
        None => Some(store.budget.streams.acquire().await),
    };
    let _write = store.budget.writes.acquire().await;
    if let Some(chunks) = in_memory {
        let chunks: Vec<Bytes> = chunks.into_iter().flatten().cloned().collect();
        return Ok(send(Payload::of(&chunks)).await?);
    }
    let runs: Arc<[Run]> = runs.into();
    let mut reads = 0;
    loop {
        reads += 1;
        let (failures, mut failed) = mpsc::unbounded_channel();
        let (store, source) = (Arc::clone(store), Arc::clone(&runs));
        let payload = Payload::Stream {
            size: runs.iter().map(Run::size).sum(),
            open: Arc::new(UsageCounter::inherit_call(move || {
                open(&store, &source, &failures)
            })),
        };
        tokio::select! {
            biased;
            Some(failure) = failed.recv() => match failure {
                Failure::WrongBytes(key) if reads < READS => {
                    tracing::warn!(%key, "read an object with a wrong checksum");
                }
                Failure::WrongBytes(key) => {
                    let reason = "it does not have the checksum that was recorded".to_owned();
                    return Err(SendError::Other(Error::damaged(&key, reason)));
                }
                Failure::Send(error) => return Err(error),
            },
            sent = send(payload) => return Ok(sent?),
        }
    }
}

/// Begins to read. A failure is reported apart, and the bytes then never end: a body that fails looks
/// as if the connection had.
fn open(
    store: &Arc<Store>,
    runs: &Arc<[Run]>,
    failures: &mpsc::UnboundedSender<Failure>,
) -> mpsc::Receiver<Bytes> {
    let (frames, bytes) = mpsc::channel(1);
    let (store, runs, failures) = (Arc::clone(store), Arc::clone(runs), failures.clone());
    tokio::spawn(UsageCounter::inherit(async move {
        let read = async {
            for run in runs.iter() {
                read_run(&store, run, &frames).await?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            // The attempt ended.
            () = frames.closed() => {}
            read = read => if let Err(failure) = read {
                let _ = failures.send(failure);
                frames.closed().await;
            },
        }
    }));
    bytes
}

async fn read_run(store: &Store, run: &Run, frames: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
    match run {
        Run::Memory(chunks) => {
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                let _ = frames.send(chunk.clone()).await;
            }
            Ok(())
        }
        Run::Stored { key, sum } => read_object(store, key, *sum, frames).await,
    }
}

/// Reads an object. Its last frame is sent only if all of it is right.
async fn read_object(
    store: &Store,
    key: &Key,
    sum: Crc64,
    frames: &mpsc::Sender<Bytes>,
) -> Result<(), Failure> {
    let (mut so_far, mut bytes) = (Running::new(), ObjectBytes::of(store, key, sum.len()));
    loop {
        let frame = match bytes.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(ApiError::NoSuchKey(_)) => {
                return Err(Failure::Send(SendError::Missing(key.clone())));
            }
            Err(error) => return Err(Failure::Send(error.into())),
        };
        so_far.update(&frame);
        if bytes.is_whole() && so_far.get() != sum {
            return Err(Failure::WrongBytes(key.clone()));
        }
        let _ = frames.send(frame).await;
    }
}
