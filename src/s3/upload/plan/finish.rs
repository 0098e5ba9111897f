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
/// `tar_sum` is what is known of a declared TarSum already.
pub(crate) fn check(
    claimed_size: u64,
    received: u64,
    claimed: &Digest,
    declared: Option<&LayerId>,
    hashers: &[Hasher],
    tar_sum: Option<Result<()>>,
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
    if let Some(LayerId::TarSum(declared)) = declared {
        match tar_sum {
            Some(verdict) => {
                verdict?;
                claims.also.push(declared.clone().into());
            }
            None => claims.unverified.push(declared.clone().into()),
        }
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

    /// What the bytes told of the declared TarSum.
    #[derive(Clone, Copy)]
    enum Told {
        Nothing,
        Right,
        Wrong,
        Unsupported,
    }

    fn tar_sum() -> LayerId {
        let text = format!("tarsum.v1+sha256:{}", "0".repeat(64));
        text.parse().unwrap()
    }

    fn verdict(told: Told) -> Option<Result<()>> {
        let claimed = tar_sum().as_tar_sum().unwrap().clone();
        match told {
            Told::Nothing => None,
            Told::Right => Some(Ok(())),
            Told::Wrong => Some(Err(Error::InvalidTarSum {
                claimed,
                reason: "its archive is another".to_owned(),
            })),
            Told::Unsupported => Some(Err(Error::TarSumVersionUnsupported {
                tar_sum: claimed,
                reason: "nobody knows how",
            })),
        }
    }

    #[test]
    fn claims_are_checked_in_the_order_of_the_contract() {
        let sha256 = Digest::of(Algorithm::Sha256, b"layer");
        let sha512 = Digest::of(Algorithm::Sha512, b"layer");
        let wrong = Digest::of(Algorithm::Sha256, b"other");
        let one = hashers(&[Algorithm::Sha256]);
        let both = hashers(&[Algorithm::Sha256, Algorithm::Sha512]);
        let digest = |digest: &Digest| LayerId::from(digest.clone());
        let ok = |also: &[&LayerId], unverified: &[&LayerId]| {
            let ids = |ids: &[&LayerId]| ids.iter().map(|&id| id.clone()).collect();
            Ok(Claims {
                digest: Some(sha256.clone()),
                also: ids(also),
                unverified: ids(unverified),
            })
        };
        let (is_512, is_wrong, is_sum) = (digest(&sha512), digest(&wrong), tar_sum());
        let declared_sum = || Some(is_sum.clone());
        let unread = Told::Nothing;
        for (case, size, claimed, declared, hashers, told, want) in [
            ("right", 5, &sha256, None, &one, unread, ok(&[], &[])),
            (
                "length comes first",
                4,
                &wrong,
                declared_sum(),
                &one,
                Told::Wrong,
                Err("InvalidLength"),
            ),
            (
                "then the checksum",
                5,
                &wrong,
                declared_sum(),
                &one,
                Told::Wrong,
                Err("InvalidChecksum"),
            ),
            (
                "then the TarSum's kind",
                5,
                &sha256,
                declared_sum(),
                &one,
                Told::Unsupported,
                Err("TarSumVersionUnsupported"),
            ),
            (
                "then the TarSum",
                5,
                &sha256,
                declared_sum(),
                &one,
                Told::Wrong,
                Err("InvalidTarSum"),
            ),
            (
                "the right TarSum",
                5,
                &sha256,
                declared_sum(),
                &one,
                Told::Right,
                ok(&[&is_sum], &[]),
            ),
            (
                "a TarSum of bytes from elsewhere",
                5,
                &sha256,
                declared_sum(),
                &one,
                unread,
                ok(&[], &[&is_sum]),
            ),
            (
                "with a sha512, named at the end",
                5,
                &sha512,
                declared_sum(),
                &one,
                Told::Right,
                ok(&[&is_sum], &[&is_512]),
            ),
            (
                "declared another",
                5,
                &sha256,
                Some(is_wrong),
                &one,
                unread,
                Err("InvalidChecksum"),
            ),
            (
                "declared the same",
                5,
                &sha256,
                Some(digest(&sha256)),
                &one,
                unread,
                ok(&[], &[]),
            ),
            (
                "sha512, computed",
                5,
                &sha512,
                Some(is_512.clone()),
                &both,
                unread,
                ok(&[&is_512], &[]),
            ),
            (
                "sha512, named at the end",
                5,
                &sha512,
                None,
                &one,
                unread,
                ok(&[], &[&is_512]),
            ),
            (
                "declared sha512",
                5,
                &sha256,
                Some(is_512.clone()),
                &both,
                unread,
                ok(&[&is_512], &[]),
            ),
        ] {
            let got = check(size, 5, claimed, declared.as_ref(), hashers, verdict(told));
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
