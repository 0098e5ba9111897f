//! The contract between a registry and its layer storage, independent of the implementation.
//!
//! Three traits, all dyn-safe. [`LayerService`] finds layers and begins uploads; [`Layer`] is a
//! stored layer, read and sought; [`LayerUpload`] takes the bytes of a layer to be.
//!
//! The life of an upload: [`upload`](LayerService::upload) begins it; bytes are written;
//! [`close`](LayerUpload::close) releases it with every byte stored, and
//! [`resume`](LayerService::resume) opens it again, in this process or another;
//! [`finish`](LayerUpload::finish) verifies and publishes, or [`cancel`](LayerUpload::cancel)
//! removes it. After either, `resume` returns [`UploadUnknown`](crate::Error::UploadUnknown).
//!
//! What every implementation promises:
//!
//! 1. Every layer served matches its digest.
//! 2. What `close` or `finish` acknowledged survives the death of the process.
//! 3. Two writers of one upload never mix: the newest handle wins, the other one gets
//!    [`UploadConflict`](crate::Error::UploadConflict). If bytes in flight of the older handle
//!    replaced some of the newer, its `finish` returns [`Damaged`](crate::Error::Damaged) and
//!    publishes nothing.
//! 4. A failed `finish` publishes nothing and leaves the upload as it was.
//! 5. A missing or short object is an error, never an early end of file.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite};
use uuid::Uuid;

use crate::error::Result;
use crate::id::{LayerId, TarSum};
use crate::name::RepositoryName;
use s3layers_tarsum::Digest;

mod ext;
pub(crate) mod position;
mod progress;
mod repositories;

pub use ext::LayerServiceExt;
pub use progress::UploadProgress;
pub use repositories::{Manifest, Page, Referrer, ReferrerKey, RepositoryService};

/// Finds layers, and begins and resumes uploads.
#[async_trait]
pub trait LayerService: Send + Sync {
    /// Whether a layer with this id is stored, its bytes included.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage) where the store gave no answer. Lack of permission is
    /// never read as absence.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn exists(&self, id: &LayerId) -> Result<bool>;

    /// The layer with this id, positioned at its first byte. No byte of it is read yet.
    ///
    /// # Errors
    ///
    /// [`LayerUnknown`](crate::Error::LayerUnknown) where none is stored.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn fetch(&self, id: &LayerId) -> Result<Box<dyn Layer>>;

    /// Begins an upload to the repository `name`. Where the client has said what it is going to
    /// upload, `id` declares it, and [`finish`](LayerUpload::finish) verifies that too.
    ///
    /// # Errors
    ///
    /// [`LayerExists`](crate::Error::LayerExists) where a layer of the declared id is stored;
    /// [`UploadInProgress`](crate::Error::UploadInProgress), which carries the UUID to resume,
    /// where an upload of the declared id is running in this repository.
    ///
    /// # Cancellation
    ///
    /// May leave an empty upload behind, which a sweep removes.
    async fn upload(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
    ) -> Result<Box<dyn LayerUpload>>;

    /// Resumes an upload at the offset that the store has: [`offset`](LayerUpload::offset) returns
    /// it. Where `id` is given and another was declared at the beginning, the upload
    /// is another one and so unknown; where none was declared, `finish` verifies this one.
    ///
    /// Resuming does not disturb an active writer; the first byte written through this
    /// handle, or its `finish` or `cancel`, makes it the owner.
    ///
    /// # Errors
    ///
    /// [`UploadUnknown`](crate::Error::UploadUnknown) where there is no such upload in this
    /// repository, where it was finished or cancelled, or where its bytes are gone.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn resume(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
        uuid: Uuid,
    ) -> Result<Box<dyn LayerUpload>>;
}

/// A stored layer: an `AsyncRead` and `AsyncSeek`, and what is known of it.
///
/// Seeking costs no request, also from the end, since the size is known. Seeking past
/// the end is allowed, and reading there gives end of file; seeking before the start is an error
/// and moves nothing. A failed read does not spoil the handle: the same read can be tried again.
/// Errors of the `io` traits carry an [`Error`](crate::Error); see
/// [`Error::from_io`](crate::Error::from_io).
#[async_trait]
pub trait Layer: AsyncRead + AsyncSeek + Send + Sync + Unpin {
    /// The repository that the layer was first published in.
    fn name(&self) -> &RepositoryName;

    /// The TarSum that was verified for these bytes: the one that the layer was found by, or else
    /// the one that was declared when it was first published, if one was.
    fn tar_sum(&self) -> Option<&TarSum>;

    /// The SHA-256 of the layer's bytes.
    fn digest(&self) -> &Digest;

    /// The size in bytes.
    fn size(&self) -> u64;

    /// When the layer was published.
    fn created_at(&self) -> SystemTime;

    /// Whether the bytes are there. An implementation may rely on a look of at most 15 minutes ago,
    /// unless a read has found them missing since.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage) where the store gave no answer.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn is_stored(&self) -> Result<bool>;

    /// Releases the memory of reading ahead. Dropping does the same; it cannot fail, and
    /// cancelling it leaves nothing behind.
    async fn close(&mut self);

    /// The bytes from the current position to the end, in pieces as they arrive.
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<Bytes>> {
        self.into_stream_to(u64::MAX)
    }

    /// The bytes from the current position up to `end`, or to the layer's end where that comes
    /// first. Nothing far beyond `end` is read.
    fn into_stream_to(self: Box<Self>, end: u64) -> BoxStream<'static, Result<Bytes>>;

