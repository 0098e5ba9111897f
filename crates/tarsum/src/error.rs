//! Why there is no sum: the archive is broken, or the kind of TarSum is not supported.

use std::fmt;
use std::io;
use std::sync::Arc;

/// What is wrong with an archive. The words complete "the archive is broken at byte n: …".
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("it ends within {0}")]
    Truncated(&'static str),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0} is not a number")]
    NotANumber(&'static str),
    #[error("it has more than {0} entries")]
    TooManyEntries(u32),
    #[error("its sparse files have more than {0} bytes of holes")]
    TooManyHoles(u64),
    #[error("its {format} compression is damaged")]
    Damaged {
        format: &'static str,
        source: Arc<io::Error>,
    },
}

/// An archive that has no TarSum, since it cannot be read to its end.
///
/// `Display` shows the position and the cause; [`source`](std::error::Error::source) is the error of
/// the decompressor, if there was one.
#[derive(Clone, Debug)]
pub struct BrokenArchive {
    position: u64,
    cause: Cause,
}

impl BrokenArchive {
    pub(super) fn new(position: u64, cause: Cause) -> Self {
        BrokenArchive { position, cause }
    }

    /// Where the header or the map that cannot be read begins, or where the input stopped, in
    /// bytes of the archive: of the decompressed one, if it came compressed. Where compression is
    /// damaged, these are the bytes that came out before.
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl fmt::Display for BrokenArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BrokenArchive { position, cause } = self;
        write!(f, "the archive is broken at byte {position}: {cause}")
    }
}

impl std::error::Error for BrokenArchive {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Damaged { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// A TarSum version or a hash function that this crate does not compute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be computed: {reason}")]
pub struct UnsupportedTarSum {
    what: String,
    reason: &'static str,
}

impl UnsupportedTarSum {
    pub(super) fn new(what: String, reason: &'static str) -> Self {
        UnsupportedTarSum { what, reason }
    }

    /// What is missing, in words that follow "cannot be computed".
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}
