//! Bodies, both ways: a part's segments as frames on the way up, a ranged GET's bytes on the way
//! down.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::gauge::Gauge;
use crate::telemetry::Request;

/// The largest frame of a body on its way up, in bytes. The SDK notices a stalled upload between
/// frames only: one frame of 16 MiB would hide a stall for ever.
const MAX_FRAME: usize = 1024 * 1024;

/// The bytes of a part, in the pieces that they arrived in.
struct Segments {
    left: VecDeque<Bytes>,
    remaining: u64,
    gauge: Gauge,
}

impl http_body::Body for Segments {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(front) = self.left.front_mut() else {
            return Poll::Ready(None);
        };
        let frame = front.split_to(front.len().min(MAX_FRAME));
        if front.is_empty() {
            self.left.pop_front();
        }
        self.remaining -= frame.len() as u64;
        self.gauge.moved(frame.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// A body of these segments, which can be sent again.
pub(super) fn segments_body(segments: &[Bytes], gauge: &Gauge) -> ByteStream {
    let gauge = gauge.clone();
    let segments: Arc<[Bytes]> = segments.iter().filter(|s| !s.is_empty()).cloned().collect();
    ByteStream::new(SdkBody::retryable(move || {
        gauge.begin();
        SdkBody::from_body_1_x(Segments {
            left: segments.iter().cloned().collect(),
            remaining: segments.iter().map(|segment| segment.len() as u64).sum(),
            gauge: gauge.clone(),
        })
    }))
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

    /// The next bytes; `None` at the end, which may come too early.
    ///
    /// Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Box<dyn StdError + Send + Sync>>> {
        let next = self.stream.next().await?;
        Some(match next {
            Ok(bytes) => {
                self.request.received(bytes.len() as u64);
                Ok(bytes)
            }
            Err(error) => {
                self.request.broke_off();
                Err(error.into())
            }
        })
    }
}

/// A body that the SDK can hash for its signature: one piece of memory. For documents, and for
/// stores that check no checksum of ours, where the signed hash is what protects the bytes.
pub(super) fn signable_body(segments: &[Bytes]) -> ByteStream {
    match segments {
        [one] => ByteStream::from(one.clone()),
        many => ByteStream::from(many.concat()),
    }
}
