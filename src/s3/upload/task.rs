//! The commands of a handle, and the task that carries them out.
//!
//! It runs apart from the handle, so that it can act while the handle is idle: release memory that
//! others wait for, record what has arrived, and carry a close or finish to its end when the caller
//! has gone away.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::session_cache::SessionCache;
use super::uploader::{self, Uploader};
use crate::error::{Error, Result};
use crate::s3::commit::wrong_claim;
use crate::s3::format::record::StoredLayer;
use crate::s3::session::Phase;
use s3layers_tarsum::Digest;

/// A request of the handle. It is carried out even where its caller has gone away.
pub(super) enum Command {
    Write {
        bytes: Bytes,
        /// Released when the bytes are counted in the byte budget.
        place: OwnedSemaphorePermit,
    },
    Do(Ask, oneshot::Sender<Result<()>>),
    Finish {
        size: u64,
        digest: Digest,
        answer: oneshot::Sender<Result<StoredLayer>>,
    },
}

impl Command {
    /// Whether no other handle of the upload can continue after it.
    fn ends_upload(&self) -> bool {
        matches!(self, Command::Finish { .. } | Command::Do(Ask::Cancel, _))
    }
}

/// A command without bytes or claims.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Make this handle the owner.
    Own,
    /// Wait until all whole parts are stored.
    Flush,
    Close,
    Cancel,
}

/// What follows a command.
enum Then {
    Continue,
    End,
    /// This answer is the last one. The upload may be kept for the next handle, before it is sent.
    Keep(oneshot::Sender<Result<()>>, Result<()>),
}

/// Serves one handle until it is closed, dropped, or fails. Returns a failure that was not an answer
/// to a command.
pub(super) async fn run(
    mut uploader: Uploader,
    mut commands: mpsc::UnboundedReceiver<Command>,
    sessions: Arc<SessionCache>,
) -> Result<()> {
    loop {
        let checkpoint_at = uploader.next_checkpoint();
        let (sender, holder) = uploader.waits();
        let done = tokio::select! {
            command = commands.recv() => {
                // Dropped without close: the upload stays as it is recorded.
                let Some(command) = command else {
                    return Ok(());
                };
                if command.ends_upload() {
                    sessions.forget(&uploader.store().keys, uploader.session().uuid);
                }
                match carry_out(&mut uploader, &mut commands, command).await? {
                    Then::Continue => continue,
                    Then::End => return Ok(()),
                    Then::Keep(answer, done) => {
                        if done.is_ok() && uploader.can_be_cached() {
                            sessions.keep(uploader);
                        }
                        let _ = answer.send(done);
                        return Ok(());
                    }
                }
            }
            sent = sender.next(), if !sender.is_idle() => uploader.part_ended(sent).await,
            () = holder.reclaim_requested() => Box::pin(uploader.spill()).await,
            () = until(checkpoint_at) => uploader.checkpoint().await,
        };
        or_salvage(&mut uploader, done).await?;
    }
}

/// Carries out one command. An error is one that no answer carries.
async fn carry_out(
    uploader: &mut Uploader,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    command: Command,
) -> Result<Then> {
    match command {
        Command::Write { bytes, place } => {
            let taken = uploader.accept(bytes, place).await;
            or_salvage(uploader, taken).await?;
            Ok(Then::Continue)
        }
        Command::Do(ask, answer) => {
            let mut done = match ask {
                Ask::Own => uploader.own().await,
                Ask::Flush => uploader.flush().await,
                Ask::Close => uploader.close().await,
                Ask::Cancel => uploader.cancel().await,
            };
            if ask != Ask::Cancel {
                done = or_salvage(uploader, done).await;
            }
            if done.is_ok() && matches!(ask, Ask::Own | Ask::Flush) {
                let _ = answer.send(done);
                return Ok(Then::Continue);
            }
            commands.close();
            Ok(Then::Keep(answer, done))
        }
        Command::Finish {
            size,
            digest,
            answer,
        } => {
            // Boxed: much larger than all that an idle upload keeps.
            let mut finished = Box::pin(uploader::finish(uploader, size, &digest)).await;
            let failed = finished.as_ref().err();
            let is_usable = failed.is_some_and(|error| is_usable(uploader, error));
            if !is_usable {
                finished = or_salvage(uploader, finished).await;
                commands.close();
            }
            let _ = answer.send(finished);
            Ok(if is_usable { Then::Continue } else { Then::End })
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn or_salvage<T>(uploader: &mut Uploader, result: Result<T>) -> Result<T> {
    if let Err(error) = &result
        && !matches!(
            error,
            Error::UploadConflict { .. } | Error::UploadUnknown { .. }
        )
    {
        uploader.salvage().await;
    }
    result
}

/// Whether the handle can be used after this failure of a finish: the claims were wrong, or no byte
/// is needed any more.
fn is_usable(uploader: &Uploader, error: &Error) -> bool {
    let is_committing = matches!(
        uploader.session().phase,
        Phase::Committing(_) | Phase::Rejected(_)
    );
    matches!(error, Error::InvalidLength { .. }) || wrong_claim(error).is_some() || is_committing
}