    /// The bytes of each of `parts`, one part after another. They are in order and apart from each
    /// other; what is beyond the end of the layer is left out. A part costs a request, unless little
    /// lies between it and the one before.
    fn into_stream_of(self: Box<Self>, parts: Vec<Range<u64>>)
    -> BoxStream<'static, Result<Bytes>>;

    /// A URL that returns the whole layer without credentials, for `lifetime` at
    /// most. `None` where the storage has no such thing. The URL is a secret.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage) where it could not be signed.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn presigned_url(&self, lifetime: Duration) -> Result<Option<String>>;
}

/// An upload under way: an `AsyncWrite`, and the ways to end it.
///
/// Writing hands bytes over; they are stored as parts fill up, and certainly when
/// [`close`](Self::close) or [`finish`](Self::finish) has returned. An error of a part that was
/// sent in the background is returned by the next call. `AsyncWrite::poll_flush` waits until what fills
/// parts is stored, and `AsyncWrite::poll_shutdown` closes.
///
/// Dropping a handle without closing it loses what was not stored yet, and nothing else: the
/// upload can be resumed.
#[async_trait]
pub trait LayerUpload: AsyncWrite + Send + Sync + Unpin {
    /// The id of the upload.
    fn uuid(&self) -> Uuid;

    /// The repository.
    fn name(&self) -> &RepositoryName;

    /// The id that the layer is to have, if one was declared when the upload began or was resumed.
    fn declared_id(&self) -> Option<&LayerId>;

    /// The TarSum that was declared, if one was.
    fn tar_sum(&self) -> Option<&TarSum> {
        self.declared_id().and_then(LayerId::as_tar_sum)
    }

    /// How many bytes this upload has taken, those of earlier handles included.
    fn offset(&self) -> u64;

    /// How many of them were sent to the store, for progress display. An implementation
    /// that does not count stays at the present offset.
    fn progress(&self) -> UploadProgress {
        UploadProgress::from_offset(self.offset())
    }

    /// The SHA-256 of the bytes that the upload held when this handle was made, so that a resume can
    /// check that it has the same input. `None` where an implementation does not say.
    fn digest_at_start(&self) -> Option<&Digest> {
        None
    }

    /// The first offset beyond the present one at which a close leaves nothing that will have to be
    /// sent to the store once more. `None` where there is no such place, or all are.
    fn next_boundary(&self) -> Option<u64> {
        None
    }

    /// The size in bytes beyond which this upload takes nothing. A caller that knows the size of the
    /// layer checks it before the first byte. `u64::MAX` where no limit is known.
    fn max_size(&self) -> u64 {
        u64::MAX
    }

    /// Waits until bytes can be taken without waiting. A server calls it before it reads them from a
    /// socket, so that a client waits whose bytes there is no memory for.
    ///
    /// # Errors
    ///
    /// As [`write_bytes`](Self::write_bytes).
    ///
    /// # Cancellation
    ///
    /// Nothing changes.
    async fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes all of `bytes`, without copying them but for short pieces, which would keep the larger
    /// buffer that they are a slice of in memory.
    ///
    /// # Errors
    ///
    /// [`UploadConflict`](crate::Error::UploadConflict) where another handle owns the upload now;
    /// [`LayerTooLarge`](crate::Error::LayerTooLarge); [`Storage`](crate::Error::Storage).
    ///
    /// # Cancellation
    ///
    /// Bytes taken so far are counted by [`offset`](Self::offset); the others are not written.
    async fn write_bytes(&mut self, bytes: Bytes) -> Result<()>;

    /// Stores every byte taken, and releases the upload. When this returns, a resume anywhere
    /// finds the upload at [`offset`](Self::offset).
    ///
    /// # Errors
    ///
    /// As [`write_bytes`](Self::write_bytes). Nothing that was acknowledged before is lost.
    ///
    /// # Cancellation
    ///
    /// The work continues in the background; resume to see whether it succeeded.
    async fn close(&mut self) -> Result<()>;

    /// Verifies the bytes and publishes them as a layer. `size` is the size in bytes that the
    /// client claims, `digest` the digest it claims.
    ///
    /// # Errors
    ///
    /// In this order: [`InvalidLength`](crate::Error::InvalidLength),
    /// [`InvalidChecksum`](crate::Error::InvalidChecksum),
    /// [`TarSumVersionUnsupported`](crate::Error::TarSumVersionUnsupported),
    /// [`InvalidTarSum`](crate::Error::InvalidTarSum). After one of these the upload is as it was
    /// and this handle can continue, finish with other values, or cancel. (Where the bytes had to be
    /// assembled before they could be read, the upload takes no more bytes, but can be finished
    /// with another digest or resumed with another id, or cancelled.)
    ///
    /// # Cancellation
    ///
    /// The work continues in the background, so a client that disconnects does not undo it.
    async fn finish(&mut self, size: u64, digest: &Digest) -> Result<Box<dyn Layer>>;

    /// Removes the upload and all its bytes.
    ///
    /// # Errors
    ///
    /// [`UploadConflict`](crate::Error::UploadConflict) where the upload is being finished;
    /// [`UploadUnknown`](crate::Error::UploadUnknown) where it is gone already.
    ///
    /// # Cancellation
    ///
    /// The work continues in the background; a sweep removes the rest.
    async fn cancel(&mut self) -> Result<()>;
}
