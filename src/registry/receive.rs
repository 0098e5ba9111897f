//! A body on its way into an upload: frame by frame, without copying.
//!
//! It runs in a task that owns both, for the handler of a request is dropped when its client goes.
//! However it ends, whoever called it closes or finishes the upload, so what came is kept.

use std::time::Duration;

use futures_util::FutureExt as _;
use http::StatusCode;
use http::header::RETRY_AFTER;
use tokio::time::{Instant, timeout};

use super::Shared;
use super::body::{Broken, RequestBody};
use super::error::{Code, Refusal};
use super::slots::Slot;
use super::writers::{Question, Writing};
use crate::error::{Error, Result};
use crate::service::LayerUpload;

/// Who asks how far an upload is hears of what came before nothing came for so long: what lay in
/// the socket when the connection broke is read by then.
const QUIET: Duration = Duration::from_millis(200);
/// A client that goes on sending is not waited for longer than this.
const BUSY: Duration = Duration::from_secs(2);

/// Why not all of a body came.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client is gone, or was silent for too long.
    Broken(Broken),
    /// Another request of the same upload came.
    TakenOver,
    /// This process is about to end.
    HangingUp,
}

impl From<Stopped> for Refusal {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Broken(Broken::Cut(error)) => {
                Refusal::new(Code::SizeInvalid, "the body broke off")
                    .with_cause(super::error::chain(&*error))
            }
            Stopped::Broken(Broken::Idle(idle)) => Refusal::new(
                Code::BlobUploadInvalid,
                format_args!("nothing came for {} seconds", idle.as_secs()),
            )
            .with_status(StatusCode::REQUEST_TIMEOUT),
            Stopped::TakenOver => Refusal::new(
                Code::BlobUploadInvalid,
                "another request goes on with this upload",
            )
            .with_status(StatusCode::CONFLICT),
            Stopped::HangingUp => Refusal::new(
                Code::Unavailable,
                "this server stops; go on with the upload",
            )
            .with(RETRY_AFTER, "1"),
        }
        .hanging_up()
    }
}

/// What moves.
pub(super) struct Receiving {
    pub(super) upload: Box<dyn LayerUpload>,
    pub(super) body: RequestBody,
    pub(super) slot: Slot,
    pub(super) writing: Writing,
}

impl Receiving {
    /// Takes the body to its end, or as far as it comes.
    ///
    /// # Errors
    ///
    /// Those of the upload.
    pub(super) async fn run(&mut self, shared: &Shared) -> Result<Option<Stopped>> {
        let mut hanging_up = shared.hanging_up.subscribe();
        loop {
            if *hanging_up.borrow() {
                return Ok(Some(Stopped::HangingUp));
            }
            if let Some(question) = self.writing.question() {
                match self.answer(shared, question).await? {
                    Answered::GoOn => continue,
                    Answered::Ended => return Ok(None),
                    Answered::Stopped(stopped) => return Ok(Some(stopped)),
                }
            }
            let frame = match self.body.next().now_or_never() {
                Some(frame) => frame,
                None => {
                    self.slot.give_back();
                    let frame = tokio::select! {
                        _ = hanging_up.changed() => None,
                        () = self.writing.is_asked() => None,
                        frame = timeout(shared.idle(), self.body.next()) => Some(frame),
                    };
                    self.slot.take_again().await;
                    match frame {
                        None => continue,
                        Some(Ok(frame)) => frame,
                        Some(Err(_)) => Err(Broken::Idle(shared.idle())),
                    }
                }
            };
            match frame {
                Ok(Some(bytes)) => self.upload.write_bytes(bytes).await?,
                Ok(None) => return Ok(None),
                Err(broken) => return Ok(Some(Stopped::Broken(broken))),
            }
        }
    }

    /// Takes what is on its way, stores it, and tells.
    async fn answer(&mut self, shared: &Shared, question: Question) -> Result<Answered> {
        let until = Instant::now() + BUSY;
        while Instant::now() < until {
            match timeout(QUIET, self.body.next()).await {
                Err(_) => break,
                Ok(Ok(Some(bytes))) => self.upload.write_bytes(bytes).await?,
                Ok(Ok(None)) => return Ok(Answered::Ended),
                Ok(Err(broken)) => return Ok(Answered::Stopped(Stopped::Broken(broken))),
            }
        }
        if question.ends {
            return Ok(Answered::Stopped(Stopped::TakenOver));
        }
        let (name, uuid) = (self.upload.name().clone(), self.upload.uuid());
        let offset = self.upload.offset();
        self.upload.close().await?;
        self.writing.tell(question);
        self.upload = shared.service.resume_at(&name, uuid, offset).await?;
        match self.upload.offset() == offset {
            true => Ok(Answered::GoOn),
            false => Err(Error::UploadConflict {
                uuid,
                reason: "another request went on with it",
            }),
        }
    }
}

enum Answered {
    GoOn,
    /// The body came to its end meanwhile.
    Ended,
    Stopped(Stopped),
}
