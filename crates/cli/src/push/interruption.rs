//! The reasons for which a push ends early.

use std::io;

use crate::blocking_io::WrongInput;
use s3layers::Error;
use s3layers::tarsum::BrokenArchive;

/// Why a push ended early.
pub(super) enum Interruption {
    /// A signal was received.
    Signal,
    /// The input could not be read.
    Input(io::Error),
    /// The input is shorter than the upload.
    Short { size: u64 },
    /// The input does not begin with the bytes of the upload.
    Other,
    /// The input is not an archive, and has no TarSum.
    Archive(BrokenArchive),
    /// The upload failed.
    Upload(Error),
}

impl Interruption {
    pub(super) fn of_input(error: io::Error) -> Self {
        match error.get_ref() {
            Some(inner) if inner.is::<WrongInput>() => Interruption::Other,
            _ => Interruption::Input(error),
        }
    }
}

impl From<Error> for Interruption {
    fn from(error: Error) -> Self {
        Interruption::Upload(error)
    }
}

/// Whether the upload was refused for its bytes: they do not have the claimed id, or are too many.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidLength { .. }
            | Error::InvalidChecksum { .. }
            | Error::InvalidTarSum { .. }
            | Error::TarSumVersionUnsupported { .. }
            | Error::LayerTooLarge { .. }
    )
}
