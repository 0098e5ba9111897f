//! What owns an open upload: takes bytes, cuts them into parts and sends those. A [`task`] runs it,
//! and what is stored is recorded at a [`checkpoint`].
//!
//! [`task`]: super::task
//! [`checkpoint`]: super::checkpoint

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::checkpoint::PartEnd;
use super::gather::Gather;
use super::plan::cut::Cut;
use super::remove;
use super::send::{Outgoing, Sender};
use super::session::{Phase, Tail};
use super::stored::Stored;
use super::summing::Summing;
use super::tail;
use crate::digest::{Hasher, SavedHasher};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::api::ListedPart;
use crate::s3::budget::Reservation;
use crate::s3::checksum::Tracker;
use crate::s3::keys::Key;
use crate::s3::store::Store;

/// What may wait in memory without a reservation, in bytes.
const UNRESERVED: u64 = 64 * 1024;

/// An upload in the hands of this process.
pub(super) struct Writer {
    pub(super) store: Arc<Store>,
    pub(super) stored: Stored,
    /// The id that finish has to verify beside the one it is given.
    pub(super) declared: Option<LayerId>,
    /// This handle wrote the session last, as far as it knows.
    pub(super) owner: bool,
    /// It knows so from memory only: another handle may have written it since ([`warm`](super::warm)).
    pub(super) unproven: bool,
    /// This handle began the upload, so nobody else can have left anything behind.
    pub(super) pristine: bool,
    /// This handle began the multipart upload that the session names.
    pub(super) began_multipart: bool,
    /// Empty where the saved states are of an unknown version: the object is read back at finish.
    pub(super) hashers: Vec<Hasher>,
    /// The TarSum that was declared, where this handle has every byte from the first: its state is
    /// in no session. Where it has not, the object is read back at finish.
    pub(super) summing: Option<Summing>,
    pub(super) tracker: Tracker,
    /// Bytes taken.
    pub(super) offset: u64,
    cut: Cut,
    /// Stored bytes of the part under way.
    pub(super) tails: Vec<Tail>,
    /// The bytes of all these tails, where they are in memory too, under the reservation.
    pub(super) held: Vec<Bytes>,
    /// Bytes of the part under way in memory, after its tails.
    pub(super) gather: Gather,
    pub(super) reservation: Option<Reservation>,
    pub(super) sender: Sender,
    /// All bytes are in the `.whole` object, which the session does not name yet.
    pub(super) unrecorded_whole: bool,
    /// Parts cut that the session does not have yet, in order.
    pub(super) cuts: VecDeque<PartEnd>,
    /// Tails that no session names any more.
    pub(super) dropped: Vec<Key>,
    pub(super) recorded_at: Instant,
}

impl Writer {
    pub(super) fn new(
        store: Arc<Store>,
        mut stored: Stored,
        declared: Option<LayerId>,
        begun_here: bool,
        spare: Vec<ListedPart>,
    ) -> Self {
        // Until it is closed again.
        stored.session.settled = false;
        let session = &stored.session;
        let restored: Option<Vec<Hasher>> =
            session.hashers.iter().map(SavedHasher::restore).collect();
        let parts = u32::try_from(session.parts.len()).unwrap_or(u32::MAX);
        let tar_sum = declared.as_ref().and_then(LayerId::as_tar_sum);
        let tar_sum = tar_sum.filter(|_| session.offset == 0);
        let mut gather = Gather::default();
        gather.push(session.inline.0.clone());
        Writer {
            owner: begun_here,
            unproven: false,
            pristine: begun_here,
            began_multipart: false,
            hashers: restored.unwrap_or_default(),
            // What cannot be verified is told at finish.
            summing: tar_sum.and_then(|tar_sum| Summing::of(tar_sum).ok()),
            tracker: Tracker::resume(session.sums.clone(), session.part_sum),
            offset: session.offset,
            cut: Cut::new(session.schedule, parts, session.after_parts()),
            tails: session.tails.clone(),
            held: Vec::new(),
            gather,
            reservation: None,
            sender: Sender::new(Arc::clone(&store), stored.uuid, session.offset, spare),
            unrecorded_whole: false,
            cuts: VecDeque::new(),
            dropped: Vec::new(),
            recorded_at: Instant::now(),
            store,
            stored,
            declared,
        }
    }

