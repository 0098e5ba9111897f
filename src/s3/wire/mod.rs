//! The dozen calls of S3 that this crate makes: our types in and out, the SDK in between.
//!
//! 1. Every attempt is one request, counted and traced; repeating is decided here
//!    ([`retry`]), by what the answer means ([`error`]).
//! 2. A conditional write that ends unclear is settled by reading the object ([`conditional`]).
//! 3. What our promises need of the SDK is set request by request, so that a client which a user
//!    configured keeps its own settings: no retries inside the SDK, a timeout for each attempt,
//!    no checksums of the SDK's own choosing.
//! 4. Missing permission is never read as absence.

use std::error::Error as StdError;
use std::future::{Future, ready};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::time::Instant;

use crate::clock::{self, Moment};
use crate::error::{StorageError, StorageErrorKind};
use crate::s3::format::keys::Key;
use crate::s3::keyed_lock::KeyedLock;
use crate::telemetry::{self, Operation, Request, Telemetry};

mod advice;
mod body;
mod client;
mod client_environment;
mod client_error;
mod client_settings;
mod conditional;
mod dispatch;
mod error;
mod examine;
mod gauge;
mod https;
mod large;
mod listing;
mod multipart;
mod objects;
mod ready;
mod retry;
mod types;
mod verdict;
mod witness;

pub(crate) use aws_sdk_s3::Client;
pub(crate) use body::{Payload, RangeBody};
pub use client::{client_from_env, client_over};
pub use client_environment::{ClientEnvironment, CredentialSource, client_environment};
pub use client_error::ClientError;
pub use client_settings::ClientOptions;
pub(crate) use error::ApiError;
pub(crate) use examine::{LifecycleRule, Listing, Versioning};
pub(crate) use gauge::Gauge;
use large::LargeDocuments;
pub(crate) use large::Turn;
pub(crate) use listing::Sought;
pub(crate) use retry::pause;
pub(crate) use types::{
    CompletePart, Condition, ConditionForm, ETag, ListedObject, ListedPart, ObjectInfo, Page, Put,
    SmallObject, UploadId, Written,
};

pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// How long one attempt may take: a small request, and a part or a piece of one by its size.
const SMALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Complete assembles the object; AWS says that it may take minutes.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(600);
/// A part that moves slower than this many bytes a second is repeated.
const SLOWEST_RATE: u64 = 128 * 1024;

/// A request that is repeated for so long is mentioned in the log.
const TELL_AFTER: Duration = Duration::from_secs(2);

/// One bucket, seen through one client. Clones share the counters.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: Client,
    /// Signs URLs, by the name that others know the store by.
    signer: Client,
    bucket: String,
    form: ConditionForm,
    /// Conditional writes of a single writer, one at a time for each key.
    turns: Arc<KeyedLock<Key>>,
    large: LargeDocuments,
    telemetry: Arc<Telemetry>,
    /// A request has succeeded, so the server is a store.
    was_reached: Arc<AtomicBool>,
}

/// What a call is about, for the retries, the counters and the error.
#[derive(Clone, Copy)]
struct Call<'a> {
    operation: Operation,
    key: &'a str,
    /// Bytes of the request's body.
    body: u64,
}

/// An answer, and the attempt that brought it: those before it may have taken effect too. Where a body is still to be
/// read, the request is over with that.
struct Answered<T> {
    answer: T,
    request: Request,
    seen: witness::Seen,
}

impl<'a> Call<'a> {
    /// Of a request without a body.
    fn of(operation: Operation, key: &'a str) -> Self {
        Call {
            operation,
            key,
            body: 0,
        }
    }

    fn failed(
        self,
        kind: StorageErrorKind,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> StorageError {
        StorageError::new(self.operation.as_str(), self.key, kind, source)
    }

    /// An answer that lacks what S3's documentation says it has.
    fn incomplete(self, what: &'static str) -> ApiError {
        let why = format!("the answer has no {what}");
        ApiError::Other(self.failed(StorageErrorKind::Unavailable, why))
    }

    /// The ETag in an answer.
    fn etag(self, header: Option<&str>) -> ApiResult<ETag> {
        let etag = header.ok_or_else(|| self.incomplete("ETag"))?;
        Ok(ETag::parse(etag))
    }
}

impl Api {
    /// URLs are signed for `presign_endpoint`, where one is given.
    pub(crate) fn new(client: Client, bucket: String, presign_endpoint: Option<String>) -> Self {
        let mut signer = client.config().to_builder();
        signer.set_response_checksum_validation(Some(ResponseChecksumValidation::WhenRequired));
        if let Some(url) = presign_endpoint {
            signer.set_endpoint_url(Some(url));
        }
        let signer = Client::from_conf(signer.build());
        Api {
            client,
            signer,
            bucket,
            form: ConditionForm::default(),
            turns: Arc::default(),
            large: LargeDocuments::default(),
            telemetry: Arc::default(),
            was_reached: Arc::default(),
        }
    }

    /// The same bucket, with conditions sent in this form.
    pub(crate) fn with_conditions(&self, form: ConditionForm) -> Self {
        Api {
            form,
            ..self.clone()
        }
    }

    /// The turn of a caller that is about to encode and write a document of about this size, in
    /// bytes.
    pub(crate) async fn turn_to_write(&self, size: usize) -> Turn {
        self.large.write(size as u64).await
    }

    /// The form in which conditions are sent.
    pub(crate) fn conditions(&self) -> ConditionForm {
        self.form
    }

    /// The value of an `If-Match` header.
    fn if_match(&self, etag: &ETag) -> String {
        match self.form {
            ConditionForm::Quoted | ConditionForm::Unsent => etag.quoted(),
            ConditionForm::Bare => etag.to_string(),
        }
    }

    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The settings of one request that our promises depend on.
    fn settings(timeout: Duration) -> Builder {
        Builder::new()
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(timeout)
                    .build(),
            )
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(witness::Witness)
    }

