//! Ranges under way and ranges that have arrived, in order. Each is a task of its own that holds
//! its bytes until the reader has left them behind, or until others want the memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::fetch::{Job, Loaded, Piece, Source};
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::s3::budget::Grant;
use crate::s3::checksum::Crc64;

/// A range, from being asked for to being left behind.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) keep: Range<u64>,
    /// The task compares it with a checksum itself.
    pub(super) is_checked: bool,
    /// Of its bytes, once they may be handed out.
    pub(super) admitted: Option<Crc64>,
    /// The reader has waited for it, so a failure is news and not history.
    pub(super) is_awaited: bool,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum State {
    Loading(Option<Waker>),
    Ready(Loaded),
    Failed(Error),
    /// The memory was wanted by others, or the failure was told.
    Gone,
}

/// What a slot has at a position.
#[derive(Debug)]
pub(super) enum Found {
    Piece {
        piece: Piece,
        /// Of all bytes of the slot.
        crc: Crc64,
    },
    Failed(Error),
    GivenBack,
}

/// Locks, also after a panic elsewhere: every change of the state is a single assignment.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Slot {
    /// Begins to fetch. Without a reservation the bytes are the small window that every reader
    /// may hold.
    pub(super) fn begin(
        source: &Arc<Source>,
        job: Job,
        reservation: Option<Grant>,
    ) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| outside_a_runtime(source, error))?;
        let state = Arc::new(Mutex::new(State::Loading(None)));
        let keep = job.keep.clone();
        let is_checked = job.check.is_some();
        let filler = Filler {
            state: Arc::clone(&state),
            source: Arc::clone(source),
        };
        let task = runtime.spawn(filler.run(job, reservation).in_current_span());
        Ok(Slot {
            keep,
            is_checked,
            admitted: None,
            is_awaited: false,
            state,
            task,
        })
    }

    /// What is there at this position, which is one of `keep`.
    pub(super) fn poll_at(&mut self, position: u64, cx: &mut Context<'_>) -> Poll<Found> {
        let mut state = lock(&self.state);
        match &mut *state {
            State::Loading(waker) => {
                self.is_awaited = true;
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Ready(loaded) => Poll::Ready(match loaded.at(position) {
                Some(piece) => Found::Piece {
                    piece,
                    crc: loaded.crc,
                },
                None => Found::GivenBack,
            }),
            State::Failed(_) => match std::mem::replace(&mut *state, State::Gone) {
                State::Failed(error) => Poll::Ready(Found::Failed(error)),
                _ => Poll::Ready(Found::GivenBack),
            },
            State::Gone => Poll::Ready(Found::GivenBack),
        }
    }

    fn is_loading(&self) -> bool {
        matches!(*lock(&self.state), State::Loading(_))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn outside_a_runtime(
    source: &Source,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let kind = StorageErrorKind::Other;
    StorageError::new("GetObject", source.name(), kind, error).into()
}

/// The task's end of a slot. Dropped before it has a result, it tells the reader so: nobody waits
/// for a task that a runtime has thrown away.
struct Filler {
    state: Arc<Mutex<State>>,
    source: Arc<Source>,
}

impl Filler {
    async fn run(self, job: Job, reservation: Option<Grant>) {
        let Some(reservation) = reservation else {
            return self.settle(self.source.load(&job).await);
        };
        // A reader that nobody reads from is not polled and could not give anything back; its
        // tasks can.
        let load = pin!(self.source.load(&job));
        let result = match select(load, pin!(reservation.reclaim_requested())).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => return self.set(State::Gone),
        };
        let holds_bytes = result.is_ok();
        self.settle(result);
        if holds_bytes {
            reservation.reclaim_requested().await;
            self.set(State::Gone);
        }
    }

    fn settle(&self, result: Result<Loaded>) {
        self.set(match result {
            Ok(loaded) => State::Ready(loaded),
            Err(error) => State::Failed(error),
        });
    }

    fn set(&self, new: State) {
        let old = std::mem::replace(&mut *lock(&self.state), new);
        if let State::Loading(Some(waker)) = old {
            waker.wake();
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let lost = matches!(*lock(&self.state), State::Loading(_));
        if lost {
            let kind = StorageErrorKind::Unavailable;
            let key = self.source.name();
            let error = StorageError::new("GetObject", key, kind, "the task was dropped");
            self.set(State::Failed(error.into()));
        }
    }
}

/// The slots of one reader, each beginning where the one before ends.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Slot>);

impl Window {
    /// From the first byte to the last that was asked for.
    pub(super) fn range(&self) -> Option<Range<u64>> {
        Some(self.0.front()?.keep.start..self.0.back()?.keep.end)
    }

    pub(super) fn loading(&self) -> usize {
        self.0.iter().filter(|slot| slot.is_loading()).count()
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.0.push_back(slot);
    }

    pub(super) fn front(&mut self) -> Option<&mut Slot> {
        self.0.front_mut()
    }

    /// Takes the first slot if it lies before this position.
    pub(super) fn pop_before(&mut self, position: u64) -> Option<Slot> {
        self.0.pop_front_if(|slot| slot.keep.end <= position)
    }

    /// Gives up everything, what is under way too.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
