//! `push`: uploads files or standard input as layers. An interrupted push keeps its bytes, and prints
//! the command that resumes it.
//!
//! Several files are several uploads, some of them concurrent, within the memory budget of one
//! service. A failure does not stop the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use serde::Serialize;
use tokio::sync::Semaphore;

use self::item::{Item, PushOptions};
use self::one::push_one;
use super::Context;
use super::failure::Failure;
use super::input::{self, Input};
use super::output::{Output, Traffic};
use super::progress::Bar;
use super::stop::Stop;
use super::store_url::Absent;
use s3layers::Digest;

mod file_sums;
mod interruption;
mod item;
mod one;
mod part_aligner;
mod report;
mod task;

/// Files that are pushed concurrently.
const AT_ONCE: usize = 2;

/// Upload layers
///
/// Each file is a layer. Prints its digest; for several files with the name, as sha256sum does. A file
/// is hashed first, and a layer that is stored already is not sent. An interrupted push keeps its
/// bytes, and prints the command that resumes it. With --resume the input is the whole layer: bytes
/// that the store has are not sent again.
///
/// With --tarsum, the layer is found by the TarSum of its archive, too. For standard input it is known
/// only at the end; then the layer is read back from the store once, to verify it.
#[derive(Debug, Args)]
pub(super) struct Push {
    /// Upload these layers, or standard input for -
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    options: PushOptions,
}

/// An event of all files.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum TotalEvent {
    /// A signal was received; bytes that were read are being stored.
    Stopping,
    /// The end of a push of several files.
    Done {
        files: usize,
        failed: usize,
        #[serde(flatten)]
        traffic: Traffic,
    },
}

impl Push {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        self.check()?;
        // A file that cannot be read needs no store.
        let only = match &self.files[..] {
            [only] => Some(input::open(only)?),
            _ => None,
        };
        let mut stop = Stop::listen(context.output)?;
        let connecting = context.connect(Absent::Create);
        let service = stop
            .unless_requested(connecting)
            .await
            .ok_or_else(|| Failure::new("interrupted before anything was sent"))??;
        announce(stop.clone(), context.output);
        let item = |file| Item {
            options: &self.options,
            has_others: self.files.len() > 1,
            context,
            service: &service,
            file,
            position: Arc::default(),
        };
        if let (Some(input), [file]) = (only, &self.files[..]) {
            let digest = push_one(&item(file), input, stop).await?;
            return context.output.say(digest);
        }
        let items: Vec<Item<'_>> = self.files.iter().map(|file| item(file)).collect();
        let _bar = total_bar(&items, context.output);
        let (failed, printed) = all(&items, &stop, context.output).await;
        let usage = service.usage();
        context.output.note(format_args!(
            "pushed {} of {} files; {}",
            items.len() - failed,
            items.len(),
            context.output.requests(&usage)
        ));
        context.output.event(&TotalEvent::Done {
            files: items.len(),
            failed,
            traffic: usage.into(),
        })?;
        match failed {
            0 => printed,
            _ => Err(Failure::new(format!(
                "{failed} of {} files were not pushed",
                items.len()
            ))),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        if self.files.len() == 1 {
            return Ok(());
        }
        let for_one = [
            ("--id", self.options.id.is_some()),
            ("--resume", self.options.resume.is_some()),
        ];
        if let Some((option, _)) = for_one.iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::usage(format!(
                "{option} is for one file, and {} are given",
                self.files.len()
            )));
        }
        let stdin = self.files.iter().filter(|file| input::is_stdin(file));
        match stdin.count() {
            0 | 1 => Ok(()),
            _ => Err(Failure::usage(
                "- is given twice; standard input can be read once",
            )),
        }
    }
}

/// Confirms a signal: the uploads may need a while to close.
fn announce(mut stop: Stop, output: Output) {
    tokio::spawn(async move {
        stop.requested().await;
        output.note("interrupted: saving progress. Press Ctrl-C again to quit now.");
        // A failure to print shows again with a later event.
        let _ = output.event(&TotalEvent::Stopping);
    });
}

/// Pushes all files. Prints failures as they happen, and results in the order of the files. Returns how many
/// were not pushed, and whether the results could be printed.
async fn all(items: &[Item<'_>], stop: &Stop, output: Output) -> (usize, Result<(), Failure>) {
    let places = Semaphore::new(AT_ONCE);
    let push = async |item: &Item<'_>| {
        let _place = places.acquire().await;
        let pushed = if stop.is_requested() {
            Err(item.not_begun())
        } else {
            match open(item, stop.clone()).await {
                Ok(input) => push_one(item, input, stop.clone()).await,
                Err(failure) => Err(failure),
            }
        };
        pushed.map_err(|failure| {
            let name = input::name(item.file);
            output.fail(&failure.context(format_args!("{name} was not pushed")));
        })
    };
    let mut pushes: FuturesOrdered<_> = items.iter().map(push).collect();
    let (mut failed, mut printed) = (0, Ok(()));
    for item in items {
        match pushes.next().await {
            // A failure to print does not stop the other uploads.
            Some(Ok(digest)) if printed.is_ok() => {
                printed = output.say(line(&digest, item.file));
            }
            Some(Ok(_)) => {}
            Some(Err(())) | None => failed += 1,
        }
    }
    (failed, printed)
}

/// Opens the input. A pipe waits for its writer.
async fn open(item: &Item<'_>, mut stop: Stop) -> Result<Input, Failure> {
    let file = item.file.to_owned();
    let opening = tokio::task::spawn_blocking(move || input::open(&file));
    let opened = stop.unless_requested(opening).await;
    let opened = opened.ok_or_else(|| item.not_begun())?;
    opened.map_err(|error| Failure::of(&error)).flatten()
}

/// A bar for all files together, above those of each.
fn total_bar(items: &[Item<'_>], output: Output) -> Bar {
    let size = items.iter().map(|item| input::size(item.file)).sum();
    let positions: Vec<_> = items
        .iter()
        .map(|item| Arc::clone(&item.position))
        .collect();
    let mut bar = output.bar("total", size, 0);
    bar.follow(move || {
        positions
            .iter()
            .map(|one| one.load(Ordering::Relaxed))
            .sum()
    });
    bar
}

/// A line in the format of sha256sum, with the whole digest. A name with a line break is escaped, and
/// the line begins with a backslash then.
fn line(digest: &Digest, file: &Path) -> String {
    let name = file.to_string_lossy();
    if !name.contains(['\\', '\n', '\r']) {
        return format!("{digest}  {name}");
    }
    let name = name.replace('\\', r"\\");
    let name = name.replace('\n', r"\n").replace('\r', r"\r");
    format!("\\{digest}  {name}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn name_with_line_break_is_escaped() {
        let digest: Digest = Digest::EMPTY_SHA256.parse().unwrap();
        for (name, want) in [
            ("a b", format!("{digest}  a b")),
            ("a\nb\\c", format!(r"\{digest}  a\nb\\c")),
        ] {
            assert_eq!(line(&digest, Path::new(name)), want);
        }
    }
}
