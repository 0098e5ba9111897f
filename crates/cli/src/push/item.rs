//! One input of a push: the begin of its upload, and its messages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::file_sums::FileSums;
use super::task::PushTask;
use super::{Event, Push, What};
use crate::Context;
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::output::{Traffic, grouped};
use crate::stop::Stop;
use s3layers::RepositoryService as _;
use s3layers::tarsum::TarSummer;
use s3layers::{Algorithm, Digest, Error, LayerId, TarSum, TarSumVersion};
use s3layers::{LayerService as _, LayerUpload, S3LayerService};

/// An input and its context.
pub(super) struct Item<'a> {
    pub(super) push: &'a Push,
    pub(super) context: &'a Context,
    pub(super) service: &'a S3LayerService,
    pub(super) file: &'a Path,
    /// Bytes of it that are done, for the bar of all files.
    pub(super) position: Arc<AtomicU64>,
}

impl Item<'_> {
    /// Uploads it. Returns the digest.
    pub(super) async fn push(&self, input: Input, mut stop: Stop) -> Result<Digest, Failure> {
        // A resumed upload keeps the part sizes it began with.
        if self.push.resume.is_none() {
            self.check_size(&input, self.service.max_layer_size())?;
        }
        let begin = async {
            let known = FileSums::of(self, &input).await?;
            Ok::<_, Failure>((self.begin(&known).await, known))
        };
        let (begun, known) = tokio::select! {
            begun = begin => begun?,
            () = stop.requested() => return Err(self.not_begun()),
        };
        let upload = match begun {
            Ok(upload) => upload,
            Err(Error::LayerExists { id }) => return self.exists(&id, input.size).await,
            Err(error) => return Err(self.refused(error)),
        };
        self.check_size(&input, upload.max_size())?;
        let summer = if self.push.tarsum && known.tar_sum.is_none() {
            Some(summer()?)
        } else {
            None
        };
        let mut running = PushTask::new(self, upload, &stop, known.digest);
        running.started()?;
        match running.feed(input, summer, &mut stop).await {
            Ok(layer) => running.stored(&*layer).await,
            Err(cause) => Err(running.interrupted(cause).await),
        }
    }

    /// Begins or resumes the upload. [`Error::LayerExists`] if there is nothing to send.
    async fn begin(&self, known: &FileSums) -> Result<Box<dyn LayerUpload>, Error> {
        let (name, id) = (&self.push.name, self.push.id.as_ref());
        if let Some(uuid) = self.push.resume {
            let tar_sum = known.tar_sum.clone().map(LayerId::from);
            return self
                .service
                .resume(name, id.or(tar_sum.as_ref()), uuid)
                .await;
        }
        if id.is_some() {
            return self.service.upload(name, id).await;
        }
        let Some(digest) = &known.digest else {
            return self.service.upload(name, None).await;
        };
        if let Some(tar_sum) = &known.tar_sum {
            return self.begin_archive(digest, tar_sum).await;
        }
        let id = LayerId::from(digest.clone());
        match self.service.stat(&id).await {
            Ok(found) if found.damage.is_none() => Err(Error::LayerExists { id }),
            // An upload repairs a damaged layer.
            Ok(_) | Err(Error::LayerUnknown { .. } | Error::Damaged { .. }) => {
                self.service.upload(name, None).await
            }
            Err(error) => Err(error),
        }
    }

    /// Begins the upload of an archive, declared by its TarSum. If that refers to other bytes already,
    /// the file is uploaded by its digest.
    async fn begin_archive(
        &self,
        digest: &Digest,
        tar_sum: &TarSum,
    ) -> Result<Box<dyn LayerUpload>, Error> {
        let (name, id) = (&self.push.name, LayerId::from(tar_sum.clone()));
        match self.service.upload(name, Some(&id)).await {
            Err(Error::LayerExists { id }) if self.service.fetch(&id).await?.digest() != digest => {
                self.note(format_args!(
                    "{id} refers to an archive with other bytes already; this one gets its digest only"
                ));
                let id = LayerId::from(digest.clone());
                self.service.upload(name, Some(&id)).await
            }
            begun => begun,
        }
    }

    /// Refuses a file that is too large before it is hashed or sent.
    fn check_size(&self, input: &Input, limit: u64) -> Result<(), Failure> {
        let Some(size) = input.size.filter(|size| *size > limit) else {
            return Ok(());
        };
        let too_large = Failure::new(format!(
            "{} has {} bytes, and an upload to this store can have at most {}",
            input::name(self.file),
            grouped(size),
            grouped(limit)
        ));
        if size > self.service.profile().max_object_size {
            return Err(too_large);
        }
        Err(too_large.hint("begin an upload with a larger --part-size or --memory-budget"))
    }

    /// Links a stored layer to the repository.
    async fn exists(&self, id: &LayerId, size: Option<u64>) -> Result<Digest, Failure> {
        let found = self.service.stat(id).await?;
        if let Some(damage) = found.damage {
            let lost = Failure::new(format!("{id} is stored, but damaged: {damage}"));
            return Err(lost.hint("push it without --id or --tarsum to store it again"));
        }
        if !self.service.mount(&self.push.name, id, None).await? {
            let gone = Failure::new(format!("{id} was removed just now"));
            return Err(gone.hint(format!("push it again: {}", self.again(None, true))));
        }
        self.position.store(size.unwrap_or(0), Ordering::Relaxed);
        self.note("already stored; nothing was sent");
        self.event(What::Exists { id })?;
        // A digest by another algorithm is printed as given.
        Ok(id.as_digest().unwrap_or(&found.info.digest).clone())
    }

    fn refused(&self, error: Error) -> Failure {
        let hint = match &error {
            Error::UploadInProgress { uuid, .. } => {
                Some(format!("to resume: {}", self.again(Some(*uuid), true)))
            }
            Error::UploadUnknown { .. } => Some(format!(
                "it was finished, cancelled or swept, or belongs to another repository than {} or to another \
                 --id; `s3layers uploads` lists uploads",
                self.push.name
            )),
            _ => None,
        };
        Failure::from(error).maybe_hint(hint)
    }

    /// The failure of a push that a signal stopped before it began.
    pub(super) fn not_begun(&self) -> Failure {
        let failure = Failure::new("interrupted before the upload began");
        failure.hint(format!(
            "to begin it: {}",
            self.again(self.push.resume, true)
        ))
    }

    /// The command that pushes it again, or resumes the upload.
    pub(super) fn again(&self, uuid: Option<Uuid>, with_tar_sum: bool) -> String {
        let file = self.file.to_string_lossy();
        let id = self.push.id.as_ref().map(ToString::to_string);
        let uuid = uuid.map(|uuid| uuid.to_string());
        let mut words = vec!["push", &file, "--name", self.push.name.as_str()];
        if let Some(id) = &id {
            words.extend(["--id", id]);
        }
        if self.push.tarsum && with_tar_sum {
            words.push("--tarsum");
        }
        if let Some(uuid) = &uuid {
            words.extend(["--resume", uuid]);
        }
        self.context.command_line(&words)
    }

    /// Whether there are several files.
    pub(super) fn has_others(&self) -> bool {
        self.push.files.len() > 1
    }

    /// Prints a note about it.
    pub(super) fn note(&self, line: impl std::fmt::Display) {
        let output = self.context.output;
        if self.has_others() {
            output.note(format_args!("{}: {line}", input::name(self.file)));
        } else {
            output.note(line);
        }
    }

    /// The requests of the service. Those of one of several files are not known.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        (!self.has_others()).then(|| self.service.usage().into())
    }

    /// Prints an event about it.
    pub(super) fn event(&self, what: What<'_>) -> Result<(), Failure> {
        let file = &self.file.to_string_lossy();
        self.context.output.event(&Event { file, what })
    }
}

pub(super) fn summer() -> Result<TarSummer, Failure> {
    let summer = TarSummer::new(TarSumVersion::V1, Algorithm::Sha256);
    summer.map_err(|error| Failure::of(&error))
}
