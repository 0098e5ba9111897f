//! `gc`: one pass of the collection.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::format::{self, counted};
use super::output::{Output, Traffic};
use super::store_url::Absent;
use s3layers::{CollectOptions, CollectReport, CollectionTimes, RepositoryName, RunError};

/// Remove layers that no manifest names
///
/// One pass. A layer goes in steps that are a wait apart, so that no push loses one that it relies on:
/// run it daily, or `serve --gc-every`. The bytes of a deleted image are free after two to six days, and
/// until then `trash restore` restores it. A manifest without a tag keeps its layers. The removal of a layer
/// that no manifest ever names, as of one that `push` has stored, begins 3 days after its push.
#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Condemn at most this percentage of links at once
    ///
    /// Of the links of each repository, and of all layers; ten of each in any case. Where more would be condemned, all
    /// stay, and the exit code is 1: the store may have listed too little, or a client deleted too much. If it is right,
    /// one pass with 100 is enough.
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = percent)]
    max_share: u8,
    /// Make at most this many requests a second
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

fn percent(text: &str) -> Result<u8, &'static str> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let percent = number.filter(|percent| *percent <= 100);
    percent.ok_or("expected a percentage from 0 to 100 such as 20")
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// Bytes that were freed, by the repository that the layers were first published in.
    Freed {
        repository: &'a RepositoryName,
        bytes: u64,
    },
    /// What was left alone.
    Skipped { reason: &'a str },
    /// The end.
    Collected {
        dry_run: bool,
        repositories: u64,
        links: u64,
        manifests: u64,
        layers: u64,
        links_condemned: u64,
        links_restored: u64,
        links_removed: u64,
        links_left: u64,
        repositories_left: u64,
        layers_condemned: u64,
        bytes_condemned: u64,
        layers_removed: u64,
        bytes_removed: u64,
        layers_freed: u64,
        bytes_freed: u64,
        is_versioned: bool,
        more_skipped: u64,
        stopped: Option<&'a str>,
        #[serde(flatten)]
        traffic: Traffic,
    },
}

impl Gc {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        let options = CollectOptions {
            dry_run: self.dry_run,
            max_share: f64::from(self.max_share) / 100.0,
            rate: self.rate,
        };
        let counting = context.output.counting("collecting", &service);
        let (collected, error) = RunError::split(service.collect(&options).await);
        drop(counting);
        let mut nothing = CollectReport::default();
        nothing.dry_run = collected.dry_run;
        // What was refused before it began has no report.
        if error.is_none() || collected != nothing {
            let output = context.output;
            show(output, &collected, &service.profile().collection)?;
            output.event(&totals(&collected, service.usage().into()))?;
        }
        if let Some(error) = error {
            return Err(Failure::of(&error));
        }
        let guarded = match (&collected.stopped, collected.repositories_left) {
            (None, 0) => return Ok(()),
            (Some(reason), _) => format!("stopped: {reason}"),
            (None, left) => format!(
                "{} left alone, as more would go than the share",
                counted(left, "repository")
            ),
        };
        Err(Failure::new(guarded).hint("if that is right, repeat it with --max-share 100"))
    }
}

fn show(output: Output, collected: &CollectReport, times: &CollectionTimes) -> Result<(), Failure> {
    for reason in &collected.skipped {
        output.note(format_args!("left alone: {reason}"));
        output.event(&Event::Skipped { reason })?;
    }
    if collected.more_skipped > 0 {
        let more = format::grouped(collected.more_skipped);
        output.note(format_args!("left alone: {more} more"));
    }
    if collected.links_left > 0 {
        let left = counted(collected.links_left, "link");
        output.note(format_args!("left for the next collection: {left}"));
    }
    let would = if collected.dry_run { " (dry run)" } else { "" };
    for (repository, &bytes) in &collected.freed {
        let size = format::size(bytes);
        output.say(format_args!("{repository}  {size} freed{would}"))?;
        output.event(&Event::Freed { repository, bytes })?;
    }
    if collected.is_versioned {
        output.note(
            "the bucket keeps versions: freed bytes are noncurrent, and stay until a rule of the bucket removes them",
        );
    }
    let all = &collected;
    let [wait, kept] = [times.wait, times.kept].map(|time| format::age(Duration::from_secs(time)));
    for (what, layers, bytes) in [
        ("freed".to_owned(), all.layers_freed, all.bytes_freed()),
        (
            format!("removed, freed by a collection in {kept}"),
            all.layers_removed,
            all.bytes_removed,
        ),
        (
            format!("condemned, removed by a collection in {wait} unless they are used"),
            all.layers_condemned,
            all.bytes_condemned,
        ),
    ] {
        let bytes = format::size(bytes);
        let layers = counted(layers, "layer");
        output.say(format_args!("{layers}, {bytes} {what}{would}"))?;
    }
    output.say(format_args!(
        "{} condemned, {} removed{would}",
        counted(all.links_condemned, "link"),
        all.links_removed
    ))?;
    output.note(format_args!(
        "looked at: {} of {}, and {}",
        counted(all.links, "link"),
        counted(all.repositories, "repository"),
        counted(all.layers, "layer")
    ));
    Ok(())
}

fn totals(collected: &CollectReport, traffic: Traffic) -> Event<'_> {
    Event::Collected {
        dry_run: collected.dry_run,
        repositories: collected.repositories,
        links: collected.links,
        manifests: collected.manifests,
        layers: collected.layers,
        links_condemned: collected.links_condemned,
        links_restored: collected.links_restored,
        links_removed: collected.links_removed,
        links_left: collected.links_left,
        repositories_left: collected.repositories_left,
        layers_condemned: collected.layers_condemned,
        bytes_condemned: collected.bytes_condemned,
        layers_removed: collected.layers_removed,
        bytes_removed: collected.bytes_removed,
        layers_freed: collected.layers_freed,
        bytes_freed: collected.bytes_freed(),
        is_versioned: collected.is_versioned,
        more_skipped: collected.more_skipped,
        stopped: collected.stopped.as_deref(),
        traffic,
    }
}
