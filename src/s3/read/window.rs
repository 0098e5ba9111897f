//! Ranges under way and ranges that have arrived, in order. Each is a task of its own that holds
//! its bytes until the reader has left them behind, or until others want the memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fetch::{Job, LoadedRange, Piece, Source};
use super::plan::NEAR;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::s3::budget::{Grant, Holder};
use crate::s3::format::checksum::Crc64;
use crate::telemetry::UsageCounter;

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
    Ready(LoadedRange),
    Failed(Error),
    /// Other readers waited for the memory, or the failure was returned.
    Gone,
}

/// Where the memory of a range comes from.
#[derive(Debug)]
pub(super) enum Memory {
    Granted(Grant),
    /// It waits for so many bytes.
    Awaited(Holder, u64),
}

impl Memory {
    async fn grant(self) -> Grant {
        match self {
            Memory::Granted(grant) => grant,
            Memory::Awaited(holder, bytes) => holder.reserve(bytes).await,
        }
    }
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
    /// Begins to fetch, once there is memory.
    pub(super) fn begin(source: &Arc<Source>, job: Job, memory: Memory) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| {
            let kind = StorageErrorKind::Other;
            StorageError::new("GetObject", source.name(), kind, error)
        })?;
        let state = Arc::new(Mutex::new(State::Loading(None)));
        let keep = job.keep.clone();
        let is_checked = job.check.is_some();
        let filler = Filler {
            state: Arc::clone(&state),
            source: Arc::clone(source),
        };
        let task = runtime.spawn(UsageCounter::inherit(filler.run(job, memory)));
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

    /// The checksum of all bytes; `None` where they did not come, or were given back.
    fn poll_crc(&self, cx: &mut Context<'_>) -> Poll<Option<Crc64>> {
        match &mut *lock(&self.state) {
            State::Loading(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Ready(loaded) => Poll::Ready(Some(loaded.crc)),
            State::Failed(_) | State::Gone => Poll::Ready(None),
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

/// The task's end of a slot. Dropped before it has a result, it reports that to the reader, which
/// does not wait for a task that the runtime has dropped.
struct Filler {
    state: Arc<Mutex<State>>,
    source: Arc<Source>,
}

impl Filler {
    async fn run(self, job: Job, memory: Memory) {
        // An idle reader is not polled, so the task waits for memory, and
        // releases it.
        let mut grant = memory.grant().await;
        grant.pin();
        let mut load = pin!(self.source.load(&job));
        let loaded = match timeout(NEAR, load.as_mut()).await {
            Ok(loaded) => loaded,
            Err(_) => {
                self.source.is_distant.store(true, Relaxed);
                self.wake();
                load.await
            }
        };
        match loaded {
            Ok(loaded) => {
                self.set(State::Ready(loaded));
                grant.unpin();
                grant.reclaim_requested().await;
                self.set(State::Gone);
            }
            Err(error) => self.set(State::Failed(error)),
        }
    }

    /// Lets a reader that waits ask for more.
    fn wake(&self) {
        let waker = match &mut *lock(&self.state) {
            State::Loading(waker) => waker.take(),
            _ => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
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

    /// The checksum of all bytes from the first slot to `end`, once they have arrived. `None` where
    /// not all of them were asked for, or some did not come.
    pub(super) fn poll_crc_to(&self, end: u64, cx: &mut Context<'_>) -> Poll<Option<Crc64>> {
        if self.0.back().is_none_or(|last| last.keep.end < end) {
            return Poll::Ready(None);
        }
        let mut crc = Crc64::default();
        for slot in &self.0 {
            match ready!(slot.poll_crc(cx)) {
                Some(next) => crc = crc.then(next),
                None => break,
            }
            if slot.keep.end == end {
                return Poll::Ready(Some(crc));
            }
        }
        Poll::Ready(None)
    }

    /// The slots up to `end` may be handed out.
    pub(super) fn admit_to(&mut self, end: u64) {
        for slot in self.0.iter_mut().take_while(|slot| slot.keep.end <= end) {
            if let State::Ready(loaded) = &*lock(&slot.state) {
                slot.admitted = Some(loaded.crc);
            }
        }
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
