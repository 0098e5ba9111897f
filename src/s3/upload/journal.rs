//! What is on record of an upload, and what this handle stored beside that: ownership, writes of
//! the session, and the removal of objects that no session names any more.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::sender::panicked;
use crate::error::{Error, Result};
use crate::s3::bucket::Store;
use crate::s3::commit::{self, Concurrency};
use crate::s3::format::keys::Key;
use crate::s3::format::record::Segment;
use crate::s3::relay::SendError;
use crate::s3::session::owned::{CancelScope, OwnedSession, Ownership};
use crate::s3::session::{Phase, Session, Tail};
use crate::s3::wire::ApiError;
use crate::telemetry::UsageCounter;

/// The session of a handle.
pub(super) struct Journal {
    store: Arc<Store>,
    owned: OwnedSession,
    /// Completes the parts of the previous owner. It survives this handle.
    freezing: Option<JoinHandle<Result<Segment>>>,
    /// What they were completed to; not recorded yet.
    frozen: Option<Segment>,
    /// Tails below the upload that this handle knows of.
    tails: Vec<Tail>,
    /// Objects that no session has named so far.
    unrecorded: Vec<Tail>,
    recorded_at: Instant,
}

impl Journal {
    pub(super) fn new(store: Arc<Store>, owned: OwnedSession) -> Self {
        Journal {
            store,
            freezing: None,
            frozen: None,
            tails: owned.get().tails.clone(),
            unrecorded: Vec::new(),
            recorded_at: Instant::now(),
            owned,
        }
    }

    pub(super) fn session(&self) -> &Session {
        self.owned.get()
    }

    pub(super) fn uuid(&self) -> Uuid {
        self.owned.uuid()
    }

    pub(super) fn ownership(&self) -> Ownership {
        self.owned.ownership()
    }

    /// For a commit, which writes the session itself.
    pub(super) fn owned(&mut self) -> &mut OwnedSession {
        &mut self.owned
    }

    /// Makes sure that this handle owns the upload, before it does what could harm another owner.
    pub(super) async fn confirm_ownership(&mut self) -> Result<()> {
        if self.ownership() == Ownership::Confirmed {
            return Ok(());
        }
        let is_freezing =
            |session: &Session| session.multipart.as_ref().is_some_and(|open| open.freezing);
        let was_freezing = is_freezing(self.session());
        self.owned.confirm(&self.store).await?;
        self.recorded_at = Instant::now();
        if is_freezing(self.session()) {
            let concurrency = if was_freezing {
                Concurrency::Possible
            } else {
                Concurrency::None
            };
            let (store, session) = (Arc::clone(&self.store), self.session().clone());
            self.freezing = Some(tokio::spawn(UsageCounter::inherit(async move {
                commit::freeze(&store, session, concurrency).await
            })));
        }
        Ok(())
    }

    /// What this process remembers may be old, and refuses nothing.
    pub(super) async fn confirm_assumed(&mut self) -> Result<()> {
        match self.ownership() {
            Ownership::Assumed => self.confirm_ownership().await,
            Ownership::None | Ownership::Confirmed => Ok(()),
        }
    }

    /// Waits until the parts of the previous owner are complete.
    pub(super) async fn finish_freezing(&mut self) -> Result<()> {
        let Some(freezing) = &mut self.freezing else {
            return Ok(());
        };
        let ended = freezing.await;
        self.freezing = None;
        let ended = ended.unwrap_or_else(|failed| Err(panicked("CompleteMultipartUpload", failed)));
        if let Err(Error::UploadUnknown { .. }) = &ended {
            commit::cancel(&self.store, &mut self.owned, CancelScope::Open).await?;
        }
        self.frozen = Some(ended?);
        Ok(())
    }

