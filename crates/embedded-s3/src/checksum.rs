//! The five checksums of S3: computed as bytes arrive, and put together from those of the parts.

use aws_smithy_checksums::ChecksumAlgorithm;
use aws_smithy_checksums::http::HttpChecksum;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use serde::{Deserialize, Serialize};

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    /// CRC-32.
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME: what S3 computes when nothing is asked for.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// Every algorithm.
    pub(crate) const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// The name that S3 has for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header or trailer that carries it.
    pub(crate) fn header(self) -> String {
        format!("x-amz-checksum-{}", self.name().to_lowercase())
    }

    /// The algorithm with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// How the checksum of a multipart object is made when the client does not say.
    pub(crate) fn usual_kind(self) -> Kind {
        match self {
            Self::Crc64Nvme => Kind::FullObject,
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => Kind::Composite,
        }
    }

    /// Whether S3 makes the checksum of a multipart object that way.
    pub(crate) fn allows(self, kind: Kind) -> bool {
        match self {
            Self::Crc32 | Self::Crc32c => true,
            Self::Crc64Nvme => kind == Kind::FullObject,
            Self::Sha1 | Self::Sha256 => kind == Kind::Composite,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

/// Of what the checksum of a multipart object is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Of the bytes of the whole object.
    FullObject,
    /// Of the checksums of its parts.
    Composite,
}

impl Kind {
    /// The name that S3 has for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// The kind with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::FullObject, Self::Composite]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// A checksum as S3 writes it: base64, of a composite with `-<parts>` behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) algorithm: Algorithm,
    pub(crate) value: String,
}

/// A checksum in the making.
pub(crate) struct Hasher {
    algorithm: Algorithm,
    /// The SDK's own, behind a pointer. The functions of crc-fast are inlined into their callers, so
    /// a crate that is compiled without optimisation gets them without: a sixth of the speed. Behind
    /// the pointer they belong to a crate that Cargo.toml optimises in debug builds too.
    hash: Box<dyn HttpChecksum>,
}

impl Hasher {
    /// Of no bytes yet.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let hash = match algorithm {
            Algorithm::Crc32 => ChecksumAlgorithm::Crc32,
            Algorithm::Crc32c => ChecksumAlgorithm::Crc32c,
            Algorithm::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
            Algorithm::Sha1 => ChecksumAlgorithm::Sha1,
            Algorithm::Sha256 => ChecksumAlgorithm::Sha256,
        };
        Self {
            algorithm,
            hash: hash.into_impl(),
        }
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// The checksum of all bytes added.
    pub(crate) fn finish(self) -> Sum {
        Sum {
            algorithm: self.algorithm,
            value: STANDARD.encode(self.hash.finalize()),
        }
    }
}

fn crc_bytes(algorithm: Algorithm, value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    match algorithm {
        Algorithm::Crc64Nvme => bytes.to_vec(),
        _ => bytes[4..].to_vec(),
    }
}

/// The checksum of an object, from those of its parts (base64, with the size of the part): without
/// reading a byte of it. `None` if a part's checksum is not one, or the algorithm cannot do that.
pub(crate) fn of_parts<'a>(
    algorithm: Algorithm,
    kind: Kind,
    parts: impl Iterator<Item = (&'a str, u64)>,
) -> Option<Sum> {
    let value = match kind {
        Kind::Composite => composite(algorithm, parts)?,
        Kind::FullObject => full_object(algorithm, parts)?,
    };
    Some(Sum { algorithm, value })
}

fn composite<'a>(
    algorithm: Algorithm,
    parts: impl Iterator<Item = (&'a str, u64)>,
) -> Option<String> {
    let mut hasher = Hasher::new(algorithm);
    let mut count = 0;
    for (value, _) in parts {
        hasher.update(&STANDARD.decode(value).ok()?);
        count += 1;
    }
    Some(format!("{}-{count}", hasher.finish().value))
}

fn full_object<'a>(
    algorithm: Algorithm,
    parts: impl Iterator<Item = (&'a str, u64)>,
) -> Option<String> {
    let crc = algorithm.crc()?;
    // That of no bytes.
    let mut whole = 0;
    for (value, size) in parts {
        let bytes = STANDARD.decode(value).ok()?;
        let part = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        whole = crc_fast::checksum_combine(crc, whole, part, size);
    }
    Some(STANDARD.encode(crc_bytes(algorithm, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish().value
    }

    /// The check values of the CRC catalogue and of the hash standards.
    #[test]
    fn known_values() {
        for (algorithm, bytes, want) in [
            (Algorithm::Crc32, "123456789", "y/Q5Jg=="),
            (Algorithm::Crc32c, "123456789", "4waSgw=="),
            (Algorithm::Crc64Nvme, "123456789", "rosUhgp5mIg="),
            (Algorithm::Sha1, "", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
            (
                Algorithm::Sha256,
                "",
                "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            ),
        ] {
            assert_eq!(sum(algorithm, bytes.as_bytes()), want, "{algorithm:?}");
        }
    }

    #[test]
    fn parts_make_the_whole() {
        let (head, tail) = (vec![7_u8; 100_003], b"tail".to_vec());
        for algorithm in Algorithm::ALL {
            let sums = [sum(algorithm, &head), sum(algorithm, &tail)];
            let parts = || {
                sums.iter()
                    .map(String::as_str)
                    .zip([head.len() as u64, tail.len() as u64])
            };
            let whole = of_parts(algorithm, Kind::FullObject, parts()).map(|sum| sum.value);
            let direct = sum(algorithm, &[head.clone(), tail.clone()].concat());
            assert_eq!(whole, algorithm.crc().map(|_| direct), "{algorithm:?}");
            let composite = of_parts(algorithm, Kind::Composite, parts()).map(|sum| sum.value);
            assert!(
                composite.is_some_and(|value| value.ends_with("-2")),
                "{algorithm:?}"
            );
        }
    }
}
