//! Reads a stored layer: forwards in parallel, anywhere at the cost of one request, and never a
//! byte of a block that is known to be wrong.
//!
//! # How
//!
//! The object is read by ranged GETs that demand the recorded ETag ([`plan`]). A caller that names
//! the end of what it needs, as one that reads the whole body does, gets ranges of whole blocks
//! (8 MiB) from the start: a layer of one block costs one request. If memory does not hold all that
//! is left, ranges are smaller, so that twice as many requests are under way as an upload may have.
//! Nothing beyond that end is requested, unless the block there is suspect (below). If no end is
//! named, the first range is small, and ranges double while the caller reads without a seek.
//!
//! Each range is a task ([`window`]) that collects its bytes in the pieces they came in, resumes a
//! broken body at the exact byte, and compares a whole block with its checksum ([`fetch`]). Only
//! then the reader ([`reader`]) hands pieces out. So memory is bounded by ranges, no connection
//! waits for a slow consumer (who would look like a stalled store), and what a block's checksum
//! says is known before any of it leaves.
//!
//! # Integrity
//!
//! S3 and the SDK check no ranged GET. What is compared with the record is every block that is
//! read from its first byte to its last without a gap:
//!
//! 1. A block that is under way as a whole, in one range or several, is compared before any of it
//!    is handed out. If it differs, it is fetched once more; if it differs again, the read is an
//!    error.
//! 2. Where memory does not hold a block, and in the first block if no end was named, ranges are
//!    handed out as they come, and the block is compared when its last range has come, before any
//!    of that is handed out. If it differs, all of the block is fetched again. It must be right, and
//!    begin with the very bytes that were handed out, else the read is an error.
//! 3. A block that was found wrong stays suspect: until it was found right, nothing of it is
//!    handed out unless all of it was fetched and is right. Reading again is no way around 2.
//! 4. A block that is read in part, after a seek or up to an end that was named, is not
//!    compared. A layer whose record has no checksums is not compared either.
//! 5. Every byte asked for comes, or the read is an error: a missing, short or changed object is
//!    never an early end.
//!
//! # Memory
//!
//! Readers have a pool of their own in the [budget](crate::s3::budget): a quarter of it.
//!
//! 1. A range is counted before it is requested. A reader that has nothing waits for
//!    [`plan::LITTLE`] bytes, or for as many as it has just read, up to [`plan::WINDOW`]; those that have something take more only while none waits, and not
//!    while a reader that holds less was refused more.
//! 2. Ranges that have arrived are released when another reader waits, those of the reader that
//!    holds most first, and are fetched again when they are needed. So a reader that is read slowly
//!    shrinks, also if it is not read from. A range that is still arriving is never released.
//!
//! # Life
//!
//! Nothing is asked for before the first read. A seek moves a number; inside what is buffered it
//! keeps that, elsewhere the next read starts over. An error leaves the position where it was and
//! drops everything under way: the same read can be tried again. Dropping ends all requests.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf, SeekFrom};
use tokio::sync::Mutex;
use uuid::Uuid;

use self::fetch::{Place, Source};
use self::parts::Parts;
use self::reader::Reader;
use crate::contract::Layer;
use crate::contract::position::seek_position;
use crate::error::{Error, Result};
use crate::id::TarSum;
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::bucket::presence;
use crate::s3::format::record::{Content, Segment, StoredLayer};
use s3layers_tarsum::Digest;

mod fetch;
mod parts;
mod plan;

mod reader;
#[cfg(test)]
mod tests;
mod window;

/// A layer in the bucket.
#[derive(Debug)]
pub(crate) struct S3Layer {
    store: Arc<Store>,
    layer: Arc<StoredLayer>,
    reader: Reader,
}

impl S3Layer {
    /// At its first byte.
    ///
    /// # Cost
    ///
    /// No request.
    pub(crate) fn new(store: Arc<Store>, layer: Arc<StoredLayer>) -> Self {
        let source = Source {
            store: Arc::clone(&store),
            place: Arc::new(Place {
                upload: layer.upload,
                segments: layer.segments().to_vec(),
            }),
            size: layer.size,
            layer: Some(Arc::clone(&layer)),
            found: Mutex::default(),
            is_distant: AtomicBool::new(false),
        };
        let inline = match &layer.content {
            Content::Inline(bytes) => Some(bytes.0.clone()),
            Content::Segments(_) => None,
        };
        S3Layer {
            store,
            layer,
            reader: Reader::new(source, inline),
        }
    }
}

