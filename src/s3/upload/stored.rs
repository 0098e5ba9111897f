//! A session as it is in the bucket, and the one way to change it: a conditional write over what
//! was read. Whoever wrote last owns the upload.

use uuid::Uuid;

use super::session::{Phase, Session};
use crate::clock;
use crate::error::{Error, Result};
use crate::s3::api::{Condition, ETag, Put, SmallObject};
use crate::s3::document::{decode, encode};
use crate::s3::store::{Loaded, Store};

/// How often an upload is taken over before the others are left to have it.
const ROUNDS: u32 = 5;

/// A session and the ETag that the next write has to match.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) uuid: Uuid,
    pub(crate) session: Session,
    etag: ETag,
    /// Written through this very value, so that whoever wrote it before is told so.
    written_here: bool,
}

impl Stored {
    /// The first thing that an upload creates, and its UUID with it.
    ///
    /// Only this write of a session needs none to be there: an attempt of it that arrives when the
    /// upload is finished would bring back a session that says that nothing is stored, and a sweep
    /// would take the layer away with it. So where it took more than one attempt, the upload has
    /// another UUID.
    pub(crate) async fn create(store: &Store, session: Session) -> Result<Self> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            let uuid = clock::new_uuid();
            let key = store.keys.session(uuid);
            let document = encode(&session)?;
            let put = store
                .api
                .put_if_counted(&key, document, Condition::Absent)
                .await?;
            match put {
                // A store that never answers at once has to be lived with.
                (Put::Written(etag), repeated) if !repeated || rounds == ROUNDS => {
                    return Ok(Stored {
                        uuid,
                        session,
                        etag,
                        written_here: true,
                    });
                }
                (Put::Written(_), _) => {
                    // A sweep would find it.
                    if let Err(error) = store.api.delete(&key).await {
                        let error = error.into_storage();
                        tracing::warn!(%uuid, %error, "an empty upload is left behind");
                    }
                }
                (Put::Held(_) | Put::Gone, _) => return Err(taken(uuid)),
            }
        }
    }

    /// The session as it stands; `None` where there is none.
    pub(crate) async fn load(store: &Store, uuid: Uuid) -> Result<Option<Self>> {
        let loaded = store.load::<Session>(&store.keys.session(uuid)).await?;
        Ok(loaded.map(|Loaded { document, etag }| Stored {
            uuid,
            session: document.found(),
            etag,
            written_here: false,
        }))
    }

    /// Whether it was found rather than written: whoever wrote it may be at work.
    pub(super) fn is_of_another(&self) -> bool {
        !self.written_here
    }

    /// Whether this is the session that had this ETag.
    pub(crate) fn is(&self, etag: &ETag) -> bool {
        self.etag == *etag
    }

    /// Writes `next` over what was read or written last.
    ///
    /// # Errors
    ///
    /// `UploadConflict` where another writer came between, `UploadUnknown` where the upload was
    /// finished or cancelled. Where the store does not answer, the write may have taken effect;
    /// the next one finds out.
    pub(crate) async fn replace(&mut self, store: &Store, mut next: Session) -> Result<()> {
        next.nonce = clock::new_nonce();
        let key = store.keys.session(self.uuid);
        let condition = Condition::Matches(&self.etag);
        match store.api.put_if(&key, encode(&next)?, condition).await? {
            Put::Written(etag) => {
                self.etag = etag;
                self.session = next;
                self.written_here = true;
                Ok(())
            }
            Put::Held(other) => Err(self.lost_to(store, &other)),
            Put::Gone => Err(Error::UploadUnknown { uuid: self.uuid }),
        }
    }

    /// Becomes the owner: writes the session again, with a fresh nonce, also over that of another
    /// owner that has stored nothing since.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub(crate) async fn take_over(&mut self, store: &Store) -> Result<()> {
        let mut refused = Ok(());
        for _ in 0..ROUNDS {
            refused = self.replace(store, self.session.clone()).await;
            if !matches!(refused, Err(Error::UploadConflict { .. })) {
                return refused;
            }
            match Stored::load(store, self.uuid).await? {
                Some(now) if now.session.has_the_bytes_of(&self.session) => {
                    *self = now;
                    self.session.settled = false;
                }
                _ => return refused,
            }
        }
        refused
    }

    fn lost_to(&self, store: &Store, other: &SmallObject) -> Error {
        match decode::<Session>(&store.keys.session(self.uuid), &other.bytes) {
            Ok(session) if session.phase == Phase::Cancelled => {
                Error::UploadUnknown { uuid: self.uuid }
            }
            _ => taken(self.uuid),
        }
    }
}

fn taken(uuid: Uuid) -> Error {
    Error::UploadConflict {
        uuid,
        reason: "another handle has taken it over",
    }
}
