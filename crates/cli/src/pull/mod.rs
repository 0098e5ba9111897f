//! `pull`: a layer, or a range of it, to a file or to standard output.
//!
//! A file appears under its name once it is whole and verified. Until then its bytes are beside it,
//! in a [partial file](partial), and the next pull of the same layer goes on from their end. If the
//! whole turns out to be wrong then, it is fetched anew, once.

use std::io::{self, IsTerminal as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use self::copy::{Cut, copy, pieces};
use self::partial::Partial;
use self::range::ByteRange;
use self::target::{Target, cannot_write, open_device};
use super::Context;
use super::failure::Failure;
use super::output::{Spent, grouped};
use super::place::Absent;
use super::stop::Stop;
use super::wanted::Wanted;
use s3layers::{Digest, Error, Hasher, Layer, LayerId, LayerService as _, S3LayerService};

mod copy;
mod partial;
mod range;
mod target;

/// Download a layer, or a range of it
///
/// A whole layer is verified: with -o nothing appears under that name before; on standard output
/// the exit code tells. With -o, what an interrupted pull leaves beside FILE is gone on with by the
/// next one.
#[derive(Debug, Args)]
pub(super) struct Pull {
    /// Download this layer: a digest, its beginning, or a TarSum
    ///
    /// REPO@DIGEST downloads it only if it is in this repository.
    id: Wanted,
    /// Write to this file; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(short, long, requires = "output")]
    force: bool,
    /// Download these bytes: 0-99, 100- or -100
    ///
    /// Bytes are counted from 0, and the last one is included: 0-99 is the first hundred, 100- is
    /// everything after them, -100 is the last hundred.
    #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
    range: Option<ByteRange>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Pulled {
        id: &'a LayerId,
        digest: &'a Digest,
        /// Of the layer.
        size: u64,
        /// The first byte that is there.
        from: u64,
        /// Bytes that are there.
        bytes: u64,
        /// So many of them, the first ones, were left by an earlier pull.
        kept: u64,
        /// Whether they are those of the digest; a part cannot be told.
        verified: bool,
        #[serde(flatten)]
        spent: Spent,
    },
    /// The pull did not end, and the next one can go on from there.
    Kept {
        id: &'a LayerId,
        partial: &'a Path,
        /// Bytes that are there, of those of the layer.
        bytes: u64,
        size: u64,
        resume: &'a str,
    },
}

impl Pull {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let target = Target::of(self.output.as_deref(), self.force)?;
        if matches!(target, Target::Stdout) {
            self.check_stdout(context.output.json)?;
        }
        let mut stop = Stop::listen(context.output)?;
        let found = async {
            let service = context.connect(Absent::Refuse).await?;
            let id = self.id.resolve(&service).await?;
            let layer = service.fetch(&id).await?;
            Ok::<_, Failure>((service, id, layer))
        };
        let (service, id, layer) = tokio::select! {
            found = found => found?,
            () = stop.told() => return Err(Failure::new("interrupted")),
        };
        let range = self.range_of(&id, layer.size())?;
        let pulling = Pulling {
            pull: self,
            context,
            service,
            id,
            digest: layer.digest().clone(),
            size: layer.size(),
            range,
        };
        match target {
            Target::Stdout => pulling.stream(layer, None, io::stdout(), &mut stop).await,
            Target::Device(path) => {
                let device = open_device(&path, &mut stop).await?;
                pulling
                    .stream(layer, Some(&path), device, &mut stop)
                    .await?;
                pulling.pulled(&path, 0)
            }
            Target::File(path) => pulling.write(layer, &path, &mut stop).await,
        }
    }

    /// Refuses to write a layer where nobody can use it.
    fn check_stdout(&self, is_for_events: bool) -> Result<(), Failure> {
        if is_for_events {
            return Err(Failure::usage(
                "--json needs -o FILE: without it standard output is for the bytes of the layer",
            ));
        }
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(Failure::usage(
                "standard output is a terminal, and a layer is binary; expected -o FILE, a pipe, or \
                 -o - to write it there all the same",
            ));
        }
        Ok(())
    }

    fn range_of(&self, id: &LayerId, size: u64) -> Result<Range<u64>, Failure> {
        match self.range {
            None => Ok(0..size),
            Some(range) => range.within(size).ok_or_else(|| {
                Failure::new(format!(
                    "{id} has {} bytes, and none of them is in the range",
                    grouped(size)
                ))
            }),
        }
    }
}

