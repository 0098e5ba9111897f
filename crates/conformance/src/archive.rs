//! Archives of a few files, and the TarSum that they have: written down again here, so that an
//! implementation is not held against itself.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use s3layers::{Algorithm, Digest, Hasher, TarSum};

const BLOCK: usize = 512;

/// What may stand at the end of an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Regular files, in the order of the archive. No two have one name.
#[derive(Clone)]
pub(super) struct Files(Vec<(&'static str, Bytes)>);

impl Files {
    pub(super) fn new(files: impl IntoIterator<Item = (&'static str, Bytes)>) -> Self {
        Files(files.into_iter().collect())
    }

    /// The archive, with its end.
    pub(super) fn archive(&self) -> Bytes {
        let mut bytes = self.without_end().to_vec();
        bytes.extend_from_slice(&END);
        bytes.into()
    }

    /// The archive without the zeros at its end, which is one as well.
    pub(super) fn without_end(&self) -> Bytes {
        let mut bytes = Vec::new();
        for (name, body) in &self.0 {
            bytes.extend_from_slice(&header(name, body.len()));
            bytes.extend_from_slice(body);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.into()
    }

    /// The same files, the last one first: the same TarSum.
    pub(super) fn reversed(&self) -> Self {
        Files(self.0.iter().rev().cloned().collect())
    }

    pub(super) fn tar_sum(&self) -> TarSum {
        self.sum("tarsum.v1", Algorithm::Sha256)
    }

    /// The TarSum with this label before the plus sign.
    pub(super) fn sum(&self, label: &str, algorithm: Algorithm) -> TarSum {
        let of_file = |(name, body): &(&str, Bytes)| {
            let size = body.len();
            let mut hasher = Hasher::new(algorithm);
            hasher.update(format!("name{name}mode420uid0gid0size{size}typeflag0").as_bytes());
            hasher.update(b"linknameunamegnamedevmajor0devminor0");
            hasher.update(body);
            hasher.digest().hex().to_owned()
        };
        let mut sums: Vec<String> = self.0.iter().map(of_file).collect();
        sums.sort();
        let sum = Digest::of(algorithm, sums.concat().as_bytes());
        format!("{label}+{sum}").parse().unwrap()
    }
}

/// A header as GNU tar and Go write it for POSIX: numbers in octal, behind them a NUL.
fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "12345670123");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

pub(super) fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}
