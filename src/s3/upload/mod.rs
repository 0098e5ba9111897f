//! Uploads: from the first byte to a commit, across processes.
//!
//! 1. [`mod@begin`] creates the session, then the claim, if an id is declared.
//! 2. The handle (this file) passes bytes to its [`task`], which owns an [`uploader`]. The
//!    [`intake`] hashes bytes and cuts them into parts; the [`sender`] sends parts, several at a
//!    time. What does not fill a part is stored as a [`tail`], at close or when memory is short, or
//!    within the session, which the [`journal`] writes.
//! 3. [`mod@resume`] reads the session, compares it with the parts that S3 lists, and continues at the
//!    recorded offset with the recorded hash state. [`session_cache`] saves that look to the
//!    process that served the last request of the upload.
//! 4. A finish verifies what is claimed, stores the last bytes, writes the session as `committing`,
//!    and leaves the rest to [`commit`](super::commit).
//!
//! # Invariants
//!
//! 1. The session is the first thing that an upload creates and the last that it removes.
//! 2. Every write of the session is conditional on the one before. An owner writes it before its
//!    first part; a new owner before its first byte.
//! 3. A session names complete segments, an unbroken run of parts, tails and inline bytes, in this
//!    order, and the hash state at exactly their end.
//! 4. An object is removed only after a session that does not name it was written.
//! 5. Bytes of a part are in memory only while they are counted in the byte budget.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::PollSemaphore;
use uuid::Uuid;

use crate::contract::{Layer, LayerUpload, UploadProgress};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::budget::{Grant, Holder};
use crate::s3::format::record::StoredLayer;
use crate::s3::read::S3Layer;
use crate::s3::session::plan::schedule::Schedule;
use crate::telemetry::UsageCounter;
use s3layers_tarsum::Digest;
use task::{Ask, Command};
use uploader::Uploader;

mod begin;
mod intake;
mod journal;
mod part_buffer;
mod resume;
mod sender;
mod session_cache;
mod tail;
mod task;
mod uploader;

pub(crate) use begin::{begin, schedule};
pub(crate) use resume::{resume, resume_at};
pub(crate) use session_cache::SessionCache;

/// The largest piece that is handed to the writer at a time, in bytes: it is hashed without a
/// pause.
const MAX_PIECE: usize = 256 * 1024;

/// The largest piece that is copied out of an `AsyncWrite` caller's buffer at a time, in bytes.
const MAX_COPY: usize = 64 * 1024;

/// An upload to S3. See [`LayerUpload`] for what it promises.
pub(crate) struct S3LayerUpload {
    store: Arc<Store>,
    uuid: Uuid,
    name: RepositoryName,
    declared_id: Option<LayerId>,
    offset: u64,
    digest_at_start: Digest,
    sent: UploadProgress,
    schedule: Schedule,
    /// Unbounded, so that a command is sent at once, even if its future is dropped.
    commands: mpsc::UnboundedSender<Command>,
    /// One piece may wait there until it is counted in the byte budget.
    queue: PollSemaphore,
    /// For the next piece.
    place: Option<OwnedSemaphorePermit>,
    /// Taken by the first [`ready`](LayerUpload::ready), so that not more bodies are read than memory
    /// is there for.
    admission: Option<OwnedSemaphorePermit>,
    holder: Holder,
    /// For the piece that is read from a socket, from the first [`ready`](LayerUpload::ready) on.
    arriving: Option<Grant>,
    task: Option<JoinHandle<Result<()>>>,
    /// Another handle may own the upload: the first byte waits until this one does.
    owner: bool,
    /// A command of the `poll` methods that is not answered yet.
    asked: Option<(Ask, oneshot::Receiver<Result<()>>)>,
    /// Why nothing is taken any more, where that is not just that the handle was closed.
    lost: Option<Lost>,
}

/// Who has the upload instead.
#[derive(Clone, Copy)]
enum Lost {
    Conflict(&'static str),
    Unknown,
}

impl S3LayerUpload {
    /// The handle of an upload, which `sessions` keeps after a close.
    fn start(uploader: Uploader, sessions: &Arc<SessionCache>) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        S3LayerUpload {
            store: Arc::clone(uploader.store()),
            uuid: uploader.session().uuid,
            name: uploader.session().repository.clone(),
            declared_id: uploader.declared().cloned(),
            offset: uploader.offset(),
            digest_at_start: uploader.digest(),
            sent: uploader.progress(),
            schedule: uploader.session().schedule,
            commands,
            queue: PollSemaphore::new(Arc::new(Semaphore::new(1))),
            place: None,
            admission: None,
            holder: uploader.holder().clone(),
            arriving: None,
            owner: uploader.is_owner(),
            task: Some(tokio::spawn(UsageCounter::inherit(task::run(
                uploader,
                inbox,
                Arc::clone(sessions),
            )))),
            asked: None,
            lost: None,
        }
    }

