//! A body on its way in: hashed and written while the next bytes arrive.
//!
//! Bytes are gathered into batches. A batch is hashed and written on a blocking thread, and
//! meanwhile the next one is gathered: MD5 alone would keep a worker of the runtime busy for a
//! second and a half per GiB. A body that fits one small batch is hashed where it is.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;
use md5::Digest as _;

use crate::blob::{NewBlob, Sink};
use crate::checksum::{Algorithm, Hasher, Sum};
use crate::engine::Engine;
use crate::multipart::{MAX_BODY, hex};
use crate::refusal::Refusal;

/// Bytes that are handed to a blocking thread at once, if that many come.
const BATCH: usize = 1 << 20;
/// Up to this many bytes are hashed in place: a change of threads costs more.
const HASH_IN_PLACE: usize = 32 << 10;

/// What the client says about its body before it is read.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) size: Option<u64>,
    /// The value of Content-MD5.
    pub(crate) md5: Option<String>,
    pub(crate) sums: Vec<Sum>,
}

/// A body, received and safe, but not yet part of anything.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) size: u64,
    /// The MD5 in hex.
    pub(crate) etag: String,
    pub(crate) sums: Vec<Sum>,
    pub(crate) blob: Option<NewBlob>,
}

impl Received {
    /// The checksum in this algorithm, if it was computed.
    pub(crate) fn sum(&self, algorithm: Algorithm) -> Option<&Sum> {
        self.sums.iter().find(|sum| sum.algorithm == algorithm)
    }

    /// Whether the body is what the client said.
    pub(crate) fn check(&self, claims: &Claims) -> Result<(), Refusal> {
        if claims.size.is_some_and(|size| size != self.size) {
            return Err(Refusal::IncompleteBody);
        }
        if let Some(md5) = &claims.md5 {
            let claimed = base64::engine::general_purpose::STANDARD
                .decode(md5)
                .unwrap_or_default();
            if claimed.len() != 16 {
                return Err(Refusal::InvalidArgument(
                    "The Content-MD5 is not one.".into(),
                ));
            }
            if hex(&claimed) != self.etag {
                return Err(Refusal::BadDigest("Content-MD5".into()));
            }
        }
        match claims
            .sums
            .iter()
            .find(|claim| self.sum(claim.algorithm) != Some(claim))
        {
            Some(wrong) => Err(Refusal::BadDigest(wrong.algorithm.name().to_owned())),
            None => Ok(()),
        }
    }
}

/// Hashes and writes.
struct Worker {
    sink: Sink,
    md5: md5::Md5,
    hashers: Vec<Hasher>,
    size: u64,
}

impl Worker {
    fn take(mut self, batch: Vec<Bytes>) -> io::Result<Self> {
        for bytes in batch {
            self.size += bytes.len() as u64;
            self.md5.update(&bytes);
            for hasher in &mut self.hashers {
                hasher.update(&bytes);
            }
            self.sink.write(bytes)?;
        }
        Ok(self)
    }

    /// Takes the last batch.
    async fn take_all(self, batch: Vec<Bytes>) -> Result<Received, Refusal> {
        if total(&batch) <= HASH_IN_PLACE && !self.sink.blocks() {
            return Ok(self.take(batch)?.finish()?);
        }
        let finished = tokio::task::spawn_blocking(move || self.take(batch)?.finish()).await;
        Ok(finished.map_err(io::Error::other)??)
    }

    fn finish(self) -> io::Result<Received> {
        Ok(Received {
            size: self.size,
            etag: hex(&self.md5.finalize()),
            sums: self.hashers.into_iter().map(Hasher::finish).collect(),
            blob: self.sink.finish(self.size)?,
        })
    }
}

/// Reads the body to its end. Dropped on the way, it leaves nothing behind.
pub(crate) async fn receive<S, E>(
    engine: &Arc<Engine>,
    body: S,
    algorithms: &[Algorithm],
) -> Result<Received, Refusal>
where
    S: Stream<Item = Result<Bytes, E>>,
    Refusal: From<E>,
{
    let mut body = std::pin::pin!(body);
    let hashers = algorithms
        .iter()
        .map(|algorithm| Hasher::new(*algorithm))
        .collect();
    let first = next_batch(&mut body).await?;
    let worker = Worker {
        sink: engine.sink(),
        md5: md5::Md5::new(),
        hashers,
        size: 0,
    };
    let mut size = total(&first);
    if size < BATCH {
        return worker.take_all(first).await;
    }
    let mut running = tokio::task::spawn_blocking(move || worker.take(first));
    loop {
        let batch = next_batch(&mut body).await?;
        size += total(&batch);
        if size as u64 > MAX_BODY {
            return Err(Refusal::EntityTooLarge);
        }
        let worker = match running.await.map_err(io::Error::other)? {
            Ok(worker) => worker,
            Err(failed) => {
                // A client that is still sending may never see the answer.
                while body.next().await.is_some_and(|bytes| bytes.is_ok()) {}
                return Err(failed.into());
            }
        };
        if total(&batch) < BATCH {
            return worker.take_all(batch).await;
        }
        running = tokio::task::spawn_blocking(move || worker.take(batch));
    }
}

fn total(batch: &[Bytes]) -> usize {
    batch.iter().map(Bytes::len).sum()
}

/// The next bytes: less than a batch only at the end of the body.
async fn next_batch<S, E>(body: &mut std::pin::Pin<&mut S>) -> Result<Vec<Bytes>, Refusal>
where
    S: Stream<Item = Result<Bytes, E>>,
    Refusal: From<E>,
{
    let mut batch = Vec::new();
    let mut size = 0;
    while size < BATCH {
        match body.next().await {
            Some(Ok(bytes)) if bytes.is_empty() => {}
            Some(Ok(bytes)) => {
                size += bytes.len();
                batch.push(bytes);
            }
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }
    Ok(batch)
}
