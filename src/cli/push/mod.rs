//! `push`: a file or standard input becomes a layer; whatever interrupts that, the store keeps
//! what it has, and the command that goes on from there is printed.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use self::running::Running;
use super::Context;
use super::failure::Failure;
use super::output::Spent;
use super::stop::Stop;
use super::{input, tarsum};
use crate::digest::{Algorithm, Digest};
use crate::error::Error;
use crate::id::{LayerId, TarSum, TarSumVersion};
use crate::name::RepositoryName;
use crate::s3::S3LayerService;
use crate::service::{LayerService as _, LayerUpload};
use crate::tarsum::TarSummer;

mod running;

/// Upload a layer
///
/// What was read is kept when the upload is interrupted, and the command that resumes it is printed.
/// With --resume the input is the whole layer again: the bytes that the store has are passed over.
/// On success the digest is printed.
///
/// With --tarsum, the layer is found by the TarSum of its archive as well. A file is read once more
/// before, so that a layer that is there already is not sent. Of standard input it is known at the
/// end only; the store then reads the layer back to us once, to verify it.
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
    /// Compute the TarSum (version 1, SHA-256) of the archive, and publish the layer under it too
    #[arg(long, conflicts_with = "id")]
    tarsum: bool,
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
        let (input, size) = input::open(&self.file)?;
        // Only a file can be read twice.
        let known = match self.tarsum && size.is_some() {
            true => Some(tarsum::read(&self.file, summer()?).await?),
            false => None,
        };
        let mut stop = Stop::listen()?;
        let service = tokio::select! {
            service = context.connect() => service?,
            () = stop.told() => return Err(Failure::new("interrupted before the upload began")),
        };
        let begun = match &known {
            None => self.begin(&service, self.id.as_ref()).await,
            Some(known) => self.begin_known(&service, known, context).await,
        };
        let upload = match begun {
            Ok(upload) => upload,
            Err(Error::LayerExists { id }) => return exists(&service, &id, context).await,
            Err(error) => return Err(self.refused(error, context)),
        };
        let mut running = Running {
            push: self,
            context,
            service,
            upload,
            bar: context.output.progress(size),
            summer: match self.tarsum && known.is_none() {
                true => Some(summer()?),
                false => None,
            },
        };
        running.started()?;
        match running.feed(input, &mut stop).await {
            Ok(layer) => running.stored(&*layer),
            Err(cut) => Err(running.cut(cut).await),
        }
    }

    async fn begin(
        &self,
        service: &S3LayerService,
        id: Option<&LayerId>,
    ) -> Result<Box<dyn LayerUpload>, Error> {
        match self.resume {
            Some(uuid) => service.resume(&self.name, id, uuid).await,
            None => service.upload(&self.name, id).await,
        }
    }

    /// Begins the upload of a file that was read before, declared by its TarSum. Where that leads
    /// to other bytes, it stays so, and the file is a layer by its digest.
    async fn begin_known(
        &self,
        service: &S3LayerService,
        known: &tarsum::Sums,
        context: &Context,
    ) -> Result<Box<dyn LayerUpload>, Error> {
        let id = known.tar_sum.clone().into();
        match self.begin(service, Some(&id)).await {
            Err(Error::LayerExists { id })
                if *service.fetch(&id).await?.digest() != known.digest =>
            {
                context.output.note(format_args!(
                    "{id} is found already, as an archive of other bytes; this one will be found by \
                     its digest only"
                ));
                let digest = known.digest.clone().into();
                self.begin(service, Some(&digest)).await
            }
            begun => begun,
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
        if self.tarsum {
            words.push("--tarsum");
        }
        words.extend(["--resume", &uuid]);
        context.command_line(&words)
    }
}

fn summer() -> Result<TarSummer, Failure> {
    let summer = TarSummer::new(TarSumVersion::V1, Algorithm::Sha256);
    summer.map_err(|error| Failure::of(&error))
}

/// There is nothing to send.
async fn exists(service: &S3LayerService, id: &LayerId, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    output.note("the layer is stored already; nothing was sent");
    match id {
        LayerId::Digest(digest) => output.say(digest)?,
        LayerId::TarSum(_) => output.say(service.fetch(id).await?.digest())?,
    }
    output.event(&Event::Exists { id })
}
