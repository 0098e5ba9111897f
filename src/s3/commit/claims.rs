//! What a finish claims, against what was received. Pure.

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::session::CommitIntent;
use s3layers_tarsum::{Algorithm, Digest, Hasher};

/// What was received of a layer.
pub(crate) struct ReceivedContent<'a> {
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) sha256: &'a Hasher,
    /// Of other algorithms.
    pub(crate) others: &'a [Hasher],
    /// The verdict on a declared TarSum, where this process has seen all bytes.
    pub(crate) tar_sum: Option<Result<()>>,
}

/// Checks what is claimed against what was received, in the order that the contract gives. What a commit that begins
/// `at` this time is to publish.
pub(crate) fn check(
    at: Timestamp,
    claimed_size: u64,
    claimed: &Digest,
    declared: Option<&LayerId>,
    received: ReceivedContent<'_>,
) -> Result<CommitIntent> {
    if claimed_size != received.size {
        return Err(Error::InvalidLength {
            claimed: claimed_size,
            received: received.size,
        });
    }
    let computed = |algorithm: Algorithm| {
        std::iter::once(received.sha256)
            .chain(received.others)
            .find(|hasher| hasher.algorithm() == algorithm)
            .map(Hasher::digest)
    };
    let mut intent = CommitIntent {
        at,
        digest: received.sha256.digest(),
        aliases: Vec::new(),
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
            Some(_) => intent.aliases.push(digest.clone().into()),
            None => intent.unverified.push(digest.clone().into()),
        }
    }
    if let Some(LayerId::TarSum(declared)) = declared {
        match received.tar_sum {
            Some(verdict) => {
                verdict?;
                intent.aliases.push(declared.clone().into());
            }
            None => intent.unverified.push(declared.clone().into()),
        }
    }
    Ok(intent)
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

    /// The result of the bytes for the declared TarSum.
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
                reason: "unknown algorithm",
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
            Ok(CommitIntent {
                at: Timestamp::UNIX_EPOCH,
                digest: sha256.clone(),
                aliases: ids(also),
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
            let [sha256, others @ ..] = hashers.as_slice() else {
                panic!("{case}");
            };
            let received = ReceivedContent {
                size: 5,
                sha256,
                others,
                tar_sum: verdict(told),
            };
            let at = Timestamp::UNIX_EPOCH;
            let got = check(at, size, claimed, declared.as_ref(), received);
            match want {
                Ok(want) => assert_eq!(got.unwrap(), want, "{case}"),
                Err(name) => {
                    let error = format!("{:?}", got.unwrap_err());
                    assert!(error.starts_with(name), "{case}: {error}");
                }
            }
        }
    }
}
