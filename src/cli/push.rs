//! `push`: a file or standard input becomes a layer; whatever interrupts that, the store keeps
//! what it has, and the command that goes on from there is printed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::Context;
use super::failure::Failure;
use super::output::{Spent, grouped};
use super::stop::Stop;
use super::threads::Reading;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::Error;
use crate::id::{LayerId, TarSum};
use crate::name::RepositoryName;
use crate::s3::S3LayerService;
use crate::service::{Layer, LayerService as _, LayerUpload};

/// How often progress is told with `--json`.
const PROGRESS: Duration = Duration::from_millis(500);

/// Upload a layer
///
/// What was read is kept when the upload is interrupted, and the command that resumes it is printed.
/// With --resume the input is the whole layer again: the bytes that the store has are passed over.
/// On success the digest is printed.
#[derive(Debug, Args)]
pub(super) struct Push {
    /// The layer, or - for standard input
    file: PathBuf,
    /// The repository, such as library/alpine
    #[arg(long, value_name = "REPO")]
    name: RepositoryName,
    /// What the layer must turn out to be: sha256:…, sha512:… or a TarSum
    #[arg(long)]
    id: Option<LayerId>,
    /// Go on with this upload. FILE, or standard input, is the whole layer from its first byte
    #[arg(long, value_name = "UUID")]
    resume: Option<Uuid>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// Before the first byte is sent; the upload has `offset` bytes.
    Started { uuid: Uuid, offset: u64 },
    /// From time to time.
    Progress {
        uuid: Uuid,
        /// Bytes that the upload has taken.
        offset: u64,
        #[serde(flatten)]
        spent: Spent,
    },
    /// The layer is there.
    Stored {
        uuid: Uuid,
        digest: &'a Digest,
        tar_sum: Option<&'a TarSum>,
        size: u64,
        #[serde(flatten)]
        spent: Spent,
    },
    /// The layer was there before.
    Exists { id: &'a LayerId },
    /// The upload is not finished. Where `offset` is known, all bytes up to there are stored.
    Kept {
        uuid: Uuid,
        offset: Option<u64>,
        resume: &'a str,
        #[serde(flatten)]
        spent: Spent,
    },
}

/// Why the bytes ended before the input did.
enum Cut {
    /// By a signal.
    Told,
    /// The input could not be read.
    Input(io::Error),
    /// The input ends before the bytes that the upload has.
    Short { size: u64 },
    /// The store, or the contract.
    Upload(Error),
}

/// An upload and what is known around it.
struct Running<'a> {
    push: &'a Push,
    context: &'a Context,
    service: S3LayerService,
    upload: Box<dyn LayerUpload>,
    bar: ProgressBar,
}

