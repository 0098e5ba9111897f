//! What a served store allows its clients, and a request body that must not stall.

use std::error::Error as StdError;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Limits of [`serve_with`](crate::EmbeddedStore::serve_with).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. Further ones wait to be accepted. Default: 10,000.
    pub connections: usize,
    /// Requests at a time, each until its answer begins. A request holds up to 2 MiB of its body.
    /// Default: 512.
    pub requests: usize,
    /// How long a request waits for its turn before the answer is 503 `SlowDown`. Default: 10 seconds.
    pub patience: Duration,
    /// How long a connection may take for the head of a request, which includes the time between two
    /// requests. Default: 100 seconds.
    pub header_timeout: Duration,
    /// How long a request body may be idle. Then the answer is 400 `RequestTimeout`, and the
    /// connection is closed. Default: 60 seconds.
    pub body_timeout: Duration,
    /// How long a client may read nothing of its answer. Then the connection is closed. Default: 60
    /// seconds.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            requests: 512,
            patience: Duration::from_secs(10),
            header_timeout: Duration::from_secs(100),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// A body brought nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the body brought nothing for {} seconds", .0.as_secs_f32())]
struct StallError(Duration);

/// What became of a request body. What reads it may hide its error, or not read it.
#[derive(Debug, Default)]
pub(crate) struct BodyState {
    pub(crate) has_stalled: AtomicBool,
    pub(crate) was_read: AtomicBool,
}

/// A body that fails once it brought nothing for so long.
pub(crate) struct TimedBody<B> {
    body: B,
    timeout: Duration,
    state: Arc<BodyState>,
    /// Runs while the body brings nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B: Body> TimedBody<B> {
    pub(crate) fn new(body: B, timeout: Duration, state: Arc<BodyState>) -> Self {
        state
            .was_read
            .store(body.is_end_stream(), Ordering::Relaxed);
        Self {
            body,
            timeout,
            state,
            waiting: None,
        }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waiting = None;
            if frame.is_none() || self.body.is_end_stream() {
                self.state.was_read.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(timeout)));
        waiting.as_mut().poll(context).map(|()| {
            self.state.has_stalled.store(true, Ordering::Relaxed);
            Some(Err(StallError(timeout).into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
