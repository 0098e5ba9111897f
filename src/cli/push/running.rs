//! A push under way: the input goes into the upload until it ends, or until something cuts it.

use std::io::{self, Read};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::{MissedTickBehavior, interval};

use super::{Event, Push};
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::output::grouped;
use crate::cli::stop::Stop;
use crate::cli::threads::{Reading, Sums};
use crate::cli::{input, tarsum};
use crate::digest::{Algorithm, Hasher};
use crate::error::Error;
use crate::id::LayerId;
use crate::s3::S3LayerService;
use crate::service::{Layer, LayerService as _, LayerUpload};
use crate::tarsum::{BrokenArchive, TarSummer};

/// How often progress is told with `--json`.
const PROGRESS: Duration = Duration::from_millis(500);

/// Why the bytes ended before the input did.
pub(super) enum Cut {
    /// By a signal.
    Told,
    /// The input could not be read.
    Input(io::Error),
    /// The input ends before the bytes that the upload has.
    Short { size: u64 },
    /// It is no archive, and its TarSum is wanted.
    Archive(BrokenArchive),
    /// The store, or the contract.
    Upload(Error),
}

/// An upload and what is known around it.
pub(super) struct Running<'a> {
    pub(super) push: &'a Push,
    pub(super) context: &'a Context,
    pub(super) service: S3LayerService,
    pub(super) upload: Box<dyn LayerUpload>,
    pub(super) bar: ProgressBar,
    /// For the TarSum of an input that can be read once only.
    pub(super) summer: Option<TarSummer>,
}