impl Push {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let (input, size) = self.open()?;
        let mut stop = Stop::listen()?;
        let service = tokio::select! {
            service = context.connect() => service?,
            () = stop.told() => return Err(Failure::new("interrupted before the upload began")),
        };
        let upload = match self.begin(&service).await {
            Ok(upload) => upload,
            Err(Error::LayerExists { id }) => {
                context
                    .output
                    .note("the layer is stored already; nothing was sent");
                context.output.say(&id)?;
                return context.output.event(&Event::Exists { id: &id });
            }
            Err(error) => return Err(self.refused(error, context)),
        };
        let mut running = Running {
            push: self,
            context,
            service,
            upload,
            bar: context.output.progress(size),
        };
        running.started()?;
        match running.feed(input, &mut stop).await {
            Ok(layer) => running.stored(&*layer),
            Err(cut) => Err(running.cut(cut).await),
        }
    }

    fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    /// The input, and its size where that is known.
    fn open(&self) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
        if self.is_stdin() {
            return Ok((Box::new(io::stdin()), None));
        }
        let opened = File::open(&self.file).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|error| {
            Failure::of(&error).context(format_args!("cannot open {}", self.file.display()))
        })?;
        if metadata.is_dir() {
            return Err(Failure::new(format!(
                "{} is a folder; wanted a file, such as a tar archive",
                self.file.display()
            )));
        }
        let size = metadata.is_file().then(|| metadata.len());
        Ok((Box::new(file), size))
    }

    async fn begin(&self, service: &S3LayerService) -> Result<Box<dyn LayerUpload>, Error> {
        match self.resume {
            Some(uuid) => service.resume(&self.name, self.id.as_ref(), uuid).await,
            None => service.upload(&self.name, self.id.as_ref()).await,
        }
    }

    fn refused(&self, error: Error, context: &Context) -> Failure {
        let hint = match &error {
            Error::UploadInProgress { uuid, .. } => {
                Some(format!("go on with it: {}", self.resuming(context, *uuid)))
            }
            Error::UploadUnknown { .. } => Some(format!(
                "it was finished, cancelled or swept, or is not of {} with this id",
                self.name
            )),
            _ => None,
        };
        let failure = Failure::from(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// The command that goes on with an upload.
    fn resuming(&self, context: &Context, uuid: Uuid) -> String {
        let (file, uuid) = (self.file.to_string_lossy(), uuid.to_string());
        let id = self.id.as_ref().map(ToString::to_string);
        let mut words = vec!["push", &file, "--name", self.name.as_str()];
        if let Some(id) = &id {
            words.extend(["--id", id]);
        }
        words.extend(["--resume", &uuid]);
        context.command_line(&words)
    }
}

impl Running<'_> {
    fn started(&self) -> Result<(), Failure> {
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
    async fn feed(
        &mut self,
        input: Box<dyn Read + Send>,
        stop: &mut Stop,
    ) -> Result<Box<dyn Layer>, Cut> {
        let claimed = self.push.id.as_ref().and_then(LayerId::as_digest).cloned();
        // A digest that was given is verified by the upload; another one is computed here.
        let hasher = claimed.is_none().then(|| Hasher::new(Algorithm::Sha256));
        let offset = self.upload.offset();
        let mut reading = Reading::start(input, offset, hasher).map_err(Cut::Input)?;
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
        self.bar.set_message("finishing");
        self.upload
            .finish(offset, &digest)
            .await
            .map_err(Cut::Upload)
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

    fn stored(&self, layer: &dyn Layer) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        let usage = self.service.usage();
        let output = self.context.output;
        output.note(format_args!(
            "stored {} bytes; {usage}",
            grouped(layer.size())
        ));
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
    async fn cut(&mut self, cut: Cut) -> Failure {
        self.bar.finish_and_clear();
        let offset = self.upload.offset();
        // After a failure of the store the handle is closed, and what arrived is recorded.
        let closed = match &cut {
            Cut::Upload(error) if !is_refusal(error) => None,
            _ => Some(self.upload.close().await),
        };
        let is_ours = !matches!(
            &cut,
            Cut::Upload(Error::UploadConflict { .. } | Error::UploadUnknown { .. })
        );
        let kept = matches!(closed, Some(Ok(()))).then_some(offset);
        let failure = self.told(cut);
        let failure = match closed {
            Some(Err(error)) => {
                failure.because(Failure::from(error).context("cannot close the upload"))
            }
            _ => failure,
        };
        match is_ours {
            true => failure.hints(self.kept(kept)),
            false => failure,
        }
    }

    /// What the cut was, in words.
    fn told(&self, cut: Cut) -> Failure {
        let input = match self.push.is_stdin() {
            true => "standard input".to_owned(),
            false => self.push.file.display().to_string(),
        };
        match cut {
            Cut::Told => Failure::new("interrupted"),
            Cut::Input(error) => Failure::of(&error).context(format_args!("cannot read {input}")),
            Cut::Short { size } => Failure::new(format!(
                "{input} has {} bytes and the upload has {} already; wanted the whole layer",
                grouped(size),
                grouped(self.upload.offset())
            )),
            Cut::Upload(error) => self.refusal(error),
        }
    }

    fn refusal(&self, error: Error) -> Failure {
        let hint = match &error {
            Error::InvalidChecksum { .. } if self.push.id.is_none() => {
                Some("the input is not the one that the upload began with")
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
        let again = match self.push.is_stdin() {
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