    /// Makes attempts until one succeeds, fails for good, or enough were made.
    async fn call<T, E, F, Sent>(&self, call: Call<'_>, send: F) -> ApiResult<T>
    where
        F: Fn() -> Sent,
        Sent: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        Ok(self.call_attempted(call, send).await?.answer)
    }

    /// As [`call`](Self::call), with the last attempt.
    async fn call_attempted<T, E, F, Sent>(&self, call: Call<'_>, send: F) -> ApiResult<Answered<T>>
    where
        F: Fn() -> Sent,
        Sent: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        self.call_while(call, send, None, || ready(Ok(true))).await
    }

    /// As [`call`](Self::call). No attempt is signed after `until`: so long after that moment.
    async fn call_until<T, E, F, Sent>(
        &self,
        call: Call<'_>,
        send: F,
        until: Option<(Moment, Duration)>,
    ) -> ApiResult<T>
    where
        F: Fn() -> Sent,
        Sent: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let holds = || ready(Ok(true));
        Ok(self.call_while(call, send, until, holds).await?.answer)
    }

    /// As [`call_attempted`](Self::call_attempted). No attempt is signed after `until`: so long after that
    /// moment. A condition `holds` before each attempt but the first.
    async fn call_while<T, E, F, Sent, Held>(
        &self,
        call: Call<'_>,
        send: F,
        until: Option<(Moment, Duration)>,
        holds: impl Fn() -> Held,
    ) -> ApiResult<Answered<T>>
    where
        F: Fn() -> Sent,
        Held: Future<Output = ApiResult<bool>>,
        Sent: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let is_late = || until.is_some_and(|(at, lifetime)| !at.is_within(lifetime));
        telemetry::turn().await;
        if is_late() {
            let why = "what it relies on was seen too long ago";
            return Err(ApiError::Other(
                call.failed(StorageErrorKind::Unavailable, why),
            ));
        }
        let begun = Instant::now();
        let (mut attempts, mut told) = (0, false);
        loop {
            attempts += 1;
            let sent = Instant::now();
            // On the heap: the SDK's futures are large, and callers hold many of ours within another.
            let failed = match self.attempt(call, attempts, Box::pin(send())).await {
                Ok(answered) => {
                    self.was_reached.store(true, Ordering::Relaxed);
                    return Ok(answered);
                }
                Err(failed) => failed,
            };
            let elapsed = begun.elapsed();
            let throttled = failed.verdict == verdict::Verdict::Throttled;
            let until_sent = sent.duration_since(begun);
            let pause = retry::pause(attempts, until_sent, throttled, clock::jitter());
            let was_reached = self.was_reached.load(Ordering::Relaxed);
            let repeats = attempts < failed.verdict.max_attempts(was_reached);
            if repeats && elapsed >= TELL_AFTER && !std::mem::replace(&mut told, true) {
                let why = failed.answer.clone();
                let why = why.unwrap_or_else(|| dispatch::root(&*failed.source).to_string());
                tracing::warn!(
                    operation = call.operation.as_str(),
                    key = call.key,
                    attempts,
                    why,
                    advice = failed.advice.as_deref(),
                    "retrying"
                );
            }
            let error = |verdict: verdict::Verdict, attempts: u32| {
                let error = call
                    .failed(verdict.kind(), failed.source)
                    .after(attempts, elapsed)
                    .answered(failed.answer)
                    .advised(failed.advice);
                ApiError::new(verdict, error)
            };
            match pause.filter(|_| repeats) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error(failed.verdict, attempts)),
            }
            telemetry::turn().await;
            if is_late() || !holds().await? {
                // As if another attempt had been refused.
                return Err(error(verdict::Verdict::Precondition, attempts + 1));
            }
        }
    }

    /// One attempt, which is counted and traced.
    async fn attempt<T, E>(
        &self,
        call: Call<'_>,
        attempt: u32,
        sending: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<Answered<T>, error::Attempt>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let (operation, key) = (call.operation, call.key);
        let mut request = Request::sent(&self.telemetry, operation, key, attempt, call.body);
        let (result, seen) = witness::seen(sending).await;
        match result {
            Ok(answer) => {
                request.ended(seen.status, "Ok");
                Ok(Answered {
                    answer,
                    request,
                    seen,
                })
            }
            Err(error) => {
                let failed = error::Attempt::of(operation, error, seen.was_sent);
                request.ended(seen.status, format!("{:?}", failed.verdict));
                Err(failed)
            }
        }
    }

    /// A URL for a GET of the whole object, good for `lifetime`.
    pub(crate) async fn presign_get(
        &self,
        key: &Key,
        lifetime: Duration,
    ) -> Result<String, StorageError> {
        let failed = |source: Box<dyn StdError + Send + Sync>| {
            StorageError::new("presigning", key.as_str(), StorageErrorKind::Other, source)
        };
        let config = PresigningConfig::expires_in(lifetime).map_err(|e| failed(e.into()))?;
        let request = self
            .signer
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .presigned(config)
            .await
            .map_err(|e| failed(error::without_dumps(e)))?;
        Ok(request.uri().to_owned())
    }

    fn timeout_for(bytes: u64) -> Duration {
        SMALL_TIMEOUT + Duration::from_secs(bytes / SLOWEST_RATE)
    }
}

fn to_u64(size: Option<i64>) -> Option<u64> {
    u64::try_from(size?).ok()
}

/// S3 counts lengths in signed numbers; ours are far below where that matters.
fn to_i64(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn to_system_time(time: &aws_sdk_s3::primitives::DateTime) -> SystemTime {
    SystemTime::try_from(*time).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn http_range(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}
