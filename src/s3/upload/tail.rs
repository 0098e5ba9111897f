//! Bytes that do not fill a part, as immutable objects: written, read back when their part is
//! whole, removed once no session names them.

use bytes::Bytes;
use uuid::Uuid;

use super::session::{Tail, TailPlace};
use super::stored::Stored;
use crate::clock;
use crate::error::{Error, Result};
use crate::s3::api::{ApiError, Condition, ETag};
use crate::s3::checksum::{Crc64, Running};
use crate::s3::store::Store;

/// The checksum of some pieces.
pub(super) fn sum_of(pieces: &[Bytes]) -> Crc64 {
    let mut sum = Running::new();
    pieces.iter().for_each(|piece| sum.update(piece));
    sum.get()
}

/// Bytes of some tails.
pub(super) fn len_of(tails: &[Tail]) -> u64 {
    tails.iter().map(|tail| tail.sum.len()).sum()
}

/// Stores pieces under a fresh key.
pub(super) async fn write(
    store: &Store,
    uuid: Uuid,
    offset: u64,
    pieces: &[Bytes],
) -> Result<Tail> {
    let nonce = clock::new_nonce();
    let sum = sum_of(pieces);
    let key = store.keys.tail(uuid, offset, &nonce);
    store
        .api
        .put(&key, pieces, store.checksum(sum), None)
        .await?;
    Ok(Tail {
        offset,
        sum,
        place: TailPlace::Tail(nonce),
    })
}

/// Stores pieces as the whole of the layer, as far as is known; `None` where that key holds other
/// bytes, which an earlier owner put there.
pub(super) async fn write_whole(
    store: &Store,
    uuid: Uuid,
    pieces: &[Bytes],
    sum: Crc64,
) -> Result<Option<ETag>> {
    let key = store.keys.whole(uuid);
    match store
        .api
        .put(&key, pieces, store.checksum(sum), Some(Condition::Absent))
        .await
    {
        Ok(etag) => Ok(Some(etag)),
        // A repeated request, or an earlier owner: ours, if the bytes are.
        Err(ApiError::Precondition(refusal)) => {
            let Some(found) = store.api.head(&key).await? else {
                return Err(refusal.into_retryable().into());
            };
            let may_be =
                found.size == sum.len() && found.crc64.as_ref().is_none_or(|crc64| sum.is(crc64));
            // Anyone can make other bytes of the same checksum, and these would be published under
            // the digest of ours.
            let same = may_be
                && store
                    .api
                    .get_pieces(&key, found.size)
                    .await?
                    .is_some_and(|there| there.iter().flatten().eq(pieces.iter().flatten()));
            Ok(same.then_some(found.etag))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads tails back, in order.
///
/// # Errors
///
/// `UploadConflict` or `UploadUnknown` where a tail is gone because the upload went on elsewhere;
/// `Damaged` where the session still names it.
pub(super) async fn read(store: &Store, stored: &Stored, tails: &[Tail]) -> Result<Vec<Bytes>> {
    let mut pieces = Vec::new();
    for tail in tails {
        pieces.extend(read_one(store, stored, tail).await?);
    }
    Ok(pieces)
}

async fn read_one(store: &Store, stored: &Stored, tail: &Tail) -> Result<Vec<Bytes>> {
    let key = tail.key(&store.keys, stored.uuid);
    let damaged = |reason: &str| Error::Damaged {
        key: key.to_string(),
        reason: reason.to_owned(),
    };
    for _ in 0..2 {
        match store.api.get_pieces(&key, tail.sum.len()).await? {
            Some(pieces) if sum_of(&pieces) == tail.sum => return Ok(pieces),
            // The wire, or the store: the second look tells.
            Some(_) => tracing::warn!(%key, "a tail does not have its checksum; read again"),
            None => {
                return Err(gone(store, stored)
                    .await?
                    .unwrap_or_else(|| damaged("it is missing")));
            }
        }
    }
    Err(damaged("it does not have the checksum that was recorded"))
}

/// Why a tail may be gone rightly.
async fn gone(store: &Store, stored: &Stored) -> Result<Option<Error>> {
    let uuid = stored.uuid;
    Ok(match Stored::load(store, uuid).await? {
        None => Some(Error::UploadUnknown { uuid }),
        Some(now) if now.session.nonce != stored.session.nonce => Some(Error::UploadConflict {
            uuid,
            reason: "another handle has taken it over",
        }),
        Some(_) => None,
    })
}
