//! `sweep`: removes abandoned uploads.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use serde::Serialize;
use uuid::Uuid;

use super::Context;
use super::failure::Failure;
use super::output::Traffic;
use super::settings::duration;
use super::settings::value::Kind as _;
use super::store_url::Absent;
use s3layers::{SweepAction, SweptUpload};

/// The default age of an upload that is removed.
pub(super) const OLD: Duration = Duration::from_secs(24 * 3600);

/// Remove abandoned uploads
///
/// Looks at uploads only; a stored layer is never touched. A live upload is touched every ten
/// minutes at least, so an hour is safe. An upload whose commit was interrupted is committed.
#[derive(Debug, Args)]
pub(super) struct Sweep {
    /// Remove uploads untouched for this long: 24h, 30m, 7d, 0s
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = age)]
    older_than: Duration,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn age(text: &str) -> Result<Duration, &'static str> {
    duration(text).ok_or("expected a time such as 24h, 30m, 7d or 0s")
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// One upload.
    Swept {
        uuid: Uuid,
        /// Since its last object was written.
        age_seconds: u64,
        action: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The end.
    Done {
        uploads: u64,
        failed: u64,
        dry_run: bool,
        #[serde(flatten)]
        traffic: Traffic,
    },
}

impl Sweep {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        let output = context.output;
        let counting = output.counting("sweeping", &service);
        let mut sweep = service.sweep(self.older_than, self.dry_run);
        let (mut uploads, mut failed) = (0_u64, 0_u64);
        // Of the failures the first one: each is printed with its upload.
        let (mut failure, mut ended) = (None, None);
        while let Some(swept) = sweep.next().await {
            match swept {
                Ok(swept) => {
                    uploads += 1;
                    if let Some(one) = self.show(context, &swept)? {
                        failed += 1;
                        failure.get_or_insert(one);
                    }
                }
                Err(error) => ended = Some(error),
            }
        }
        drop(counting);
        if uploads == 0 && ended.is_none() {
            output.note("there is nothing to sweep");
        }
        output.event(&Event::Done {
            uploads,
            failed,
            dry_run: self.dry_run,
            traffic: service.usage().into(),
        })?;
        let ended = ended.map(Failure::from).or_else(|| {
            let several = failed > 0 && uploads > 1;
            several
                .then(|| Failure::new(format!("{failed} of {uploads} uploads could not be swept")))
        });
        match (ended, failure) {
            (None, None) => Ok(()),
            (Some(failure), None) | (None, Some(failure)) => Err(failure),
            (Some(ended), Some(failure)) => Err(ended.because(failure)),
        }
    }

    /// Prints what was done with an upload. The failure, if it is one.
    fn show(&self, context: &Context, swept: &SweptUpload) -> Result<Option<Failure>, Failure> {
        let seconds = Duration::from_secs(swept.age.as_secs());
        context.output.say(format_args!(
            "{}  {:>12}  {}",
            swept.uuid,
            seconds.show().unwrap_or_default(),
            self.outcome(swept)
        ))?;
        let failure = swept.outcome.as_ref().err().map(|error| Failure::of(error));
        context.output.event(&Event::Swept {
            uuid: swept.uuid,
            age_seconds: swept.age.as_secs(),
            action: words(swept.action).0,
            error: failure.as_ref().map(|failure| failure.lines.join(": ")),
        })?;
        Ok(failure.map(|failure| failure.context(format_args!("upload {}", swept.uuid))))
    }

    fn outcome(&self, swept: &SweptUpload) -> String {
        let (_, done, would_be_done) = words(swept.action);
        match &swept.outcome {
            Ok(()) if self.dry_run => would_be_done.to_owned(),
            Ok(()) => done.to_owned(),
            Err(error) => format!("failed: {error}"),
        }
    }
}

/// An action for programs, and for people what was done and what would be done.
fn words(action: SweepAction) -> (&'static str, &'static str, &'static str) {
    match action {
        SweepAction::Commit => ("commit", "committed", "would be committed"),
        SweepAction::CancelCommit => ("cancel_commit", "could not be committed, cancelled", ""),
        SweepAction::Remove => ("remove", "removed", "would be removed"),
        SweepAction::RemoveCancelled => (
            "remove_cancelled",
            "removed, was cancelled",
            "cancelled, would be removed",
        ),
        SweepAction::RemoveOrphans => (
            "remove_orphans",
            "removed, had no session that can be read",
            "has no session that can be read, would be removed",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, want) in [
            ("24h", Some(24 * 3600)),
            ("30m", Some(1800)),
            ("7d", Some(7 * 24 * 3600)),
            ("1d 12h", Some(36 * 3600)),
            ("0s", Some(0)),
            ("-1h", None),
            ("24", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(age("24h"), Ok(OLD), "the default");
            assert_eq!(age(text).ok(), want.map(Duration::from_secs), "{text:?}");
        }
    }
}
