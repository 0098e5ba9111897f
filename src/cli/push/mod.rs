//! `push`: a file or standard input becomes a layer; whatever interrupts that, the store keeps
//! what it has, and the command that goes on from there is printed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use self::running::Running;
use super::Context;
use super::failure::Failure;
use super::output::Spent;
use super::stop::Stop;
use crate::digest::Digest;
use crate::error::Error;
use crate::id::{LayerId, TarSum};
use crate::name::RepositoryName;
use crate::s3::S3LayerService;
use crate::service::{LayerService as _, LayerUpload};

mod running;

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
        let size = metadata.is_file().then_some(metadata.len());
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
