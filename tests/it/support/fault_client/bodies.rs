//! Bodies that break off, end early or change on their way.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::exchange::Exchange;
use super::rules::Then;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The first half of a body, and then an error.
pub(super) struct HalfBody {
    pub(super) body: SdkBody,
    pub(super) left: u64,
}

impl Body for HalfBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(Some(Err("half of it was sent".into())));
        }
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(mut bytes) => {
                    bytes.truncate(usize::try_from(self.left).unwrap());
                    self.left -= bytes.len() as u64;
                    Frame::data(bytes)
                }
                Err(other) => other,
            })
        }))
    }
}

/// The body of an answer, counted, and cut or changed on its way.
pub(super) struct Answer {
    pub(super) body: SdkBody,
    pub(super) taken: u64,
    /// After so many bytes.
    pub(super) cut: Option<(u64, Then)>,
    pub(super) flip: Option<u64>,
    pub(super) exchange: Exchange,
}

impl Answer {
    fn spoil(&mut self, bytes: Bytes) -> Bytes {
        let mut bytes = bytes;
        if let Some((cut, _)) = self.cut {
            bytes.truncate(usize::try_from(cut - self.taken).unwrap());
        }
        let range = self.taken..self.taken + bytes.len() as u64;
        if let Some(at) = self.flip.filter(|at| range.contains(at)) {
            let mut changed = bytes.to_vec();
            changed[usize::try_from(at - range.start).unwrap()] ^= 0x10;
            bytes = changed.into();
        }
        self.taken = range.end;
        self.exchange.log_received(range.end);
        bytes
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some((cut, then)) = self.cut
            && self.taken >= cut
        {
            let error: BoxError = "the connection was broken by the test".into();
            return match then {
                Then::Breaks => Poll::Ready(Some(Err(error))),
                Then::Ends => Poll::Ready(None),
                // The reader has a timeout of its own.
                Then::Stalls => Poll::Pending,
            };
        }
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(bytes) => Frame::data(self.spoil(bytes)),
                Err(other) => other,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.cut {
            Some(_) => SizeHint::default(),
            None => Body::size_hint(&self.body),
        }
    }
}
