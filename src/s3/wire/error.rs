//! Why an operation of the store failed.

use std::error::Error as StdError;
use std::iter::successors;

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
            _ => ApiError::Other(error),
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
    /// Of a request that `was_sent`, or could not even be built.
    pub(super) fn of<E>(
        operation: Operation,
        error: SdkError<E, HttpResponse>,
        was_sent: bool,
    ) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let (verdict, answer) = match &error {
            SdkError::ServiceError(answer) => {
                let (status, code) = (answer.raw().status().as_u16(), answer.err().code());
                let text = match code {
                    Some(code) => format!("{status} {code}"),
                    None => status.to_string(),
                };
                (judge(operation, status, code), Some(text))
            }
            SdkError::ResponseError(answer) => {
                let status = answer.raw().status().as_u16();
                (judge_unread(operation, status), Some(status.to_string()))
            }
            SdkError::DispatchFailure(failure) => match dispatch::judge(failure) {
                Verdict::Unavailable if !was_sent => (Verdict::WrongSettings, None),
                verdict => (verdict, None),
            },
            SdkError::TimeoutError(_) => (Verdict::Unavailable, None),
            _ => (Verdict::Refused, None),
        };
        Attempt {
            verdict,
            answer,
            advice: advice::advice(operation, &error, verdict),
            source: without_dumps(error),
        }
    }
}

/// An error by its text alone.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

/// The error, or, where the SDK put requests or answers into its text, the texts before those: they
/// have tokens in them.
pub(super) fn without_dumps<E: StdError + Send + Sync + 'static>(
    error: E,
) -> Box<dyn StdError + Send + Sync> {
    let texts: Vec<_> = successors(Some(&error as &dyn StdError), |&error| error.source())
        .map(ToString::to_string)
        .collect();
    if texts.iter().all(|text| dump(text).is_none()) {
        return Box::new(error);
    }
    let mut source = None;
    for mut text in texts.into_iter().rev() {
        if let Some(at) = dump(&text) {
            text.replace_range(at.., "…");
        }
        source = Some(Box::new(Cause { text, source }));
    }
    match source {
        Some(cause) => cause,
        None => Box::new(error),
    }
}

/// Where the debug text of a struct begins, such as `Request { …`. That of an error of S3, of which
/// the text is nothing but the code and the message, is none.
fn dump(text: &str) -> Option<usize> {
    let mut braces = text.match_indices(" {").map(|(at, _)| at);
    braces.find_map(|end| {
        let name = text[..end].trim_end_matches(|c: char| c.is_ascii_alphanumeric());
        let is_type = text[name.len()..end].starts_with(|c: char| c.is_ascii_uppercase());
        (is_type && !name.is_empty()).then_some(name.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_without_debug_texts() {
        let error = std::io::Error::other("cannot apply it to `Request { token: 1 }`");
        let plain = without_dumps(error);
        assert_eq!(plain.to_string(), "cannot apply it to `…");
        assert!(!format!("{plain:?}").contains("token"));
        let other = without_dumps(std::io::Error::other("refused"));
        assert!(other.is::<std::io::Error>());
    }

    #[test]
    fn debug_texts_are_found() {
        for (text, want) in [
            (
                "failed to apply endpoint `foo` to request `Request { body: SdkBody { inner: x } }`",
                Some("failed to apply endpoint `foo` to request `"),
            ),
            (
                "error response from IMDS (code: 403). Response { status: StatusCode(403) }",
                Some("error response from IMDS (code: 403). "),
            ),
            (
                "expected ListBucketResult but got StartEl { name: Name { prefix: \"\" } }",
                Some("expected ListBucketResult but got "),
            ),
            (r#"Error { code: "SlowDown", message: "a {b}" }"#, None),
            ("expected { but got }", None),
            ("service error", None),
        ] {
            assert_eq!(dump(text).map(|at| &text[..at]), want, "{text}");
        }
    }
}
