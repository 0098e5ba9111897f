//! What is answered when a request is not done: one table from [`Error`] to a status and a code of
//! the specification, and the JSON that carries it.

use std::error::Error as StdError;
use std::fmt::{Display, Write as _};

use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::answers;
use super::auth::Denial;
use super::body::{Broken, ResponseBody};
use s3layers::Error;

macro_rules! codes {
    ($($code:ident = $text:literal, $status:ident;)*) => {
        /// The codes of the specification, and those that registries have in common besides.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code {
            $($code,)*
        }

        impl Code {
            pub(super) const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$code => $text,)*
                }
            }

            /// The status that goes with it, unless there is a better one.
            const fn status(self) -> StatusCode {
                match self {
                    $(Code::$code => StatusCode::$status,)*
                }
            }
        }
    };
}

codes! {
    BlobUnknown = "BLOB_UNKNOWN", NOT_FOUND;
    BlobUploadInvalid = "BLOB_UPLOAD_INVALID", BAD_REQUEST;
    BlobUploadUnknown = "BLOB_UPLOAD_UNKNOWN", NOT_FOUND;
    Denied = "DENIED", FORBIDDEN;
    DigestInvalid = "DIGEST_INVALID", BAD_REQUEST;
    ManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN", NOT_FOUND;
    ManifestInvalid = "MANIFEST_INVALID", BAD_REQUEST;
    ManifestUnknown = "MANIFEST_UNKNOWN", NOT_FOUND;
    NameInvalid = "NAME_INVALID", BAD_REQUEST;
    NameUnknown = "NAME_UNKNOWN", NOT_FOUND;
    NotFound = "NOT_FOUND", NOT_FOUND;
    PaginationNumberInvalid = "PAGINATION_NUMBER_INVALID", BAD_REQUEST;
    SizeInvalid = "SIZE_INVALID", BAD_REQUEST;
    TagInvalid = "TAG_INVALID", BAD_REQUEST;
    TooManyRequests = "TOOMANYREQUESTS", TOO_MANY_REQUESTS;
    Unauthorized = "UNAUTHORIZED", UNAUTHORIZED;
    Unavailable = "UNAVAILABLE", SERVICE_UNAVAILABLE;
    Unknown = "UNKNOWN", INTERNAL_SERVER_ERROR;
    Unsupported = "UNSUPPORTED", METHOD_NOT_ALLOWED;
}

/// Why a request is not done.
#[derive(Clone, Debug)]
pub(super) struct Refusal(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    status: StatusCode,
    code: Code,
    message: String,
    detail: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What our own people should know and the client need not.
    cause: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Display) -> Self {
        Refusal(Box::new(Inner {
            status: code.status(),
            code,
            message: message.to_string(),
            detail: None,
            headers: Vec::new(),
            cause: None,
        }))
    }

    pub(super) fn no_such_path() -> Self {
        Refusal::new(Code::NotFound, "there is nothing at this path")
    }

    /// Of a limit on what may run at a time.
    pub(super) fn too_many(message: &str) -> Self {
        Refusal::new(Code::TooManyRequests, message).with(RETRY_AFTER, "2")
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    pub(super) fn with_detail(mut self, detail: Value) -> Self {
        self.0.detail = Some(detail);
        self
    }

    /// A header of the answer. What cannot be one is left out.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// The same, and the server closes the connection after the answer.
    pub(super) fn closing_connection(self) -> Self {
        self.with(CONNECTION, "close")
    }

    pub(super) fn with_cause(mut self, cause: String) -> Self {
        self.0.cause = Some(cause);
        self
    }

    pub(super) fn code(&self) -> Code {
        self.0.code
    }

    pub(super) fn message(&self) -> &str {
        &self.0.message
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    #[cfg(test)]
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.0.headers.iter().find(|(have, _)| have == name);
        found.and_then(|(_, value)| value.to_str().ok())
    }

    /// The answer, and what to write down of it.
    pub(super) fn into_response(self) -> (Response<ResponseBody>, Option<String>) {
        let Inner {
            status,
            code,
            message,
            detail,
            headers,
            cause,
        } = *self.0;
        let mut error = json!({"code": code.as_str(), "message": message});
        if let Some(detail) = detail {
            error["detail"] = detail;
        }
        let text = json!({"errors": [error]}).to_string();
        let mut response = answers::json(text.into(), "application/json");
        *response.status_mut() = status;
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        (response, Some(cause.unwrap_or(message)))
    }
}