    pub(super) fn must_be_open(&self) -> Result<()> {
        match self.stored.session.phase {
            Phase::Open => Ok(()),
            _ => Err(Error::UploadConflict {
                uuid: self.stored.uuid,
                reason: "it is being finished and takes no more bytes",
            }),
        }
    }

    /// Takes bytes. Waits where the byte budget or the number of parts under way say so.
    pub(super) async fn accept(&mut self, mut bytes: Bytes) -> Result<()> {
        self.must_be_open()?;
        self.own().await?;
        while !bytes.is_empty() {
            let limit = self.stored.session.schedule.limit();
            let Some(take) = self.cut.take(bytes.len() as u64) else {
                self.confirm().await?;
                return Err(Error::LayerTooLarge { limit });
            };
            self.make_room(take).await;
            let piece = bytes.split_to(usize::try_from(take).unwrap_or(usize::MAX));
            if let Some(summing) = &mut self.summing {
                summing.begin(&piece);
            }
            self.hashers
                .iter_mut()
                .for_each(|hasher| hasher.update(&piece));
            self.tracker.update(&piece);
            self.gather.push(piece);
            self.offset += take;
            if self.cut.fill(take) {
                self.send_part().await?;
                self.checkpoint_if_due().await?;
            }
            self.summed().await?;
        }
        Ok(())
    }

    /// Reserves a whole part before more than a little of it is gathered.
    async fn make_room(&mut self, more: u64) {
        if self.reservation.is_none() && self.gather.len() + more > UNRESERVED {
            self.reserve().await;
        }
    }

    pub(super) async fn reserve(&mut self) {
        if self.reservation.is_none() {
            let size = self.cut.size().unwrap_or(self.store.part_size);
            self.reservation = self.store.budget.reserve(size).await;
        }
    }

    /// Ends the part under way and sends it.
    pub(super) async fn send_part(&mut self) -> Result<()> {
        let upload_id = self.multipart().await?;
        let number = self.cut.number();
        let tails = std::mem::take(&mut self.tails);
        if !tails.is_empty() {
            self.reserve().await;
        }
        let mut pieces = match self.has_held(&tails) {
            true => std::mem::take(&mut self.held),
            false => tail::read(&self.store, &self.stored, &tails).await?,
        };
        // What came inline is too little to be told apart.
        let stored = tail::len_of(&tails);
        pieces.extend(self.gather.take());
        let sum = self.tracker.end_part();
        let keys = &self.store.keys;
        self.cuts.push_back(PartEnd {
            number,
            is_full: self.cut.is_full(),
            offset: self.offset,
            hashers: self.hashers.iter().map(Hasher::save).collect(),
            snapshot: self.tracker.snapshot(),
            drops: tails
                .iter()
                .map(|tail| tail.key(keys, self.stored.uuid))
                .collect(),
        });
        self.cut.next();
        let reservation = self.reservation.take();
        self.sender
            .send(
                &upload_id,
                Outgoing {
                    number,
                    pieces,
                    stored,
                    sum,
                    reservation,
                },
            )
            .await
    }

    /// Waits until all whole parts are stored.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.sender.drain().await?;
        self.checkpoint_if_due().await
    }

    /// Cancels the upload and removes all of it.
    pub(super) async fn cancel(&mut self) -> Result<()> {
        match self.owner && !self.unproven {
            true => remove::cancel(&self.store, &mut self.stored).await,
            false => remove::cancel_for_guest(&self.store, &mut self.stored).await,
        }
    }

    /// Becomes the owner before the first byte is taken: from then on whoever owned the upload
    /// before can acknowledge nothing.
    pub(super) async fn own(&mut self) -> Result<()> {
        match self.owner {
            true => Ok(()),
            false => self.prove().await,
        }
    }
}
