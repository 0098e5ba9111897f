//! What only reading the bytes can verify: another digest than was computed as they arrived, a
//! TarSum of which this process has not seen all bytes, or all of it on a store that verifies
//! nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::bucket::Store;
use crate::s3::format::checksum::Running;
use crate::s3::read::ReadBack;
use crate::s3::session::{CommitIntent, Session};
use crate::tar_sum_claim::TarSumTask;
use s3layers_tarsum::{Algorithm, Digest, Hasher};

/// How often the bytes are read when they do not have the checksum of what was sent: the first time
/// may have been the wire.
const READS: u32 = 2;

/// What reading the bytes has shown.
pub(super) enum Verdict {
    /// These ids were verified, beside the SHA-256.
    Verified(Vec<LayerId>),
    /// The bytes are those that were sent, and have not this id.
    WrongClaim(Error),
    /// An object could not be read as the one that was completed.
    Unreadable(Error),
    /// However often they are read, the bytes are not those that were sent.
    Differs,
}

/// Reads the bytes of an upload, for SHA-256 and the unverified ids.
///
/// # Errors
///
/// Those of reading. They say nothing of the bytes.
pub(super) async fn read_back(
    store: &Arc<Store>,
    session: &Session,
    intent: &CommitIntent,
) -> Result<Verdict> {
    if session.is_inline() {
        let mut reading = Reading::new(intent);
        reading.take(&session.inline.0).await;
        let verdict = reading.verdict(session, intent).await;
        return Ok(verdict.unwrap_or(Verdict::Differs));
    }
    for _ in 0..READS {
        let mut object = ReadBack::of(store, session.uuid, &session.segments, session.offset);
        let mut reading = Reading::new(intent);
        loop {
            match object.next().await {
                Ok(Some(bytes)) => reading.take(&bytes).await,
                Ok(None) => break,
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!(uuid = %session.uuid, %error, "could not read the bytes back");
                    return Ok(Verdict::Unreadable(error));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(verdict) = reading.verdict(session, intent).await {
            return Ok(verdict);
        }
        tracing::warn!(uuid = %session.uuid, "read back with another checksum than was sent");
    }
    Ok(Verdict::Differs)
}

/// The hashes of bytes that are being read.
struct Reading {
    sum: Running,
    hashers: Vec<Hasher>,
    tar_sums: Vec<Result<TarSumTask>>,
}

impl Reading {
    fn new(intent: &CommitIntent) -> Self {
        let unverified = || intent.unverified.iter();
        let digests = unverified().filter_map(LayerId::as_digest);
        let algorithms = digests.map(Digest::algorithm).chain([Algorithm::Sha256]);
        let algorithms: BTreeSet<Algorithm> = algorithms.collect();
        let tar_sums = unverified().filter_map(LayerId::as_tar_sum);
        Reading {
            sum: Running::new(),
            hashers: algorithms.into_iter().map(Hasher::new).collect(),
            tar_sums: tar_sums.map(TarSumTask::new).collect(),
        }
    }

    async fn take(&mut self, bytes: &Bytes) {
        for tar_sum in self.tar_sums.iter_mut().flatten() {
            tar_sum.begin(bytes);
        }
        self.sum.update(bytes);
        self.hashers
            .iter_mut()
            .for_each(|hasher| hasher.update(bytes));
        for tar_sum in self.tar_sums.iter_mut().flatten() {
            tar_sum.done().await;
        }
    }

    /// `None` where these are not the bytes that were sent.
    async fn verdict(self, session: &Session, intent: &CommitIntent) -> Option<Verdict> {
        let digests: Vec<_> = self.hashers.iter().map(Hasher::digest).collect();
        let computed = |algorithm| {
            digests
                .iter()
                .find(|digest| digest.algorithm() == algorithm)
        };
        let is_sent = self.sum.get() == session.sums.whole;
        if !is_sent || computed(Algorithm::Sha256) != Some(&intent.digest) {
            return None;
        }
        let mut tar_sums = self.tar_sums.into_iter();
        let mut verified = Vec::new();
        for id in &intent.unverified {
            let checked = match id {
                LayerId::Digest(claimed) => match computed(claimed.algorithm()) {
                    Some(computed) if computed != claimed => Err(Error::InvalidChecksum {
                        claimed: claimed.clone(),
                        computed: computed.clone(),
                    }),
                    _ => Ok(()),
                },
                LayerId::TarSum(_) => match tar_sums.next() {
                    Some(Ok(mut tar_sum)) => tar_sum.verdict().await,
                    Some(Err(unsupported)) => Err(unsupported),
                    None => Ok(()),
                },
            };
            match checked {
                Ok(()) if *id == intent.digest.clone().into() => {}
                Ok(()) => verified.push(id.clone()),
                Err(wrong) => return Some(Verdict::WrongClaim(wrong)),
            }
        }
        Some(Verdict::Verified(verified))
    }
}

/// The id that cannot be published under, if that is what the error says: all else is well, and
/// the upload can be committed with other claims.
pub(crate) fn wrong_claim(error: &Error) -> Option<LayerId> {
    match error {
        Error::InvalidChecksum { claimed, .. } => Some(claimed.clone().into()),
        Error::InvalidTarSum { claimed, .. } => Some(claimed.clone().into()),
        Error::TarSumVersionUnsupported { tar_sum, .. } => Some(tar_sum.clone().into()),
        _ => None,
    }
}
