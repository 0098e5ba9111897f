//! What an answer of S3 means: one table over operation, status and S3's own code. Pure.
//!
//! A status alone is not a meaning: S3 answers 409 for "try again" and 404 for "no such bucket".
//! What the table does not know is refused, never repeated.

use crate::error::StorageErrorKind;
use crate::telemetry::Operation;

/// What an answer means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No answer, a broken one, or the server's own failure: repeat. It may have taken effect.
    Unavailable,
    /// Not of a store: of a proxy whose store is away, or of another web server. Repeat where it was a store
    /// before.
    NotOfStore,
    /// The clock is wrong. Repeat once or twice: the SDK learns the store's clock from the refusal.
    Skewed,
    /// Repeat, later.
    Throttled,
    /// No HTTP. Repeat once or twice: a bit may have flipped, or something else listens there.
    Unreadable,
    /// No such host, or no answer about it. Repeat for a second or two: a name server may have been
    /// restarted, which looks like a wrong name.
    Unresolved,
    /// No connection, and there will be none soon: a certificate that is refused.
    Unreachable,
    /// The request cannot be built from the settings, or a proxy refuses to pass it on.
    WrongSettings,
    /// No credentials to sign the request with, or none that can be used.
    NoCredentials,
    /// The source of credentials did not answer, after several attempts of the SDK.
    CredentialsUnavailable,
    /// No space is left: another attempt fails the same way until space is freed.
    Full,
    /// No object under this key.
    NoSuchKey,
    /// No multipart upload of this id.
    NoSuchUpload,
    /// The condition does not hold, or another writer was quicker.
    Precondition,
    /// A listed part is not there, not with this ETag or checksum, or none that others can follow.
    InvalidPart,
    /// The body does not have the checksum that was sent with it.
    BadDigest,
    /// The range begins behind the end of the object.
    InvalidRange,
    Permission,
    NoSuchBucket,
    /// The store does not know the operation, or one of its headers.
    NotImplemented,
    Refused,
}

impl Verdict {
    /// How many attempts it is worth at most. `was_reached`: the store has answered a request before.
    pub(super) fn max_attempts(self, was_reached: bool) -> u32 {
        match self {
            Verdict::Unavailable | Verdict::Throttled => u32::MAX,
            Verdict::NotOfStore if was_reached => u32::MAX,
            Verdict::Unresolved => 5,
            Verdict::Unreadable | Verdict::NotOfStore | Verdict::Skewed => 3,
            // The wire flipped a bit, or our memory did.
            Verdict::BadDigest => 2,
            _ => 1,
        }
    }

    pub(super) fn kind(self) -> StorageErrorKind {
        match self {
            Verdict::Unavailable | Verdict::Unreadable | Verdict::NotOfStore | Verdict::Skewed => {
                StorageErrorKind::Unavailable
            }
            Verdict::Unresolved | Verdict::Unreachable | Verdict::WrongSettings => {
                StorageErrorKind::Unreachable
            }
            Verdict::NoCredentials => StorageErrorKind::NoCredentials,
            Verdict::CredentialsUnavailable => StorageErrorKind::CredentialsUnavailable,
            Verdict::Throttled => StorageErrorKind::Throttled,
            Verdict::Full => StorageErrorKind::Full,
            Verdict::Permission => StorageErrorKind::Permission,
            Verdict::NoSuchBucket => StorageErrorKind::NoSuchBucket,
            _ => StorageErrorKind::Other,
        }
    }
}

