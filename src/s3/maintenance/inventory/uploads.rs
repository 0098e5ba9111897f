//! Uploads under way, each with what its session says.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::ready;
use futures_util::stream::{Stream, StreamExt as _, TryStreamExt as _};

use super::{READS_AT_ONCE, UploadEntry, UploadState, walk};
use crate::error::Result;
use crate::s3::bucket::Store;
use crate::s3::maintenance::inventory::plan::{Found, ListedSession, UploadPhase};
use crate::s3::session::Session;
use crate::s3::session::owned::OwnedSession;

pub(super) fn entries(store: Arc<Store>) -> impl Stream<Item = Result<UploadEntry>> {
    let found = walk::found(Arc::clone(&store));
    let entries = found.map(move |found| {
        let store = Arc::clone(&store);
        async move { Ok(entry(&store, found?).await) }
    });
    entries
        .buffered(READS_AT_ONCE)
        .try_filter_map(|entry| ready(Ok(entry)))
}

/// `None` where it was finished or removed since it was listed.
async fn entry(store: &Store, found: Found) -> Option<UploadEntry> {
    let state = match OwnedSession::load(store, found.uuid).await {
        Ok(None) if found.session != ListedSession::Absent => return None,
        Ok(stored) => Ok(stored.map(|stored| UploadState::from(stored.get()))),
        Err(error) => Err(error),
    };
    Some(UploadEntry {
        uuid: found.uuid,
        age: found.age,
        written_at: found.written_at,
        state,
    })
}

impl From<&Session> for UploadState {
    fn from(session: &Session) -> Self {
        let begun_at = SystemTime::try_from(session.begun_at);
        UploadState {
            name: session.repository.clone(),
            declared: session.declared_id.clone(),
            phase: UploadPhase::from(&session.phase),
            offset: session.offset,
            begun_at: begun_at.unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}
