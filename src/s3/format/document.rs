//! The small JSON objects that we store: each carries a version, and a checksum of itself.
//!
//! S3 checks no body on its way down, so a flipped bit in an offset would be believed. The last
//! member of every document, `seal`, is therefore the CRC64NVME of all that stands before it. Pure.
//!
//! Documents refuse members that they do not know, and are written in the lowest version that can
//! say what they say: so an older process of a mixed fleet refuses what it does not understand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Error, Result};
use crate::s3::format::checksum::Crc64;
use crate::s3::format::keys::Key;

const SEAL: &str = ",\"seal\":\"crc64nvme";
/// What follows it in each attempt to write a document. The bytes of attempts differ, their size does not. One flipped
/// bit of the colon makes a `z`, which is none of these.
const ATTEMPTS: &[u8] = b":abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY";
/// The digits of the checksum.
const DIGITS: usize = 16;
const END: &str = "\"}";

/// A document that is stored: which versions of it this code reads.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// What it is called in an error.
    const WHAT: &'static str;
    /// The newest version that is written and read; all older ones are read too.
    const VERSION: u32;
}

/// What every version of a document has.
#[derive(Deserialize)]
struct VersionField {
    version: u32,
}

/// The bytes to store.
pub(crate) fn encode<T: Document>(document: &T) -> Result<Bytes> {
    let mut text = serde_json::to_string(document).map_err(|error| Error::Damaged {
        key: T::WHAT.to_owned(),
        reason: format!("it cannot be written as JSON: {error}"),
    })?;
    text.pop();
    let sum = Crc64::of(text.as_bytes()).value();
    text.push_str(&format!("{SEAL}:{sum:016x}{END}"));
    Ok(Bytes::from(text))
}

/// A document as it is written in this attempt, from 0 on. Other bytes stay as they are.
pub(crate) fn of_attempt(document: &Bytes, attempt: usize) -> Bytes {
    let Some(at) = document.len().checked_sub(1 + DIGITS + END.len()) else {
        return document.clone();
    };
    let (start, mark) = (&document[..at], ATTEMPTS[attempt % ATTEMPTS.len()]);
    if document[at] == mark || !start.ends_with(SEAL.as_bytes()) {
        return document.clone();
    }
    let mut bytes = document.to_vec();
    bytes[at] = mark;
    bytes.into()
}

/// Reads a document back.
///
/// # Errors
///
/// `Damaged` where it is no such document or was changed; `NewerVersion`.
pub(crate) fn decode<T: Document>(key: &Key, bytes: &[u8]) -> Result<T> {
    let damaged = |reason| Error::damaged(key, reason);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| damaged(format!("it is no {}: not UTF-8", T::WHAT)))?;
    let (body, sum) = text
        .strip_suffix(END)
        .and_then(|text| text.rsplit_once(SEAL))
        .and_then(|(body, seal)| {
            let (mark, sum) = seal.split_at_checked(1)?;
            let is_mark = ATTEMPTS.contains(&mark.as_bytes()[0]);
            is_mark.then_some((body, sum))
        })
        .ok_or_else(|| damaged(format!("it is no {}: its own checksum is missing", T::WHAT)))?;
    if format!("{:016x}", Crc64::of(body.as_bytes()).value()) != sum {
        return Err(damaged(format!(
            "the {} does not have its own checksum",
            T::WHAT
        )));
    }
    let text = format!("{body}}}");
    let unreadable = |error| damaged(format!("it is no {}: {error}", T::WHAT));
    // First, since a newer document may have members that this version does not know.
    let VersionField { version } = serde_json::from_str(&text).map_err(unreadable)?;
    if version > T::VERSION {
        return Err(Error::NewerVersion {
            key: key.to_string(),
            version,
            supported: T::VERSION,
        });
    }
    serde_json::from_str(&text).map_err(unreadable)
}

/// What stands under the key of a removed document where it was not deleted: because the store
/// deletes without a condition, or because a writer has to notice the removal. Reading it is reading
/// absence, and a writer replaces it with If-Match.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tombstone {
    version: u32,
    /// A nonce.
    tombstone: String,
}

impl Document for Tombstone {
    const WHAT: &'static str = "tombstone";
    const VERSION: u32 = 1;
}

/// The size of every tombstone in bytes. All other documents of the keys that can hold one are
/// larger, so a listing distinguishes them.
pub(crate) const TOMBSTONE_SIZE: u64 = 96;

/// The bytes of a fresh tombstone.
pub(crate) fn tombstone() -> Result<Bytes> {
    encode(&Tombstone {
        version: Tombstone::VERSION,
        tombstone: clock::new_nonce(),
    })
}

/// Whether these bytes are a tombstone.
pub(crate) fn is_tombstone(key: &Key, bytes: &[u8]) -> bool {
    bytes.len() as u64 == TOMBSTONE_SIZE && decode::<Tombstone>(key, bytes).is_ok()
}

impl Inline {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Bytes within a document, in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Inline(pub(crate) Bytes);

impl From<Inline> for String {
    fn from(inline: Inline) -> Self {
        BASE64.encode(inline.0)
    }
}

impl TryFrom<String> for Inline {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Inline(BASE64.decode(text)?.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        version: u32,
        text: String,
    }

    impl Document for Sample {
        const WHAT: &'static str = "sample";
        const VERSION: u32 = 1;
    }

    #[test]
    fn every_tombstone_has_the_size_that_a_listing_shows() {
        let (key, bytes) = (Key::from_listing("k"), tombstone().unwrap());
        assert_eq!(bytes.len() as u64, TOMBSTONE_SIZE);
        assert!(is_tombstone(&key, &bytes));
        let other = encode(&Sample {
            version: 1,
            text: "x".to_owned(),
        });
        assert!(!is_tombstone(&key, &other.unwrap()));
    }

    #[test]
    fn a_document_is_json_and_every_flipped_bit_in_it_is_seen() {
        let sample = Sample {
            version: 1,
            text: ",\"seal\":\"crc64nvme:0\"}".to_owned(),
        };
        let bytes = encode(&sample).unwrap();
        let key = Key::from_listing("k");
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        assert_eq!(decode::<Sample>(&key, &bytes).unwrap(), sample);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                assert!(
                    decode::<Sample>(&key, &flipped).is_err(),
                    "byte {at} bit {bit}"
                );
            }
            assert!(decode::<Sample>(&key, &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn attempts_differ_in_their_bytes_alone() {
        let key = Key::from_listing("k");
        let first = tombstone().unwrap();
        let attempts: BTreeSet<Bytes> = (0..40).map(|at| of_attempt(&first, at)).collect();
        assert_eq!(attempts.len(), 40);
        for attempt in attempts {
            assert!(is_tombstone(&key, &attempt));
            assert_eq!(of_attempt(&attempt, 0), first);
        }
        for other in [&b""[..], b"{}", &[b':'; 99]] {
            let other = Bytes::copy_from_slice(other);
            assert_eq!(of_attempt(&other, 1), other);
        }
    }

    #[test]
    fn a_version_to_come_is_refused() {
        #[derive(Serialize, Deserialize)]
        struct Newer {
            version: u32,
            other: u32,
        }
        impl Document for Newer {
            const WHAT: &'static str = "sample";
            const VERSION: u32 = 2;
        }
        let bytes = encode(&Newer {
            version: 2,
            other: 1,
        })
        .unwrap();
        let error = decode::<Sample>(&Key::from_listing("k"), &bytes).unwrap_err();
        let is_newer = matches!(
            error,
            Error::NewerVersion {
                version: 2,
                supported: 1,
                ..
            }
        );
        assert!(is_newer, "{error}");
    }
}
