//! Comforts over any [`LayerService`]. Nothing here is for an implementor to write.

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::contract::{Layer, LayerService};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use s3layers_tarsum::{Algorithm, Hasher};

/// How much is read from a reader before it is handed on, in bytes.
const PIECE: usize = 256 * 1024;

/// What most callers do with a [`LayerService`], in one call. Implemented for all of them; not to
/// be implemented by hand.
#[async_trait]
pub trait LayerServiceExt: LayerService {
    /// Uploads everything that `reader` gives to the repository `name`, and publishes it.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// use s3layers::{LayerServiceExt, MemoryLayerService};
    ///
    /// let service = MemoryLayerService::new();
    /// let layer = service.push(&"library/demo".parse()?, &mut &b"some bytes"[..]).await?;
    /// assert_eq!(layer.size(), 10);
    ///
    /// let mut bytes = Vec::new();
    /// service.pull(&layer.digest().clone().into(), &mut bytes).await?;
    /// assert_eq!(bytes, b"some bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`LayerService::upload`] and of [`LayerUpload`](crate::LayerUpload), and what
    /// `reader` fails with. The upload is closed then, not cancelled: what arrived is kept.
    ///
    /// # Cancellation
    ///
    /// Leaves an upload behind, with what was stored of it, which a sweep removes.
    async fn push<R>(&self, name: &RepositoryName, reader: &mut R) -> Result<Box<dyn Layer>>
    where
        R: AsyncRead + Send + Unpin + ?Sized,
    {
        let mut upload = self.upload(name, None).await?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            let read = (&mut *reader).take(PIECE as u64).read_buf(&mut piece).await;
            match read {
                Ok(0) => break,
                Ok(_) => {
                    hasher.update(&piece);
                    upload.write_bytes(piece.freeze()).await?;
                }
                Err(error) => {
                    upload.close().await?;
                    return Err(Error::from_io(error));
                }
            }
        }
        let size = upload.offset();
        upload.finish(size, &hasher.digest()).await
    }

    /// Writes the whole layer to `writer`, and returns it.
    ///
    /// # Errors
    ///
    /// Those of [`LayerService::fetch`], of reading, and what `writer` fails with.
    ///
    /// # Cancellation
    ///
    /// `writer` has some first part of the layer then.
    async fn pull<W>(&self, id: &LayerId, writer: &mut W) -> Result<Box<dyn Layer>>
    where
        W: AsyncWrite + Send + Unpin + ?Sized,
    {
        let mut layer = self.fetch(id).await?;
        tokio::io::copy(&mut layer, writer)
            .await
            .map_err(Error::from_io)?;
        writer.flush().await.map_err(Error::from_io)?;
        Ok(layer)
    }
}

impl<S: LayerService + ?Sized> LayerServiceExt for S {}
