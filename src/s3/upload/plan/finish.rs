//! What a finish may claim, and what an object that was to be completed turns out to be.

use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::api::ObjectInfo;
use crate::s3::checksum::Crc64;

/// The ids of a layer, sorted by what is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The SHA-256, unless the hash state was lost.
    pub(crate) digest: Option<Digest>,
    /// Other ids that were verified.
    pub(crate) also: Vec<LayerId>,
    /// Ids that only reading the object can verify.
    pub(crate) unverified: Vec<LayerId>,
}

/// Checks what is claimed against what was received, in the order that the contract gives.
pub(crate) fn check(
    claimed_size: u64,
    received: u64,
    claimed: &Digest,
    declared: Option<&LayerId>,
    hashers: &[Hasher],
) -> Result<Claims> {
    if claimed_size != received {
        return Err(Error::InvalidLength {
            claimed: claimed_size,
            received,
        });
    }
    let computed = |algorithm: Algorithm| {
        hashers
            .iter()
            .find(|hasher| hasher.algorithm() == algorithm)
            .map(Hasher::digest)
    };
    let mut claims = Claims {
        digest: computed(Algorithm::Sha256),
        also: Vec::new(),
        unverified: Vec::new(),
    };
    let declared_digest = declared
        .and_then(LayerId::as_digest)
        .filter(|&other| other != claimed);
    for digest in std::iter::once(claimed).chain(declared_digest) {
        match computed(digest.algorithm()) {
            Some(computed) if computed != *digest => {
                return Err(Error::InvalidChecksum {
                    claimed: digest.clone(),
                    computed,
                });
            }
            Some(_) if digest.algorithm() == Algorithm::Sha256 => {}
            Some(_) => claims.also.push(digest.clone().into()),
            None => claims.unverified.push(digest.clone().into()),
        }
    }
    if let Some(LayerId::TarSum(tar_sum)) = declared {
        return Err(Error::TarSumVersionUnsupported {
            tar_sum: tar_sum.clone(),
            reason: crate::id::TAR_SUM_NOT_COMPUTED,
        });
    }
    Ok(claims)
}

/// What stands where a multipart upload was to be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    /// The bytes that were sent.
    Right,
    /// Something of the right size that the store tells no checksum of: read it.
    Unproven,
    /// Something else.
    Wrong,
    /// Nothing.
    Absent,
}

/// Judges an object by what HEAD tells of it.
pub(crate) fn judge_completed(found: Option<&ObjectInfo>, whole: Crc64) -> Completed {
    let Some(found) = found else {
        return Completed::Absent;
    };
    if found.size != whole.len() {
        return Completed::Wrong;
    }
    match &found.crc64 {
        Some(sum) if whole.is(sum) => Completed::Right,
        Some(_) => Completed::Wrong,
        None => Completed::Unproven,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hashers(algorithms: &[Algorithm]) -> Vec<Hasher> {
        let hash = |&algorithm: &Algorithm| {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"layer");
            hasher
        };
        algorithms.iter().map(hash).collect()
    }

    #[test]
    fn claims_are_checked_in_the_order_of_the_contract() {
        let sha256 = Digest::of(Algorithm::Sha256, b"layer");
        let sha512 = Digest::of(Algorithm::Sha512, b"layer");
        let wrong = Digest::of(Algorithm::Sha256, b"other");
        let tar_sum = || {
            Some(
                format!("tarsum.v1+sha256:{}", "0".repeat(64))
                    .parse()
                    .unwrap(),
            )
        };
        let id = |digest: &Digest| Some(LayerId::from(digest.clone()));
        let one = hashers(&[Algorithm::Sha256]);
        let both = hashers(&[Algorithm::Sha256, Algorithm::Sha512]);
        let ok = |also: &[&Digest], unverified: &[&Digest]| {
            let ids = |ids: &[&Digest]| ids.iter().map(|&id| id.clone().into()).collect();
            Ok(Claims {
                digest: Some(sha256.clone()),
                also: ids(also),
                unverified: ids(unverified),
            })
        };
        for (case, size, claimed, declared, hashers, want) in [
            ("right", 5, &sha256, None, &one, ok(&[], &[])),
            (
                "length comes first",
                4,
                &wrong,
                tar_sum(),
                &one,
                Err("InvalidLength"),
            ),
            (
                "then the checksum",
                5,
                &wrong,
                tar_sum(),
                &one,
                Err("InvalidChecksum"),
            ),
            (
                "then the TarSum",
                5,
                &sha256,
                tar_sum(),
                &one,
                Err("TarSumVersionUnsupported"),
            ),
            (
                "declared another",
                5,
                &sha256,
                id(&wrong),
                &one,
                Err("InvalidChecksum"),
            ),
            (
                "declared the same",
                5,
                &sha256,
                id(&sha256),
                &one,
                ok(&[], &[]),
            ),
            (
                "sha512, computed",
                5,
                &sha512,
                id(&sha512),
                &both,
                ok(&[&sha512], &[]),
            ),
            (
                "sha512, named at the end",
                5,
                &sha512,
                None,
                &one,
                ok(&[], &[&sha512]),
            ),
            (
                "declared sha512",
                5,
                &sha256,
                id(&sha512),
                &both,
                ok(&[&sha512], &[]),
            ),
        ] {
            let got = check(size, 5, claimed, declared.as_ref(), hashers);
            match want {
                Ok(want) => assert_eq!(got.unwrap(), want, "{case}"),
                Err(name) => {
                    let error = format!("{:?}", got.unwrap_err());
                    assert!(error.starts_with(name), "{case}: {error}");
                }
            }
        }
    }

    #[test]
    fn an_object_is_judged_by_size_and_checksum() {
        let whole = Crc64::of(b"layer");
        let etag: crate::s3::api::ETag = serde_json::from_value("e".into()).unwrap();
        let object = |size, crc64: Option<Crc64>| {
            let crc64 = crc64.map(Crc64::to_base64);
            Some(ObjectInfo {
                size,
                etag: etag.clone(),
                crc64,
            })
        };
        for (case, found, want) in [
            ("nothing", None, Completed::Absent),
            ("right", object(5, Some(whole)), Completed::Right),
            ("short", object(4, Some(whole)), Completed::Wrong),
            (
                "other bytes",
                object(5, Some(Crc64::of(b"other"))),
                Completed::Wrong,
            ),
            ("no checksum", object(5, None), Completed::Unproven),
        ] {
            assert_eq!(judge_completed(found.as_ref(), whole), want, "{case}");
        }
    }
}
