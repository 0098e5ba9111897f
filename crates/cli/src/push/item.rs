//! One input of a push, and its messages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use crate::Context;
use crate::failure::Failure;
use crate::input;
use crate::output::Traffic;
use s3layers::{Digest, LayerId, RepositoryName, S3LayerService, TarSum};

/// The options of each file.
#[derive(Debug, Args)]
pub(super) struct PushOptions {
    /// Upload to this repository, such as library/alpine
    #[arg(long, value_name = "REPO")]
    pub(super) name: RepositoryName,
    /// Require this digest or TarSum, of one file
    #[arg(long)]
    pub(super) id: Option<LayerId>,
    /// Resume this upload, with the whole layer again
    #[arg(long, value_name = "UUID", value_parser = input::uuid)]
    pub(super) resume: Option<Uuid>,
    /// Publish the layer under its TarSum too
    ///
    /// The TarSum is of version 1, by SHA-256.
    #[arg(long, conflicts_with = "id")]
    pub(super) tarsum: bool,
}

/// An event of one file.
#[derive(Serialize)]
struct Event<'a> {
    file: &'a str,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum What<'a> {
    /// Before the first byte; the upload has `offset` bytes already.
    Started { uuid: Uuid, offset: u64 },
    /// Twice a second.
    Progress {
        uuid: Uuid,
        /// Bytes that were written to the upload.
        offset: u64,
        /// Bytes that were sent to the store.
        sent: u64,
        #[serde(flatten)]
        traffic: Option<Traffic>,
    },
    /// The layer was stored.
    Stored {
        uuid: Uuid,
        digest: &'a Digest,
        tar_sum: Option<&'a TarSum>,
        size: u64,
        /// Bytes that this process sent: all but those that the upload had before.
        sent: u64,
        /// Since the upload began.
        seconds: f64,
        #[serde(flatten)]
        traffic: Option<Traffic>,
    },
    /// The layer is stored already.
    Exists { id: &'a LayerId, size: u64 },
    /// The upload was interrupted. If `offset` is known, all bytes before it are stored.
    Kept {
        uuid: Uuid,
        offset: Option<u64>,
        resume: &'a str,
        #[serde(flatten)]
        traffic: Option<Traffic>,
    },
}

/// An input and its context.
pub(super) struct Item<'a> {
    pub(super) options: &'a PushOptions,
    /// Whether it is one of several files.
    pub(super) has_others: bool,
    pub(super) context: &'a Context,
    pub(super) service: &'a S3LayerService,
    pub(super) file: &'a Path,
    /// Bytes of it that are done, for the bar of all files.
    pub(super) position: Arc<AtomicU64>,
}

impl Item<'_> {
    /// The failure of a push that a signal stopped before it began.
    pub(super) fn not_begun(&self) -> Failure {
        let failure = Failure::new("interrupted before anything was sent");
        failure.hint(format!(
            "to push it: {}",
            self.again(self.options.resume, true)
        ))
    }

    /// The command that pushes it again, or resumes the upload.
    pub(super) fn again(&self, uuid: Option<Uuid>, with_tar_sum: bool) -> String {
        let file = input::word(self.file);
        let id = self.options.id.as_ref().map(ToString::to_string);
        let uuid = uuid.map(|uuid| uuid.to_string());
        let mut words = vec!["push", &file, "--name", self.options.name.as_str()];
        if let Some(id) = &id {
            words.extend(["--id", id]);
        }
        if self.options.tarsum && with_tar_sum {
            words.push("--tarsum");
        }
        if let Some(uuid) = &uuid {
            words.extend(["--resume", uuid]);
        }
        self.context.command_line(&words)
    }

    /// Prints a note about it.
    pub(super) fn note(&self, line: impl std::fmt::Display) {
        let output = self.context.output;
        if self.has_others {
            output.note(format_args!("{}: {line}", input::name(self.file)));
        } else {
            output.note(line);
        }
    }

    /// The requests of the service. Those of one of several files are not known.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        (!self.has_others).then(|| self.service.usage().into())
    }

    /// Prints an event about it.
    pub(super) fn event(&self, what: What<'_>) -> Result<(), Failure> {
        let file = &self.file.to_string_lossy();
        self.context.output.event(&Event { file, what })
    }
}
