//! `pull`: downloads a layer, or a range of it, to a file or to standard output.
//!
//! A file gets its name when it is whole and verified. Until then its bytes are beside it, in a
//! [partial file](partial), where the next pull of the same layer continues. If the whole does not
//! have its digest then, it is downloaded again, once.

use std::io::{self, IsTerminal as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use self::copy::{PullError, copy, hash};
use self::partial::Partial;
use self::range::ByteRange;
use self::target::{Target, open_device};
use super::Context;
use super::failure::Failure;
use super::input;
use super::layer_ref::LayerRef;
use super::output::{Traffic, grouped};
use super::stop::{Stop, interrupted};
use super::store_url::Absent;
use s3layers::{Digest, Error, Hasher, Layer, LayerId, LayerService as _, S3LayerService};

mod copy;
mod partial;
mod range;
mod target;

/// Download a layer, or a range of it
///
/// A whole layer is verified: with -o the file gets its name only then; on standard output the exit
/// code reports it. With -o, an interrupted pull leaves a partial file beside FILE, and the next pull
/// resumes it.
#[derive(Debug, Args)]
pub(super) struct Pull {
    /// Download this layer: a digest, its beginning, or a TarSum
    ///
    /// REPO@DIGEST downloads it only if it is in this repository.
    id: LayerRef,
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
        /// The size of the layer.
        size: u64,
        /// The first byte that was requested.
        from: u64,
        /// The number of bytes that were requested.
        bytes: u64,
        /// The first bytes of them that an earlier pull had written.
        kept: u64,
        /// Whether they have the digest; a range cannot be verified.
        verified: bool,
        #[serde(flatten)]
        traffic: Traffic,
    },
    /// The pull was interrupted, and can be resumed.
    Kept {
        id: &'a LayerId,
        partial: &'a Path,
        /// The bytes in the partial file.
        bytes: u64,
        /// The size of the layer.
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
        let found = stop.unless_requested(found).await;
        let (service, id, layer) = found.ok_or_else(interrupted)??;
        let task = PullTask {
            pull: self,
            context,
            service,
            digest: layer.digest().clone(),
            size: layer.size(),
            range: self.range_of(&id, layer.size())?,
            id,
        };
        match target {
            Target::Stdout => task.stream(layer, None, io::stdout(), &mut stop).await,
            Target::Device(path) => {
                let device = open_device(&path, &mut stop).await?;
                task.stream(layer, Some(&path), device, &mut stop).await?;
                task.report(&path, 0)
            }
            Target::File(path) => task.write(layer, &path, &mut stop).await,
        }
    }

    /// Refuses to write a layer to a terminal, or among events.
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
        let Some(range) = self.range else {
            return Ok(0..size);
        };
        let size_text = grouped(size);
        range.within(size).ok_or_else(|| {
            Failure::new(format!(
                "{id} has {size_text} bytes, and none of them is in the range"
            ))
        })
    }
}

/// The download of a layer that was found.
struct PullTask<'a> {
    pull: &'a Pull,
    context: &'a Context,
    service: S3LayerService,
    id: LayerId,
    digest: Digest,
    size: u64,
    range: Range<u64>,
}

