//! `push`: files or standard input become layers; whatever interrupts that, the store keeps what it
//! has, and the command that goes on from there is printed.
//!
//! Several files are as many uploads, some at a time, within the byte budget of one service. One that
//! fails does not stop the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use serde::Serialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::item::Item;
use super::Context;
use super::failure::Failure;
use super::input;
use super::output::{Output, Spent};
use super::place::Absent;
use super::progress::Bar;
use super::stop::Stop;
use s3layers::{Digest, LayerId, RepositoryName, TarSum};

mod cut;
mod held;
mod item;
mod known;
mod report;
mod running;

/// How many files are pushed at a time.
const AT_ONCE: usize = 2;

/// Upload layers
///
/// Each file is a layer, and on success its digest is printed; of several files with the name, as
/// sha256sum does. A file is hashed first, and a layer that is stored already is not sent. A push that
/// is interrupted keeps what was sent, and prints the commands that resume the uploads. With --resume
/// the input is the whole layer again: bytes that the store has are not sent again.
///
/// With --tarsum, the layer is found by the TarSum of its archive as well. Of standard input it is
/// known at the end only; the layer is then read back from the store once, to verify it.
#[derive(Debug, Args)]
pub(super) struct Push {
    /// Upload these layers, or standard input for -
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Upload to this repository, such as library/alpine
    #[arg(long, value_name = "REPO")]
    name: RepositoryName,
    /// Require this digest or TarSum, of one file
    #[arg(long)]
    id: Option<LayerId>,
    /// Resume this upload, with the whole layer again
    #[arg(long, value_name = "UUID")]
    resume: Option<Uuid>,
    /// Publish the layer under its TarSum too
    ///
    /// The TarSum is of version 1, by SHA-256.
    #[arg(long, conflicts_with = "id")]
    tarsum: bool,
}

/// What happened to one file.
#[derive(Serialize)]
struct Event<'a> {
    file: &'a str,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum What<'a> {
    /// Before the first byte is sent; the upload has `offset` bytes.
    Started { uuid: Uuid, offset: u64 },
    /// From time to time.
    Progress {
        uuid: Uuid,
        /// Bytes that the upload has taken.
        offset: u64,
        /// Bytes that have left for the store.
        sent: u64,
        #[serde(flatten)]
        spent: Option<Spent>,
    },
    /// The layer is there.
    Stored {
        uuid: Uuid,
        digest: &'a Digest,
        tar_sum: Option<&'a TarSum>,
        size: u64,
        /// Bytes of this file that were sent here: all but those that the upload had before.
        sent: u64,
        /// Since the upload was begun.
        seconds: f64,
        #[serde(flatten)]
        spent: Option<Spent>,
    },
    /// The layer was there before.
    Exists { id: &'a LayerId },
    /// The upload is not finished. Where `offset` is known, all bytes up to there are stored.
    Kept {
        uuid: Uuid,
        offset: Option<u64>,
        resume: &'a str,
        #[serde(flatten)]
        spent: Option<Spent>,
    },
}

/// What happened to all of them.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum OfAll {
    /// A signal came; what was taken is being stored.
    Stopping,
    /// The end of several files.
    Done {
        files: usize,
        failed: usize,
        #[serde(flatten)]
        spent: Spent,
    },
}

impl Push {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        self.check()?;
        // One that cannot be read needs no store.
        let only = match &self.files[..] {
            [only] => Some(input::open(only)?),
            _ => None,
        };
        let mut stop = Stop::listen(context.output)?;
        let service = tokio::select! {
            service = context.connect(Absent::Create) => service?,
            () = stop.told() => return Err(Failure::new("interrupted before the upload began")),
        };
        announce(stop.clone(), context.output);
        let item = |file| Item {
            push: self,
            context,
            service: &service,
            file,
            position: Arc::default(),
        };
        if let (Some(input), [file]) = (only, &self.files[..]) {
            let digest = item(file).push(input, stop).await?;
            return context.output.say(digest);
        }
        let items: Vec<Item<'_>> = self.files.iter().map(|file| item(file)).collect();
        let _bar = total_bar(&items, context.output);
        let pushed = all(&items, &stop, context.output).await;
        let usage = service.usage();
        let failed = pushed.failed;
        context.output.note(format_args!(
            "pushed {} of {} files; {}",
            items.len() - failed,
            items.len(),
            context.output.requests(&usage)
        ));
        context.output.event(&OfAll::Done {
            files: items.len(),
            failed,
            spent: usage.into(),
        })?;
        pushed.result(items.len())
    }

    fn check(&self) -> Result<(), Failure> {
        if self.files.len() == 1 {
            return Ok(());
        }
        let for_one = [
            ("--id", self.id.is_some()),
            ("--resume", self.resume.is_some()),
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

/// Tells that a signal was heard: what it stops may take a while.
fn announce(mut stop: Stop, output: Output) {
    tokio::spawn(async move {
        stop.told().await;
        output.note("interrupted; storing what was taken. Press Ctrl-C again to end at once.");
        // Who reads events is told of a failure by another one.
        let _ = output.event(&OfAll::Stopping);
    });
}

/// Pushes all files, some at a time. Failures are told as they come, results in the order of the
/// files.
async fn all(items: &[Item<'_>], stop: &Stop, output: Output) -> Pushed {
    let places = Semaphore::new(AT_ONCE);
    let push = async |item: &Item<'_>| {
        let _place = places.acquire().await;
        let pushed = match stop.is_told() {
            true => Err(item.not_begun()),
            false => match input::open(item.file) {
                Ok(input) => item.push(input, stop.clone()).await,
                Err(failure) => Err(failure),
            },
        };
        pushed.map_err(|failure| {
            let name = input::name(item.file);
            output.fail(&failure.context(format_args!("{name} is not pushed")));
        })
    };
    let mut pushes: FuturesOrdered<_> = items.iter().map(push).collect();
    let mut pushed = Pushed {
        printed: Ok(()),
        failed: 0,
    };
    for item in items {
        match pushes.next().await {
            // A reader that went away does not stop what is under way.
            Some(Ok(digest)) if pushed.printed.is_ok() => {
                pushed.printed = output.say(line(&digest, item.file));
            }
            Some(Ok(_)) => {}
            Some(Err(())) | None => pushed.failed += 1,
        }
    }
    pushed
}

/// How several pushes ended.
struct Pushed {
    printed: Result<(), Failure>,
    failed: usize,
}

impl Pushed {
    fn result(self, files: usize) -> Result<(), Failure> {
        match self.failed {
            0 => self.printed,
            failed => Err(Failure::new(format!(
                "{failed} of {files} files are not pushed"
            ))),
        }
    }
}

/// A bar of all files together, above those of each.
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

/// A line of sha256sum, with all of the digest: a name that would break it is escaped, and the line
/// begins with a backslash then.
fn line(digest: &Digest, file: &Path) -> String {
    let name = file.to_string_lossy();
    match name.contains(['\\', '\n', '\r']) {
        false => format!("{digest}  {name}"),
        true => {
            let name = name.replace('\\', r"\\");
            let name = name.replace('\n', r"\n").replace('\r', r"\r");
            format!("\\{digest}  {name}")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_breaks_no_line() {
        let digest: Digest = Digest::EMPTY_SHA256.parse().unwrap();
        for (name, want) in [
            ("a b", format!("{digest}  a b")),
            ("a\nb\\c", format!(r"\{digest}  a\nb\\c")),
        ] {
            assert_eq!(line(&digest, Path::new(name)), want);
        }
    }
}
