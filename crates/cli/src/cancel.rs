//! `cancel`: removes uploads that nobody wants to go on with.

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::Context;
use super::failure::Failure;
use super::place::Absent;
use s3layers::Error;

/// Remove unfinished uploads and their bytes
///
/// It does not matter which process began them: a push under way fails. One that is being committed
/// is committed instead, since its layer may be published at any moment; it is cancelled only if
/// that can never succeed. Each is tried, whatever becomes of the others; the UUIDs of those that
/// are cancelled are printed.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// Cancel these uploads; `uploads` lists them
    #[arg(value_name = "UUID", required = true)]
    uuids: Vec<Uuid>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// The upload and all its bytes are gone.
    Cancelled { uuid: Uuid },
    /// It is not.
    NotCancelled { uuid: Uuid, error: &'a str },
}

impl Cancel {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        let mut failures = Vec::new();
        let uuids = once_each(&self.uuids);
        for &uuid in &uuids {
            match service.cancel_upload(uuid).await {
                Ok(()) => {
                    context.output.say(uuid)?;
                    context.output.event(&Event::Cancelled { uuid })?;
                }
                Err(error) => {
                    let failure = refused(uuid, error, context);
                    let error = &failure.lines.join(": ");
                    context.output.event(&Event::NotCancelled { uuid, error })?;
                    failures.push(failure);
                }
            }
        }
        let all = uuids.len();
        match (failures.len(), all) {
            (0, _) => Ok(()),
            (1, 1) => Err(failures.remove(0)),
            (failed, all) => {
                let failed =
                    Failure::new(format!("{failed} of {all} uploads could not be cancelled"));
                Err(failures.into_iter().fold(failed, Failure::because))
            }
        }
    }
}

/// Without those that were named before.
fn once_each(uuids: &[Uuid]) -> Vec<Uuid> {
    let mut once = Vec::new();
    for uuid in uuids {
        if !once.contains(uuid) {
            once.push(*uuid);
        }
    }
    once
}

fn refused(uuid: Uuid, error: Error, context: &Context) -> Failure {
    let hint = match &error {
        Error::UploadUnknown { .. } => {
            let uploads = context.command_line(&["uploads"]);
            Some(format!(
                "it was finished, cancelled or swept; those that are there: {uploads}"
            ))
        }
        Error::UploadConflict { .. } => {
            let sweep = context.command_line(&["sweep", "--older-than", "1h"]);
            Some(format!(
                "try again later; what no process has touched for an hour is committed or removed \
                 by: {sweep}"
            ))
        }
        Error::Damaged { .. } => Some(format!(
            "without its session nobody can tell what belongs to it; remove what is below \
             uploads/{uuid}/ by hand"
        )),
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
