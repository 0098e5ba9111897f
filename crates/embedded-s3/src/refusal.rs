//! Why a request is refused, and the S3 error for it: one table.

use std::io::{self, ErrorKind};

use http::StatusCode;
use s3s::S3ErrorCode as Code;
use s3s::{S3Error, S3ErrorCode};

/// Defines [`Refusal`], and the code and message of each.
macro_rules! refusals {
    ($($name:ident $(($payload:ident: $type:ty))?: $code:expr, $message:expr;)*) => {
        /// Why a request is refused.
        #[derive(Debug)]
        pub(crate) enum Refusal {
            /// The reader already has this version, named by its ETag.
            NotModified(String),
            /// The disk or the runtime failed.
            Failure(io::Error),
            $($name $(($type))?,)*
        }

        impl From<Refusal> for S3Error {
            fn from(refusal: Refusal) -> Self {
                let mut error = match refusal {
                    Refusal::NotModified(etag) => return not_modified(&etag),
                    Refusal::Failure(error) => failure(error),
                    $(Refusal::$name $(($payload))? => S3Error::with_message($code, $message),)*
                };
                if let Some(status) = status_of(error.code()) {
                    error.set_status_code(status);
                }
                error
            }
        }
    };
}

refusals! {
    NoSuchBucket: Code::NoSuchBucket, "The specified bucket does not exist.";
    BucketNotEmpty: Code::BucketNotEmpty, "The bucket is not empty.";
    NoSuchKey: Code::NoSuchKey, "The specified key does not exist.";
    NoSuchUpload: Code::NoSuchUpload, "The specified multipart upload does not exist. It may have been completed or aborted.";
    PreconditionFailed: Code::PreconditionFailed, "At least one of the preconditions does not hold.";
    InvalidRange: Code::InvalidRange, "The requested range is not satisfiable.";
    InvalidPartNumber: custom("InvalidPartNumber"), "The object has no such part.";
    InvalidPart(number: u16): Code::InvalidPart, format!("Part {number} was not uploaded, or is not the one that is named here.");
    InvalidPartOrder: Code::InvalidPartOrder, "Parts must be named in ascending order, each once.";
    EntityTooSmall(number: u16): Code::EntityTooSmall, format!("Part {number} is smaller than 5 MiB and not the last.");
    EntityTooLarge: Code::EntityTooLarge, "The body is larger than 5 GiB.";
    BadDigest(name: String): Code::BadDigest, format!("The {name} does not match the body.");
    ContentSha256Mismatch: custom("XAmzContentSHA256Mismatch"), "The x-amz-content-sha256 header does not match the body.";
    IncompleteBody: Code::IncompleteBody, "The body is not as long as its Content-Length says.";
    BodyTimeout: Code::RequestTimeout, "No byte of the body arrived within the timeout period.";
    SlowDown: Code::SlowDown, "Please reduce your request rate.";
    LongPresigned: custom("AuthorizationQueryParametersError"), "X-Amz-Expires must be at most a week (604800 seconds).";
    MissingChecksum: Code::InvalidRequest, "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
    MalformedTrailer: custom("MalformedTrailerError"), "The trailers of the body are not those that x-amz-trailer announces.";
    MalformedXml: Code::MalformedXML, "A required element is missing in the XML.";
    InvalidArgument(reason: String): Code::InvalidArgument, reason;
    InvalidRequest(reason: String): Code::InvalidRequest, reason;
    NotImplemented(reason: String): Code::NotImplemented, reason;
}

/// The status of a code that s3s does not list.
fn status_of(code: &S3ErrorCode) -> Option<StatusCode> {
    match code.as_str() {
        "InvalidPartNumber" => Some(StatusCode::RANGE_NOT_SATISFIABLE),
        "XAmzContentSHA256Mismatch"
        | "AuthorizationQueryParametersError"
        | "MalformedTrailerError" => Some(StatusCode::BAD_REQUEST),
        "InsufficientStorage" => Some(StatusCode::INSUFFICIENT_STORAGE),
        _ => None,
    }
}

fn custom(code: &'static str) -> S3ErrorCode {
    S3ErrorCode::Custom(code.into())
}

/// The answer to a request that this store could not carry out, with the cause for our own log.
fn failure(error: io::Error) -> S3Error {
    let (code, message) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
            custom("InsufficientStorage"),
            "The disk of this store is full.",
        ),
        ErrorKind::NotFound => (
            Code::NoSuchBucket,
            "The folder of this store was removed or replaced.",
        ),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => (
            Code::MethodNotAllowed,
            "The folder of this store is read-only.",
        ),
        _ => (
            Code::InternalError,
            "The store could not read or write its folder.",
        ),
    };
    let mut answer = S3Error::with_message(code, message);
    answer.set_source(Box::new(error));
    answer
}

/// A 304 names the version that the client has.
fn not_modified(etag: &str) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    if let Ok(value) = http::HeaderValue::try_from(format!("\"{etag}\"")) {
        error.set_headers(http::HeaderMap::from_iter([(http::header::ETAG, value)]));
    }
    error
}

impl Refusal {
    /// The refusal, unless it is a failure of this store.
    pub(crate) fn or_failure(self) -> io::Result<Self> {
        match self {
            Self::Failure(error) => Err(error),
            refusal => Ok(refusal),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failure(error)
    }
}

/// The I/O error of an error of redb.
pub(crate) fn failed(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl From<redb::StorageError> for Refusal {
    fn from(error: redb::StorageError) -> Self {
        Self::Failure(failed(error))
    }
}

impl From<redb::TableError> for Refusal {
    fn from(error: redb::TableError) -> Self {
        Self::Failure(failed(error))
    }
}
