//! `tarsum`: computes the TarSum of an archive. No store is involved.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::input;
use s3layers::tarsum::{BrokenArchive, TarSummer};
use s3layers::{Algorithm, Digest, Hasher, TarSum, TarSumVersion};

/// Bytes of one read.
const PIECE: usize = 1024 * 1024;

/// Print the TarSum of a tar archive
///
/// A TarSum identifies the content of an archive, independent of the order of its files and of its
/// compression (none, gzip or Zstandard). The first Docker registry named layers by version 1;
/// `push --tarsum` and `push --id` accept it.
#[derive(Debug, Args)]
pub(super) struct Tarsum {
    /// Read this archive, or standard input for -
    file: PathBuf,
    /// Use the rules of this version
    #[arg(long, value_enum, default_value = "1")]
    version: Version,
    /// Use this hash function
    #[arg(long, value_enum, default_value = "sha256")]
    algorithm: Function,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Version {
    /// Counts modification times; no registry accepts it
    #[value(name = "0")]
    V0,
    /// Names layers
    #[value(name = "1")]
    V1,
    /// Equals 1 under another name
    Dev,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Function {
    Sha256,
    Sha512,
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "tar_sum")]
struct TarSumEvent<'a> {
    tar_sum: &'a TarSum,
}

impl Tarsum {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let version = match self.version {
            Version::V0 => TarSumVersion::V0,
            Version::V1 => TarSumVersion::V1,
            Version::Dev => TarSumVersion::Dev,
        };
        let algorithm = match self.algorithm {
            Function::Sha256 => Algorithm::Sha256,
            Function::Sha512 => Algorithm::Sha512,
        };
        let summer = TarSummer::new(version, algorithm).map_err(|error| Failure::of(&error))?;
        let Sums { tar_sum, .. } = read(&self.file, summer).await?;
        context.output.say(&tar_sum)?;
        context.output.event(&TarSumEvent { tar_sum: &tar_sum })
    }
}

/// The checksums of an archive.
pub(super) struct Sums {
    pub(super) tar_sum: TarSum,
    /// The SHA-256 of its bytes.
    pub(super) digest: Digest,
}

/// Reads an archive in a thread.
pub(super) async fn read(file: &Path, summer: TarSummer) -> Result<Sums, Failure> {
    let input = input::open(file)?.reader;
    let read = tokio::task::spawn_blocking(move || sums(input, summer));
    let read = read.await.map_err(|error| Failure::of(&error))?;
    let sums = read.map_err(|error| input::cannot_read(file, &error))?;
    sums.map_err(|broken| has_none(file, &broken))
}

/// The failure of a broken archive, which has no TarSum.
pub(super) fn has_none(file: &Path, broken: &BrokenArchive) -> Failure {
    Failure::of(broken).context(format_args!("{} has no TarSum", input::name(file)))
}

fn sums(
    mut input: impl io::Read,
    mut summer: TarSummer,
) -> io::Result<Result<Sums, BrokenArchive>> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; PIECE];
    // Bytes after a broken header cannot repair the archive.
    while summer.error().is_none() {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                summer.update(&buffer[..read]);
                hasher.update(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = hasher.digest();
    Ok(summer.finish().map(|tar_sum| Sums { tar_sum, digest }))
}
