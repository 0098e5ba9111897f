//! `pull`: a layer, or a range of it, to a file or to standard output.

use std::fs::{self, File};
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use self::partial::Partial;
use self::range::ByteRange;
use super::Context;
use super::failure::Failure;
use super::output::{Spent, grouped};
use super::stop::Stop;
use super::threads::Writing;
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::id::LayerId;
use crate::service::{Layer, LayerService as _};

mod partial;
mod range;

/// How much of a range is read at a time, in bytes.
const PIECE: usize = 1024 * 1024;

/// Download a layer, or a part of it
///
/// A whole layer is verified: with -o nothing appears under that name before; on standard output
/// the exit code tells.
#[derive(Debug, Args)]
pub(super) struct Pull {
    /// The layer: sha256:…, sha512:… or a TarSum
    id: LayerId,
    /// Write to this file, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only these bytes, counted from 0, the last one included: 0-99, 100- for all from there, -100
    /// for the last 100
    #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
    range: Option<ByteRange>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Pulled {
        id: &'a LayerId,
        digest: Digest,
        /// Of the layer.
        size: u64,
        /// The first byte that was pulled.
        from: u64,
        /// Bytes that were pulled.
        bytes: u64,
        /// Whether they are those of the digest; a part cannot be told.
        verified: bool,
        #[serde(flatten)]
        spent: Spent,
    },
}

/// A layer that was found, and what is wanted of it.
struct Wanted {
    layer: Box<dyn Layer>,
    range: Range<u64>,
}

impl Wanted {
    fn is_whole(&self) -> bool {
        self.range == (0..self.layer.size())
    }
}

impl Pull {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        if context.output.json && self.output.is_none() {
            return Err(Failure::usage(
                "--json needs -o FILE: without it standard output is for the bytes of the layer",
            ));
        }
        let mut stop = Stop::listen()?;
        tokio::select! {
            done = self.pull(context) => done,
            () = stop.told() => Err(Failure::new("interrupted")),
        }
    }

    async fn pull(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect().await?;
        let layer = service.fetch(&self.id).await?;
        let (size, digest) = (layer.size(), layer.digest().clone());
        let wanted = self.wanted(layer)?;
        let (range, is_whole) = (wanted.range.clone(), wanted.is_whole());
        let bytes = range.end - range.start;
        let bar = match self.output {
            Some(_) => context.output.progress(Some(bytes)),
            None => ProgressBar::hidden(),
        };
        match &self.output {
            None => self.copy(wanted, io::stdout(), &bar).await.map(drop)?,
            Some(path) => self.write_file(wanted, path, &bar).await?,
        }
        bar.finish_and_clear();
        let Some(path) = &self.output else {
            return Ok(());
        };
        let usage = service.usage();
        let verified = match is_whole {
            true => ", verified",
            false => "",
        };
        context.output.note(format_args!(
            "{}: {} bytes of {digest}{verified}; {usage}",
            path.display(),
            grouped(bytes),
        ));
        context.output.event(&Event::Pulled {
            id: &self.id,
            digest,
            size,
            from: range.start,
            bytes,
            verified: is_whole,
            spent: usage.into(),
        })
    }

    fn wanted(&self, layer: Box<dyn Layer>) -> Result<Wanted, Failure> {
        let size = layer.size();
        let range = match self.range {
            None => 0..size,
            Some(range) => range.within(size).ok_or_else(|| {
                Failure::new(format!(
                    "{} has {} bytes, and none of them is in the range",
                    self.id,
                    grouped(size)
                ))
            })?,
        };
        Ok(Wanted { layer, range })
    }

    /// Writes beside `path` and renames, so that `path` is the layer or is not.
    async fn write_file(
        &self,
        wanted: Wanted,
        path: &Path,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let context = |error: io::Error| {
            Failure::of(&error).context(format_args!("cannot write {}", path.display()))
        };
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                return Err(Failure::new(format!(
                    "{} is a folder; wanted the name of a file",
                    path.display()
                )));
            }
            // Nobody wants /dev/null replaced.
            Ok(there) if !there.is_file() => {
                let device = File::options().write(true).open(path).map_err(context)?;
                return self.copy(wanted, device, bar).await.map(drop);
            }
            _ => {}
        }
        let partial = Partial::create(path).map_err(context)?;
        let file = partial.file.try_clone().map_err(context)?;
        self.copy(wanted, file, bar).await?;
        tokio::task::spawn_blocking(move || partial.publish())
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(context)
    }

    /// Copies what is wanted, and verifies it if that is the whole layer.
    async fn copy<W: io::Write + Send + 'static>(
        &self,
        wanted: Wanted,
        output: W,
        bar: &ProgressBar,
    ) -> Result<W, Failure> {
        // By the id that was asked for, if it says what the bytes are.
        let claimed = self.id.as_digest().unwrap_or(wanted.layer.digest()).clone();
        let is_whole = wanted.is_whole();
        let writing = Writing::start(output, Hasher::new(claimed.algorithm()))
            .map_err(|error| Failure::of(&error).context("cannot start writing"))?;
        let mut pieces = pieces(wanted).await?;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            bar.inc(piece.len() as u64);
            if !writing.put(piece).await {
                break;
            }
        }
        let (output, computed) = writing.end().await.map_err(|error| match &self.output {
            None => Failure::of_output(&error),
            Some(path) => {
                Failure::of(&error).context(format_args!("cannot write {}", path.display()))
            }
        })?;
        if is_whole && computed != claimed {
            return Err(Error::InvalidChecksum { claimed, computed }.into());
        }
        Ok(output)
    }
}

/// The bytes wanted, as they arrive.
async fn pieces(
    wanted: Wanted,
) -> Result<stream::BoxStream<'static, Result<Bytes, Error>>, Failure> {
    let is_whole = wanted.is_whole();
    let Wanted { mut layer, range } = wanted;
    if is_whole {
        return Ok(layer.into_stream());
    }
    layer
        .seek(SeekFrom::Start(range.start))
        .await
        .map_err(Error::from_io)?;
    let reader = layer.take(range.end - range.start);
    Ok(stream::try_unfold(reader, |mut reader| async move {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = reader.read_buf(&mut piece).await.map_err(Error::from_io)?;
        Ok((read > 0).then(|| (piece.freeze(), reader)))
    })
    .boxed())
}
