//! The socket of a client, with limits on what the client may leave waiting, and a close that does
//! not take back the answer.
//!
//! 1. The first head, and each later one that has begun, must be complete within
//!    [`Limits::header_timeout`], and an answer must be read: the stream fails after
//!    [`Limits::write_timeout`] without progress.
//! 2. A client may be refused while it still sends its body. To close a socket with unread bytes
//!    makes the kernel reset the connection, and the client may never see the answer. So the
//!    stream is half-closed, and what comes is read and dropped for a while (RFC 9112, 9.6).

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};
use tokio_io_timeout::TimeoutWriter;

use super::limits::Limits;

/// A client that was refused may send so many bytes more, and for so long, until it has read why.
const LINGER_BYTES: u64 = 256 * 1024 * 1024;
const LINGER_UNAUTHORIZED: u64 = 64 * 1024;
const LINGER: Duration = Duration::from_secs(30);
/// One that sends nothing for so long will not send more.
const LINGER_IDLE: Duration = Duration::from_secs(5);

/// What the requests of one connection are doing.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests so far, and how many of them are over: their body was read or dropped, and their
    /// answer was handed to the connection.
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// A body was dropped before its end.
    has_unread: AtomicBool,
    /// The client of the last request was not authorized.
    is_unauthorized: AtomicBool,
    is_writing: AtomicBool,
    /// The server does not notice by itself that a body was dropped while it waits for more of it.
    dropped: Notify,
}

impl Activity {
    fn is_in_request(&self) -> bool {
        self.begun.load(SeqCst) > self.ended.load(SeqCst)
    }

    /// Whether no request or answer is in progress.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_in_request() && !self.is_writing.load(SeqCst)
    }

    /// Whether a body was dropped before its end.
    pub(super) fn has_unread(&self) -> bool {
        self.has_unread.load(SeqCst)
    }

    /// A client that is not authorized may send little more before its connection is closed.
    pub(super) fn limit_linger(&self) {
        self.is_unauthorized.store(true, SeqCst);
    }

    /// Resolves after a body was dropped.
    pub(super) async fn body_dropped(&self) {
        self.dropped.notified().await;
    }

    pub(super) fn begin(self: &Arc<Self>) -> Arc<RequestGuard> {
        self.begun.fetch_add(1, SeqCst);
        self.is_unauthorized.store(false, SeqCst);
        Arc::new(RequestGuard(Arc::clone(self)))
    }
}

/// A request, until its last clone is dropped.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

/// The body of a request or of an answer. It keeps the request begun.
pub(super) struct TrackedBody<B> {
    body: B,
    /// Of a request's body.
    has_unread: bool,
    request: Arc<RequestGuard>,
}

impl<B: Body> TrackedBody<B> {
    pub(super) fn of_request(body: B, request: Arc<RequestGuard>) -> Self {
        let has_unread = !body.is_end_stream();
        TrackedBody {
            body,
            has_unread,
            request,
        }
    }

    pub(super) fn of_answer(body: B, request: Arc<RequestGuard>) -> Self {
        TrackedBody {
            body,
            has_unread: false,
            request,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.has_unread = false;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for TrackedBody<B> {
    fn drop(&mut self) {
        if self.has_unread {
            let activity = &self.request.0;
            activity.has_unread.store(true, SeqCst);
            activity.dropped.notify_one();
        }
    }
}

/// The socket.
pub(super) struct ClientStream<S> {
    stream: Pin<Box<TimeoutWriter<S>>>,
    activity: Arc<Activity>,
    header_timeout: Duration,
    /// Runs until the first head is complete, and while another one is incomplete; with the number of
    /// requests before it.
    head: Option<(usize, Pin<Box<Sleep>>)>,
    /// Since the stream was half-closed.
    linger: Option<Linger>,
}

struct Linger {
    end: Instant,
    bytes_left: u64,
    idle: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite> ClientStream<S> {
    pub(super) fn new(stream: S, limits: &Limits, activity: Arc<Activity>) -> Self {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(limits.write_timeout));
        ClientStream {
            stream: Box::pin(stream),
            activity,
            header_timeout: limits.header_timeout,
            head: Some((0, Box::pin(sleep(limits.header_timeout)))),
            linger: None,
        }
    }

    /// Remembers whether the client has an answer to read.
    fn note_write<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.activity.is_writing.store(written.is_pending(), SeqCst);
        written
    }

    /// Fails where a head is incomplete for too long.
    fn watch_head(&mut self, context: &mut Context<'_>, got_bytes: bool) -> io::Result<()> {
        let begun = self.activity.begun.load(SeqCst);
        let is_in_request = self.activity.is_in_request();
        self.head
            .take_if(|(before, _)| *before != begun || is_in_request);
        if got_bytes && !is_in_request && self.head.is_none() {
            self.head = Some((begun, Box::pin(sleep(self.header_timeout))));
        }
        if let Some((_, timer)) = &mut self.head
            && timer.as_mut().poll(context).is_ready()
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Reads and drops what the client still sends, within the limits.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let bytes_left = if self.activity.is_unauthorized.load(SeqCst) {
            LINGER_UNAUTHORIZED
        } else {
            LINGER_BYTES
        };
        let linger = self.linger.get_or_insert_with(|| Linger {
            end: Instant::now() + LINGER,
            bytes_left,
            idle: Box::pin(sleep(LINGER_IDLE)),
        });
        let mut space = [0; 16 * 1024];
        while linger.bytes_left > 0 && Instant::now() < linger.end {
            let mut buffer = ReadBuf::new(&mut space);
            match self.stream.as_mut().poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let came = buffer.filled().len() as u64;
                    linger.bytes_left = linger.bytes_left.saturating_sub(came);
                    let until = linger.end.min(Instant::now() + LINGER_IDLE);
                    linger.idle.as_mut().reset(until);
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return linger.idle.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.stream.as_mut().poll_read(context, buffer);
        let got_bytes = buffer.filled().len() > before;
        self.watch_head(context, got_bytes)?;
        read
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write(context, bytes);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write_vectored(context, bytes);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream.as_mut().poll_flush(context);
        self.note_write(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(self.stream.as_mut().poll_shutdown(context))?;
        }
        if self.activity.has_unread() {
            ready!(self.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}