    /// The session as it is on record, with the segment that parts were completed to since.
    pub(super) fn draft(&self) -> Session {
        let mut next = self.session().clone();
        // A finish can be the first write after an owner that did not close.
        next.orphans |= self.ownership() == Ownership::None && next.may_have_orphans();
        next.closed = false;
        if let Some(segment) = &self.frozen {
            next.add_segment(segment.clone());
        }
        next
    }

    /// Notes the object that was stored.
    pub(super) async fn stored(&mut self, stored: Result<Tail, SendError>) -> Result<Tail> {
        let tail = self.explained(stored).await?;
        self.unrecorded.push(tail.clone());
        self.tails.push(tail.clone());
        Ok(tail)
    }

    /// Tails below the upload, for the session of a commit: they are removed when the upload ends.
    pub(super) fn tails(&self) -> Vec<Tail> {
        let others = self.tails.iter().filter(|tail| tail.as_segment().is_none());
        others.cloned().collect()
    }

    /// Writes the session.
    pub(super) async fn record(&mut self, next: Session) -> Result<()> {
        // A write that failed may have taken effect: then the objects are named.
        let unrecorded = std::mem::take(&mut self.unrecorded);
        let phase = next.phase.clone();
        if let Err(error) = self.owned.replace(&self.store, next).await {
            if let Error::UploadConflict { .. } | Error::UploadUnknown { .. } = &error {
                // No session will name the objects of this one, if none has.
                let (store, owned) = (&self.store, &self.owned);
                let removed = commit::remove_unrecorded(store, owned, &unrecorded, &phase);
                if let Err(error) = removed.await {
                    tracing::warn!(uuid = %self.uuid(), %error, "could not remove what was stored last");
                }
            }
            return Err(error);
        }
        self.frozen = None;
        self.recorded_at = Instant::now();
        Ok(())
    }

    /// Removes tails that the session just written does not name and this handle does not need. If that fails, a later
    /// call removes them, or a sweep: what was recorded stays so.
    pub(super) async fn remove_obsolete(&mut self, is_needed: impl Fn(&Tail) -> bool) {
        let session = self.owned.get();
        let is_obsolete = |tail: &Tail| {
            tail.as_segment().is_none() && !session.tails.contains(tail) && !is_needed(tail)
        };
        let obsolete = self.tails.extract_if(.., |tail| is_obsolete(tail));
        let obsolete: Vec<Tail> = obsolete.collect();
        let key = |tail: &Tail| tail.key(&self.store.keys, self.uuid());
        let keys: Vec<Key> = obsolete.iter().map(key).collect();
        if let Err(error) = self.store.remove_all(&keys).await {
            tracing::warn!(uuid = %self.uuid(), %error, "could not remove what is not needed");
            self.tails.extend(obsolete);
        }
    }

    pub(super) fn recorded_at(&self) -> Instant {
        self.recorded_at
    }

    /// Why S3 does not know the multipart upload or a tail any more.
    pub(super) async fn explained<T>(&self, sent: Result<T, SendError>) -> Result<T> {
        let missing = match sent {
            Ok(sent) => return Ok(sent),
            Err(SendError::Api(ApiError::NoSuchUpload(_))) => None,
            Err(SendError::Missing(key)) => Some(key),
            Err(SendError::Api(error)) => return Err(error.into()),
            Err(SendError::Other(error)) => return Err(error),
        };
        let uuid = self.uuid();
        let now = OwnedSession::load(&self.store, uuid).await?;
        let is_ours = |now: &OwnedSession| now.get().nonce == self.session().nonce;
        Err(match (now, missing) {
            (Some(now), Some(key)) if is_ours(&now) => {
                Error::damaged(&key, "it is missing".to_owned())
            }
            (Some(now), _) if !is_ours(&now) && now.get().phase == Phase::Open => {
                Error::UploadConflict {
                    uuid,
                    reason: "another process owns it",
                }
            }
            // Cancelled, finished, or its parts were removed by a lifecycle rule.
            _ => Error::UploadUnknown { uuid },
        })
    }
}
