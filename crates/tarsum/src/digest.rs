//! Digests, and the hashers that compute them: the only file that names a hash function.
//!
//! A [`Digest`] is written as the OCI image specification asks (`algorithm:hex`, lower case, full
//! length). A [`Hasher`] can be saved in the middle of its input and restored in another process;
//! the saved form carries a version, so that a reader that does not know it says so instead of
//! computing a wrong digest.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};

/// A digest algorithm of the OCI image specification.
///
/// <https://github.com/opencontainers/image-spec/blob/v1.1.0/descriptor.md#registered-algorithms>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// `sha256`, the one that every layer is stored under.
    Sha256,
    /// `sha512`
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// The name as it stands before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// How many hex digits a digest has.
    pub const fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }

    /// The algorithm of this name, where this crate computes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The digest of some bytes, such as `sha256:<64 hex digits>`.
///
/// ```
/// use s3layers_tarsum::{Algorithm, Digest};
///
/// let digest = Digest::of(Algorithm::Sha256, b"");
/// assert_eq!(digest, Digest::EMPTY_SHA256.parse()?);
/// assert!("sha256:E3B0".parse::<Digest>().is_err());
/// # Ok::<(), s3layers_tarsum::InvalidDigest>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// The SHA-256 of no bytes at all.
    pub const EMPTY_SHA256: &'static str =
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Hashes bytes that are at hand. For a stream there is [`Hasher`].
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.digest()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value in lower-case hex digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest, or one of an algorithm that this crate does not compute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{input:?} is not a digest: {reason}; expected sha256:<64 hex digits> or sha512:<128 hex digits>, lower case"
)]
pub struct InvalidDigest {
    input: String,
    reason: &'static str,
}

/// Whether a text has only the digits 0 to 9 and a to f.
pub fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn parse(input: &str) -> Result<Digest, &'static str> {
    let (name, hex) = input.split_once(':').ok_or("it has no colon")?;
    let algorithm = Algorithm::from_name(name).ok_or("its algorithm is not supported")?;
    if hex.len() != algorithm.hex_len() {
        return Err("it has the wrong length");
    }
    if !is_lower_hex(hex) {
        return Err("it has other than lower-case hex digits");
    }
    Ok(Digest {
        algorithm,
        hex: hex.into(),
    })
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(input: &str) -> Result<Self, InvalidDigest> {
        parse(input).map_err(|reason| InvalidDigest {
            input: input.chars().take(200).collect(),
            reason,
        })
    }
}

serde_by_text!(Digest);

/// Computes a [`Digest`] of bytes that arrive piece by piece.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// A hasher that has seen no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
        })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of the bytes so far. The hasher can be used further.
    pub fn digest(&self) -> Digest {
        Digest {
            algorithm: self.algorithm(),
            hex: to_hex(&self.value()).into(),
        }
    }

    /// The digest of the bytes so far, in binary.
    pub(crate) fn value(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(hash) => hash.clone().finalize().to_vec(),
            State::Sha512(hash) => hash.as_ref().clone().finalize().to_vec(),
        }
    }

    /// The state in the middle of the input, to resume in another process.
    pub fn save(&self) -> SavedHasher {
        let state = match &self.0 {
            State::Sha256(hash) => BASE64.encode(hash.serialize()),
            State::Sha512(hash) => BASE64.encode(hash.serialize()),
        };
        SavedHasher(format!("{}/{SAVED_VERSION}:{state}", self.algorithm()))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm())
    }
}

/// Lower-case hex digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(digit).collect()
}

/// The layout of the state that `sha2` 0.11 serializes. Vectors below pin it.
const SAVED_VERSION: &str = "1";

/// A [`Hasher`] at rest: `<algorithm>/<version of the layout>:<base64>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHasher(String);

impl SavedHasher {
    /// `None` where the state is of an algorithm or a layout that this version does not know.
    pub fn restore(&self) -> Option<Hasher> {
        let (head, state) = self.0.split_once(':')?;
        let (algorithm, version) = head.split_once('/')?;
        if version != SAVED_VERSION {
            return None;
        }
        let state = BASE64.decode(state).ok()?;
        Some(Hasher(match Algorithm::from_name(algorithm)? {
            Algorithm::Sha256 => {
                State::Sha256(Sha256::deserialize(&state.as_slice().try_into().ok()?).ok()?)
            }
            Algorithm::Sha512 => {
                let hash = Sha512::deserialize(&state.as_slice().try_into().ok()?).ok()?;
                State::Sha512(Box::new(hash))
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parse_cases() {
        let hex64 = "0123456789abcdef".repeat(4);
        for (case, input, ok) in [
            ("sha256", format!("sha256:{hex64}"), true),
            ("sha512", format!("sha512:{hex64}{hex64}"), true),
            (
                "upper case",
                format!("sha256:{}", hex64.to_uppercase()),
                false,
            ),
            ("short", format!("sha256:{}", &hex64[1..]), false),
            (
                "sha512 of half the length",
                format!("sha512:{hex64}"),
                false,
            ),
            ("no hex", "sha256:".to_owned(), false),
            ("no algorithm", hex64.clone(), false),
            (
                "unsupported",
                "md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
                false,
            ),
            ("unknown", format!("foo:{hex64}"), false),
            ("space in front", format!(" sha256:{hex64}"), false),
            ("path", "sha256:../../../etc".to_owned(), false),
        ] {
            let parsed = input.parse::<Digest>();
            assert_eq!(parsed.is_ok(), ok, "{case}: {parsed:?}");
            if let Ok(digest) = parsed {
                assert_eq!(digest.to_string(), input, "{case}");
            }
        }
    }

    /// A later `sha2` that lays its state out differently must fail here, not in a bucket.
    #[test]
    fn saved_states_of_version_1_are_read() {
        let sha256 = SavedHasher(
            include_str!("../../../tests/fixtures/hasher-sha256-v1.txt")
                .trim()
                .into(),
        );
        let sha512 = SavedHasher(
            include_str!("../../../tests/fixtures/hasher-sha512-v1.txt")
                .trim()
                .into(),
        );
        for (saved, algorithm) in [(sha256, Algorithm::Sha256), (sha512, Algorithm::Sha512)] {
            let mut hasher = saved.restore().unwrap();
            assert_eq!(hasher.save(), saved);
            hasher.update(b" and the rest");
            assert_eq!(
                hasher.digest(),
                Digest::of(algorithm, b"saved in the middle and the rest")
            );
        }
    }

    #[test]
    fn an_unknown_state_is_refused() {
        for text in [
            "",
            "sha256/2:AAAA",
            "sha256/1:AAAA",
            "md5/1:AAAA",
            "sha256/1:not base64",
        ] {
            assert!(SavedHasher(text.into()).restore().is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn saving_anywhere_changes_no_digest(bytes: Vec<u8>, cut: prop::sample::Index) {
            let (head, rest) = bytes.split_at(cut.index(bytes.len() + 1));
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(head);
                let mut hasher = hasher.save().restore().unwrap();
                hasher.update(rest);
                prop_assert_eq!(hasher.digest(), Digest::of(algorithm, &bytes));
            }
        }
    }
}
