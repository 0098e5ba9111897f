//! Conditional writes, settled: whether an unclear one took effect is found out by reading.
//!
//! A repeated request can turn a success into a 412. The bytes of every document hold a fresh nonce
//! (or are the same for every writer), so what is stored is ours exactly if it is the same bytes.

use std::time::Duration;

use bytes::Bytes;

use super::{Api, ApiError, ApiResult, Condition, ConditionForm, ETag, Put};
use crate::clock::Moment;
use crate::error::{StorageError, StorageErrorKind};
use crate::s3::format::keys::Key;
use crate::s3::wire::body::Payload;

/// How often a refusal is examined before it is returned as an error that can be retried.
const MAX_LOOKS: u32 = 5;

impl Api {
    /// Writes a document if `condition` holds. Never repeats a write that another one followed.
    ///
    /// Cancelling leaves it written or not; a later read shows which.
    pub(crate) async fn put_if(
        &self,
        key: &Key,
        document: Bytes,
        condition: Condition<'_>,
    ) -> ApiResult<Put> {
        let put = self.put_if_counted(key, document, condition);
        Ok(put.await?.0)
    }

    /// As [`put_if`](Self::put_if); no attempt is signed later than so long after a moment.
    ///
    /// # Errors
    ///
    /// One that can be retried, where that time is over.
    pub(crate) async fn put_if_until(
        &self,
        key: &Key,
        document: Bytes,
        condition: Condition<'_>,
        until: Option<(Moment, Duration)>,
    ) -> ApiResult<Put> {
        let put = self.put_if_settled(key, document, condition, until);
        Ok(put.await?.0)
    }

    /// As [`put_if`](Self::put_if), and whether more than one attempt was made. One that was not
    /// answered can still be on its way, and take effect once the condition holds again.
    pub(crate) async fn put_if_counted(
        &self,
        key: &Key,
        document: Bytes,
        condition: Condition<'_>,
    ) -> ApiResult<(Put, bool)> {
        self.put_if_settled(key, document, condition, None).await
    }

    /// Removes an object that still has this ETag, and whether the key is empty now; otherwise it
    /// holds another object. Only for a store that honours the condition.
    ///
    /// Cancelling leaves it removed or not.
    pub(crate) async fn delete_if(&self, key: &Key, etag: &ETag) -> ApiResult<bool> {
        let mut looks = 0;
        loop {
            let refusal = match self.delete_matching(key, Some(etag)).await {
                Ok(()) => return Ok(true),
                Err(error @ ApiError::Precondition(_)) => error,
                Err(error) => return Err(error),
            };
            match self.get_small(key).await? {
                // An earlier attempt may have taken effect.
                None => return Ok(true),
                Some(found) if found.etag != *etag => return Ok(false),
                Some(_) => looks += 1,
            }
            if looks == MAX_LOOKS {
                let refusal = refusal.into_storage().into_retryable();
                return Err(ApiError::Precondition(refusal));
            }
        }
    }

    async fn put_if_settled(
        &self,
        key: &Key,
        document: Bytes,
        condition: Condition<'_>,
        until: Option<(Moment, Duration)>,
    ) -> ApiResult<(Put, bool)> {
        let payload = Payload::of(std::slice::from_ref(&document));
        let mut looks = 0;
        let _turn = match self.form {
            ConditionForm::Unsent => self.turns.turn(key).await,
            _ => None,
        };
        if self.form == ConditionForm::Unsent {
            match (self.get_small(key).await?, condition) {
                (Some(found), Condition::Matches(etag)) if found.etag == *etag => {}
                (Some(found), _) => return Ok((Put::Held(found), false)),
                (None, Condition::Matches(_)) => return Ok((Put::Gone, false)),
                (None, Condition::Absent) => {}
            }
        }
        loop {
            if until.is_some_and(|(at, lifetime)| !at.is_within(lifetime)) {
                let why = "the last look at the bytes of the layer is too long ago";
                let kind = StorageErrorKind::Unavailable;
                let error = StorageError::new("PutObject", key.as_str(), kind, why);
                return Err(ApiError::Other(error));
            }
            let put = self.put_counted(key, &payload, None, Some(condition), until);
            let refusal = match put.await {
                Ok((etag, attempts)) => {
                    return Ok((Put::Written(etag), looks > 0 || attempts > 1));
                }
                // MinIO and AWS answer NoSuchKey to If-Match on a key that is absent.
                Err(error @ (ApiError::Precondition(_) | ApiError::NoSuchKey(_))) => error,
                Err(error) => return Err(error),
            };
            looks += 1;
            match (self.get_small(key).await?, condition) {
                (Some(found), _) if found.bytes == document => {
                    return Ok((Put::Written(found.etag), true));
                }
                // The condition holds after all, or again.
                (Some(found), Condition::Matches(etag)) if found.etag == *etag => {}
                (None, Condition::Absent) => {}
                (Some(found), _) => return Ok((Put::Held(found), true)),
                (None, Condition::Matches(_)) => return Ok((Put::Gone, true)),
            }
            if looks == MAX_LOOKS {
                return Err(ApiError::Other(refusal.into_storage().into_retryable()));
            }
        }
    }
}
