//! Bodies, both ways: a part's segments as frames on the way up, a ranged GET's bytes on the way
//! down.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::s3::wire::gauge::Gauge;
use crate::telemetry::Request;

/// How long the next bytes of a body may take on the way down. The SDK's own protection is quicker where it
/// is on; it does not see every body that hangs.
const STALL: Duration = Duration::from_secs(30);

/// The largest frame of a body on its way up, in bytes. The SDK notices a stalled upload between
/// frames only: one frame of 16 MiB would hide a stall.
const MAX_FRAME: usize = 1024 * 1024;

/// The bytes of a request, which can be sent again.
#[derive(Clone)]
pub(crate) enum Payload {
    Memory(Arc<[Bytes]>),
    /// Read from elsewhere while it is sent, and again for each attempt.
    Stream {
        size: u64,
        open: Open,
    },
}

impl Payload {
    pub(crate) fn of(chunks: &[Bytes]) -> Self {
        let chunks = chunks.iter().filter(|chunk| !chunk.is_empty());
        Payload::Memory(chunks.cloned().collect())
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Payload::Memory(chunks) => chunks.iter().map(|chunk| chunk.len() as u64).sum(),
            Payload::Stream { size, .. } => *size,
        }
    }

    /// A body, and whether its signature can be without its hash: no stream can be hashed before it
    /// is sent, and a checksum of ours stands in for the hash. Where a store checks none, the hash is
    /// what protects bytes in memory.
    pub(super) fn body(&self, is_checksummed: bool, gauge: &Gauge) -> (ByteStream, bool) {
        match self {
            Payload::Memory(chunks) if !is_checksummed => (signable_body(chunks), false),
            Payload::Memory(chunks) => {
                let body = segments_body(self.size(), Arc::clone(chunks), gauge);
                (body, true)
            }
            Payload::Stream { size, open } => (streamed_body(*size, open, gauge), true),
        }
    }
}

type Open = Arc<dyn Fn() -> mpsc::Receiver<Bytes> + Send + Sync>;

/// The bytes of a part, as `next` gives them.
struct Frames<N> {
    next: N,
    remaining: u64,
    gauge: Gauge,
}

impl<N> http_body::Body for Frames<N>
where
    N: FnMut(&mut Context<'_>) -> Poll<Option<Bytes>> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = ready!((self.next)(context));
        Poll::Ready(next.map(|frame| {
            self.remaining = self.remaining.saturating_sub(frame.len() as u64);
            self.gauge.moved(frame.len() as u64);
            Ok(Frame::data(frame))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// A body of so many bytes, which can be sent again: `frames` begins with the first one.
fn gauged_body<N>(
    size: u64,
    gauge: &Gauge,
    frames: impl Fn() -> N + Send + Sync + 'static,
) -> ByteStream
where
    N: FnMut(&mut Context<'_>) -> Poll<Option<Bytes>> + Unpin + Send + Sync + 'static,
{
    let gauge = gauge.clone();
    ByteStream::new(SdkBody::retryable(move || {
        gauge.begin();
        SdkBody::from_body_1_x(Frames {
            next: frames(),
            remaining: size,
            gauge: gauge.clone(),
        })
    }))
}

/// The bytes of a part, as they are read from elsewhere. Nothing is read before the first frame is
/// asked for: the SDK makes more copies of a body than it sends.
fn streamed_body(size: u64, open: &Open, gauge: &Gauge) -> ByteStream {
    let open = Arc::clone(open);
    gauged_body(size, gauge, move || {
        let (open, mut bytes) = (Arc::clone(&open), None);
        move |context: &mut Context<'_>| bytes.get_or_insert_with(&*open).poll_recv(context)
    })
}

/// The bytes of a part, in the pieces that they arrived in.
fn segments_body(size: u64, segments: Arc<[Bytes]>, gauge: &Gauge) -> ByteStream {
    gauged_body(size, gauge, move || {
        let mut left: VecDeque<Bytes> = segments.iter().cloned().collect();
        move |_: &mut Context<'_>| {
            let front = left.front_mut();
            let frame = front.map(|front| front.split_to(front.len().min(MAX_FRAME)));
            left.pop_front_if(|front| front.is_empty());
            Poll::Ready(frame)
        }
    })
}

/// The body of a ranged GET, as it arrives. The SDK repeats no body and checks no range.
pub(crate) struct RangeBody {
    stream: ByteStream,
    request: Request,
}

impl RangeBody {
    pub(super) fn new(stream: ByteStream, request: Request) -> Self {
        RangeBody { stream, request }
    }

    /// The next bytes; `None` at the end, which may come too early. An error where none came for [`STALL`].
    ///
    /// Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Box<dyn StdError + Send + Sync>>> {
        let broken = match timeout(STALL, self.stream.next()).await {
            Ok(Some(Ok(bytes))) => {
                self.request.received(bytes.len() as u64);
                return Some(Ok(bytes));
            }
            Ok(None) => return None,
            Ok(Some(Err(error))) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        self.request.broke_off();
        Some(Err(broken))
    }
}

/// A body that the SDK can hash for its signature: one piece of memory. For documents, and for
/// stores that check no checksum of ours, where the signed hash is what protects the bytes.
fn signable_body(segments: &[Bytes]) -> ByteStream {
    match segments {
        [one] => ByteStream::from(one.clone()),
        many => ByteStream::from(many.concat()),
    }
}
