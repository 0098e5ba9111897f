//! What can go wrong: the contract's errors by name, and everything else as a [`StorageError`].
//!
//! An error is a variant of its own where a caller would act differently. Messages are for people
//! and no part of the API. A message does not repeat its source; print the chain to see it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::id::{LayerId, TarSum};
use crate::name::RepositoryName;
use s3layers_tarsum::Digest;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of the contract failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No layer with this id is stored. Lack of permission is never reported as this.
    #[error("layer {id} is unknown")]
    LayerUnknown {
        /// The id that was asked for.
        id: LayerId,
    },
    /// A layer with this id is stored already; there is nothing to upload.
    #[error("layer {id} exists already")]
    LayerExists {
        /// The id that was declared.
        id: LayerId,
    },
    /// Another upload of the same declared id is running in the same repository. It can be
    /// resumed by its UUID.
    #[error("layer {id} is being uploaded to {name} as upload {uuid}")]
    UploadInProgress {
        /// The repository.
        name: RepositoryName,
        /// The id that both uploads declare.
        id: LayerId,
        /// The upload that came first.
        uuid: Uuid,
    },
    /// There is no such upload: it never was, it was finished or cancelled, or its bytes are gone.
    #[error("upload {uuid} is unknown")]
    UploadUnknown {
        /// The upload that was asked for.
        uuid: Uuid,
    },
    /// Another process owns the upload; bytes not acknowledged to this handle are lost.
    #[error("upload {uuid}: {reason}")]
    UploadConflict {
        /// The upload.
        uuid: Uuid,
        /// Who has it, or in which state it is.
        reason: &'static str,
    },
    /// The size given to `finish` is not the number of bytes received.
    #[error("size mismatch: expected {claimed} bytes, received {received}")]
    InvalidLength {
        /// The size that was claimed, in bytes.
        claimed: u64,
        /// The bytes that were received.
        received: u64,
    },
    /// The bytes received have another digest than was claimed.
    #[error("digest mismatch: expected {claimed}, got {computed}")]
    InvalidChecksum {
        /// The digest that was claimed.
        claimed: Digest,
        /// The digest of the bytes received.
        computed: Digest,
    },
    /// TarSums of this version or algorithm cannot be verified here, so nothing is published.
    #[error("{tar_sum} cannot be verified: {reason}")]
    TarSumVersionUnsupported {
        /// The TarSum that was declared.
        tar_sum: TarSum,
        /// What is missing.
        reason: &'static str,
    },
    /// The bytes received are no archive with the declared TarSum.
    #[error("the layer was declared as {claimed}: {reason}")]
    InvalidTarSum {
        /// The TarSum that was declared.
        claimed: TarSum,
        /// The TarSum of the archive, or where the archive is broken.
        reason: String,
    },
    /// More bytes than the store can hold in one layer.
    #[error("the layer is larger than the {limit} bytes that one upload can hold")]
    LayerTooLarge {
        /// The largest size, in bytes.
        limit: u64,
    },
    /// What the store holds is not what was written there: an object is missing, short, changed,
    /// or does not have the checksum that was recorded. Nothing of it is handed out.
    #[error("{key} is damaged: {reason}")]
    Damaged {
        /// The object.
        key: String,
        /// What was expected, and what was found.
        reason: String,
    },
    /// A stored document was written by a newer version of this crate. It is left as it is.
    #[error(
        "{key} was written by a newer version (format {version}, this one reads up to {supported}); \
         upgrade s3layers"
    )]
    NewerVersion {
        /// The document.
        key: String,
        /// The version of its format.
        version: u32,
        /// The newest version that this crate reads.
        supported: u32,
    },
    /// The handle was used after it was closed, finished or cancelled.
    #[error("upload {uuid} was closed by this handle; resume it to continue")]
    UploadClosed {
        /// The upload.
        uuid: Uuid,
    },
    /// The store did not do what was asked.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Error {
    /// Whether the same call may succeed later without anything else being changed.
    ///
    /// ```
    /// use s3layers::Error;
    /// let error = Error::InvalidLength { claimed: 2, received: 1 };
    /// assert!(!error.is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Storage(storage) if storage.is_retryable())
    }

    /// Whether a document was found that cannot be read: a damaged one, or one of a newer version.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::NewerVersion { .. })
    }

    /// An object that is not what was recorded.
    pub(crate) fn damaged(key: &impl fmt::Display, reason: String) -> Self {
        Error::Damaged {
            key: key.to_string(),
            reason,
        }
    }

    /// Whether the store refused for lack of permission or wrong credentials.
    pub fn is_permission(&self) -> bool {
        matches!(self, Error::Storage(storage) if storage.is_permission())
    }

    /// Recovers the error that came through `AsyncRead`, `AsyncSeek` or `AsyncWrite`.
    pub fn from_io(error: std::io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::Storage(StorageError::new(
                "I/O",
                String::new(),
                StorageErrorKind::Other,
                error,
            )),
        }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind;
        let kind = match &error {
            Error::LayerUnknown { .. } | Error::UploadUnknown { .. } => ErrorKind::NotFound,
            Error::LayerExists { .. } => ErrorKind::AlreadyExists,
            Error::InvalidLength { .. }
            | Error::InvalidChecksum { .. }
            | Error::InvalidTarSum { .. }
            | Error::Damaged { .. } => ErrorKind::InvalidData,
            Error::UploadClosed { .. } => ErrorKind::BrokenPipe,
            Error::Storage(storage) if storage.is_permission() => ErrorKind::PermissionDenied,
            Error::Storage(storage) if storage.is_full() => ErrorKind::StorageFull,
            _ => ErrorKind::Other,
        };
        std::io::Error::new(kind, error)
    }
}

