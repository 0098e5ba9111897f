//! The uploads that receive a body in this process, so that a request that asks for their offset
//! learns of every byte that arrived.
//!
//! A client whose connection broke asks at once where its upload is. Its bytes may still lie
//! between the socket and the storage then. So the receiver of the body is asked to store what has
//! arrived, and acknowledges it. The receivers of another process cannot be asked; there the answer
//! is what is stored, which is never more than what arrived.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::request_permits::RequestPermit;
use crate::locks::lock;
use s3layers::RepositoryName;

/// How long to wait for a receiver to store what it has. After that the storage is asked what it
/// has, as any other process would ask it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The active uploads of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct ActiveUploads(Arc<Mutex<HashMap<UploadKey, Vec<Receiver>>>>);

/// By its repository too: who may write to another one can end no body by its UUID.
pub(super) type UploadKey = (RepositoryName, Uuid);

/// The receiver of a body, as other requests see it.
#[derive(Clone, Debug)]
struct Receiver {
    requested: Arc<watch::Sender<SyncRequest>>,
    acknowledged: watch::Receiver<u64>,
}

/// A request to store what has arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SyncRequest {
    /// Counts up.
    number: u64,
    /// Another request continues the upload, so this receiver ends.
    pub(super) takes_over: bool,
}

/// An upload that receives a body, as its receiver sees it. To drop it acknowledges all requests.
#[derive(Debug)]
pub(super) struct ActiveUpload {
    key: UploadKey,
    uploads: ActiveUploads,
    requested: Arc<watch::Sender<SyncRequest>>,
    acknowledged: watch::Sender<u64>,
}

impl ActiveUploads {
    /// Registers one more receiver of this upload.
    pub(super) fn begin(&self, key: UploadKey) -> ActiveUpload {
        let requested = Arc::new(watch::Sender::new(SyncRequest::default()));
        let acknowledged = watch::Sender::new(0);
        let receiver = Receiver {
            requested: requested.clone(),
            acknowledged: acknowledged.subscribe(),
        };
        lock(&self.0).entry(key.clone()).or_default().push(receiver);
        ActiveUpload {
            key,
            uploads: self.clone(),
            requested,
            acknowledged,
        }
    }

    /// Waits until the receivers of this upload have stored what has arrived; where the caller
    /// continues the upload (`takes_over`), until they have ended. They need a permit for that, so
    /// the caller holds none meanwhile.
    pub(super) async fn sync(&self, key: &UploadKey, takes_over: bool, permit: &mut RequestPermit) {
        let receivers = lock(&self.0).get(key).cloned().unwrap_or_default();
        if receivers.is_empty() {
            return;
        }
        let synced = async {
            for mut receiver in receivers {
                let mut number = 0;
                receiver.requested.send_modify(|request| {
                    request.number += 1;
                    request.takes_over |= takes_over;
                    number = request.number;
                });
                let acknowledged = receiver
                    .acknowledged
                    .wait_for(|&acknowledged| acknowledged >= number && !takes_over);
                // An error says that it has ended. After the timeout the storage decides.
                let _ = timeout(PATIENCE, acknowledged).await;
            }
        };
        permit.released_during(synced).await;
    }
}

impl ActiveUpload {
    /// A request that is not acknowledged yet.
    pub(super) fn sync_request(&self) -> Option<SyncRequest> {
        let request = *self.requested.borrow();
        (request.number > *self.acknowledged.borrow()).then_some(request)
    }

    /// Resolves when there is such a request.
    pub(super) async fn sync_requested(&self) {
        let acknowledged = *self.acknowledged.borrow();
        let mut requested = self.requested.subscribe();
        let requested = requested.wait_for(|request| request.number > acknowledged);
        if requested.await.is_err() {
            // The sender lives as long as this.
            std::future::pending::<()>().await;
        }
    }

    /// All that arrived before this request is stored.
    pub(super) fn acknowledge(&self, request: SyncRequest) {
        self.acknowledged.send_replace(request.number);
    }
}

impl Drop for ActiveUpload {
    fn drop(&mut self) {
        let mut all = lock(&self.uploads.0);
        if let Some(receivers) = all.get_mut(&self.key) {
            receivers.retain(|receiver| !Arc::ptr_eq(&receiver.requested, &self.requested));
            if receivers.is_empty() {
                all.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_permits::{RequestPermits, Work};

    async fn permit(permits: &RequestPermits) -> RequestPermit {
        permits.acquire(Work::Long, PATIENCE).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn sync_waits_for_its_acknowledgement_or_the_end() {
        let uploads = ActiveUploads::default();
        let key = |name: &str| (name.parse().unwrap(), Uuid::nil());
        let permits = RequestPermits::new(1);
        let sync = |takes_over, mut permit: RequestPermit| {
            let (uploads, key) = (uploads.clone(), key("a"));
            tokio::spawn(async move { uploads.sync(&key, takes_over, &mut permit).await })
        };
        sync(false, permit(&permits).await).await.unwrap();

        let active = uploads.begin(key("a"));
        let mut other = permit(&permits).await;
        uploads.sync(&key("b"), true, &mut other).await;
        drop(other);
        assert!(active.sync_request().is_none());
        let syncing = sync(false, permit(&permits).await);
        active.sync_requested().await;
        // The receiver needs a permit.
        drop(permit(&permits).await);
        let request = active.sync_request().unwrap();
        assert!(!request.takes_over && !syncing.is_finished());
        active.acknowledge(request);
        syncing.await.unwrap();
        assert!(active.sync_request().is_none());

        let syncing = sync(true, permit(&permits).await);
        active.sync_requested().await;
        let request = active.sync_request().unwrap();
        assert!(request.takes_over);
        active.acknowledge(request);
        tokio::task::yield_now().await;
        assert!(!syncing.is_finished(), "a takeover waits for the end");
        drop(active);
        syncing.await.unwrap();
        assert!(lock(&uploads.0).is_empty());
    }
}