    /// Why the writer ended: its failure, returned once; a conflict with another owner, returned
    /// permanently; or because it was closed.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if let Some(task) = &mut self.task {
            let ended = ready!(Pin::new(task).poll(context));
            self.task = None;
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Poll::Ready(self.note(error)),
                Err(failed) => {
                    tracing::error!(uuid = %self.uuid, %failed, "the task of an upload ended");
                }
            }
        }
        let uuid = self.uuid;
        Poll::Ready(match self.lost {
            None => Error::UploadClosed { uuid },
            Some(Lost::Conflict(reason)) => Error::UploadConflict { uuid, reason },
            Some(Lost::Unknown) => Error::UploadUnknown { uuid },
        })
    }

    /// Remembers an error that stays true.
    fn note(&mut self, error: Error) -> Error {
        match error {
            Error::UploadConflict { reason, .. } => self.lost = Some(Lost::Conflict(reason)),
            Error::UploadUnknown { .. } => self.lost = Some(Lost::Unknown),
            _ => {}
        }
        error
    }

    /// Hands a piece to the task. The next call returns an error that comes of it.
    fn hand_over(&mut self, bytes: Bytes) {
        self.offset += bytes.len() as u64;
        if let Some(place) = self.place.take() {
            let _ = self.commands.send(Command::Write { bytes, place });
        }
    }

    /// Sends a command and waits for its answer.
    async fn ask<T>(
        &mut self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(command(answer));
        match answered.await {
            Ok(answer) => answer.map_err(|error| self.note(error)),
            // The writer is gone, or fails at an earlier command, before it comes to this one.
            Err(_) => Err(std::future::poll_fn(|context| self.poll_end(context)).await),
        }
    }

    /// Asks for something, once, and waits for it to be done. What was asked before and whose
    /// caller went away is waited for first.
    fn poll_ask(&mut self, context: &mut Context<'_>, ask: Ask) -> Poll<Result<()>> {
        loop {
            if let Some((asked, answer)) = &mut self.asked {
                let (asked, answer) = (*asked, ready!(Pin::new(answer).poll(context)));
                self.asked = None;
                let done = match answer {
                    Ok(answer) => answer.map_err(|error| self.note(error)),
                    Err(_) => Err(ready!(self.poll_end(context))),
                };
                if asked == ask || done.is_err() {
                    return Poll::Ready(done);
                }
            }
            let (answer, answered) = oneshot::channel();
            let _ = self.commands.send(Command::Do(ask, answer));
            self.asked = Some((ask, answered));
        }
    }

    /// Waits until this handle owns the upload, and can hand a piece over.
    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.owner {
            ready!(self.poll_ask(context, Ask::Own))?;
            self.owner = true;
        }
        self.poll_place(context)
    }

    /// Waits until the piece before is counted.
    fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.place.is_none() {
            self.place = ready!(self.queue.poll_acquire(context));
        }
        // A task that ended has released its place.
        if self.commands.is_closed() {
            return self.poll_end(context).map(Err);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for S3LayerUpload {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_writable(context))?;
        let taken = bytes.len().min(MAX_COPY);
        self.hand_over(Bytes::copy_from_slice(&bytes[..taken]));
        Poll::Ready(Ok(taken))
    }

    /// Waits until the parts that are full are stored. The rest is, by a close or finish.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ask(context, Ask::Flush).map_err(Into::into)
    }

    /// Closes the upload, as [`LayerUpload::close`] does.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ask(context, Ask::Close).map_err(Into::into)
    }
}

#[async_trait]
impl LayerUpload for S3LayerUpload {
    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn name(&self) -> &RepositoryName {
        &self.name
    }

    fn declared_id(&self) -> Option<&LayerId> {
        self.declared_id.as_ref()
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn next_boundary(&self) -> Option<u64> {
        self.schedule.end_beyond(self.offset)
    }

    fn max_size(&self) -> u64 {
        self.schedule.max_size()
    }

    fn digest_at_start(&self) -> Option<&Digest> {
        Some(&self.digest_at_start)
    }

    fn progress(&self) -> UploadProgress {
        self.sent.clone()
    }

    async fn ready(&mut self) -> Result<()> {
        if self.admission.is_none() {
            let bodies = Arc::clone(&self.store.budget.bodies);
            // The semaphore is never closed.
            self.admission = bodies.acquire_owned().await.ok();
        }
        if self.arriving.is_none() {
            self.arriving = Some(self.holder.reserve_for_arrival().await);
        }
        std::future::poll_fn(|context| self.poll_place(context)).await
    }

    async fn write_bytes(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            std::future::poll_fn(|context| self.poll_writable(context)).await?;
            self.hand_over(bytes.split_to(bytes.len().min(MAX_PIECE)));
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        self.arriving = None;
        self.ask(|answer| Command::Do(Ask::Close, answer)).await
    }

    async fn finish(&mut self, size: u64, digest: &Digest) -> Result<Box<dyn Layer>> {
        self.arriving = None;
        let digest = digest.clone();
        let layer: StoredLayer = self
            .ask(|answer| Command::Finish {
                size,
                digest,
                answer,
            })
            .await?;
        Ok(Box::new(S3Layer::new(
            Arc::clone(&self.store),
            Arc::new(layer),
        )))
    }

    async fn cancel(&mut self) -> Result<()> {
        self.ask(|answer| Command::Do(Ask::Cancel, answer)).await
    }
}
