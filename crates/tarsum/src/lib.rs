//! TarSum: what a tar archive contains, as one checksum, computed while the archive arrives.
//!
//! The first Docker registry named layers by it: `tarsum.v1+sha256:…` is the same for one set of
//! files whatever order they are in, whenever they were modified, and however the archive is
//! compressed. Use one to serve or migrate images of that time, or to find a layer again that was
//! packed anew; all else wants the digest, which names the very bytes.
//!
//! A layer gets one by `LayerService::upload` with it as the id, or
//! by a resume with it; `finish` verifies it. What is computed here is what clients of 2014 and
//! 2015 computed, down to the quirks of the tar reader that they used (Go's, before version 1.5);
//! the Docker of later years gives other sums. So this room has a tar reader of its own, and may
//! not use a correct one.
//!
//! # The way of a byte
//!
//! 1. `compression` passes plain input on, and decompresses gzip and Zstandard: a TarSum is a
//!    statement about the archive, however it came. The original refused compressed input.
//! 2. `archive` gathers headers and sends bodies to their hash. It is a machine that can stop
//!    between any two bytes.
//! 3. `header`, `extensions` and `sparse` say what a header, what goes before it, and a map
//!    of holes mean. `entry` says what of it is hashed.
//! 4. `order` keeps the hash of each entry, and sums them in an order that does not depend on the
//!    archive's, but for names that repeat (`go_sort`).
//!
//! # What holds
//!
//! 1. However the input is cut into pieces, the sum is the same, or there is none. So is what is told
//!    of a broken archive, unless it is its compression that is damaged.
//! 2. There is no sum of a broken archive. Where the original crashed, read for ever, took the end
//!    of the input for the end of the archive within a sparse file, or let chance decide, the
//!    archive is broken.
//! 3. What the reader of the time accepted is summed, even if the original then failed to write the
//!    archive again, as it did on its way.
//! 4. Bytes after the end of the archive (two blocks of zeros) do not count, and are not looked at,
//!    nor is what follows the gzip member or Zstandard frame that the end is in.
//! 5. Memory does not grow with the bytes of the archive. An entry costs 48 bytes (80 with
//!    SHA-512), up to twice that while the list grows, and [`TarSummer::tar_sum`] another four: with
//!    [`DEFAULT_ENTRY_LIMIT`] at most some 200 MiB. Beyond that there are a few MiB for extensions
//!    and maps, and for Zstandard the window that the input asks for, up to 128 MiB.
//! 6. Time is in proportion to the bytes of the decompressed archive and the holes in its sparse
//!    files. Either can be far more than was sent: deflate packs 1000 to 1, Zstandard more, and a
//!    hole needs no bytes at all, so there is [`DEFAULT_HOLE_LIMIT`].
//!
//! `claim` says what becomes of a sum that was claimed, and which versions are believed. Where to
//! compute it so that nobody waits, and what to do then, is for others to say.

use std::fmt;

use self::archive::{Archive, Limits};
use self::compression::Compression;
pub use self::digest::{Algorithm, Digest, Hasher, InvalidDigest, SavedHasher, is_lower_hex};
pub use self::error::{BrokenArchive, UnsupportedTarSum};
use self::error::{Cause, Unsupported};
pub use self::tar_sum::{InvalidTarSumText, TarSum, TarSumVersion};

#[macro_use]
mod text;

mod archive;
mod compression;
mod digest;
mod entry;
mod error;
mod extensions;
mod go_sort;
mod gzip;
mod header;
mod order;
mod sparse;
mod tar_sum;
mod zstd;

/// Entries that an archive may have, unless [`TarSummer::entry_limit`] says otherwise: two million,
/// some ten times what the largest images have in a layer.
pub const DEFAULT_ENTRY_LIMIT: u32 = 2_000_000;

/// Bytes of holes that the sparse files of an archive may have together, unless
/// [`TarSummer::hole_limit`] says otherwise: 16 GiB, which take some ten seconds to hash.
pub const DEFAULT_HOLE_LIMIT: u64 = 16 << 30;

