//! `cancel`: removes unfinished uploads.

use std::collections::HashSet;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::Context;
use super::failure::Failure;
use super::input;
use super::store_url::Absent;
use s3layers::Error;

/// Remove unfinished uploads and their bytes
///
/// Any process can cancel an upload; a running push of it fails. An upload in its commit is committed
/// instead, because its layer may already be published; it is cancelled only if the commit can never
/// succeed. Prints the UUIDs of cancelled uploads. A failure does not stop the others.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// Cancel these uploads; `uploads` lists them
    #[arg(value_name = "UUID", required = true, value_parser = input::uuid)]
    uuids: Vec<Uuid>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// The upload and all its bytes were removed.
    Cancelled { uuid: Uuid },
    /// The upload could not be cancelled.
    NotCancelled { uuid: Uuid, error: &'a str },
}

impl Cancel {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        let mut failures = Vec::new();
        let mut seen = HashSet::new();
        let once_each = self.uuids.iter().filter(|uuid| seen.insert(**uuid));
        let uuids: Vec<Uuid> = once_each.copied().collect();
        for &uuid in &uuids {
            match service.cancel_upload(uuid).await {
                Ok(()) => {
                    context.output.say(uuid)?;
                    context.output.event(&Event::Cancelled { uuid })?;
                }
                Err(error) => {
                    let failure = refused(error, context);
                    let error = &failure.lines.join(": ");
                    context.output.event(&Event::NotCancelled { uuid, error })?;
                    failures.push(failure);
                }
            }
        }
        Failure::of_several(failures, uuids.len(), "uploads could not be cancelled")
    }
}

fn refused(error: Error, context: &Context) -> Failure {
    let hint = match &error {
        Error::UploadUnknown { .. } => {
            let uploads = context.command_line(&["uploads"]);
            Some(format!(
                "it was finished, cancelled or swept; to list uploads: {uploads}"
            ))
        }
        Error::UploadConflict { .. } => {
            let sweep = context.command_line(&["sweep", "--older-than", "1h"]);
            Some(format!(
                "try again later; to commit or remove uploads that are idle for an hour: {sweep}"
            ))
        }
        _ => None,
    };
    Failure::from(error).hints(hint)
}
