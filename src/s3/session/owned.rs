//! A session as a handle has it, and the one way to change it: a conditional write over the version
//! that was read. The handle that wrote last owns the upload.

use uuid::Uuid;

use super::{Cancellation, Phase, Session};
use crate::clock::{self, Moment};
use crate::error::{Error, Result};
use crate::s3::bucket::Store;
use crate::s3::format::document::{decode, encode};
use crate::s3::wire::{Condition, ETag, Put, SmallObject};

/// How often a takeover is repeated over owners that store nothing.
const ROUNDS: u32 = 5;

/// Whether a handle owns the upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// It has read the session. Its first write takes the upload over.
    None,
    /// It wrote the session last as far as this process remembers. Its next write, which is
    /// conditional, confirms it.
    Assumed,
    /// It wrote the session last.
    Confirmed,
}

/// Which sessions a handle may cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelScope {
    /// The version that was read: an owner that has written since keeps its upload.
    AsRead,
    /// However often the owner writes, until it begins to commit.
    Open,
    /// Also while it is being committed. It may still be published.
    Committing,
}

/// A session and the ETag that the next write has to match.
#[derive(Clone, Debug)]
pub(crate) struct OwnedSession {
    session: Session,
    etag: ETag,
    ownership: Ownership,
    /// When the bucket was known to hold exactly this.
    seen_at: Moment,
}

impl OwnedSession {
    fn new(session: Session, etag: ETag, ownership: Ownership, seen_at: Moment) -> Self {
        OwnedSession {
            session,
            etag,
            ownership,
            seen_at,
        }
    }