/// Computes the TarSum of an archive that arrives piece by piece, compressed or not.
///
/// ```
/// use s3layers_tarsum::TarSummer;
/// use s3layers_tarsum::{Algorithm, TarSumVersion};
///
/// let mut summer = TarSummer::new(TarSumVersion::V1, Algorithm::Sha256)?;
/// summer.update(&[0; 512]);
/// summer.update(&[0; 512]);
/// assert_eq!(
///     summer.finish()?.to_string(),
///     "tarsum.v1+sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TarSummer {
    version: TarSumVersion,
    compression: Compression,
    archive: Archive,
    error: Option<BrokenArchive>,
}

impl TarSummer {
    /// A summer that has seen no bytes.
    ///
    /// # Errors
    ///
    /// For [`TarSumVersion::Other`]: nobody knows how to compute it.
    pub fn new(version: TarSumVersion, algorithm: Algorithm) -> Result<Self, UnsupportedTarSum> {
        if let TarSumVersion::Other(name) = &version {
            let what = format!("tarsum.{name}");
            return Err(UnsupportedTarSum::new(what, Unsupported::Version));
        }
        let limits = Limits {
            entries: DEFAULT_ENTRY_LIMIT,
            hole_bytes: DEFAULT_HOLE_LIMIT,
        };
        Ok(TarSummer {
            compression: Compression::new(),
            archive: Archive::new(version.clone(), algorithm, limits),
            version,
            error: None,
        })
    }

    /// A summer that computes what was claimed: in its version, with its hash function.
    ///
    /// # Errors
    ///
    /// If either is not known here.
    pub fn for_tar_sum(claimed: &TarSum) -> Result<Self, UnsupportedTarSum> {
        let Some(algorithm) = Algorithm::from_name(claimed.algorithm()) else {
            return Err(UnsupportedTarSum::new(
                claimed.to_string(),
                Unsupported::Algorithm,
            ));
        };
        TarSummer::new(claimed.version().clone(), algorithm)
    }

    /// The number of entries that the archive may have. An entry costs some 50 to 100 bytes of
    /// memory. Default: [`DEFAULT_ENTRY_LIMIT`].
    pub fn entry_limit(mut self, entries: u32) -> Self {
        self.archive.limits.entries = entries;
        self
    }

    /// The bytes of holes that the sparse files of the archive may have together. A hole costs the
    /// time to hash its zeros, within the [`update`](Self::update) that it appears in. Default:
    /// [`DEFAULT_HOLE_LIMIT`].
    pub fn hole_limit(mut self, bytes: u64) -> Self {
        self.archive.limits.hole_bytes = bytes;
        self
    }

    /// Takes the next bytes.
    ///
    /// It never fails, so that an upload need not stop: an error is told by
    /// [`error`](Self::error), [`tar_sum`](Self::tar_sum) and [`finish`](Self::finish), and bytes
    /// after it are passed over.
    ///
    /// # Cost
    ///
    /// Time for all that the bytes decompress to, and for the holes of sparse files: with hostile
    /// input that can be seconds. In an asynchronous program, call it where that may block.
    pub fn update(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.error = self.compression.push(bytes, &mut self.archive).err();
        }
    }

    /// What is wrong with the archive, if that is certain already. That it is not complete is not:
    /// more may come.
    pub fn error(&self) -> Option<&BrokenArchive> {
        self.error.as_ref()
    }

    /// The TarSum, if these were all bytes. More can come afterwards, also if there is none yet.
    ///
    /// # Errors
    ///
    /// If the archive is broken, or would be if it ended here.
    pub fn tar_sum(&self) -> Result<TarSum, BrokenArchive> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.compression.end(&self.archive)?;
        let digest = self.archive.sum()?;
        let dot = if self.version == TarSumVersion::V0 {
            ""
        } else {
            "."
        };
        let version = self.version.as_str();
        let text = format!("tarsum{dot}{version}+{digest}");
        // It always is one; the error saves a panic.
        let not_a_tar_sum = Cause::Malformed("its sum makes no TarSum");
        text.parse()
            .map_err(|_| BrokenArchive::new(self.archive.position(), not_a_tar_sum))
    }

    /// The TarSum of all bytes.
    ///
    /// # Errors
    ///
    /// If the archive is broken, or not complete.
    pub fn finish(self) -> Result<TarSum, BrokenArchive> {
        self.tar_sum()
    }
}

impl fmt::Debug for TarSummer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarSummer")
            .field("version", &self.version)
            .field("position", &self.archive.position())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
