//! Bodies: of an answer, which is never shorter than it said, and of a request, frame by frame.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::timeout;

use super::access::Entry;
use super::request_permits::RequestPermit;
use s3layers::Result;

/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer. One that carries a blob has a size, and fails where fewer bytes come: the
/// server then cuts the connection, which no client takes for the end.
pub struct ResponseBody {
    content: Content,
    /// Written down when the body is sent or let go.
    entry: Option<Entry>,
}

enum Content {
    /// Of what is left, in one piece.
    Full(Bytes),
    Stream {
        stream: BoxStream<'static, Result<Bytes>>,
        /// Not 0.
        left: u64,
    },
}

impl ResponseBody {
    pub(super) fn full(bytes: Bytes) -> Self {
        ResponseBody {
            content: Content::Full(bytes),
            entry: None,
        }
    }

    /// The first `size` bytes of `stream`.
    pub(super) fn stream(stream: BoxStream<'static, Result<Bytes>>, size: u64) -> Self {
        ResponseBody {
            content: match size {
                0 => Content::end(),
                left => Content::Stream { stream, left },
            },
            entry: None,
        }
    }

    pub(super) fn set_entry(&mut self, entry: Entry) {
        self.entry = Some(entry);
    }
}

impl Content {
    fn end() -> Self {
        Content::Full(Bytes::new())
    }

    /// In bytes.
    fn left(&self) -> u64 {
        match self {
            Content::Full(bytes) => bytes.len() as u64,
            Content::Stream { left, .. } => *left,
        }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Content::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Full(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Content::Stream { stream, left } => {
                let next = ready!(stream.as_mut().poll_next(context));
                let missing = *left;
                let ended = match next {
                    Some(Ok(mut bytes)) => {
                        bytes.truncate(usize::try_from(missing).unwrap_or(usize::MAX));
                        *left = missing.saturating_sub(bytes.len() as u64);
                        if *left == 0 {
                            *self = Content::end();
                        }
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                    Some(Err(error)) => error.into(),
                    None => format!("the layer ended {missing} bytes early").into(),
                };
                *self = Content::end();
                Poll::Ready(Some(Err(ended)))
            }
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("size", &self.size_hint().exact())
            .finish()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let ResponseBody { content, entry } = &mut *self;
        let next = ready!(match entry {
            Some(entry) => entry.call(|| content.next(context)),
            None => content.next(context),
        });
        if let Some(entry) = entry {
            match &next {
                Some(Ok(bytes)) => entry.sent(bytes.len() as u64),
                Some(Err(error)) => entry.broke(error.as_ref()),
                None => {}
            }
        }
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.content.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.left())
    }
}

/// The body of a request.
pub(super) struct RequestBody {
    body: UnsyncBoxBody<Bytes, BodyError>,
    declared: Option<u64>,
    received: Arc<AtomicU64>,
    /// Whether the client waits to be asked for it.
    waits: bool,
}

/// Why no more bytes come, though there should.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client is gone, or sent something else than it said.
    Cut(BodyError),
    /// Nothing came for so long.
    Idle(Duration),
}

impl RequestBody {
    /// `waits`: the client sends the body when it is asked for (`Expect: 100-continue`).
    pub(super) fn new<B>(body: B, received: Arc<AtomicU64>, waits: bool) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        RequestBody {
            declared: body.size_hint().exact(),
            body: body.map_err(Into::into).boxed_unsync(),
            received,
            waits,
        }
    }

    /// How many bytes came so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// How many bytes the client said it would send.
    pub(super) fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// The next bytes, `None` after the last. Cancelling it loses nothing.
    ///
    /// A server that drops a connection ends the body as if it were whole, so the bytes are
    /// counted if the client declared a length.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let Some(frame) = self.body.frame().await else {
                let received = self.received();
                return match self.declared {
                    Some(declared) if received != declared => Err(Broken::Cut(
                        format!("{received} of {declared} bytes came").into(),
                    )),
                    _ => Ok(None),
                };
            };
            // Trailers say nothing that we know.
            if let Ok(bytes) = frame.map_err(Broken::Cut)?.into_data() {
                self.received.fetch_add(bytes.len() as u64, Relaxed);
                return Ok(Some(bytes));
            }
        }
    }

    /// As `next`, for `idle` at most, and holds no permit while it waits. Cancelled, it may lose a
    /// frame.
    pub(super) async fn frame(
        &mut self,
        permit: &mut RequestPermit,
        idle: Duration,
    ) -> Result<Option<Bytes>, Broken> {
        if let Some(frame) = self.next().now_or_never() {
            return frame;
        }
        let frame = permit.released_during(timeout(idle, self.next())).await;
        frame.unwrap_or(Err(Broken::Idle(idle)))
    }

    /// Reads the rest of the body and drops it, beside the answer to its request: only then the
    /// connection can be used again. Where the body is large or slow, the server closes the
    /// connection instead.
    pub(super) fn discard(self) {
        self.discard_at_most(16 * 1024 * 1024);
    }

    /// The same for the body of a request that is refused.
    pub(super) fn refuse<T, E>(self, refusal: E) -> Result<T, E> {
        self.discard();
        Err(refusal)
    }

    /// The same for a body of a client that is not authorized.
    pub(super) fn discard_unauthorized(self) {
        self.discard_at_most(64 * 1024);
    }

    fn discard_at_most(mut self, at_most: u64) {
        const FOR: Duration = Duration::from_secs(2);
        let is_awaiting_continue = self.waits && self.received() == 0;
        if is_awaiting_continue || self.declared == Some(0) {
            return;
        }
        let until = self.received() + at_most;
        let all = async move {
            while let Ok(Some(_)) = self.next().await {
                if self.received() >= until {
                    break;
                }
            }
        };
        tokio::spawn(timeout(FOR, all));
    }
}

/// An answer without a body.
pub(crate) fn bare(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// Adds a header. A value that is not valid is left out.
pub(crate) fn with(
    mut response: Response<ResponseBody>,
    name: HeaderName,
    value: &str,
) -> Response<ResponseBody> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn body(pieces: &[&'static str], size: u64) -> ResponseBody {
        let pieces: Vec<Result<Bytes>> = pieces.iter().map(|&piece| Ok(piece.into())).collect();
        ResponseBody::stream(Box::pin(stream::iter(pieces)), size)
    }

    #[tokio::test]
    async fn a_body_has_the_size_that_it_said_or_fails() {
        for (pieces, size, want) in [
            (&["ab", "cd"][..], 4, Some("abcd")),
            (&["ab", "cd"], 3, Some("abc")),
            (&["ab", "cd"], 2, Some("ab")),
            (&["ab", "cd"], 0, Some("")),
            (&["ab", "cd"], 5, None),
            (&[], 1, None),
        ] {
            let body = body(pieces, size);
            assert_eq!(body.size_hint().exact(), Some(size));
            let collected = body.collect().await.ok().map(|all| all.to_bytes());
            assert_eq!(collected, want.map(Bytes::from), "{size} of {pieces:?}");
        }
    }
}