impl Running<'_> {
    pub(super) fn started(&self) -> Result<(), Failure> {
        let (uuid, offset) = (self.upload.uuid(), self.upload.offset());
        let output = self.context.output;
        match self.push.resume {
            None => output.note(format_args!("upload {uuid} to {}", self.push.name)),
            Some(_) => output.note(format_args!(
                "upload {uuid} goes on at byte {}",
                grouped(offset)
            )),
        }
        output.event(&Event::Started { uuid, offset })
    }

    /// Gives the upload all that the input has beyond what it holds, and finishes it.
    pub(super) async fn feed(
        &mut self,
        input: Box<dyn Read + Send>,
        stop: &mut Stop,
    ) -> Result<Box<dyn Layer>, Cut> {
        let claimed = self.push.id.as_ref().and_then(LayerId::as_digest).cloned();
        // A digest that was given is verified by the upload; another one is computed here.
        let hasher = claimed.is_none().then(|| Hasher::new(Algorithm::Sha256));
        let offset = self.upload.offset();
        let summer = self.summer.take();
        let sums = Sums { hasher, summer };
        let mut reading = Reading::start(input, offset, sums).map_err(Cut::Input)?;
        self.bar.set_position(offset);
        let mut tick = interval(PROGRESS);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = offset;
        loop {
            let piece = tokio::select! {
                biased;
                () = stop.told() => {
                    self.take_what_was_read(&mut reading).await?;
                    return Err(Cut::Told);
                }
                _ = tick.tick() => {
                    told = self.progress(told);
                    continue;
                }
                piece = reading.pieces.recv() => piece,
            };
            let Some(piece) = piece else { break };
            self.upload.write_bytes(piece).await.map_err(Cut::Upload)?;
            self.bar.set_position(self.upload.offset());
        }
        let end = reading.end().await.map_err(Cut::Input)?;
        let offset = self.upload.offset();
        if end.size < offset {
            return Err(Cut::Short { size: end.size });
        }
        let digest = claimed
            .or(end.digest)
            .ok_or_else(|| Cut::Input(io::Error::other("its digest was not computed")))?;
        if let Some(tar_sum) = end.tar_sum {
            let tar_sum = tar_sum.map_err(Cut::Archive)?;
            self.declare(tar_sum.into()).await.map_err(Cut::Upload)?;
        }
        self.bar.set_message("finishing");
        self.upload
            .finish(offset, &digest)
            .await
            .map_err(Cut::Upload)
    }

    /// Declares what was not known at the beginning: an upload can be told at a resume.
    async fn declare(&mut self, id: LayerId) -> Result<(), Error> {
        self.upload.close().await?;
        let resumed = self
            .service
            .resume(&self.push.name, Some(&id), self.upload.uuid());
        self.upload = resumed.await?;
        Ok(())
    }

    /// Tells how far it is, where that has changed since `told`.
    fn progress(&self, told: u64) -> u64 {
        let offset = self.upload.offset();
        if offset != told {
            // A failure to print comes again with an event that matters.
            let _ = self.context.output.event(&Event::Progress {
                uuid: self.upload.uuid(),
                offset,
                spent: self.service.usage().into(),
            });
        }
        offset
    }

    async fn take_what_was_read(&mut self, reading: &mut Reading) -> Result<(), Cut> {
        reading.stop();
        while self.upload.offset() < reading.read() {
            let Some(piece) = reading.pieces.recv().await else {
                break;
            };
            self.upload.write_bytes(piece).await.map_err(Cut::Upload)?;
        }
        Ok(())
    }

    pub(super) fn stored(&self, layer: &dyn Layer) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        let usage = self.service.usage();
        let output = self.context.output;
        output.note(format_args!(
            "stored {} bytes; {usage}",
            grouped(layer.size())
        ));
        if let Some(tar_sum) = layer.tar_sum() {
            output.note(format_args!("it is found as {tar_sum}, too"));
        }
        output.say(layer.digest())?;
        output.event(&Event::Stored {
            uuid: self.upload.uuid(),
            digest: layer.digest(),
            tar_sum: layer.tar_sum(),
            size: layer.size(),
            spent: usage.into(),
        })
    }

    /// Lets go of the upload, and says how to go on.
    pub(super) async fn cut(&mut self, cut: Cut) -> Failure {
        self.bar.finish_and_clear();
        let offset = self.upload.offset();
        // After a failure of the store the handle is closed, and what arrived is recorded.
        let closed = match &cut {
            Cut::Upload(error) if !is_refusal(error) => None,
            _ => Some(self.upload.close().await),
        };
        let can_go_on = match &cut {
            Cut::Upload(Error::UploadConflict { .. } | Error::UploadUnknown { .. }) => false,
            // Bytes of two inputs, which no third one can put right.
            Cut::Upload(Error::InvalidChecksum { .. }) => self.push.id.is_some(),
            _ => true,
        };
        let kept = matches!(closed, Some(Ok(()))).then_some(offset);
        let failure = self.told(cut);
        let failure = match closed {
            Some(Err(error)) => {
                failure.because(Failure::from(error).context("cannot close the upload"))
            }
            _ => failure,
        };
        match can_go_on {
            true => failure.hints(self.kept(kept)),
            false => failure,
        }
    }

    /// What the cut was, in words.
    fn told(&self, cut: Cut) -> Failure {
        let input = input::name(&self.push.file);
        match cut {
            Cut::Told => Failure::new("interrupted"),
            Cut::Input(error) => Failure::of(&error).context(format_args!("cannot read {input}")),
            Cut::Short { size } => Failure::new(format!(
                "{input} has {} bytes and the upload has {} already; wanted the whole layer",
                grouped(size),
                grouped(self.upload.offset())
            )),
            Cut::Archive(broken) => tarsum::has_none(&input, &broken)
                .hint("it can be stored all the same: leave out --tarsum"),
            Cut::Upload(error) => self.refusal(error),
        }
    }

    fn refusal(&self, error: Error) -> Failure {
        let hint = match &error {
            Error::InvalidChecksum { .. } if self.push.id.is_none() => Some(
                "the input is not the one that the upload began with; push it without --resume",
            ),
            Error::InvalidTarSum { .. } if self.push.tarsum => {
                Some("it changed while it was read; push it again")
            }
            Error::InvalidChecksum { .. } | Error::InvalidTarSum { .. } => {
                Some("if the id was wrong, push again with the right one, or without")
            }
            _ => None,
        };
        let failure = Failure::from(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Tells what the store keeps; the hints for people.
    fn kept(&self, offset: Option<u64>) -> Vec<String> {
        let uuid = self.upload.uuid();
        let resume = self.push.resuming(self.context, uuid);
        // The error that follows says the same.
        let _ = self.context.output.event(&Event::Kept {
            uuid,
            offset,
            resume: &resume,
            spent: self.service.usage().into(),
        });
        let kept = match offset {
            Some(offset) => format!("the store keeps all {} bytes", grouped(offset)),
            None => "the store keeps what arrived".to_owned(),
        };
        let again = match input::is_stdin(&self.push.file) {
            true => ", with the whole layer on standard input",
            false => "",
        };
        vec![
            format!("{kept} of upload {uuid} until it is swept"),
            format!("to go on{again}: {resume}"),
        ]
    }
}

/// Whether the upload can still be closed after this error: a claim was wrong, and nothing else.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidLength { .. }
            | Error::InvalidChecksum { .. }
            | Error::InvalidTarSum { .. }
            | Error::TarSumVersionUnsupported { .. }
    )
}