/// A layer that was found, and what is wanted of it.
struct Pulling<'a> {
    pull: &'a Pull,
    context: &'a Context,
    service: S3LayerService,
    id: LayerId,
    digest: Digest,
    size: u64,
    range: Range<u64>,
}

impl Pulling<'_> {
    fn is_whole(&self) -> bool {
        self.range == (0..self.size)
    }

    /// By the id that was asked for, if it says what the bytes are.
    fn claimed(&self) -> &Digest {
        self.id.as_digest().unwrap_or(&self.digest)
    }

    /// Whether these are the bytes wanted, as far as that can be told.
    fn verify(&self, computed: Digest) -> Result<(), Error> {
        let claimed = self.claimed();
        match self.is_whole() && computed != *claimed {
            true => Err(Error::InvalidChecksum {
                claimed: claimed.clone(),
                computed,
            }),
            false => Ok(()),
        }
    }

    /// To where what was written cannot be taken back. Whoever reads it may be slow, so a signal does
    /// not wait for them.
    async fn stream(
        &self,
        layer: Box<dyn Layer>,
        path: Option<&Path>,
        output: impl io::Write + Send + 'static,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let hasher = Hasher::new(self.claimed().algorithm());
        let copied = async {
            let pieces = pieces(layer, self.range.clone()).await?;
            let never = std::future::pending();
            let copied = copy(pieces, output, hasher, never).await;
            let computed = copied.map_err(|cut| match (cut, path) {
                (Cut::Output(error), None) => Failure::of_output(&error),
                (Cut::Output(error), Some(path)) => cannot_write(path, &error),
                (Cut::Layer(error), _) => error.into(),
                (Cut::Told, _) => Failure::new("interrupted"),
            })?;
            Ok(self.verify(computed)?)
        };
        tokio::select! {
            copied = copied => copied,
            () = stop.told() => Err(Failure::new("interrupted")),
        }
    }

    /// Beside `path`, which is the layer then, or is as it was.
    async fn write(
        &self,
        layer: Box<dyn Layer>,
        path: &Path,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let partial = match self.is_whole() {
            true => Partial::open(path, &self.digest),
            false => Partial::fresh(path),
        };
        let partial = partial.map_err(|error| cannot_write(path, &error))?;
        let last_words = if self.is_whole() {
            vec![format!("to resume: {}", self.resuming(path))]
        } else {
            Vec::new()
        };
        let _last_words = stop.last_words(last_words);
        let kept = match self.fill(layer, &partial, path, stop).await {
            Ok(kept) => kept,
            Err(unfilled) => return Err(self.kept(unfilled, partial, path)),
        };
        let force = self.pull.force;
        let location = partial.location().display().to_string();
        let published = tokio::task::spawn_blocking(move || partial.publish(force)).await;
        published
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    target::exists(path).hint(format!("all bytes are in {location}"))
                }
                _ => cannot_write(path, &error),
            })?;
        self.pulled(path, kept)
    }

    /// Fills the partial file with what is wanted. How many bytes of it an earlier pull had left.
    async fn fill(
        &self,
        layer: Box<dyn Layer>,
        partial: &Partial,
        path: &Path,
        stop: &mut Stop,
    ) -> Result<u64, Unfilled> {
        let output = self.context.output;
        let failed = |error: io::Error| Unfilled::CanGoOn(cannot_write(path, &error));
        let mut kept = partial.len().map_err(failed)?;
        if kept > self.size {
            partial.empty().map_err(failed)?;
            kept = 0;
        }
        if kept > 0 {
            output.note(format_args!(
                "{} has the first {} bytes",
                partial.location().display(),
                grouped(kept)
            ));
        }
        match self.go_on(layer, partial, path, kept, stop).await {
            Err(Unfilled::Wrong(_)) if kept > 0 => {
                output.note("they were other bytes; all is fetched anew");
                partial.empty().map_err(failed)?;
                let layer = tokio::select! {
                    layer = self.service.fetch(&self.id) => layer.map_err(of_layer)?,
                    () = stop.told() => return Err(interrupted()),
                };
                self.go_on(layer, partial, path, 0, stop).await?;
                Ok(0)
            }
            filled => filled.map(|()| kept),
        }
    }

    /// Goes on after the first `kept` bytes, which are hashed, and verifies the whole.
    async fn go_on(
        &self,
        layer: Box<dyn Layer>,
        partial: &Partial,
        path: &Path,
        kept: u64,
        stop: &mut Stop,
    ) -> Result<(), Unfilled> {
        let failed = |error: io::Error| Unfilled::CanGoOn(cannot_write(path, &error));
        let bytes = self.range.end - self.range.start;
        let mut bar = self.context.output.bar("", Some(bytes), kept);
        let hasher = Hasher::new(self.claimed().algorithm());
        let file = partial.file.try_clone().map_err(failed)?;
        let hashed = tokio::task::spawn_blocking(move || copy::hash(file, kept, hasher));
        let hasher = tokio::select! {
            hashed = hashed => hashed.map_err(io::Error::other).flatten().map_err(failed)?,
            () = stop.told() => return Err(interrupted()),
        };
        // As they arrive: blocks are handed out once they are whole and right.
        let (service, before) = (self.service.clone(), self.service.usage().bytes_received);
        bar.follow(move || {
            let arrived = service.usage().bytes_received - before;
            (kept + arrived).min(bytes)
        });
        let range = self.range.start + kept..self.range.end;
        let pieces = pieces(layer, range).await.map_err(of_layer)?;
        let file = partial.file.try_clone().map_err(failed)?;
        let copied = copy(pieces, file, hasher, stop.told()).await;
        if copied.is_err() {
            bar.leave(partial.len().unwrap_or(kept));
        }
        let computed = copied.map_err(|cut| match cut {
            Cut::Told => interrupted(),
            Cut::Layer(error) => of_layer(error),
            Cut::Output(error) => failed(error),
        })?;
        self.verify(computed)
            .map_err(|error| Unfilled::Wrong(error.into()))
    }

    /// Keeps what the next pull can go on with, and says so; removes what it cannot.
    fn kept(&self, unfilled: Unfilled, partial: Partial, path: &Path) -> Failure {
        let failure = match unfilled {
            Unfilled::Wrong(failure) => return failure,
            Unfilled::CanGoOn(failure) => failure,
        };
        let bytes = match partial.len() {
            Ok(bytes) if bytes > 0 && self.is_whole() => bytes,
            _ => return failure,
        };
        let location = match partial.keep() {
            Ok(location) => location,
            Err(error) => return failure.because(cannot_write(path, &error)),
        };
        let resume = self.resuming(path);
        // The error that follows says the same.
        let _ = self.context.output.event(&Event::Kept {
            id: &self.id,
            partial: &location,
            bytes,
            size: self.size,
            resume: &resume,
        });
        failure
            .hint(format!(
                "{} has {} of {} bytes",
                location.display(),
                grouped(bytes),
                grouped(self.size)
            ))
            .hint(format!("to resume: {resume}"))
    }

    /// The command that goes on with what is there.
    fn resuming(&self, path: &Path) -> String {
        let (id, path) = (self.id.to_string(), path.to_string_lossy());
        let mut words = vec!["pull", &id, "-o", &path];
        if self.pull.force {
            words.push("--force");
        }
        self.context.command_line(&words)
    }

    fn pulled(&self, path: &Path, kept: u64) -> Result<(), Failure> {
        let usage = self.service.usage();
        let bytes = self.range.end - self.range.start;
        let verified = match self.is_whole() {
            true => ", verified",
            false => "",
        };
        self.context.output.note(format_args!(
            "{}: {} bytes of {}{verified}; {}",
            path.display(),
            grouped(bytes),
            self.digest,
            self.context.output.requests(&usage),
        ));
        self.context.output.event(&Event::Pulled {
            id: &self.id,
            digest: &self.digest,
            size: self.size,
            from: self.range.start,
            bytes,
            kept,
            verified: self.is_whole(),
            spent: usage.into(),
        })
    }
}

/// Why a partial file is not what is wanted.
enum Unfilled {
    /// It is not whole, and its bytes are right as far as is known.
    CanGoOn(Failure),
    /// It is whole, and its bytes are others.
    Wrong(Failure),
}

fn interrupted() -> Unfilled {
    Unfilled::CanGoOn(Failure::new("interrupted"))
}

fn of_layer(error: Error) -> Unfilled {
    Unfilled::CanGoOn(error.into())
}
