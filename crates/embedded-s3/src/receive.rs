//! An incoming body, hashed and written while the next bytes arrive.
//!
//! Bytes are collected in batches. A batch is hashed and written on a blocking thread while the next
//! one is collected: MD5 alone would occupy a worker of the runtime for 1.5 seconds per GiB. A body
//! that fits one small batch is hashed in place.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use md5::Digest as _;

use crate::blob::{NewBlob, Sink};
use crate::checksum::{Algorithm, Hasher, Sum};
use crate::engine::Engine;
use crate::multipart::{MAX_BODY, hex};
use crate::refusal::Refusal;

/// Bytes passed to a blocking thread at once, unless the body ends before.
const BATCH: usize = 1 << 20;
/// Up to this many bytes are hashed in place: a change of threads costs more.
const HASH_IN_PLACE: usize = 32 << 10;
/// Bytes hashed and written together, so that all but the first pass find them in the CPU's cache. A
/// frame can be as large as a part.
const STEP: usize = 256 << 10;

/// The source of a body's ETag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EtagSource {
    /// The MD5 of the bytes, as S3 does.
    Md5,
    /// Their size and CRC64NVME, which is among the checksums to compute. MD5 takes longer than all
    /// other work on a part.
    Crc64Nvme,
}

/// What the client says about its body before it is read.
#[derive(Debug, Default)]
pub(crate) struct ExpectedDigests {
    pub(crate) size: Option<u64>,
    /// The value of Content-MD5.
    pub(crate) md5: Option<String>,
    pub(crate) sums: Vec<Sum>,
}

/// A body, received and safe, but not yet part of anything.
#[derive(Debug)]
pub(crate) struct ReceivedBody {
    pub(crate) size: u64,
    /// The MD5 in hex, or `<CRC64NVME>-<size>`.
    pub(crate) etag: String,
    pub(crate) sums: Vec<Sum>,
    pub(crate) blob: Option<NewBlob>,
}

impl ReceivedBody {
    /// The checksum in this algorithm, if it was computed.
    pub(crate) fn sum(&self, algorithm: Algorithm) -> Option<&Sum> {
        self.sums.iter().find(|sum| sum.algorithm == algorithm)
    }

    /// Whether the body is what the client said.
    pub(crate) fn check(&self, expected: &ExpectedDigests) -> Result<(), Refusal> {
        if expected.size.is_some_and(|size| size != self.size) {
            return Err(Refusal::IncompleteBody);
        }
        if let Some(md5) = &expected.md5 {
            let claimed = STANDARD.decode(md5).unwrap_or_default();
            if claimed.len() != 16 {
                return Err(Refusal::InvalidArgument(
                    "The Content-MD5 is not one.".into(),
                ));
            }
            if hex(&claimed) != self.etag {
                return Err(Refusal::BadDigest("Content-MD5".into()));
            }
        }
        match expected
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
    /// `None` if the ETag needs none.
    md5: Option<md5::Md5>,
    hashers: Vec<Hasher>,
    size: u64,
}

impl Worker {
    fn take(mut self, batch: Vec<Bytes>) -> io::Result<Self> {
        for mut bytes in batch {
            self.size += bytes.len() as u64;
            while !bytes.is_empty() {
                let step = bytes.split_to(bytes.len().min(STEP));
                if let Some(md5) = &mut self.md5 {
                    md5.update(&step);
                }
                for hasher in &mut self.hashers {
                    hasher.update(&step);
                }
                self.sink.write(step)?;
            }
        }
        Ok(self)
    }

    /// Takes the last batch.
    async fn take_all(self, batch: Vec<Bytes>) -> Result<ReceivedBody, Refusal> {
        if total(&batch) <= HASH_IN_PLACE && !self.sink.blocks() {
            return Ok(self.take(batch)?.finish()?);
        }
        let finished = tokio::task::spawn_blocking(move || self.take(batch)?.finish()).await;
        Ok(finished.map_err(io::Error::other)??)
    }

    fn finish(self) -> io::Result<ReceivedBody> {
        let sums: Vec<Sum> = self.hashers.into_iter().map(Hasher::finish).collect();
        let etag = match self.md5 {
            Some(md5) => hex(&md5.finalize()),
            None => crc64_etag(&sums, self.size)?,
        };
        Ok(ReceivedBody {
            size: self.size,
            etag,
            sums,
            blob: self.sink.finish()?,
        })
    }
}

/// Has a dash, so that no client takes it for an MD5.
fn crc64_etag(sums: &[Sum], size: u64) -> io::Result<String> {
    let sum = sums
        .iter()
        .find(|sum| sum.algorithm == Algorithm::Crc64Nvme)
        .ok_or_else(|| io::Error::other("the CRC64NVME of a body was not computed"))?;
    let crc = STANDARD.decode(&sum.value).map_err(io::Error::other)?;
    Ok(format!("{}-{size:x}", hex(&crc)))
}

/// Reads the body to its end. If the future is dropped, nothing is left behind.
pub(crate) async fn receive(
    engine: &Engine,
    body: impl Stream<Item = Result<Bytes, Refusal>>,
    algorithms: &[Algorithm],
    etag: EtagSource,
) -> Result<ReceivedBody, Refusal> {
    let mut body = std::pin::pin!(body);
    let hashers = algorithms
        .iter()
        .map(|algorithm| Hasher::new(*algorithm))
        .collect();
    let first = next_batch(&mut body).await?;
    let worker = Worker {
        sink: engine.sink(),
        md5: (etag == EtagSource::Md5).then(md5::Md5::new),
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
async fn next_batch(
    body: &mut (impl Stream<Item = Result<Bytes, Refusal>> + Unpin),
) -> Result<Vec<Bytes>, Refusal> {
    let mut batch = Vec::new();
    let mut size = 0;
    while size < BATCH
        && let Some(bytes) = body.try_next().await?
    {
        size += bytes.len();
        if !bytes.is_empty() {
            batch.push(bytes);
        }
    }
    Ok(batch)
}