    /// Creates the session, and its UUID with it.
    ///
    /// Only this write of a session needs the key to be absent: an attempt of it that arrives after
    /// the end of the upload would bring an empty session back. So an upload whose first write took
    /// more than one attempt gets another UUID.
    pub(crate) async fn create(store: &Store, mut session: Session) -> Result<Self> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            session.uuid = clock::new_uuid();
            let key = store.keys.session(session.uuid);
            let seen_at = Moment::now();
            let put = store
                .api
                .put_if_counted(&key, encode(&session)?, Condition::Absent);
            match put.await? {
                // A store that never answers the first attempt has to be lived with.
                (Put::Written(etag), repeated) if !repeated || rounds == ROUNDS => {
                    return Ok(Self::new(session, etag, Ownership::Confirmed, seen_at));
                }
                (Put::Written(_), _) => {
                    if let Err(error) = store.api.delete(&key).await {
                        let (uuid, error) = (session.uuid, error.into_storage());
                        tracing::warn!(%uuid, %error, "left an empty upload to the sweep");
                    }
                }
                (Put::Held(_) | Put::Gone, _) => return Err(taken(session.uuid)),
            }
        }
    }

    /// The session as the bucket has it; `None` where there is none.
    pub(crate) async fn load(store: &Store, uuid: Uuid) -> Result<Option<Self>> {
        let seen_at = Moment::now();
        let key = store.keys.session(uuid);
        let Some(loaded) = store.load::<Session>(&key).await? else {
            return Ok(None);
        };
        if loaded.document.uuid != uuid {
            let reason = format!("it is the session of upload {}", loaded.document.uuid);
            return Err(Error::damaged(&key, reason));
        }
        let (session, etag) = (loaded.document, loaded.etag);
        Ok(Some(Self::new(session, etag, Ownership::None, seen_at)))
    }

    pub(crate) fn get(&self) -> &Session {
        &self.session
    }

    pub(crate) fn uuid(&self) -> Uuid {
        self.session.uuid
    }

    pub(crate) fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// When the bucket was known to hold this version.
    pub(crate) fn seen_at(&self) -> Moment {
        self.seen_at
    }

    /// Whether this is the version that had this ETag.
    pub(crate) fn is(&self, etag: &ETag) -> bool {
        self.etag == *etag
    }

    /// For a handle that resumes from what this process remembers.
    pub(crate) fn assume_ownership(&mut self) {
        self.ownership = Ownership::Assumed;
    }

    /// Takes over parts that are listed with other ETags than were recorded. Not written yet.
    pub(crate) fn repin(&mut self, parts: Vec<super::Part>) {
        if let Some(open) = &mut self.session.multipart {
            open.parts = parts;
        }
    }

    /// Writes `next` over the version that was read or written last.
    ///
    /// # Errors
    ///
    /// `UploadConflict` where another handle has written since, `UploadUnknown` where the upload
    /// was cancelled or is over. A storage error leaves open which of the two versions is stored.
    pub(crate) async fn replace(&mut self, store: &Store, mut next: Session) -> Result<()> {
        next.nonce = clock::new_nonce();
        let key = store.keys.session(self.session.uuid);
        let seen_at = Moment::now();
        let condition = Condition::Matches(&self.etag);
        match store.api.put_if(&key, encode(&next)?, condition).await? {
            Put::Written(etag) => {
                *self = Self::new(next, etag, Ownership::Confirmed, seen_at);
                Ok(())
            }
            Put::Held(other) => Err(self.lost_to(store, &other)),
            Put::Gone => Err(Error::UploadUnknown { uuid: self.uuid() }),
        }
    }

    /// Makes certain that this handle owns the upload.
    ///
    /// A takeover is repeated over another owner that has stored nothing since. A write of a handle
    /// that assumed to be the owner is not: the other one may be the newer, of a client that has
    /// given up this one's connection.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace), and `UploadConflict` where the upload takes no bytes.
    pub(crate) async fn confirm(&mut self, store: &Store) -> Result<()> {
        if self.ownership == Ownership::Confirmed {
            return Ok(());
        }
        self.require_open()?;
        if self.ownership == Ownership::Assumed {
            let next = Session {
                closed: false,
                ..self.session.clone()
            };
            return self.replace(store, next).await;
        }
        for _ in 0..ROUNDS {
            let refused = match self.replace(store, self.session.taken_over()).await {
                Err(error @ Error::UploadConflict { .. }) => error,
                settled => return settled,
            };
            if !self.follow(store).await? {
                return Err(refused);
            }
        }
        Err(taken(self.uuid()))
    }

    /// Continues from the session as it is now, if it has the same bytes.
    pub(crate) async fn follow(&mut self, store: &Store) -> Result<bool> {
        match Self::load(store, self.uuid()).await? {
            Some(now) if now.session.has_the_bytes_of(&self.session) => {
                *self = now;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// # Errors
    ///
    /// `UploadConflict` where the upload takes no bytes any more.
    pub(crate) fn require_open(&self) -> Result<()> {
        match self.session.phase {
            Phase::Open => Ok(()),
            _ => Err(Error::UploadConflict {
                uuid: self.uuid(),
                reason: "it is being committed and takes no more bytes",
            }),
        }
    }

    /// Its owner is unknown: what no session names is looked for when the upload ends.
    pub(crate) fn expect_orphans(&mut self) {
        self.session.orphans = true;
    }

    /// Marks the upload as cancelled.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub(crate) async fn cancel(&mut self, store: &Store, scope: CancelScope) -> Result<()> {
        let is_owner = self.ownership == Ownership::Confirmed;
        for _ in 0..ROUNDS {
            let intent = match &self.session.phase {
                Phase::Cancelled(_) => return Ok(()),
                Phase::Committing(_) if scope != CancelScope::Committing => break,
                Phase::Committing(intent) => Some(intent.clone()),
                Phase::Open | Phase::Rejected(_) => None,
            };
            let at = clock::now_timestamp();
            let next = Session {
                phase: Phase::Cancelled(Cancellation { at, intent }),
                orphans: self.session.orphans || (!is_owner && self.session.may_have_orphans()),
                ..self.session.clone()
            };
            match self.replace(store, next).await {
                Err(Error::UploadConflict { .. } | Error::UploadUnknown { .. })
                    if !is_owner && scope != CancelScope::AsRead => {}
                settled => return settled,
            }
            let uuid = self.uuid();
            let now = Self::load(store, uuid).await?;
            *self = now.ok_or(Error::UploadUnknown { uuid })?;
        }
        Err(taken(self.uuid()))
    }

    fn lost_to(&self, store: &Store, other: &SmallObject) -> Error {
        let uuid = self.uuid();
        match decode::<Session>(&store.keys.session(uuid), &other.bytes) {
            Ok(session) if matches!(session.phase, Phase::Cancelled(_)) => {
                Error::UploadUnknown { uuid }
            }
            _ => taken(uuid),
        }
    }
}

fn taken(uuid: Uuid) -> Error {
    Error::UploadConflict {
        uuid,
        reason: "another process owns it",
    }
}