impl PullTask<'_> {
    fn is_whole(&self) -> bool {
        self.range == (0..self.size)
    }

    /// The digest that was given, or that of the layer if another id was given.
    fn claimed(&self) -> &Digest {
        self.id.as_digest().unwrap_or(&self.digest)
    }

    fn hasher(&self) -> Hasher {
        Hasher::new(self.claimed().algorithm())
    }

    /// A range cannot be verified.
    fn verify(&self, computed: Digest) -> Result<(), PullError> {
        let claimed = self.claimed();
        if !self.is_whole() || computed == *claimed {
            return Ok(());
        }
        let claimed = claimed.clone();
        Err(PullError::Mismatch(Error::InvalidChecksum {
            claimed,
            computed,
        }))
    }

    /// Writes to an output that cannot be rewound. Its reader may be slow, so a signal does not wait
    /// for it.
    async fn stream(
        &self,
        layer: Box<dyn Layer>,
        path: Option<&Path>,
        output: impl io::Write + Send + 'static,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let copied = async {
            let (range, never) = (self.range.clone(), std::future::pending());
            let computed = copy(layer, range, output, self.hasher(), never).await?;
            self.verify(computed)
        };
        let copied = stop.unless_requested(copied).await;
        let copied = copied.unwrap_or(Err(PullError::Interrupted));
        copied.map_err(|error| error.into_failure(path))
    }

    /// Fills a partial file, and renames it to `path`.
    async fn write(
        &self,
        layer: Box<dyn Layer>,
        path: &Path,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let partial = if self.is_whole() {
            Partial::open(path, &self.digest)
        } else {
            Partial::unnamed(path)
        };
        let partial = partial.map_err(|error| Failure::of_file_output(path, &error))?;
        let resume = format!("to resume: {}", self.resume_command(path));
        let _last_words = stop.last_words(self.is_whole().then_some(resume).into_iter().collect());
        let kept = match self.fill(layer, &partial, stop).await {
            Ok(kept) => kept,
            Err(error) => return Err(self.keep(error, partial, path)),
        };
        let location = partial.location().display().to_string();
        let force = self.pull.force;
        let published = tokio::task::spawn_blocking(move || partial.publish(force)).await;
        let published = published.map_err(io::Error::other).flatten();
        published.map_err(|error| {
            let failure = match error.kind() {
                io::ErrorKind::AlreadyExists => target::exists(path),
                _ => Failure::of_file_output(path, &error),
            };
            failure.hint(format!("all bytes are in {location}"))
        })?;
        self.report(path, kept)
    }

    /// Fills the partial file. Returns how many of its bytes an earlier pull had written.
    async fn fill(
        &self,
        layer: Box<dyn Layer>,
        partial: &Partial,
        stop: &mut Stop,
    ) -> Result<u64, PullError> {
        let output = self.context.output;
        if partial.len()? > self.size {
            partial.clear()?;
        }
        let kept = partial.len()?;
        if kept > 0 {
            let location = partial.location().display();
            output.note(format_args!(
                "{location} has the first {} bytes",
                grouped(kept)
            ));
        }
        match self.resume(layer, partial, kept, stop).await {
            Err(PullError::Mismatch(_)) if kept > 0 => {
                output.note("these bytes are wrong; downloading the whole layer again");
                partial.clear()?;
                let layer = stop.unless_requested(self.service.fetch(&self.id)).await;
                let layer = layer.ok_or(PullError::Interrupted)??;
                self.resume(layer, partial, 0, stop).await?;
                Ok(0)
            }
            resumed => resumed.map(|()| kept),
        }
    }

    /// Hashes the first `kept` bytes, downloads the others, and verifies the whole.
    async fn resume(
        &self,
        layer: Box<dyn Layer>,
        partial: &Partial,
        kept: u64,
        stop: &mut Stop,
    ) -> Result<(), PullError> {
        let bytes = self.range.end - self.range.start;
        let mut bar = self.context.output.bar("", Some(bytes), kept);
        let (file, hasher) = (partial.file.try_clone()?, self.hasher());
        let hashed = tokio::task::spawn_blocking(move || hash(file, kept, hasher));
        let hashed = stop.unless_requested(hashed).await;
        let hashed = hashed.ok_or(PullError::Interrupted)?;
        let hasher = hashed.map_err(io::Error::other).flatten()?;
        // By received bytes: a block is returned only when it is whole and verified.
        let (service, before) = (self.service.clone(), self.service.usage().bytes_received);
        bar.follow(move || {
            let received = service.usage().bytes_received - before;
            (kept + received).min(bytes)
        });
        let (rest, file) = (
            self.range.start + kept..self.range.end,
            partial.file.try_clone()?,
        );
        let copied = copy(layer, rest, file, hasher, stop.requested()).await;
        if copied.is_err() {
            bar.leave(partial.len().unwrap_or(kept));
        }
        self.verify(copied?)
    }

    /// Keeps the partial file if the next pull can resume it, and removes it otherwise.
    fn keep(&self, error: PullError, partial: Partial, path: &Path) -> Failure {
        let is_resumable = self.is_whole() && !matches!(error, PullError::Mismatch(_));
        let failure = error.into_failure(Some(path));
        let bytes = match partial.len() {
            Ok(bytes) if bytes > 0 && is_resumable => bytes,
            _ => return failure,
        };
        let location = match partial.keep() {
            Ok(location) => location,
            Err(error) => return failure.because(Failure::of_file_output(path, &error)),
        };
        let resume = self.resume_command(path);
        // The error that follows has the same hints.
        let _ = self.context.output.event(&Event::Kept {
            id: &self.id,
            partial: &location,
            bytes,
            size: self.size,
            resume: &resume,
        });
        let (location, bytes, size) = (location.display(), grouped(bytes), grouped(self.size));
        failure
            .hint(format!("{location} has {bytes} of {size} bytes"))
            .hint(format!("to resume: {resume}"))
    }

    fn resume_command(&self, path: &Path) -> String {
        let (id, path) = (self.id.to_string(), input::word(path));
        let mut words = vec!["pull", &id, "-o", &path];
        if self.pull.force {
            words.push("--force");
        }
        self.context.command_line(&words)
    }

    fn report(&self, path: &Path, kept: u64) -> Result<(), Failure> {
        let (output, usage) = (self.context.output, self.service.usage());
        let bytes = self.range.end - self.range.start;
        output.note(format_args!(
            "{}: {} bytes of {}{}; {}",
            path.display(),
            grouped(bytes),
            self.digest,
            if self.is_whole() { ", verified" } else { "" },
            output.requests(&usage),
        ));
        output.event(&Event::Pulled {
            id: &self.id,
            digest: &self.digest,
            size: self.size,
            from: self.range.start,
            bytes,
            kept,
            verified: self.is_whole(),
            traffic: usage.into(),
        })
    }
}
