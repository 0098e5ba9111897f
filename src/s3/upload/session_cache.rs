//! Uploads whose handle was closed in this process a short time ago, for the next request of the
//! same client.
//!
//! A client that sends a layer in many requests mostly reaches the same process. What that process
//! has in memory then saves the look at the store, and nothing else:
//!
//! 1. Only an append, by [`resume_at`](super::resume::resume_at), uses it. No offset, refusal or status comes from it, and
//!    taking an upload removes it, so that no two handles have it.
//! 2. The handle that takes it *assumes* to be the owner. Its first write of the session, which is
//!    conditional, confirms that; until then it acknowledges nothing and sends no part.
//! 3. An upload that ends in this process is forgotten. One that another process ends is not; the first write
//!    of the session finds that out as well.
//! 4. The bytes of tails stay in memory under their reservation for a few seconds, and are released
//!    as soon as others wait for memory.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use super::uploader::Uploader;
use crate::name::RepositoryName;
use crate::s3::bucket::cache::{Cache, Weigh};
use crate::s3::format::keys::{Key, Keys};
use crate::s3::session::Session;

/// How long an upload is remembered.
const LIFETIME: Duration = Duration::from_secs(300);
/// All uploads together weigh no more than this, in bytes, tails in memory not counted.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// How long the bytes of tails are kept: after a longer pause they are read again.
const BYTES_LIFETIME: Duration = Duration::from_secs(5);

/// Closed uploads, by the keys of their sessions.
#[derive(Debug)]
pub(crate) struct SessionCache(Cache<CachedUpload>);

impl Default for SessionCache {
    fn default() -> Self {
        SessionCache(Cache::new(LIFETIME, CAPACITY))
    }
}

struct CachedUpload {
    repository: RepositoryName,
    offset: u64,
    nonce: String,
    weight: u64,
    /// The task that keeps it, and returns it once `kept` is dropped.
    keeper: JoinHandle<Uploader>,
    kept: oneshot::Sender<()>,
}

impl Weigh for CachedUpload {
    fn weight(&self) -> u64 {
        self.weight
    }
}

impl SessionCache {
    /// Keeps an upload of which every byte is recorded.
    pub(super) fn keep(&self, mut uploader: Uploader) {
        uploader.shrink();
        let session = uploader.session();
        let key = uploader.store().keys.session(session.uuid);
        let ticket = self.0.ticket(&key);
        let (kept, dropped) = oneshot::channel();
        let cached = CachedUpload {
            repository: session.repository.clone(),
            offset: session.offset,
            nonce: session.nonce.clone(),
            weight: session.weight(),
            keeper: tokio::spawn(wait(uploader, dropped)),
            kept,
        };
        self.0.insert(ticket, &key, cached);
    }

    /// Forgets an upload, unless it is as the store has it.
    pub(super) fn revalidate(&self, keys: &Keys, now: &Session) {
        let is_old = |cached: &CachedUpload| cached.nonce != now.nonce;
        drop(self.0.take_if(&keys.session(now.uuid), is_old));
    }

    /// Forgets an upload that ends.
    pub(crate) fn forget(&self, keys: &Keys, uuid: Uuid) {
        self.0.forget(&keys.session(uuid));
    }

    /// Gives up an upload that is at this offset.
    pub(super) async fn take(
        &self,
        key: &Key,
        name: &RepositoryName,
        offset: u64,
    ) -> Option<Uploader> {
        let is_right =
            |cached: &CachedUpload| cached.repository == *name && cached.offset == offset;
        let cached = self.0.take_if(key, is_right)?;
        drop(cached.kept);
        cached.keeper.await.ok()
    }
}

/// Keeps an upload until it is taken or forgotten.
async fn wait(mut uploader: Uploader, mut dropped: oneshot::Receiver<()>) -> Uploader {
    tokio::select! {
        _ = &mut dropped => return uploader,
        () = uploader.holder().reclaim_requested() => {}
        () = sleep(BYTES_LIFETIME) => {}
    }
    uploader.release();
    let _ = dropped.await;
    uploader
}