/// What kind of failure a [`StorageError`] is: what a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// No answer, a broken one, or a server's own failure.
    Unavailable,
    /// The server asks to be left in peace for a while.
    Throttled,
    /// No connection to the server: its name, its certificate.
    Unreachable,
    /// There are no credentials, or none that can be used.
    NoCredentials,
    /// What gives credentials did not answer.
    CredentialsUnavailable,
    /// No space is left.
    Full,
    /// Wrong credentials, or not allowed.
    Permission,
    /// The bucket is not there.
    NoSuchBucket,
    /// Anything else; the same call would fail the same way.
    Other,
}

/// A failure of the object store: the operation, the key it was about, and the cause.
pub struct StorageError(Box<Inner>);

struct Inner {
    operation: &'static str,
    key: String,
    kind: StorageErrorKind,
    attempts: u32,
    elapsed: Duration,
    answer: Option<String>,
    advice: Option<String>,
    source: Box<dyn StdError + Send + Sync>,
}

impl StorageError {
    /// A failure of `operation` on `key`, for storage other than S3. Neither is shown to a client
    /// of the registry.
    pub fn new(
        operation: &'static str,
        key: impl Into<String>,
        kind: StorageErrorKind,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        StorageError(Box::new(Inner {
            operation,
            key: key.into(),
            kind,
            attempts: 1,
            elapsed: Duration::ZERO,
            answer: None,
            advice: None,
            source: source.into(),
        }))
    }

    /// How many attempts were made.
    pub(crate) fn attempts(&self) -> u32 {
        self.0.attempts
    }

    pub(crate) fn after(mut self, attempts: u32, elapsed: Duration) -> Self {
        self.0.attempts = attempts;
        self.0.elapsed = elapsed;
        self
    }

    /// With what the store answered, if it did.
    pub(crate) fn answered(mut self, answer: Option<String>) -> Self {
        self.0.answer = answer;
        self
    }

    /// With what would make the call succeed, if that is known.
    pub(crate) fn advised(mut self, advice: Option<String>) -> Self {
        self.0.advice = advice;
        self
    }

    /// The same failure, where a later look may find it gone.
    pub(crate) fn into_retryable(mut self) -> Self {
        self.0.kind = StorageErrorKind::Unavailable;
        self
    }

    /// The S3 operation that failed, such as `UploadPart`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key that the operation was about, or the prefix of a listing.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// The status and S3's own code of the answer, such as `403 AccessDenied`; `None` where no
    /// answer came. HEAD has no code.
    pub fn answer(&self) -> Option<&str> {
        self.0.answer.as_deref()
    }

    /// What would make the call succeed, where that is known: a missing permission, another region,
    /// a certificate to trust.
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    /// Whether the same call may succeed later: the store was unreachable, failed, or throttled.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            StorageErrorKind::Unavailable
                | StorageErrorKind::Unreachable
                | StorageErrorKind::CredentialsUnavailable
                | StorageErrorKind::Throttled
        )
    }

    /// Whether the store asked for fewer requests (503 SlowDown, 429).
    pub fn is_throttled(&self) -> bool {
        self.0.kind == StorageErrorKind::Throttled
    }

    /// Whether the store has no space left (507): the call succeeds once space was freed.
    pub fn is_full(&self) -> bool {
        self.0.kind == StorageErrorKind::Full
    }

    /// Whether the store refused for lack of permission or wrong credentials, or there are none.
    pub fn is_permission(&self) -> bool {
        matches!(
            self.0.kind,
            StorageErrorKind::Permission | StorageErrorKind::NoCredentials
        )
    }

    /// Whether the bucket does not exist.
    pub fn is_no_such_bucket(&self) -> bool {
        self.0.kind == StorageErrorKind::NoSuchBucket
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            operation,
            key,
            kind,
            attempts,
            elapsed,
            answer,
            advice,
            ..
        } = &*self.0;
        let what = match kind {
            StorageErrorKind::Unavailable => "the store did not answer as it should",
            StorageErrorKind::Throttled => "the store asks to slow down",
            StorageErrorKind::Unreachable => "cannot connect to the store",
            StorageErrorKind::NoCredentials | StorageErrorKind::CredentialsUnavailable => {
                "cannot get credentials"
            }
            StorageErrorKind::Full => "the store has no space left",
            StorageErrorKind::Permission => "the store refused permission",
            StorageErrorKind::NoSuchBucket => "the bucket does not exist",
            StorageErrorKind::Other => "the store refused",
        };
        write!(f, "{operation}")?;
        if !key.is_empty() {
            write!(f, " of {key}")?;
        }
        write!(f, ": {what}")?;
        // S3's own code is shown with its message, by the cause.
        let status = answer.as_deref().filter(|answer| !answer.contains(' '));
        let status = status.map(|status| format!("HTTP status {status}"));
        let repeated = (*attempts > 1)
            .then(|| format!("{attempts} attempts in {:.1} s", elapsed.as_secs_f64()));
        let details: Vec<_> = status.into_iter().chain(repeated).collect();
        if !details.is_empty() {
            write!(f, " ({})", details.join(", "))?;
        }
        if let Some(advice) = advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageError")
            .field("operation", &self.0.operation)
            .field("key", &self.0.key)
            .field("kind", &self.0.kind)
            .field("attempts", &self.0.attempts)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for StorageError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0.source)
    }
}