impl From<Denial> for Refusal {
    fn from(denied: Denial) -> Self {
        match denied {
            Denial::Unauthorized { challenge, message } => {
                Refusal::new(Code::Unauthorized, message).with(WWW_AUTHENTICATE, &challenge)
            }
            Denial::Forbidden { message } => Refusal::new(Code::Denied, message),
            Denial::TooManyRequests { retry_after } => {
                Refusal::new(Code::TooManyRequests, "too many attempts to authenticate")
                    .with(RETRY_AFTER, &retry_after.to_string())
            }
            Denial::Unavailable { message } => {
                Refusal::new(Code::Unavailable, message).with(RETRY_AFTER, "5")
            }
        }
    }
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Cut(error) => {
                Refusal::new(Code::SizeInvalid, "the body broke off").with_cause(chain(&*error))
            }
            Broken::Idle(idle) => Refusal::new(
                Code::BlobUploadInvalid,
                format_args!("the body was idle for {} seconds", idle.as_secs()),
            )
            .with_status(StatusCode::REQUEST_TIMEOUT),
        }
        .closing_connection()
    }
}

/// The table. What the storage says of itself is for the log: it names keys.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let told = |code| Refusal::new(code, &error);
        let refusal = match &error {
            Error::LayerUnknown { .. } => told(Code::BlobUnknown),
            Error::UploadUnknown { .. } => told(Code::BlobUploadUnknown),
            Error::InvalidLength { .. } => told(Code::SizeInvalid),
            Error::InvalidChecksum { .. }
            | Error::TarSumVersionUnsupported { .. }
            | Error::InvalidTarSum { .. } => told(Code::DigestInvalid),
            Error::LayerTooLarge { .. } => {
                told(Code::SizeInvalid).with_status(StatusCode::PAYLOAD_TOO_LARGE)
            }
            Error::LayerExists { .. }
            | Error::UploadInProgress { .. }
            | Error::UploadConflict { .. } => {
                told(Code::BlobUploadInvalid).with_status(StatusCode::CONFLICT)
            }
            Error::Damaged { .. } => Refusal::new(Code::Unknown, "what is stored is damaged"),
            Error::NewerVersion { .. } => Refusal::new(
                Code::Unknown,
                "what is stored was written by a newer version of this registry",
            ),
            Error::UploadClosed { .. } => Refusal::new(Code::Unknown, "the upload was closed"),
            // It is we who may not, not the client: 403 would send it looking for its own password.
            Error::Storage(storage) if storage.is_throttled() => {
                Refusal::new(Code::TooManyRequests, "the storage asks to slow down")
                    .with_status(StatusCode::SERVICE_UNAVAILABLE)
                    .with(RETRY_AFTER, "5")
            }
            Error::Storage(storage) if storage.is_retryable() => Refusal::new(
                Code::Unavailable,
                "the storage does not answer as it should",
            )
            .with(RETRY_AFTER, "1"),
            Error::Storage(storage) if storage.is_full() => {
                Refusal::new(Code::Unavailable, "the storage has no space left")
                    .with_status(StatusCode::INSUFFICIENT_STORAGE)
            }
            Error::Storage(_) => Refusal::new(Code::Unknown, "the storage refused"),
            _ => Refusal::new(Code::Unknown, "the storage failed"),
        };
        refusal.with_cause(chain(&error))
    }
}

/// An error and its sources, in one line.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3layers::{StorageError, StorageErrorKind};
    use uuid::Uuid;

    fn storage(kind: StorageErrorKind) -> Error {
        StorageError::new("PutObject", "a/key", kind, "secret words").into()
    }

    #[test]
    fn error_cases() {
        let uuid = Uuid::nil();
        let id: s3layers::LayerId = s3layers::Digest::EMPTY_SHA256.parse().unwrap();
        for (error, status, code) in [
            (Error::LayerUnknown { id }, 404, Code::BlobUnknown),
            (Error::UploadUnknown { uuid }, 404, Code::BlobUploadUnknown),
            (
                Error::UploadConflict { uuid, reason: "x" },
                409,
                Code::BlobUploadInvalid,
            ),
            (
                Error::InvalidLength {
                    claimed: 1,
                    received: 2,
                },
                400,
                Code::SizeInvalid,
            ),
            (Error::LayerTooLarge { limit: 1 }, 413, Code::SizeInvalid),
            (
                storage(StorageErrorKind::Throttled),
                503,
                Code::TooManyRequests,
            ),
            (
                storage(StorageErrorKind::Unavailable),
                503,
                Code::Unavailable,
            ),
            (storage(StorageErrorKind::Full), 507, Code::Unavailable),
            (storage(StorageErrorKind::Permission), 500, Code::Unknown),
            (storage(StorageErrorKind::NoSuchBucket), 500, Code::Unknown),
            (storage(StorageErrorKind::Other), 500, Code::Unknown),
        ] {
            let text = error.to_string();
            let refusal = Refusal::from(error);
            assert_eq!(refusal.status().as_u16(), status, "{text}");
            assert_eq!(refusal.code(), code, "{text}");
            let waits = refusal.header("retry-after").is_some();
            assert_eq!(waits, status == 503, "{text}");
        }
    }

    #[test]
    fn keys_are_for_the_log_only() {
        let refusal = Refusal::from(storage(StorageErrorKind::Other));
        assert!(!refusal.0.message.contains("key"));
        let cause = refusal.0.cause.unwrap();
        assert!(cause.contains("a/key") && cause.contains("secret words"));
    }
}
