//! A layer in memory, read and sought.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf, SeekFrom};

use super::store::StoredLayer;
use crate::contract::Layer;
use crate::contract::position::seek_position;
use crate::error::Result;
use crate::id::TarSum;
use crate::name::RepositoryName;
use s3layers_tarsum::Digest;

/// The largest piece that a layer's stream gives, in bytes.
const PIECE: usize = 256 * 1024;

pub(super) struct MemoryLayer {
    stored: Arc<StoredLayer>,
    position: u64,
}

impl MemoryLayer {
    pub(super) fn open(stored: &Arc<StoredLayer>) -> Box<dyn Layer> {
        Box::new(MemoryLayer {
            stored: Arc::clone(stored),
            position: 0,
        })
    }

    /// The bytes from the position on; none where it is past the end.
    fn rest(&self) -> Bytes {
        let bytes = &self.stored.bytes;
        let start = usize::try_from(self.position).unwrap_or(usize::MAX);
        bytes.slice(start.min(bytes.len())..)
    }
}

#[async_trait]
impl Layer for MemoryLayer {
    fn name(&self) -> &RepositoryName {
        &self.stored.name
    }

    fn tar_sum(&self) -> Option<&TarSum> {
        self.stored.tar_sum.as_ref()
    }

    fn digest(&self) -> &Digest {
        &self.stored.digest
    }

    fn size(&self) -> u64 {
        self.stored.bytes.len() as u64
    }

    fn created_at(&self) -> SystemTime {
        self.stored.created_at
    }

    async fn is_stored(&self) -> Result<bool> {
        Ok(true)
    }

    async fn close(&mut self) {}

    fn into_stream_to(self: Box<Self>, end: u64) -> BoxStream<'static, Result<Bytes>> {
        let mut rest = self.rest();
        let length = end.saturating_sub(self.position);
        rest.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        let pieces = std::iter::from_fn(move || {
            let piece = rest.split_to(rest.len().min(PIECE));
            (!piece.is_empty()).then_some(Ok(piece))
        });
        stream::iter(pieces).boxed()
    }

    fn into_stream_of(
        self: Box<Self>,
        parts: Vec<Range<u64>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let streams = parts.into_iter().map(move |part| {
            let stored = Arc::clone(&self.stored);
            let position = part.start;
            Box::new(MemoryLayer { stored, position }).into_stream_to(part.end)
        });
        stream::iter(streams).flatten().boxed()
    }

    async fn presigned_url(&self, _lifetime: Duration) -> Result<Option<String>> {
        Ok(None)
    }
}

impl AsyncRead for MemoryLayer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = self.rest();
        bytes.truncate(buf.remaining());
        buf.put_slice(&bytes);
        self.position += bytes.len() as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for MemoryLayer {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        self.position = seek_position(self.position, self.size(), to)?;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}
