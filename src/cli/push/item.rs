//! One input on its way to become a layer: how its upload begins, and what it is called.

use std::path::Path;

use uuid::Uuid;

use super::running::Running;
use super::{Event, Push, What};
use crate::cli::failure::Failure;
use crate::cli::input::{self, Input};
use crate::cli::stop::Stop;
use crate::cli::{Context, tarsum};
use crate::digest::{Algorithm, Digest};
use crate::error::Error;
use crate::id::{LayerId, TarSumVersion};
use crate::registry::RepositoryService as _;
use crate::s3::S3LayerService;
use crate::service::{LayerService as _, LayerUpload};
use crate::tarsum::TarSummer;

/// An input, and what is around it.
pub(super) struct Item<'a> {
    pub(super) push: &'a Push,
    pub(super) context: &'a Context,
    pub(super) service: &'a S3LayerService,
    pub(super) file: &'a Path,
}

impl Item<'_> {
    /// Makes it a layer. The digest of that.
    pub(super) async fn push(&self, input: Input, mut stop: Stop) -> Result<Digest, Failure> {
        let push = self.push;
        // Only a file can be read twice.
        let known = match push.tarsum && input.size.is_some() {
            true => tokio::select! {
                sums = tarsum::read(self.file, summer()?) => Some(sums?),
                () = stop.told() => return Err(self.not_begun()),
            },
            false => None,
        };
        let begun = async {
            match &known {
                None => self.begin(push.id.as_ref()).await,
                Some(known) => self.begin_known(known).await,
            }
        };
        let begun = tokio::select! {
            begun = begun => begun,
            () = stop.told() => return Err(self.not_begun()),
        };
        let upload = match begun {
            Ok(upload) => upload,
            Err(Error::LayerExists { id }) => return self.exists(&id).await,
            Err(error) => return Err(self.refused(error)),
        };
        let summer = match push.tarsum && known.is_none() {
            true => Some(summer()?),
            false => None,
        };
        let mut running = Running::new(self, upload, input.size, summer);
        running.started()?;
        match running.feed(input, &mut stop).await {
            Ok(layer) => running.stored(&*layer).await,
            Err(cut) => Err(running.cut(cut).await),
        }
    }

    async fn begin(&self, id: Option<&LayerId>) -> Result<Box<dyn LayerUpload>, Error> {
        match self.push.resume {
            Some(uuid) => self.service.resume(&self.push.name, id, uuid).await,
            None => self.service.upload(&self.push.name, id).await,
        }
    }

    /// Begins the upload of a file that was read before, declared by its TarSum. Where that leads
    /// to other bytes, it stays so, and the file is a layer by its digest.
    async fn begin_known(&self, known: &tarsum::Sums) -> Result<Box<dyn LayerUpload>, Error> {
        let id = known.tar_sum.clone().into();
        match self.begin(Some(&id)).await {
            Err(Error::LayerExists { id })
                if *self.service.fetch(&id).await?.digest() != known.digest =>
            {
                self.note(format_args!(
                    "{id} is found already, as an archive of other bytes; this one will be found by \
                     its digest only"
                ));
                let digest = known.digest.clone().into();
                self.begin(Some(&digest)).await
            }
            begun => begun,
        }
    }

    /// There is nothing to send. It may be in other repositories only.
    async fn exists(&self, id: &LayerId) -> Result<Digest, Failure> {
        let found = self.service.stat(id).await?;
        if let Some(damage) = found.damage {
            let lost = Failure::new(format!("{id} is stored already, and is damaged: {damage}"));
            return Err(lost.hint("push it without --id or --tarsum, which stores it anew"));
        }
        if !self.service.mount(&self.push.name, id, None).await? {
            let gone = Failure::new(format!("{id} was removed a moment ago"));
            return Err(gone.hint(format!("push it again: {}", self.again(None))));
        }
        self.note("the layer is stored already; nothing was sent");
        self.event(What::Exists { id })?;
        // An id by another algorithm is told as it was given.
        Ok(id.as_digest().unwrap_or(&found.info.digest).clone())
    }

    fn refused(&self, error: Error) -> Failure {
        let hint = match &error {
            Error::UploadInProgress { uuid, .. } => {
                Some(format!("go on with it: {}", self.again(Some(*uuid))))
            }
            Error::UploadUnknown { .. } => Some(format!(
                "it was finished, cancelled or swept, or is not of {} with this id",
                self.push.name
            )),
            _ => None,
        };
        let failure = Failure::from(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// A signal came before anything was sent.
    pub(super) fn not_begun(&self) -> Failure {
        let failure = Failure::new("interrupted before the upload began");
        failure.hint(format!("to begin it: {}", self.again(self.push.resume)))
    }

    /// The command that pushes it, or goes on with this upload.
    pub(super) fn again(&self, uuid: Option<Uuid>) -> String {
        let file = self.file.to_string_lossy();
        let id = self.push.id.as_ref().map(ToString::to_string);
        let uuid = uuid.map(|uuid| uuid.to_string());
        let mut words = vec!["push", &file, "--name", self.push.name.as_str()];
        if let Some(id) = &id {
            words.extend(["--id", id]);
        }
        if self.push.tarsum {
            words.push("--tarsum");
        }
        if let Some(uuid) = &uuid {
            words.extend(["--resume", uuid]);
        }
        self.context.command_line(&words)
    }

    /// Whether it is one of several.
    pub(super) fn has_others(&self) -> bool {
        self.push.files.len() > 1
    }

    /// For people: what is going on with it.
    pub(super) fn note(&self, line: impl std::fmt::Display) {
        match self.has_others() {
            true => self
                .context
                .output
                .note(format_args!("{}: {line}", input::name(self.file))),
            false => self.context.output.note(line),
        }
    }

    /// For programs: the same.
    pub(super) fn event(&self, what: What<'_>) -> Result<(), Failure> {
        let file = &self.file.to_string_lossy();
        self.context.output.event(&Event { file, what })
    }
}

fn summer() -> Result<TarSummer, Failure> {
    let summer = TarSummer::new(TarSumVersion::V1, Algorithm::Sha256);
    summer.map_err(|error| Failure::of(&error))
}
