//! Bytes that do not fill a part, as immutable objects: written under a fresh key, read back when
//! their part is full, removed once no session names them.

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::{self, Moment};
use crate::error::{Error, Result};
use crate::s3::api::{ApiError, Condition};
use crate::s3::checksum::{Crc64, Running};
use crate::s3::presence;
use crate::s3::record::SegmentName;
use crate::s3::session::owned::OwnedSession;
use crate::s3::session::{Tail, TailPlace};
use crate::s3::store::Store;

/// How often a tail that does not have its checksum is read: once may have been the wire.
const READS: u32 = 2;

fn sum_of(chunks: &[Bytes]) -> Crc64 {
    let mut sum = Running::new();
    chunks.iter().for_each(|chunk| sum.update(chunk));
    sum.get()
}

/// Stores bytes that follow others.
pub(super) async fn write(
    store: &Store,
    uuid: Uuid,
    offset: u64,
    chunks: &[Bytes],
) -> Result<Tail> {
    let (nonce, sum) = (clock::new_nonce(), sum_of(chunks));
    let key = store.keys.tail(uuid, offset, &nonce);
    let checksum = store.checksum(sum);
    store.api.put(&key, chunks, checksum, None).await?;
    Ok(Tail {
        offset,
        sum,
        place: TailPlace::Tail(nonce),
    })
}

/// Stores bytes as an object that can be a segment of the layer.
pub(super) async fn write_whole(store: &Store, uuid: Uuid, chunks: &[Bytes]) -> Result<Tail> {
    let (nonce, sum) = (clock::new_nonce(), sum_of(chunks));
    let key = store.keys.segment(uuid, &SegmentName::Whole(nonce.clone()));
    let written_at = Moment::now();
    let put = store
        .api
        .put(&key, chunks, store.checksum(sum), Some(Condition::Absent));
    let etag = match put.await {
        Ok(etag) => etag,
        // An earlier attempt of this request: nobody else knows the nonce.
        Err(ApiError::Precondition(refusal)) => match store.api.head(&key).await? {
            Some(found) if found.size == sum.len() => found.etag,
            _ => return Err(refusal.into_retryable().into()),
        },
        Err(error) => return Err(error.into()),
    };
    // A commit that follows soon need not look at the object.
    presence::note(store, &key, &etag, written_at);
    Ok(Tail {
        offset: 0,
        sum,
        place: TailPlace::Whole { nonce, etag },
    })
}

/// Reads tails back, in order.
///
/// # Errors
///
/// `UploadConflict` or `UploadUnknown` where a tail is gone because another owner removed it;
/// `Damaged` where the session still names it.
pub(super) async fn read(
    store: &Store,
    owned: &OwnedSession,
    tails: &[Tail],
) -> Result<Vec<Bytes>> {
    let mut chunks = Vec::new();
    for tail in tails {
        chunks.extend(read_one(store, owned, tail).await?);
    }
    Ok(chunks)
}

async fn read_one(store: &Store, owned: &OwnedSession, tail: &Tail) -> Result<Vec<Bytes>> {
    let key = tail.key(&store.keys, owned.uuid());
    for _ in 0..READS {
        match store.api.get_pieces(&key, tail.sum.len()).await? {
            Some(chunks) if sum_of(&chunks) == tail.sum => return Ok(chunks),
            Some(_) => tracing::warn!(%key, "read a tail with a wrong checksum"),
            None => {
                let lost = lost_to(store, owned).await?;
                let missing = || Error::damaged(&key, "it is missing".to_owned());
                return Err(lost.unwrap_or_else(missing));
            }
        }
    }
    let reason = "it does not have the checksum that was recorded".to_owned();
    Err(Error::damaged(&key, reason))
}

/// Why a tail may rightly be gone.
async fn lost_to(store: &Store, owned: &OwnedSession) -> Result<Option<Error>> {
    let uuid = owned.uuid();
    Ok(match OwnedSession::load(store, uuid).await? {
        None => Some(Error::UploadUnknown { uuid }),
        Some(now) if now.get().nonce != owned.get().nonce => Some(Error::UploadConflict {
            uuid,
            reason: "another process owns it",
        }),
        Some(_) => None,
    })
}
