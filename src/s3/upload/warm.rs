//! Uploads that this process has let go of, for whoever goes on with them here.
//!
//! A client that sends a layer in many requests comes back within moments, mostly to the same
//! process. What that process has in memory then saves it the look at the store, and nothing else:
//!
//! 1. It decides no answer, neither success nor refusal: before a handle that goes on from it
//!    acknowledges or refuses anything, it writes the session ([`Writer::confirm`]). Whoever takes it
//!    takes it away, so that no two handles have it.
//! 2. A handle that goes on from it has not *proven* that it is the last. Its first write of the
//!    session does, as it is conditional; until then nothing is acknowledged. It is never repeated
//!    over another owner that has stored nothing yet, as a take-over is: that one may be the newer,
//!    of a client that has given up this one's connection. A resume that finds the upload in other
//!    hands makes this process forget ([`forget_unless`]).
//! 3. Unproven, it writes tails and the `.whole` object, which are written once: another owner
//!    never reads what its own session does not name, finds the key of the latter taken, and
//!    compares. It writes no part: that could replace a recorded one of another owner. So it
//!    proves itself first ([`Writer::prove`]).
//! 4. The bytes of its tails are kept as well, under the reservation that they were gathered
//!    under, for a few seconds, and are given back as soon as others wait for memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::S3LayerUpload;
use super::session::{Phase, Tail};
use super::stored::Stored;
use super::tail;
use super::writer::Writer;
use crate::error::Result;
use crate::name::RepositoryName;
use crate::s3::budget::Reservation;
use crate::s3::cache::{Cache, Weigh};
use crate::s3::store::Store;

/// How long an upload is remembered.
const LIFETIME: Duration = Duration::from_secs(300);
/// All of them weigh no more than this, in bytes, their tails not counted. Nobody comes for them
/// where there is no registry.
const CAPACITY: u64 = match cfg!(feature = "registry") {
    true => 16 * 1024 * 1024,
    false => 0,
};
/// How long the bytes of tails are kept: a client that pauses longer has them read again.
const BYTES_LIFETIME: Duration = Duration::from_secs(5);

/// An upload as this process has left it.
#[derive(Debug)]
pub(crate) struct Left {
    stored: Stored,
    /// No other handle has ever owned it, as far as this process knows.
    pristine: bool,
    /// Asks for the bytes of its tails.
    held: Option<oneshot::Sender<oneshot::Sender<Held>>>,
}

/// The bytes of the tails of the part under way, all of them, and the memory that they are in.
#[derive(Debug)]
struct Held {
    pieces: Vec<Bytes>,
    reservation: Reservation,
}

impl Weigh for Left {
    fn weight(&self) -> u64 {
        self.stored.session.weight()
    }
}

/// None is remembered yet.
pub(crate) fn left_uploads() -> Cache<Left> {
    Cache::new(LIFETIME, CAPACITY)
}

impl Writer {
    /// Remembers the upload, of which every byte is stored.
    pub(super) fn leave(&mut self) {
        let session = &self.stored.session;
        if CAPACITY == 0 || !self.owner || session.phase != Phase::Open || self.is_behind() {
            return;
        }
        let key = self.store.keys.session(self.stored.uuid);
        let ticket = self.store.left.ticket(&key);
        let left = Left {
            stored: self.stored.clone(),
            pristine: self.pristine,
            held: self.take_held().map(keep),
        };
        self.store.left.insert(ticket, &key, left);
    }

    /// Goes on from what this process remembers of the upload.
    fn go_on(&mut self, pristine: bool, held: Option<Held>) {
        self.owner = true;
        self.unproven = true;
        self.pristine = pristine;
        if let Some(Held {
            pieces,
            reservation,
        }) = held
        {
            self.held = pieces;
            self.reservation = Some(reservation);
        }
    }

    /// This handle has just written the session.
    pub(super) fn proven(&mut self) {
        self.owner = true;
        self.unproven = false;
        self.recorded_at = Instant::now();
    }

    /// Whether the bytes of these tails are in memory.
    pub(super) fn has_held(&self, tails: &[Tail]) -> bool {
        let len: usize = self.held.iter().map(Bytes::len).sum();
        self.reservation.is_some() && len as u64 == tail::len_of(tails)
    }

    /// The bytes of the tails, where they are in memory.
    fn take_held(&mut self) -> Option<Held> {
        if self.held.is_empty() || !self.has_held(&self.tails) {
            return None;
        }
        Some(Held {
            pieces: std::mem::take(&mut self.held),
            reservation: self.reservation.take()?,
        })
    }

    /// Gives the memory back that others wait for; every byte is stored.
    pub(super) fn release(&mut self) {
        self.held.clear();
        self.reservation = None;
    }

    /// Makes certain that what this handle goes by is as the store has it, where it is known from
    /// memory only.
    pub(super) async fn confirm(&mut self) -> Result<()> {
        match self.unproven {
            true => self.prove().await,
            false => Ok(()),
        }
    }

    /// Makes certain that this handle is the owner, before it writes what could do harm if it were
    /// not.
    pub(super) async fn prove(&mut self) -> Result<()> {
        if self.owner && !self.unproven {
            return Ok(());
        }
        self.must_be_open()?;
        match self.unproven {
            true => {
                let same = self.stored.session.clone();
                self.stored.replace(&self.store, same).await?;
            }
            false => self.stored.take_over(&self.store).await?,
        }
        self.proven();
        Ok(())
    }
}

/// Forgets what is remembered of an upload, unless it is as the store has it.
pub(super) fn forget_unless(store: &Store, now: &Stored) {
    let key = store.keys.session(now.uuid);
    let is_old = |left: &Left| left.stored.session.nonce != now.session.nonce;
    drop(store.left.take_if(&key, is_old));
}

/// Keeps bytes until they are asked for, others wait for the memory, or their time is over.
fn keep(held: Held) -> oneshot::Sender<oneshot::Sender<Held>> {
    let (ask, asked) = oneshot::channel::<oneshot::Sender<Held>>();
    tokio::spawn(async move {
        tokio::select! {
            answer = asked => {
                if let Ok(answer) = answer {
                    let _ = answer.send(held);
                }
            }
            () = held.reservation.wanted_back() => {}
            () = sleep(BYTES_LIFETIME) => {}
        }
    });
    ask
}

/// The upload where this process has left it, if that is at this offset; otherwise as the store has
/// it.
pub(crate) async fn resume_at(
    store: &Arc<Store>,
    name: &RepositoryName,
    uuid: Uuid,
    offset: u64,
) -> Result<S3LayerUpload> {
    let key = store.keys.session(uuid);
    let fits = |left: &Left| {
        let session = &left.stored.session;
        session.name == *name && session.offset == offset
    };
    let Some(left) = store.left.take_if(&key, fits) else {
        return super::resume(store, name, None, uuid).await;
    };
    let declared = left.stored.session.declared.clone();
    let mut writer = Writer::new(Arc::clone(store), left.stored, declared, false, Vec::new());
    writer.go_on(left.pristine, fetch(left.held).await);
    Ok(S3LayerUpload::start(writer))
}

async fn fetch(held: Option<oneshot::Sender<oneshot::Sender<Held>>>) -> Option<Held> {
    let (answer, answered) = oneshot::channel();
    held?.send(answer).ok()?;
    answered.await.ok()
}
