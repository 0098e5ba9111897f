//! Why a request is refused, in our own words, and the S3 error that says so: one table.

use s3s::{S3Error, S3ErrorCode};

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The bucket does not exist.
    NoSuchBucket,
    /// The bucket still has objects.
    BucketNotEmpty,
    /// The key does not exist.
    NoSuchKey,
    /// The upload id does not exist, or belongs to another key.
    NoSuchUpload,
    /// A condition did not hold.
    PreconditionFailed,
    /// The reader already has this version, named by its ETag.
    NotModified(String),
    /// The range lies outside the object.
    InvalidRange,
    /// The object has no such part.
    InvalidPartNumber,
    /// Complete names a part that is absent or differs.
    InvalidPart(u16),
    /// Complete names the parts out of order.
    InvalidPartOrder,
    /// A part that is not the last is smaller than 5 MiB.
    EntityTooSmall(u16),
    /// The body is larger than S3 allows.
    EntityTooLarge,
    /// The body does not have the MD5 or checksum that was promised.
    BadDigest(String),
    /// The body does not have the SHA-256 that was signed.
    ContentSha256Mismatch,
    /// The body ended early or was cut.
    IncompleteBody,
    /// The body brought nothing for too long.
    BodyTimeout,
    /// Too many requests at a time.
    SlowDown,
    /// A presigned URL lives longer than S3 lets it.
    LongPresigned,
    /// DeleteObjects without a checksum of its body.
    MissingChecksum,
    /// The XML of the request lacks what it must have.
    MalformedXml,
    /// A value is outside its range.
    InvalidArgument(String),
    /// The request contradicts itself or what it refers to.
    InvalidRequest(String),
    /// S3 has this, or other stores have, but not this store.
    NotImplemented(String),
    /// The disk is full.
    NoSpace(std::io::Error),
    /// The folder was removed while the store had it open.
    FolderRemoved(std::io::Error),
    /// The folder may be read only.
    ReadOnly(std::io::Error),
    /// The disk or the runtime failed.
    Internal(std::io::Error),
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => Self::NoSpace(error),
            Kind::NotFound => Self::FolderRemoved(error),
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::ReadOnly(error),
            _ => Self::Internal(error),
        }
    }
}

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        use S3ErrorCode as Code;
        match refusal {
            Refusal::NoSuchBucket => {
                say(Code::NoSuchBucket, "The specified bucket does not exist.")
            }
            Refusal::BucketNotEmpty => say(Code::BucketNotEmpty, "The bucket is not empty."),
            Refusal::NoSuchKey => say(Code::NoSuchKey, "The specified key does not exist."),
            Refusal::NoSuchUpload => say(
                Code::NoSuchUpload,
                "The specified multipart upload does not exist. It may have been completed or aborted.",
            ),
            Refusal::PreconditionFailed => say(
                Code::PreconditionFailed,
                "At least one of the preconditions does not hold.",
            ),
            Refusal::NotModified(etag) => not_modified(&etag),
            Refusal::InvalidRange => say(
                Code::InvalidRange,
                "The requested range is not satisfiable.",
            ),
            Refusal::InvalidPartNumber => {
                let mut error = say(custom("InvalidPartNumber"), "The object has no such part.");
                error.set_status_code(http::StatusCode::RANGE_NOT_SATISFIABLE);
                error
            }
            Refusal::InvalidPart(number) => say(
                Code::InvalidPart,
                format!("Part {number} was not uploaded, or is not the one that is named here."),
            ),
            Refusal::InvalidPartOrder => say(
                Code::InvalidPartOrder,
                "Parts must be named in ascending order, each once.",
            ),
            Refusal::EntityTooSmall(number) => say(
                Code::EntityTooSmall,
                format!("Part {number} is smaller than 5 MiB and not the last."),
            ),
            Refusal::EntityTooLarge => say(Code::EntityTooLarge, "The body is larger than 5 GiB."),
            Refusal::BadDigest(what) => say(
                Code::BadDigest,
                format!("The {what} does not match the body."),
            ),
            Refusal::ContentSha256Mismatch => {
                let mut error = say(
                    custom("XAmzContentSHA256Mismatch"),
                    "The x-amz-content-sha256 header does not match the body.",
                );
                error.set_status_code(http::StatusCode::BAD_REQUEST);
                error
            }
            Refusal::IncompleteBody => say(
                Code::IncompleteBody,
                "The body is not as long as its Content-Length says.",
            ),
            Refusal::BodyTimeout => say(
                Code::RequestTimeout,
                "The body brought nothing within the timeout period.",
            ),
            Refusal::SlowDown => say(Code::SlowDown, "Please reduce your request rate."),
            Refusal::LongPresigned => {
                let mut error = say(
                    custom("AuthorizationQueryParametersError"),
                    "X-Amz-Expires must be at most a week (604800 seconds).",
                );
                error.set_status_code(http::StatusCode::BAD_REQUEST);
                error
            }
            Refusal::MissingChecksum => say(
                Code::InvalidRequest,
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            ),
            Refusal::MalformedXml => say(
                Code::MalformedXML,
                "The XML lacks what this request must have.",
            ),
            Refusal::InvalidArgument(why) => say(Code::InvalidArgument, why),
            Refusal::InvalidRequest(why) => say(Code::InvalidRequest, why),
            Refusal::NotImplemented(what) => say(Code::NotImplemented, what),
            Refusal::NoSpace(source) => {
                let mut error = say(
                    custom("InsufficientStorage"),
                    "The disk of this store is full.",
                );
                error.set_status_code(http::StatusCode::INSUFFICIENT_STORAGE);
                because(error, source)
            }
            Refusal::FolderRemoved(source) => because(
                say(
                    Code::NoSuchBucket,
                    "The folder of this store was removed or replaced.",
                ),
                source,
            ),
            Refusal::ReadOnly(source) => because(
                say(
                    Code::MethodNotAllowed,
                    "The folder of this store is read-only.",
                ),
                source,
            ),
            Refusal::Internal(source) => because(
                say(
                    Code::InternalError,
                    "The store could not read or write its folder.",
                ),
                source,
            ),
        }
    }
}

fn say(code: S3ErrorCode, message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(code, message)
}

/// The error with its cause, for our own log.
fn because(mut error: S3Error, source: std::io::Error) -> S3Error {
    error.set_source(Box::new(source));
    error
}

/// A code that the S3 model of s3s does not list.
fn custom(code: &'static str) -> S3ErrorCode {
    S3ErrorCode::Custom(code.into())
}

/// A 304 names the version that the client has.
fn not_modified(etag: &str) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    if let Ok(value) = http::HeaderValue::try_from(format!("\"{etag}\"")) {
        error.set_headers(http::HeaderMap::from_iter([(http::header::ETAG, value)]));
    }
    error
}
