//! The commands of a handle, and the task that carries them out.
//!
//! It runs apart from the handle, so that it can act while the handle is idle: release memory that
//! others wait for, record what has arrived, and carry a close or finish to its end when the caller
//! has gone away.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::uploader::Uploader;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::s3::budget::Reservation;
use crate::s3::commit::wrong_claim;
use crate::s3::record::StoredLayer;
use crate::s3::session::Phase;

/// A request of the handle. It is carried out even where its caller has gone away.
pub(super) enum Command {
    /// Make this handle the owner.
    Own(oneshot::Sender<Result<()>>),
    Write {
        bytes: Bytes,
        /// Released when the uploader takes the chunk.
        room: OwnedSemaphorePermit,
    },
    /// Wait until all whole parts are stored.
    Flush(oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
    Finish {
        size: u64,
        digest: Digest,
        answer: oneshot::Sender<Result<StoredLayer>>,
    },
    Cancel(oneshot::Sender<Result<()>>),
}

/// Serves one handle until it is closed, dropped, or fails. Returns a failure that was not an answer
/// to a command.
pub(super) async fn run(
    mut uploader: Uploader,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<()> {
    loop {
        let checkpoint_at = uploader.next_checkpoint();
        let (sender, reservation) = uploader.waits();
        tokio::select! {
            command = commands.recv() => match command {
                // Dropped without close: the upload stays as it is recorded.
                None => return Ok(()),
                Some(Command::Own(answer)) => {
                    let owned = uploader.own().await;
                    let failed = owned.is_err();
                    if failed {
                        commands.close();
                    }
                    let _ = answer.send(owned);
                    if failed {
                        return Ok(());
                    }
                }
                Some(Command::Write { bytes, room }) => {
                    drop(room);
                    let taken = uploader.accept(bytes).await;
                    or_salvage(&mut uploader, taken).await?;
                }
                Some(Command::Flush(answer)) => {
                    let flushed = uploader.flush().await;
                    let flushed = or_salvage(&mut uploader, flushed).await;
                    let failed = flushed.is_err();
                    if failed {
                        commands.close();
                    }
                    let _ = answer.send(flushed);
                    if failed {
                        return Ok(());
                    }
                }
                Some(Command::Close(answer)) => {
                    let closed = uploader.close().await;
                    let closed = or_salvage(&mut uploader, closed).await;
                    commands.close();
                    let can_be_cached = closed.is_ok() && uploader.can_be_cached();
                    if can_be_cached {
                        let store = Arc::clone(uploader.store());
                        store.sessions.keep(uploader);
                    }
                    let _ = answer.send(closed);
                    return Ok(());
                }
                Some(Command::Finish { size, digest, answer }) => {
                    let mut finished = uploader.finish(size, &digest).await;
                    let is_usable = finished.as_ref().is_err_and(|error| is_usable(&uploader, error));
                    if !is_usable {
                        finished = or_salvage(&mut uploader, finished).await;
                        commands.close();
                    }
                    let _ = answer.send(finished);
                    if !is_usable {
                        return Ok(());
                    }
                }
                Some(Command::Cancel(answer)) => {
                    let cancelled = uploader.cancel().await;
                    commands.close();
                    let _ = answer.send(cancelled);
                    return Ok(());
                }
            },
            sent = sender.next(), if !sender.is_idle() => {
                let recorded = uploader.part_ended(sent).await;
                or_salvage(&mut uploader, recorded).await?;
            }
            () = reclaim_requested(reservation) => {
                let spilled = uploader.spill().await;
                or_salvage(&mut uploader, spilled).await?;
            }
            () = until(checkpoint_at) => {
                let recorded = uploader.checkpoint().await;
                or_salvage(&mut uploader, recorded).await?;
            }
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Resolves when others wait for the memory that is reserved.
pub(super) async fn reclaim_requested(reservation: Option<&Reservation>) {
    match reservation {
        Some(reservation) => reservation.wanted_back().await,
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
