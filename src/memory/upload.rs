//! An upload in memory: what a handle holds, and the turns it takes under the lock.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use uuid::Uuid;

use super::layer::MemoryLayer;
use super::store::{Session, Store, StoredLayer, lock};
use crate::clock;
use crate::contract::{Layer, LayerUpload};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::tar_sum_claim::Claim;
use s3layers_tarsum::{Algorithm, Digest, Hasher};

/// What a handle is to its upload.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HandleState {
    /// It only looked so far.
    Guest,
    /// It was the owner, and may have been replaced since.
    Owner,
    /// It closed, finished or cancelled.
    Closed,
}

pub(super) struct MemoryUpload {
    store: Arc<Mutex<Store>>,
    uuid: Uuid,
    name: RepositoryName,
    /// Declared at the beginning, or given at the resume.
    id: Option<LayerId>,
    handle: u64,
    state: HandleState,
    /// All bytes of the upload as this handle sees it.
    pieces: Vec<Bytes>,
    offset: u64,
}

impl MemoryUpload {
    /// The handle numbered `handle` over `session`, as it is stored.
    pub(super) fn over(
        store: &Arc<Mutex<Store>>,
        uuid: Uuid,
        session: &Session,
        id: Option<&LayerId>,
        handle: u64,
    ) -> Self {
        MemoryUpload {
            store: Arc::clone(store),
            uuid,
            name: session.name.clone(),
            id: session.declared.as_ref().or(id).cloned(),
            handle,
            state: if session.owner == handle {
                HandleState::Owner
            } else {
                HandleState::Guest
            },
            pieces: session.pieces.clone(),
            offset: session.offset,
        }
    }

    fn conflict(&self, reason: &'static str) -> Error {
        let uuid = self.uuid;
        Error::UploadConflict { uuid, reason }
    }

    fn not_closed(&self) -> Result<()> {
        match self.state {
            HandleState::Closed => Err(Error::UploadClosed { uuid: self.uuid }),
            HandleState::Guest | HandleState::Owner => Ok(()),
        }
    }

    /// The upload, with this handle as its owner: still, or from now on.
    fn own<'a>(&mut self, store: &'a mut Store) -> Result<&'a mut Session> {
        self.not_closed()?;
        let uuid = self.uuid;
        let session = store.uploads.get_mut(&uuid);
        let session = session.ok_or(Error::UploadUnknown { uuid })?;
        if self.state == HandleState::Owner && session.owner != self.handle {
            return Err(self.conflict("another handle has it now"));
        }
        self.state = HandleState::Owner;
        session.owner = self.handle;
        Ok(session)
    }

    /// As [`own`](Self::own), for a step that builds on the bytes that this handle has seen.
    fn own_at_offset<'a>(&mut self, store: &'a mut Store) -> Result<&'a mut Session> {
        let stored = store.uploads.get(&self.uuid).map(|session| session.offset);
        if self.state == HandleState::Guest && stored.is_some_and(|stored| stored != self.offset) {
            return Err(self.conflict("it has grown since this handle resumed it"));
        }
        self.own(store)
    }

    fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.not_closed()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        self.own_at_offset(&mut lock(&store))?;
        self.offset += bytes.len() as u64;
        self.pieces.push(bytes);
        Ok(())
    }

    fn close_now(&mut self) -> Result<()> {
        self.not_closed()?;
        if self.state == HandleState::Owner {
            let store = Arc::clone(&self.store);
            let mut store = lock(&store);
            let session = self.own_at_offset(&mut store)?;
            session.pieces.clone_from(&self.pieces);
            session.offset = self.offset;
        }
        self.state = HandleState::Closed;
        Ok(())
    }

    fn digest(&self, algorithm: Algorithm) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        self.pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.digest()
    }

    /// The checks of [`finish`](LayerUpload::finish), in the order of the contract.
    fn verify(&self, size: u64, digest: &Digest) -> Result<()> {
        if size != self.offset {
            return Err(Error::InvalidLength {
                claimed: size,
                received: self.offset,
            });
        }
        let declared = self.id.as_ref().and_then(LayerId::as_digest);
        for claimed in std::iter::once(digest).chain(declared) {
            let computed = self.digest(claimed.algorithm());
            if computed != *claimed {
                let claimed = claimed.clone();
                return Err(Error::InvalidChecksum { claimed, computed });
            }
        }
        let Some(tar_sum) = self.tar_sum() else {
            return Ok(());
        };
        let mut claim = Claim::new(tar_sum)?;
        self.pieces.iter().for_each(|piece| claim.update(piece));
        claim.verify()
    }
}

#[async_trait]
impl LayerUpload for MemoryUpload {
    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn name(&self) -> &RepositoryName {
        &self.name
    }

    fn declared_id(&self) -> Option<&LayerId> {
        self.id.as_ref()
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    async fn write_bytes(&mut self, bytes: Bytes) -> Result<()> {
        self.write(bytes)
    }

    async fn close(&mut self) -> Result<()> {
        self.close_now()
    }

    async fn finish(&mut self, size: u64, digest: &Digest) -> Result<Box<dyn Layer>> {
        let store = Arc::clone(&self.store);
        self.own_at_offset(&mut lock(&store))?;
        self.verify(size, digest)?;
        let layer = StoredLayer {
            name: self.name.clone(),
            tar_sum: self.tar_sum().cloned(),
            digest: self.digest(Algorithm::Sha256),
            created_at: clock::now(),
            bytes: self.pieces.concat().into(),
        };
        let mut store = lock(&store);
        self.own_at_offset(&mut store)?;
        let declared = self.id.clone().into_iter();
        let ids = declared.chain([digest.clone().into()]).collect();
        let layer = store.publish(&self.name, layer, ids);
        store.remove(self.uuid);
        self.state = HandleState::Closed;
        Ok(MemoryLayer::open(&layer))
    }

    async fn cancel(&mut self) -> Result<()> {
        let store = Arc::clone(&self.store);
        let mut store = lock(&store);
        self.own(&mut store)?;
        store.remove(self.uuid);
        self.state = HandleState::Closed;
        Ok(())
    }
}

impl AsyncWrite for MemoryUpload {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(Bytes::copy_from_slice(bytes))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.not_closed()?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close_now()?;
        Poll::Ready(Ok(()))
    }
}
