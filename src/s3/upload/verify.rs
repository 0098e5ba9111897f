//! What only reading the assembled object can verify: another digest than was computed as the bytes
//! arrived, or all of it on a store that verifies nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::session::{Sealed, Session};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::api::ETag;
use crate::s3::checksum::Running;
use crate::s3::keys::Key;
use crate::s3::read;
use crate::s3::store::Store;

/// How often an object is read that does not have the checksum of what was sent: once may have been
/// the wire.
const READS: u32 = 2;

/// Reads the object, for SHA-256 and whatever else was claimed. What differs from the bytes that
/// were sent says nothing about the claims.
pub(super) async fn read_digests(
    store: &Arc<Store>,
    data: &Key,
    etag: &ETag,
    session: &Session,
    sealed: &Sealed,
) -> Result<Vec<Digest>> {
    let algorithms: BTreeSet<Algorithm> = sealed
        .unverified
        .iter()
        .filter_map(LayerId::as_digest)
        .map(Digest::algorithm)
        .chain([Algorithm::Sha256])
        .collect();
    for _ in 0..READS {
        let mut hashers: Vec<_> = algorithms.iter().copied().map(Hasher::new).collect();
        let mut sum = Running::new();
        let hash = |bytes: &[u8]| {
            sum.update(bytes);
            hashers.iter_mut().for_each(|hasher| hasher.update(bytes));
        };
        read::read_back(store, data, etag, session.offset, hash).await?;
        if sum.get() == session.sums.whole {
            return Ok(hashers.iter().map(Hasher::digest).collect());
        }
        tracing::warn!(key = %data, "read back with another checksum than was sent");
    }
    Err(Error::Damaged {
        key: data.to_string(),
        reason: "its bytes do not have the checksum of those that were sent".to_owned(),
    })
}

/// Compares what was claimed with what was read. The SHA-256, and the other ids to publish under.
pub(super) fn settle_claims(
    data: &Key,
    sealed: &Sealed,
    read: &[Digest],
) -> Result<(Digest, Vec<LayerId>)> {
    let of = |algorithm| read.iter().find(|digest| digest.algorithm() == algorithm);
    let damaged = |reason: String| Error::Damaged {
        key: data.to_string(),
        reason,
    };
    // First, for nobody's claim is to blame for it.
    let digest = match (&sealed.digest, of(Algorithm::Sha256)) {
        (Some(sent), Some(read)) if sent != read => {
            return Err(damaged(format!("{sent} was sent, the object has {read}")));
        }
        (Some(digest), _) | (None, Some(digest)) => digest.clone(),
        (None, None) => return Err(damaged("its SHA-256 is not known".to_owned())),
    };
    let mut also = sealed.also.clone();
    for id in &sealed.unverified {
        let LayerId::Digest(claimed) = id else {
            continue;
        };
        match of(claimed.algorithm()) {
            Some(computed) if computed == claimed => {
                if claimed.algorithm() != Algorithm::Sha256 {
                    also.push(id.clone());
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
    Ok((digest, also))
}