impl AsyncRead for S3Layer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(bytes) = ready!(self.reader.poll_piece(cx))? {
            let length = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..length]);
            self.reader.consume(length);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for S3Layer {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let position = seek_position(self.reader.position(), self.layer.size, to)?;
        self.reader.seek(position);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.reader.position()))
    }
}

#[async_trait]
impl Layer for S3Layer {
    fn name(&self) -> &RepositoryName {
        &self.layer.repository
    }

    fn tar_sum(&self) -> Option<&TarSum> {
        self.layer.tar_sum()
    }

    fn digest(&self) -> &Digest {
        &self.layer.digest
    }

    fn size(&self) -> u64 {
        self.layer.size
    }

    fn created_at(&self) -> SystemTime {
        // Every timestamp that a record can hold is one of the system's as well.
        SystemTime::try_from(self.layer.created_at).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    async fn close(&mut self) {
        self.reader.close();
    }

    /// Requests ranges ahead at once, since all bytes are needed. Ends after an error.
    fn into_stream_to(self: Box<Self>, end: u64) -> BoxStream<'static, Result<Bytes>> {
        let rest = self.reader.position()..end;
        self.into_stream_of(vec![rest])
    }

    fn into_stream_of(
        self: Box<Self>,
        parts: Vec<Range<u64>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let parts = Parts::new(self.reader, parts, self.layer.size);
        Box::pin(stream::try_unfold(parts, |mut parts| async move {
            let bytes = parts.next().await?;
            Ok(bytes.map(|bytes| (bytes, parts)))
        }))
    }

    async fn is_stored(&self) -> Result<bool> {
        let present = presence::present(&self.store, &self.layer).await?;
        Ok(present.is_some())
    }

    /// `None` for a layer that is stored within its record, or in several objects.
    ///
    /// The SDK does not report when credentials expire, so a URL that was signed with temporary ones
    /// may die before `lifetime` is over, as S3 then refuses it.
    async fn presigned_url(&self, lifetime: Duration) -> Result<Option<String>> {
        let lifetime = lifetime.min(self.store.presign_lifetime);
        let Some(layer) = presence::present(&self.store, &self.layer).await? else {
            let reason = "the object is missing or was changed".to_owned();
            return Err(Error::damaged(&self.layer.digest, reason));
        };
        let [segment] = layer.segments() else {
            return Ok(None);
        };
        if segment.object_size.is_some() {
            return Ok(None);
        }
        let key = self.store.keys.segment(layer.upload, &segment.name);
        let signed = self.store.api.presign_get(&key, lifetime);
        Ok(Some(signed.await?))
    }
}

/// Reads all bytes of an upload that has no record yet, once and in order, with as many ranges under way
/// and as much memory as a reader may have. Only the ETags and sizes are checked: the
/// caller hashes the bytes. Dropping it ends all requests.
pub(crate) struct ReadBack(Reader);

impl ReadBack {
    pub(crate) fn of(store: &Arc<Store>, upload: Uuid, segments: &[Segment], size: u64) -> Self {
        let source = Source {
            store: Arc::clone(store),
            place: Arc::new(Place {
                upload,
                segments: segments.to_vec(),
            }),
            size,
            layer: None,
            found: Mutex::default(),
            is_distant: AtomicBool::new(false),
        };
        let mut reader = Reader::new(source, None);
        reader.want_all_to(size);
        ReadBack(reader)
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`Damaged`](crate::Error::Damaged) where the object is missing, shorter, or not the one of
    /// this ETag; [`Storage`](crate::Error::Storage).
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        // What is buffered comes without waiting; others want the thread too.
        tokio::task::consume_budget().await;
        std::future::poll_fn(|cx| self.0.poll_next(cx)).await
    }
}
