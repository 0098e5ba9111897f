//! Why a push ended before its layer was stored.

use std::io;

use crate::threads::OtherInput;
use s3layers::Error;
use s3layers::tarsum::BrokenArchive;

/// Why the bytes ended before the input did.
pub(super) enum Cut {
    /// By a signal.
    Told,
    /// The input could not be read.
    Input(io::Error),
    /// The input ends before the bytes that the upload has.
    Short { size: u64 },
    /// The input does not begin with the bytes that the upload has.
    Other,
    /// It is no archive, and its TarSum is wanted.
    Archive(BrokenArchive),
    /// The store, or the contract.
    Upload(Error),
}

impl Cut {
    pub(super) fn of_input(error: io::Error) -> Self {
        match error.get_ref() {
            Some(inner) if inner.is::<OtherInput>() => Cut::Other,
            _ => Cut::Input(error),
        }
    }
}

/// Whether a claim was wrong. No resume can make it right: the id is that of the upload, and the bytes
/// are those of the input.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidLength { .. }
            | Error::InvalidChecksum { .. }
            | Error::InvalidTarSum { .. }
            | Error::TarSumVersionUnsupported { .. }
    )
}
