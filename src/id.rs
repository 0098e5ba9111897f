//! What a layer is called: a digest of its bytes, or a TarSum of the archive in them.

use std::fmt;
use std::str::FromStr;

use s3layers_tarsum::{Algorithm, Digest};

pub use s3layers_tarsum::{InvalidTarSumText, TarSum, TarSumVersion};

/// The id of a layer: a [`Digest`] or a [`TarSum`]. A stored layer is found by either.
///
/// ```
/// use s3layers::LayerId;
///
/// let by_digest: LayerId =
///     "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// let by_tar_sum: LayerId =
///     "tarsum.v1+sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// assert!(by_digest.as_digest().is_some());
/// assert!(by_tar_sum.as_tar_sum().is_some());
/// # Ok::<(), s3layers::InvalidId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerId {
    /// The digest of the layer's bytes.
    Digest(Digest),
    /// The TarSum of the archive that the bytes are.
    TarSum(TarSum),
}

impl LayerId {
    /// The digest, if it is one.
    pub fn as_digest(&self) -> Option<&Digest> {
        match self {
            LayerId::Digest(digest) => Some(digest),
            LayerId::TarSum(_) => None,
        }
    }

    /// The TarSum, if it is one.
    pub fn as_tar_sum(&self) -> Option<&TarSum> {
        match self {
            LayerId::TarSum(tar_sum) => Some(tar_sum),
            LayerId::Digest(_) => None,
        }
    }

    /// Whether it is the id that records and links are kept under.
    pub(crate) fn is_sha256(&self) -> bool {
        self.as_digest().map(Digest::algorithm) == Some(Algorithm::Sha256)
    }
}

impl From<Digest> for LayerId {
    fn from(digest: Digest) -> Self {
        LayerId::Digest(digest)
    }
}

impl From<TarSum> for LayerId {
    fn from(tar_sum: TarSum) -> Self {
        LayerId::TarSum(tar_sum)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerId::Digest(digest) => digest.fmt(f),
            LayerId::TarSum(tar_sum) => tar_sum.fmt(f),
        }
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a digest or a TarSum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It begins like a TarSum.
    #[error(transparent)]
    TarSum(#[from] InvalidTarSumText),
    /// It does not, so it was read as a digest.
    #[error(transparent)]
    Digest(#[from] s3layers_tarsum::InvalidDigest),
}

impl FromStr for LayerId {
    type Err = InvalidId;

    fn from_str(input: &str) -> Result<Self, InvalidId> {
        if input.starts_with("tarsum") {
            return Ok(LayerId::TarSum(input.parse()?));
        }
        Ok(LayerId::Digest(input.parse()?))
    }
}

s3layers_tarsum::serde_by_text!(LayerId);