/// Judges an answer by its status and S3 code. HEAD has no body and so no code.
pub(super) fn judge(operation: Operation, status: u16, code: Option<&str>) -> Verdict {
    match (status, code.unwrap_or_default()) {
        (_, "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "Throttling" | "TooManyRequests")
        | (_, "RequestLimitExceeded" | "ThrottlingException" | "BandwidthLimitExceeded")
        | (429, _) => Verdict::Throttled,
        // S3's words for "try again", with any status: a 200 may hold them too. Some say that the
        // body did not arrive in time or whole, some that another write of this key was under way.
        // A repeated request shows which write won; AWS recommends one.
        (_, "InternalError" | "ServiceUnavailable" | "Busy" | "ServerBusy")
        | (_, "RequestTimeout" | "OperationTimedOut" | "IncompleteBody")
        | (_, "OperationAborted" | "ConditionalRequestConflict")
        | (408, _) => Verdict::Unavailable,
        // The embedded store and MinIO; Ceph RGW answers 403.
        (507, _) | (_, "XMinioStorageFull" | "QuotaExceeded") => Verdict::Full,
        (_, "NoSuchBucket") => Verdict::NoSuchBucket,
        (_, "NoSuchUpload") => Verdict::NoSuchUpload,
        (_, "NoSuchKey") => Verdict::NoSuchKey,
        // HEAD has no body for a code: `head` confirms it by a GET.
        (404, _) if operation == Operation::HeadObject => Verdict::NoSuchKey,
        // A 404 without a code of S3 is from a proxy or an ingress whose store is away. The SDK calls
        // one without a body NotFound.
        (404, "" | "NotFound") => Verdict::NotOfStore,
        (412, _) => Verdict::Precondition,
        (409, "PreconditionFailed") => Verdict::Precondition,
        (_, "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall") => Verdict::InvalidPart,
        // The parts are not those that were named, by any checksum.
        (400, "BadDigest") if operation == Operation::CompleteMultipartUpload => {
            Verdict::InvalidPart
        }
        (400, "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch")
        | (400, "InvalidDigest") => Verdict::BadDigest,
        // MinIO 2026-02 and LocalStack name a wrong full-object checksum at Complete like this.
        (400, "InvalidRequest") if operation == Operation::CompleteMultipartUpload => {
            Verdict::InvalidPart
        }
        (416, _) => Verdict::InvalidRange,
        // It has to be restored first.
        (403, "InvalidObjectState") => Verdict::Refused,
        (403, "RequestTimeTooSkewed") => Verdict::Skewed,
        (401 | 403, _) | (400, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            Verdict::Permission
        }
        // R2's and GCS's words for a header that they do not know, such as an algorithm of a
        // checksum: they will not know it the next time either.
        (501, _) | (_, "NotImplemented") => Verdict::NotImplemented,
        (500.., _) => Verdict::Unavailable,
        // A 200 that holds an error (Complete, DeleteObjects) comes with the code of the error; one
        // without a code could not be read.
        (200..300, "") => Verdict::Unreadable,
        (200..300, "AccessDenied") => Verdict::Permission,
        _ => Verdict::Refused,
    }
}

/// An answer of which not all arrived. The status alone says
/// little where S3's code is missing: a 404 may be about the key or about the bucket.
pub(super) fn judge_unread(operation: Operation, status: u16) -> Verdict {
    match judge(operation, status, None) {
        Verdict::Refused | Verdict::Unreadable | Verdict::NotOfStore => Verdict::Unavailable,
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::*;

    #[test]
    fn answers_of_s3() {
        for (operation, status, code, want) in [
            (PutObject, 503, Some("SlowDown"), Verdict::Throttled),
            (PutObject, 429, None, Verdict::Throttled),
            (PutObject, 500, Some("InternalError"), Verdict::Unavailable),
            (
                CompleteMultipartUpload,
                200,
                Some("InternalError"),
                Verdict::Unavailable,
            ),
            (
                CompleteMultipartUpload,
                200,
                Some("SlowDown"),
                Verdict::Throttled,
            ),
            (
                DeleteObjects,
                200,
                Some("AccessDenied"),
                Verdict::Permission,
            ),
            (
                CreateMultipartUpload,
                501,
                Some("NotImplemented"),
                Verdict::NotImplemented,
            ),
            (GetObject, 502, None, Verdict::Unavailable),
            (GetObject, 408, None, Verdict::Unavailable),
            (
                CompleteMultipartUpload,
                200,
                Some("OperationAborted"),
                Verdict::Unavailable,
            ),
            (PutObject, 507, None, Verdict::Full),
            (UploadPart, 200, Some("XMinioStorageFull"), Verdict::Full),
            (PutObject, 403, Some("QuotaExceeded"), Verdict::Full),
            (
                UploadPart,
                400,
                Some("RequestTimeout"),
                Verdict::Unavailable,
            ),
            (GetObject, 404, Some("NoSuchKey"), Verdict::NoSuchKey),
            (DeleteObjects, 200, None, Verdict::Unreadable),
            (HeadObject, 404, None, Verdict::NoSuchKey),
            (GetObject, 404, Some("NoSuchBucket"), Verdict::NoSuchBucket),
            (GetObject, 404, None, Verdict::NotOfStore),
            (GetObject, 404, Some("NotFound"), Verdict::NotOfStore),
            (DeleteObject, 404, None, Verdict::NotOfStore),
            (ListParts, 404, None, Verdict::NotOfStore),
            (HeadObject, 404, Some("NotFound"), Verdict::NoSuchKey),
            (PutObject, 404, Some("Other"), Verdict::Refused),
            (UploadPart, 404, Some("NoSuchUpload"), Verdict::NoSuchUpload),
            (
                PutObject,
                412,
                Some("PreconditionFailed"),
                Verdict::Precondition,
            ),
            (
                PutObject,
                409,
                Some("ConditionalRequestConflict"),
                Verdict::Unavailable,
            ),
            (
                PutObject,
                409,
                Some("BucketAlreadyExists"),
                Verdict::Refused,
            ),
            (
                CompleteMultipartUpload,
                400,
                Some("InvalidPart"),
                Verdict::InvalidPart,
            ),
            (
                CompleteMultipartUpload,
                400,
                Some("EntityTooSmall"),
                Verdict::InvalidPart,
            ),
            (UploadPart, 400, Some("BadDigest"), Verdict::BadDigest),
            (
                CompleteMultipartUpload,
                400,
                Some("BadDigest"),
                Verdict::InvalidPart,
            ),
            (GetObject, 416, Some("InvalidRange"), Verdict::InvalidRange),
            (GetObject, 403, Some("AccessDenied"), Verdict::Permission),
            (HeadObject, 403, None, Verdict::Permission),
            (GetObject, 403, Some("InvalidObjectState"), Verdict::Refused),
            (PutObject, 400, Some("ExpiredToken"), Verdict::Permission),
            (
                PutObject,
                403,
                Some("RequestTimeTooSkewed"),
                Verdict::Skewed,
            ),
            (PutObject, 400, Some("InvalidArgument"), Verdict::Refused),
        ] {
            assert_eq!(
                judge(operation, status, code),
                want,
                "{operation:?} {status} {code:?}"
            );
        }
    }

    #[test]
    fn answer_of_another_server_is_repeated_where_the_store_was_reached() {
        assert_eq!(Verdict::NotOfStore.max_attempts(true), u32::MAX);
        assert_eq!(Verdict::NotOfStore.max_attempts(false), 3);
    }

    #[test]
    fn answers_that_could_not_be_read() {
        for (operation, status, want) in [
            (GetObject, 404, Verdict::Unavailable),
            (CompleteMultipartUpload, 200, Verdict::Unavailable),
            (PutObject, 409, Verdict::Unavailable),
            (PutObject, 412, Verdict::Precondition),
            (PutObject, 403, Verdict::Permission),
            (PutObject, 429, Verdict::Throttled),
        ] {
            assert_eq!(
                judge_unread(operation, status),
                want,
                "{operation:?} {status}"
            );
        }
    }
}
