//! The text of a TarSum: `tarsum[.version]+algorithm:hex`, parsed and carried.
//!
//! The pattern of the original registry was not anchored and did not escape its dot. Ours is strict, so
//! that no text can smuggle a path into a key.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, is_lower_hex};

/// Which rules a TarSum was computed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TarSumVersion {
    /// `tarsum`: counts modification times, ignores extended attributes.
    V0,
    /// `tarsum.v1`
    V1,
    /// `tarsum.dev`: computed as version 1 is.
    Dev,
    /// A version that this crate does not know. It is carried, and never verified.
    Other(Box<str>),
}

impl TarSumVersion {
    /// The text between `tarsum.` and the plus sign; empty for version 0.
    pub fn as_str(&self) -> &str {
        match self {
            TarSumVersion::V0 => "",
            TarSumVersion::V1 => "v1",
            TarSumVersion::Dev => "dev",
            TarSumVersion::Other(version) => version,
        }
    }
}

/// A checksum of what a tar archive contains, such as `tarsum.v1+sha256:<64 hex digits>`.
///
/// It names the archive's entries in any order or compression, and is what the
/// first Docker registry called a layer by.
///
/// ```
/// use s3layers_tarsum::{TarSum, TarSumVersion};
///
/// let text = "tarsum.v1+sha256:6ffd43a1573a9913325b4918e124ee982a99c0f3cba90fc032a65f5e20bdd465";
/// let tar_sum: TarSum = text.parse()?;
/// assert_eq!(tar_sum.version(), &TarSumVersion::V1);
/// assert_eq!(tar_sum.to_string(), text);
/// # Ok::<(), s3layers_tarsum::InvalidTarSumText>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TarSum {
    version: TarSumVersion,
    algorithm: Box<str>,
    hex: Box<str>,
}

impl TarSum {
    pub(crate) fn new(version: TarSumVersion, digest: &Digest) -> Self {
        TarSum {
            version,
            algorithm: digest.algorithm().as_str().into(),
            hex: digest.hex().into(),
        }
    }

    /// The version.
    pub fn version(&self) -> &TarSumVersion {
        &self.version
    }

    /// The name of the hash function. Any name is carried; `sha256` and `sha512` are verified.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The value in lower-case hex digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for TarSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tarsum")?;
        if self.version != TarSumVersion::V0 {
            write!(f, ".{}", self.version.as_str())?;
        }
        write!(f, "+{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for TarSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no TarSum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{input:?} is not a TarSum: {reason}; expected tarsum.v1+sha256:<64 hex digits>, lower case"
)]
pub struct InvalidTarSumText {
    input: String,
    reason: &'static str,
}

/// Digits of the algorithms that the original computed; others only have to be plausible.
fn is_hex_len(algorithm: &str, len: usize) -> bool {
    match algorithm {
        "md5" => len == 32,
        "sha1" => len == 40,
        "sha224" => len == 56,
        "sha256" => len == 64,
        "sha384" => len == 96,
        "sha512" => len == 128,
        _ => (2..=256).contains(&len) && len.is_multiple_of(2),
    }
}

fn is_word(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=32).contains(&text.len()) && text.bytes().all(word)
}

fn parse(input: &str) -> Result<TarSum, &'static str> {
    let (label, rest) = input.split_once('+').ok_or("it has no plus sign")?;
    let (algorithm, hex) = rest.split_once(':').ok_or("it has no colon")?;
    let version = match label
        .strip_prefix("tarsum")
        .ok_or("it does not begin with tarsum")?
    {
        "" => TarSumVersion::V0,
        ".v1" => TarSumVersion::V1,
        ".dev" => TarSumVersion::Dev,
        other => match other.strip_prefix('.') {
            Some(version) if is_word(version) => TarSumVersion::Other(version.into()),
            _ => return Err("its version is malformed"),
        },
    };
    if !is_word(algorithm) {
        return Err("its algorithm is malformed");
    }
    if !is_hex_len(algorithm, hex.len()) {
        return Err("it has the wrong length");
    }
    if !is_lower_hex(hex) {
        return Err("it has other than lower-case hex digits");
    }
    Ok(TarSum {
        version,
        algorithm: algorithm.into(),
        hex: hex.into(),
    })
}

impl FromStr for TarSum {
    type Err = InvalidTarSumText;

    fn from_str(input: &str) -> Result<Self, InvalidTarSumText> {
        parse(input).map_err(|reason| InvalidTarSumText {
            input: input.chars().take(200).collect(),
            reason,
        })
    }
}

serde_by_text!(TarSum);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_cases() {
        let hex = "0123456789abcdef".repeat(4);
        for (input, ok) in [
            (format!("tarsum+sha256:{hex}"), true),
            (format!("tarsum.v1+sha256:{hex}"), true),
            (format!("tarsum.dev+sha256:{hex}"), true),
            (format!("tarsum.v23+sha256:{hex}"), true),
            (format!("tarsum.v1+sha512:{hex}{hex}"), true),
            (
                "tarsum.v1+md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
                true,
            ),
            ("tarsum.v1+test:1234ef".to_owned(), true),
            (format!("tarsumxv1+sha256:{hex}"), false),
            (format!("tarsum.+sha256:{hex}"), false),
            (format!("tarsum.v1/../x+sha256:{hex}"), false),
            (format!("tarsum.v1:sha256:{hex}"), false),
            (format!("xtarsum.v1+sha256:{hex}"), false),
            (format!("tarsum.v1+sha256:{hex}x"), false),
            (format!("tarsum.v1+sha256:{}", hex.to_uppercase()), false),
            (format!("tarsum.v1+sha256:{}", &hex[2..]), false),
            ("tarsum.v1+test:123".to_owned(), false),
            ("tarsum.v1+:00".to_owned(), false),
            ("tarsum".to_owned(), false),
        ] {
            let parsed = input.parse::<TarSum>();
            assert_eq!(parsed.is_ok(), ok, "{input}: {parsed:?}");
            if let Ok(tar_sum) = parsed {
                assert_eq!(tar_sum.to_string(), input);
            }
        }
    }
}
