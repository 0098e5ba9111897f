//! The body of a manifest, held to a size and to a time, and all of them together to a bound.
//!
//! A body is counted as it arrives, since to declare one costs a client nothing. So several that have
//! some of their bytes could wait for each other. A body that finds the pool full therefore waits for
//! the overflow permit too, with which one body of any size completes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::body::{Broken, RequestBody};
use crate::error::{Code, Refusal};
use crate::request_permits::RequestPermit;

/// The largest manifest, in bytes: what the specification asks registries to take.
const LIMIT: usize = 4 * 1024 * 1024;
/// What all bodies together may hold, in bytes: hundreds of ordinary manifests, and eight of the
/// largest.
const BOUND: usize = 32 * 1024 * 1024;
/// How long a body may take in all. The largest one then needs 70 KB/s.
const WITHIN: Duration = Duration::from_secs(60);

/// Where bodies are gathered.
#[derive(Debug)]
pub(crate) struct ArrivalMemory {
    bytes: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
}

/// The bytes of the pool that a body holds, until it is stored or refused.
#[derive(Debug, Default)]
struct Share {
    bytes: Option<OwnedSemaphorePermit>,
    reserve: Option<OwnedSemaphorePermit>,
}

/// A whole body.
#[derive(Debug)]
pub(super) struct ReceivedManifest {
    pub(super) bytes: Bytes,
    _share: Share,
}

impl Default for ArrivalMemory {
    fn default() -> Self {
        ArrivalMemory {
            bytes: Arc::new(Semaphore::new(BOUND - LIMIT)),
            reserve: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Share {
    /// Reserves this many more bytes, when they are free. Cancelling it changes nothing.
    async fn grow(&mut self, arrivals: &ArrivalMemory, bytes: usize) {
        if self.reserve.is_some() {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Neither is ever closed.
        tokio::select! {
            biased;
            more = arrivals.bytes.clone().acquire_many_owned(bytes) => match &mut self.bytes {
                Some(held) => more.into_iter().for_each(|more| held.merge(more)),
                None => self.bytes = more.ok(),
            },
            place = arrivals.reserve.clone().acquire_owned() => self.reserve = place.ok(),
        }
    }
}

/// The whole body, or what is wrong with it. A client may pause for `idle`.
pub(super) async fn gather(
    arrivals: &ArrivalMemory,
    body: &mut RequestBody,
    permit: &mut RequestPermit,
    idle: Duration,
) -> Result<ReceivedManifest, Refusal> {
    if body.declared().unwrap_or(0) > LIMIT as u64 {
        return Err(too_large());
    }
    let until = Instant::now() + WITHIN;
    let (mut all, mut share) = (BytesMut::new(), Share::default());
    loop {
        let patience = idle.min(until - Instant::now());
        let frame = body.frame(permit, patience).await;
        let bytes = match frame {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(Broken::Idle(_)) if Instant::now() >= until => return Err(too_slow()),
            Err(broken) => return Err(broken.into()),
        };
        if all.len() + bytes.len() > LIMIT {
            return Err(too_large());
        }
        let growing = share.grow(arrivals, bytes.len());
        if growing.now_or_never().is_none() {
            let growing = timeout_at(until, share.grow(arrivals, bytes.len()));
            let grown = permit.released_during(growing).await;
            grown.map_err(|_| too_many())?;
        }
        all.extend_from_slice(&bytes);
    }
    Ok(ReceivedManifest {
        bytes: all.freeze(),
        _share: share,
    })
}

fn too_large() -> Refusal {
    let message = format!("a manifest has {LIMIT} bytes at most");
    Refusal::new(Code::SizeInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

fn too_slow() -> Refusal {
    let message = format!("a manifest comes within {} seconds", WITHIN.as_secs());
    Refusal::new(Code::ManifestInvalid, message)
        .with_status(StatusCode::REQUEST_TIMEOUT)
        .closing_connection()
}

fn too_many() -> Refusal {
    Refusal::too_many("too many manifests at a time").closing_connection()
}
