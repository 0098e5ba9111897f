//! Bytes that do not fill a part, as immutable objects: written under a fresh key, read while their
//! part is sent, removed once no session names them.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock;
use crate::s3::bucket::Store;
use crate::s3::bucket::presence;
use crate::s3::format::checksum::{Crc64, Running};
use crate::s3::format::record::SegmentName;
use crate::s3::relay::{self, Run, SendError};
use crate::s3::session::{Tail, TailPlace};
use crate::s3::wire::{ApiError, Condition, Payload};

/// A tail, and its bytes where they are in memory too.
#[derive(Clone)]
pub(super) struct StoredTail {
    pub(super) tail: Tail,
    pub(super) copy: Option<Vec<Bytes>>,
}

/// The bytes of tails, and what follows them in memory.
pub(super) fn runs(
    store: &Store,
    uuid: Uuid,
    tails: Vec<StoredTail>,
    rest: Vec<Bytes>,
) -> Vec<Run> {
    let run = |stored: StoredTail| match stored.copy {
        Some(copy) => Run::Memory(copy),
        None => Run::Stored {
            key: stored.tail.key(&store.keys, uuid),
            sum: stored.tail.sum,
        },
    };
    tails
        .into_iter()
        .map(run)
        .chain([Run::Memory(rest)])
        .collect()
}

fn sum_of(chunks: &[Bytes]) -> Crc64 {
    let mut sum = Running::new();
    chunks.iter().for_each(|chunk| sum.update(chunk));
    sum.get()
}

/// Stores the bytes of tails and what follows them in memory as one tail, which ends at `end`.
pub(super) async fn write(
    store: &Arc<Store>,
    uuid: Uuid,
    end: u64,
    tails: Vec<StoredTail>,
    rest: Vec<Bytes>,
) -> Result<Tail, SendError> {
    let sums = tails.iter().map(|stored| stored.tail.sum);
    let sum = sums
        .chain([sum_of(&rest)])
        .fold(Crc64::default(), Crc64::then);
    let (nonce, offset) = (clock::new_nonce(), end - sum.len());
    let (api, checksum) = (&store.api, store.checksum(sum));
    let key = &store.keys.tail(uuid, offset, &nonce);
    let put = |payload: Payload| async move { api.put(key, &payload, checksum, None).await };
    relay::send(store, runs(store, uuid, tails, rest), put).await?;
    Ok(Tail {
        offset,
        sum,
        place: TailPlace::Tail(nonce),
    })
}

/// Stores bytes as an object that can be a segment of the layer.
pub(super) async fn write_whole(
    store: &Arc<Store>,
    uuid: Uuid,
    chunks: Vec<Bytes>,
) -> Result<Tail, SendError> {
    let (nonce, sum) = (clock::new_nonce(), sum_of(&chunks));
    let key = &store.keys.segment(uuid, &SegmentName::Whole(nonce.clone()));
    let (api, checksum, looking) = (&store.api, store.checksum(sum), presence::begin(store, key));
    let put = |payload: Payload| async move {
        api.put(key, &payload, checksum, Some(Condition::Absent))
            .await
    };
    let etag = match relay::send(store, vec![Run::Memory(chunks)], put).await {
        // An earlier attempt of this request: no other process knows the nonce.
        Err(SendError::Api(ApiError::Precondition(refusal))) => match api.head(key).await? {
            Some(found) if found.size == sum.len() => found.etag,
            Some(_) => return Err(SendError::Other(refusal.into_retryable().into())),
            // Another process has ended the upload meanwhile.
            None => return Err(SendError::Missing(key.clone())),
        },
        sent => sent?,
    };
    // A commit that follows soon need not look at the object.
    presence::note(store, key, &etag, looking);
    Ok(Tail {
        offset: 0,
        sum,
        place: TailPlace::Whole { nonce, etag },
    })
}
