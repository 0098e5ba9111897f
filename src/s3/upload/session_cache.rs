//! Uploads whose handle was closed in this process a short time ago, for the next request of the
//! same client.
//!
//! A client that sends a layer in many requests mostly reaches the same process. What that process
//! has in memory then saves the look at the store, and nothing else:
//!
//! 1. Only an append, by [`resume_at`], uses it. No offset, refusal or status comes from it, and
//!    taking an upload removes it, so that no two handles have it.
//! 2. The handle that takes it *assumes* to be the owner. Its first write of the session, which is
//!    conditional, confirms that; until then it acknowledges nothing and sends no part.
//! 3. The bytes of tails stay in memory under their reservation for a few seconds, and are released
//!    as soon as others wait for memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::uploader::Uploader;
use super::{S3LayerUpload, resume};
use crate::error::Result;
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::session::Session;

/// How long an upload is remembered.
const LIFETIME: Duration = Duration::from_secs(300);
/// All uploads together weigh no more than this, in bytes, tails in memory not counted.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// How long the bytes of tails are kept: after a longer pause they are read again.
const BYTES_LIFETIME: Duration = Duration::from_secs(5);

type Request = oneshot::Sender<Uploader>;

/// Closed uploads, by UUID.
#[derive(Default)]
pub(crate) struct SessionCache(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    uploads: HashMap<Uuid, CachedUpload>,
    /// In the order of their ends. One that was taken may still be here.
    queue: VecDeque<(Instant, Uuid)>,
    weight: u64,
}

struct CachedUpload {
    repository: RepositoryName,
    offset: u64,
    nonce: String,
    weight: u64,
    until: Instant,
    /// Asks the task that keeps it.
    keeper: oneshot::Sender<Request>,
}

impl Inner {
    fn remove(&mut self, uuid: Uuid) -> Option<CachedUpload> {
        let cached = self.uploads.remove(&uuid)?;
        self.weight -= cached.weight;
        Some(cached)
    }

    fn make_room(&mut self, weight: u64, now: Instant) {
        while let Some(&(until, uuid)) = self.queue.front()
            && (until <= now || self.weight + weight > CAPACITY)
        {
            self.queue.pop_front();
            if self
                .uploads
                .get(&uuid)
                .is_some_and(|cached| cached.until == until)
            {
                self.remove(uuid);
            }
        }
    }
}

impl SessionCache {
    /// No step under the lock can panic half way.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an upload of which every byte is recorded.
    pub(super) fn keep(&self, mut uploader: Uploader) {
        uploader.shrink();
        let session = uploader.session();
        let (uuid, weight, now) = (session.uuid, session.weight(), Instant::now());
        let (keeper, asked) = oneshot::channel();
        let cached = CachedUpload {
            repository: session.repository.clone(),
            offset: session.offset,
            nonce: session.nonce.clone(),
            weight,
            until: now + LIFETIME,
            keeper,
        };
        let mut inner = self.inner();
        inner.remove(uuid);
        inner.make_room(weight, now);
        inner.weight += weight;
        inner.queue.push_back((cached.until, uuid));
        inner.uploads.insert(uuid, cached);
        drop(inner);
        tokio::spawn(keep(uploader, asked));
    }

    fn take_if(
        &self,
        uuid: Uuid,
        is_right: impl Fn(&CachedUpload) -> bool,
    ) -> Option<CachedUpload> {
        let mut inner = self.inner();
        let cached = inner.uploads.get(&uuid)?;
        if cached.until <= Instant::now() || !is_right(cached) {
            return None;
        }
        inner.remove(uuid)
    }

    /// Forgets an upload, unless it is as the store has it.
    pub(super) fn revalidate(&self, now: &Session) {
        drop(self.take_if(now.uuid, |cached| cached.nonce != now.nonce));
    }

    /// Forgets an upload that ends.
    pub(crate) fn forget(&self, uuid: Uuid) {
        drop(self.inner().remove(uuid));
    }
}

impl std::fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionCache").finish_non_exhaustive()
    }
}

/// Keeps an upload until it is asked for or forgotten.
async fn keep(mut uploader: Uploader, asked: oneshot::Receiver<Request>) {
    let mut asked = asked;
    let request = tokio::select! {
        request = &mut asked => Some(request),
        () = uploader.holder().reclaim_requested() => None,
        () = sleep(BYTES_LIFETIME) => None,
    };
    let request = match request {
        Some(request) => request,
        None => {
            uploader.release();
            asked.await
        }
    };
    if let Ok(request) = request {
        // Dropped by the other side where its caller went away.
        let _ = request.send(uploader);
    }
}

/// The upload as this process remembers it, if it is at this offset; otherwise as the store has it.
pub(crate) async fn resume_at(
    store: &Arc<Store>,
    name: &RepositoryName,
    uuid: Uuid,
    offset: u64,
) -> Result<S3LayerUpload> {
    let is_right = |cached: &CachedUpload| cached.repository == *name && cached.offset == offset;
    if let Some(cached) = store.sessions.take_if(uuid, is_right) {
        let (request, answer) = oneshot::channel();
        if cached.keeper.send(request).is_ok()
            && let Ok(uploader) = answer.await
        {
            return Ok(S3LayerUpload::start(uploader));
        }
    }
    resume::resume(store, name, None, uuid).await
}
