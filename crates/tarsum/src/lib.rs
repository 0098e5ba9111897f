//! TarSum: one checksum of the contents of a tar archive, computed while the archive arrives.
//!
//! The first Docker registry named layers by it: `tarsum.v1+sha256:…` does not depend on the order of
//! the files, their modification times, or the compression of the archive. Use it to serve or migrate
//! images of that time, or to find a layer that was packed again. In all other cases use the digest,
//! which identifies the exact bytes.
//!
//! A layer gets a TarSum by `LayerService::upload` with it as the id, or by a resume with it; `finish`
//! verifies it. This crate computes what clients of 2014 and 2015 computed, with the quirks of the tar
//! reader that they used (Go's, before version 1.5). Later versions of Docker compute other sums. So
//! this crate has a tar reader of its own, and cannot use a correct one.
//!
//! # Data flow
//!
//! 1. `compression` decompresses gzip and Zstandard, and passes plain input through. The original
//!    refused compressed input.
//! 2. `archive` collects headers and passes bodies to their hash. It is a state machine that can stop
//!    between any two bytes.
//! 3. `header`, `extensions` and `sparse` parse headers, extension headers and maps of holes. `entry`
//!    selects what is hashed.
//! 4. `order` keeps the hash of each entry, and sums them in an order that does not depend on that of
//!    the archive, except for repeated names (`go_sort`).
//!
//! # Invariants
//!
//! 1. The sum, or its absence, does not depend on how the input is split. The same is true of the error
//!    of a broken archive, unless its compression is damaged.
//! 2. There is no sum of a broken archive. An archive is broken if the original crashed, never ended,
//!    took the end of the input for the end of the archive within a sparse file, or had a random
//!    result.
//! 3. An archive that the reader of 2014 accepted is summed, even if the original then failed to write
//!    the archive again.
//! 4. Bytes after the end of the archive (two blocks of zeros) are ignored, and so are those after the
//!    gzip member or Zstandard frame that contains the end.
//! 5. Memory does not grow with the bytes of the archive. An entry costs 48 bytes (80 with
//!    SHA-512), up to twice that while the list grows, and [`TarSummer::tar_sum`] another four: with
//!    [`DEFAULT_ENTRY_LIMIT`] at most some 200 MiB. Beyond that there are a few MiB for extensions
//!    and maps, and for Zstandard the window that the input asks for, up to 128 MiB.
//! 6. Time is in proportion to the bytes of the decompressed archive and the holes in its sparse
//!    files. Either can be far more than was sent: deflate packs 1000 to 1, Zstandard more, and a
//!    hole needs no bytes at all, so there is [`DEFAULT_HOLE_LIMIT`].
//!
//! The caller decides where to compute the sum without blocking others, and what a mismatch means.

use std::fmt;

use self::archive::{Archive, Limits};
use self::compression::Compression;
pub use self::digest::{Algorithm, Digest, Hasher, InvalidDigest, SavedHasher, is_lower_hex};
pub use self::error::{BrokenArchive, UnsupportedTarSum};
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
mod output;
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
    compression: Compression,
    archive: Archive,
    error: Option<BrokenArchive>,
}

impl TarSummer {
    /// A summer that has seen no bytes.
    ///
    /// # Errors
    ///
    /// For [`TarSumVersion::Other`]: the version is not supported.
    pub fn new(version: TarSumVersion, algorithm: Algorithm) -> Result<Self, UnsupportedTarSum> {
        if let TarSumVersion::Other(name) = &version {
            let what = format!("tarsum.{name}");
            let reason = "the versions are tarsum, tarsum.v1 and tarsum.dev";
            return Err(UnsupportedTarSum::new(what, reason));
        }
        let limits = Limits {
            entries: DEFAULT_ENTRY_LIMIT,
            hole_bytes: DEFAULT_HOLE_LIMIT,
        };
        Ok(TarSummer {
            compression: Compression::new(),
            archive: Archive::new(version, algorithm, limits),
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
            let reason = "the algorithms are sha256 and sha512";
            return Err(UnsupportedTarSum::new(claimed.to_string(), reason));
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
    /// It never fails, so that an upload need not stop: an error is returned by
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
        Ok(TarSum::new(
            self.archive.version.clone(),
            &self.archive.sum()?,
        ))
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
            .field("version", &self.archive.version)
            .field("position", &self.archive.position())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
