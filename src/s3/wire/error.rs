//! Why an operation of the store failed.

use std::error::Error as StdError;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::verdict::{Verdict, judge, judge_unread};
use super::{advice, dispatch};
use crate::error::{Error, StorageError};
use crate::telemetry::Operation;

/// Why an operation of the store failed: what callers of the `api` branch on.
#[derive(Debug)]
pub(crate) enum ApiError {
    NoSuchKey(StorageError),
    NoSuchUpload(StorageError),
    Precondition(StorageError),
    InvalidPart(StorageError),
    InvalidRange(StorageError),
    NotImplemented(StorageError),
    Other(StorageError),
}

impl ApiError {
    pub(super) fn new(verdict: Verdict, error: StorageError) -> Self {
        match verdict {
            Verdict::NoSuchKey => ApiError::NoSuchKey(error),
            Verdict::NoSuchUpload => ApiError::NoSuchUpload(error),
            Verdict::Precondition => ApiError::Precondition(error),
            Verdict::InvalidPart => ApiError::InvalidPart(error),
            Verdict::InvalidRange => ApiError::InvalidRange(error),
            Verdict::NotImplemented => ApiError::NotImplemented(error),
            Verdict::Unavailable
            | Verdict::Throttled
            | Verdict::Unreadable
            | Verdict::Unresolved
            | Verdict::Unreachable
            | Verdict::NoCredentials
            | Verdict::CredentialsUnavailable
            | Verdict::Full
            | Verdict::BadDigest
            | Verdict::Permission
            | Verdict::NoSuchBucket
            | Verdict::Refused => ApiError::Other(error),
        }
    }

    pub(crate) fn storage(&self) -> &StorageError {
        match self {
            ApiError::NoSuchKey(error)
            | ApiError::NoSuchUpload(error)
            | ApiError::Precondition(error)
            | ApiError::InvalidPart(error)
            | ApiError::InvalidRange(error)
            | ApiError::NotImplemented(error)
            | ApiError::Other(error) => error,
        }
    }

    pub(crate) fn into_storage(self) -> StorageError {
        match self {
            ApiError::NoSuchKey(error)
            | ApiError::NoSuchUpload(error)
            | ApiError::Precondition(error)
            | ApiError::InvalidPart(error)
            | ApiError::InvalidRange(error)
            | ApiError::NotImplemented(error)
            | ApiError::Other(error) => error,
        }
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Error::Storage(error.into_storage())
    }
}

/// One failed attempt.
pub(super) struct Attempt {
    pub(super) verdict: Verdict,
    /// Status and code, where an answer came.
    pub(super) answer: Option<String>,
    /// What would make it succeed.
    pub(super) advice: Option<String>,
    pub(super) source: Box<dyn StdError + Send + Sync>,
}

impl Attempt {
    pub(super) fn of<E>(operation: Operation, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let verdict = match &error {
            SdkError::ServiceError(answer) => judge(
                operation,
                answer.raw().status().as_u16(),
                answer.err().code(),
            ),
            SdkError::ResponseError(answer) => {
                judge_unread(operation, answer.raw().status().as_u16())
            }
            SdkError::DispatchFailure(failure) => dispatch::judge(failure),
            SdkError::TimeoutError(_) => Verdict::Unavailable,
            _ => Verdict::Refused,
        };
        let answer = match &error {
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                Some(match answer.err().code() {
                    Some(code) => format!("{status} {code}"),
                    None => status.to_string(),
                })
            }
            SdkError::ResponseError(answer) => Some(answer.raw().status().as_u16().to_string()),
            _ => None,
        };
        Attempt {
            verdict,
            answer,
            advice: advice::advice(operation, &error),
            source: Box::new(error),
        }
    }
}
