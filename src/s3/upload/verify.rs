//! What only reading the assembled object can verify: another digest than was computed as the bytes
//! arrived, a TarSum of which this process has not seen all bytes, or all of it on a store that
//! verifies nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::session::{Sealed, Session};
use super::summing::Summing;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::api::ETag;
use crate::s3::checksum::{Crc64, Running};
use crate::s3::keys::Key;
use crate::s3::read::ReadBack;
use crate::s3::store::Store;

/// How often an object is read that does not have the checksum of what was sent: once may have been
/// the wire.
const READS: u32 = 2;

/// What reading the object has shown.
#[derive(Default)]
pub(super) struct Found {
    digests: Vec<Digest>,
    /// Of each TarSum that was to be verified, in their order.
    tar_sums: Vec<Result<()>>,
}

impl Found {
    pub(super) fn digest(&self, algorithm: Algorithm) -> Option<&Digest> {
        let mut digests = self.digests.iter();
        digests.find(|digest| digest.algorithm() == algorithm)
    }
}

/// Reads the object, for SHA-256 and whatever else was claimed. `None` where, however often it is
/// read, its bytes are not those that were sent, which says nothing about the claims.
///
/// # Errors
///
/// `Damaged` where the store answers with something else than the object: that says nothing of its
/// bytes.
pub(super) async fn read_object(
    store: &Arc<Store>,
    data: &Key,
    etag: &ETag,
    session: &Session,
    sealed: &Sealed,
) -> Result<Option<Found>> {
    for _ in 0..READS {
        let object = ReadBack::of(store, data, etag, session.offset);
        let (sum, found) = read_once(object, sealed).await?;
        let sent = sealed.digest.as_ref();
        let is_sent = sent.is_none_or(|sent| found.digest(Algorithm::Sha256) == Some(sent));
        if is_sent && sum == session.sums.whole {
            return Ok(Some(found));
        }
        tracing::warn!(key = %data, "read back with another checksum than was sent");
    }
    Ok(None)
}

async fn read_once(mut object: ReadBack, sealed: &Sealed) -> Result<(Crc64, Found)> {
    let unverified = || sealed.unverified.iter();
    let algorithms: BTreeSet<Algorithm> = unverified()
        .filter_map(LayerId::as_digest)
        .map(Digest::algorithm)
        .chain([Algorithm::Sha256])
        .collect();
    let mut hashers: Vec<_> = algorithms.into_iter().map(Hasher::new).collect();
    let tar_sums = unverified().filter_map(LayerId::as_tar_sum);
    let mut summings: Vec<Result<Summing>> = tar_sums.map(Summing::of).collect();
    let mut sum = Running::new();
    while let Some(bytes) = object.next().await? {
        for summing in summings.iter_mut().flatten() {
            summing.begin(&bytes);
        }
        sum.update(&bytes);
        hashers.iter_mut().for_each(|hasher| hasher.update(&bytes));
        for summing in summings.iter_mut().flatten() {
            summing.done().await;
        }
    }
    let mut tar_sums = Vec::new();
    for summing in summings {
        tar_sums.push(match summing {
            Ok(mut summing) => summing.verdict().await,
            Err(unsupported) => Err(unsupported),
        });
    }
    let digests = hashers.iter().map(Hasher::digest).collect();
    Ok((sum.get(), Found { digests, tar_sums }))
}

/// Compares what was claimed with what was read. The SHA-256, and the other ids to publish under.
///
/// # Errors
///
/// `Damaged`, or the one of the first claim that is wrong: see [`wrong_claim`].
pub(super) fn settle_claims(
    data: &Key,
    sealed: &Sealed,
    found: Found,
) -> Result<(Digest, Vec<LayerId>)> {
    let damaged = |reason: String| Error::Damaged {
        key: data.to_string(),
        reason,
    };
    let read = found.digest(Algorithm::Sha256);
    let Some(digest) = sealed.digest.as_ref().or(read).cloned() else {
        return Err(damaged("its SHA-256 is not known".to_owned()));
    };
    let mut also = sealed.also.clone();
    for claimed in sealed.unverified.iter().filter_map(LayerId::as_digest) {
        match found.digest(claimed.algorithm()) {
            Some(computed) if computed == claimed => {
                if claimed.algorithm() != Algorithm::Sha256 {
                    also.push(claimed.clone().into());
                }
            }
            Some(computed) => {
                let (claimed, computed) = (claimed.clone(), computed.clone());
                return Err(Error::InvalidChecksum { claimed, computed });
            }
            None => {
                return Err(damaged(format!("it was not hashed for {claimed}")));
            }
        }
    }
    let mut verdicts = found.tar_sums.into_iter();
    for claimed in sealed.unverified.iter().filter_map(LayerId::as_tar_sum) {
        let not_read = || Err(damaged(format!("it was not read for {claimed}")));
        verdicts.next().unwrap_or_else(not_read)?;
        also.push(claimed.clone().into());
    }
    Ok((digest, also))
}

/// The id that cannot be published under, if that is what the error says: all else is well, and
/// the upload can be finished otherwise.
pub(super) fn wrong_claim(error: &Error) -> Option<LayerId> {
    match error {
        Error::InvalidChecksum { claimed, .. } => Some(claimed.clone().into()),
        Error::InvalidTarSum { claimed, .. } => Some(claimed.clone().into()),
        Error::TarSumVersionUnsupported { tar_sum, .. } => Some(tar_sum.clone().into()),
        _ => None,
    }
}
