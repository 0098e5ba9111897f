//! What the handle asks of its [`Writer`], and the loop that answers.
//!
//! It runs apart from the handle, so that it can act while nobody writes: give back memory that
//! others wait for, keep the session young, and carry a close or finish to its end when the caller
//! went away.

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::sleep_until;

use super::checkpoint::CHECKPOINT_AGE;
use super::session::Phase;
use super::writer::Writer;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::s3::budget::Reservation;
use crate::s3::record::Record;

/// A request of the handle. An answer that nobody waits for any more is dropped: the work is done
/// all the same.
pub(super) enum Command {
    /// Make this handle the owner.
    Own(oneshot::Sender<Result<()>>),
    Write {
        bytes: Bytes,
        /// Given back when the writer takes the piece.
        room: OwnedSemaphorePermit,
    },
    /// Wait until all whole parts are stored.
    Flush(oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
    Finish {
        size: u64,
        digest: Digest,
        answer: oneshot::Sender<Result<Record>>,
    },
    Cancel(oneshot::Sender<Result<()>>),
}

/// Serves one handle until it is closed, dropped, or fails. A failure that no answer told is the
/// result.
pub(super) async fn run(
    mut writer: Writer,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<()> {
    loop {
        let stale_at = writer.recorded_at + CHECKPOINT_AGE;
        tokio::select! {
            command = commands.recv() => match command {
                // Dropped without close: what was not recorded is lost, and the upload is not.
                None => return Ok(()),
                Some(Command::Own(answer)) => {
                    let owned = writer.own().await;
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
                    let taken = writer.accept(bytes).await;
                    or_salvage(&mut writer, taken).await?;
                }
                Some(Command::Flush(answer)) => {
                    let flushed = writer.flush().await;
                    let flushed = or_salvage(&mut writer, flushed).await;
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
                    let closed = writer.close().await;
                    let closed = or_salvage(&mut writer, closed).await;
                    if closed.is_ok() {
                        writer.leave();
                    }
                    commands.close();
                    let _ = answer.send(closed);
                    return Ok(());
                }
                Some(Command::Finish { size, digest, answer }) => {
                    let mut finished = writer.finish(size, &digest).await;
                    let goes_on = finished.as_ref().is_err_and(|error| goes_on(&writer, error));
                    if !goes_on {
                        finished = or_salvage(&mut writer, finished).await;
                        commands.close();
                    }
                    let _ = answer.send(finished);
                    if !goes_on {
                        return Ok(());
                    }
                }
                Some(Command::Cancel(answer)) => {
                    writer.sender.abort().await;
                    let cancelled = writer.cancel().await;
                    commands.close();
                    let _ = answer.send(cancelled);
                    return Ok(());
                }
            },
            sent = writer.sender.next(), if !writer.sender.is_idle() => {
                let sent = match sent {
                    Ok(()) => writer.checkpoint_if_due().await,
                    Err(error) => Err(error),
                };
                or_salvage(&mut writer, sent).await?;
            }
            () = wanted_back(writer.reservation.as_ref()) => {
                let given_back = writer.give_back().await;
                or_salvage(&mut writer, given_back).await?;
            }
            () = sleep_until(stale_at), if writer.is_behind() => {
                let settled = writer.settle().await;
                or_salvage(&mut writer, settled).await?;
            }
        }
    }
}

/// Resolves when others want the memory that is reserved.
pub(super) async fn wanted_back(reservation: Option<&Reservation>) {
    match reservation {
        Some(reservation) => reservation.wanted_back().await,
        None => std::future::pending().await,
    }
}

async fn or_salvage<T>(writer: &mut Writer, result: Result<T>) -> Result<T> {
    if let Err(error) = &result
        && !matches!(
            error,
            Error::UploadConflict { .. } | Error::UploadUnknown { .. }
        )
    {
        writer.salvage().await;
    }
    result
}

/// Whether the handle can be used after this failure of a finish: the claims were wrong, or the
/// upload is sealed, so that nothing in memory matters any more.
fn goes_on(writer: &Writer, error: &Error) -> bool {
    let wrong_claim = matches!(
        error,
        Error::InvalidLength { .. }
            | Error::InvalidChecksum { .. }
            | Error::TarSumVersionUnsupported { .. }
            | Error::InvalidTarSum { .. }
    );
    let is_sealed = matches!(
        writer.stored.session.phase,
        Phase::Sealing(_) | Phase::Sealed(_)
    );
    wrong_claim || is_sealed
}
