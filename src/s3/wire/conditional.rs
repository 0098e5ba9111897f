//! Conditional writes, settled: whether an unclear one took effect is found out by reading.
//!
//! A repeated request can turn a success into a 412. The bytes of every document hold a fresh nonce
//! (or are the same for every writer), so what is stored is ours exactly if it is the same bytes, of any attempt.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use super::{Api, ApiError, ApiResult, Condition, ConditionForm, ETag, Put, SmallObject};
use crate::clock::Moment;
use crate::s3::format::document::of_attempt;
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
            let refusal = match self.delete_matching(key, Some(etag), None).await {
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
        // Each attempt has bytes of its own, and so an ETag: a removal that is repeated finds what it has judged, and
        // not what a repeated write has stored since.
        let attempts = AtomicUsize::new(0);
        let payload = || {
            let attempt = attempts.fetch_add(1, Relaxed);
            Payload::of(&[of_attempt(&document, attempt)])
        };
        let size = document.len() as u64;
        let mut looks = 0;
        let _turn;
        if self.form == ConditionForm::Unsent {
            _turn = self.turns.lock(key.clone()).await;
            if let Some(put) = ended(self.get_small(key).await?, condition) {
                return Ok((put, false));
            }
        }
        loop {
            let put = self.put_counted(key, size, &payload, None, Some(condition), until);
            let refusal = match put.await {
                Ok((etag, attempts)) => {
                    return Ok((Put::Written(etag), looks > 0 || attempts > 1));
                }
                // MinIO and AWS answer NoSuchKey to If-Match on a key that is absent.
                Err(error @ (ApiError::Precondition(_) | ApiError::NoSuchKey(_))) => {
                    error.into_storage()
                }
                Err(error) => return Err(error),
            };
            looks += 1;
            let repeated = looks > 1 || refusal.attempts() > 1;
            let found = match self.get_small(key).await? {
                Some(found) if of_attempt(&found.bytes, 0) == document => {
                    return Ok((Put::Written(found.etag), true));
                }
                found => found,
            };
            // The condition may hold after all, or again.
            if let Some(put) = ended(found, condition) {
                return Ok((put, repeated));
            }
            if looks == MAX_LOOKS {
                return Err(ApiError::Other(refusal.into_retryable()));
            }
        }
    }
}

/// How a write ends where this stands under its key; `None` where its condition holds.
fn ended(found: Option<SmallObject>, condition: Condition<'_>) -> Option<Put> {
    match (found, condition) {
        (Some(found), Condition::Matches(etag)) if found.etag == *etag => None,
        (None, Condition::Absent) => None,
        (Some(found), _) => Some(Put::Held(found.without_turn())),
        (None, Condition::Matches(_)) => Some(Put::Gone),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;

    use super::*;
    use crate::s3::format::keys::Keys;
    use crate::telemetry;

    /// Accepts every write, and counts them.
    #[derive(Clone, Debug, Default)]
    struct Accepting(Arc<AtomicUsize>);

    impl HttpConnector for Accepting {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            self.0.fetch_add(1, SeqCst);
            let mut answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
            answer.headers_mut().insert("etag", "\"e\"");
            HttpConnectorFuture::ready(Ok(answer))
        }
    }

    /// A limited rate delays a request, which is not sent if its deadline has passed by its turn.
    #[tokio::test(start_paused = true)]
    async fn write_whose_turn_comes_too_late_is_not_sent() {
        let accepting = Accepting::default();
        let connector = SharedHttpConnector::new(accepting.clone());
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .endpoint_url("http://store.test")
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let api = &Api::new(client, "bucket".to_owned(), None);
        let key = &Keys::new("").profile();
        let put = |lifetime| async move {
            let until = Some((Moment::now(), Duration::from_millis(lifetime)));
            let put = api.put_if_until(key, Bytes::from_static(b"{}"), Condition::Absent, until);
            put.await
        };
        telemetry::at_rate(Some(1), async {
            put(500).await.unwrap();
            put(1500).await.unwrap();
            assert!(put(500).await.unwrap_err().into_storage().is_retryable());
        })
        .await;
        assert_eq!(accepting.0.load(SeqCst), 2);
    }
}
