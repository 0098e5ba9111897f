//! Finding the layer of an upload whose bytes are gone: another driver has published it, or has
//! found a duplicate and removed the data before the session.

use std::sync::Arc;

use crate::error::Result;
use crate::id::LayerId;
use crate::s3::bucket::Store;
use crate::s3::bucket::live::{self, LiveLayer};
use crate::s3::bucket::presence;
use crate::s3::session::{CommitIntent, Session};

/// The layer that has every id which was claimed, if its bytes are there. Every unverified digest
/// has to lead to it: an unverified one may be of another layer. A TarSum can lead to
/// another layer; that it was verified for this one is known by the link that was made then.
///
/// # Cost
///
/// A GET for each digest and TarSum, and a HEAD for each object.
pub(super) async fn find_published(
    store: &Arc<Store>,
    session: &Session,
    intent: &CommitIntent,
) -> Result<Option<LiveLayer>> {
    let id = LayerId::from(intent.digest.clone());
    let Some(live) = live::find_live(store, &id).await? else {
        return Ok(None);
    };
    let published = &live.layer;
    if published.size != session.offset || !presence::look(store, published).await? {
        return Ok(None);
    }
    for id in intent.unverified.iter().filter(|other| **other != id) {
        let found = match id {
            LayerId::Digest(_) => store.layer(id).await?,
            LayerId::TarSum(_) => store.linked(&session.repository, id).await?,
        };
        if found.is_none_or(|found| found.digest != published.digest) {
            return Ok(None);
        }
    }
    Ok(Some(live))
}
