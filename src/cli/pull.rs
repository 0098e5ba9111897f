//! `pull`: a layer, or a range of it, to a file or to standard output.

use std::fs::{self, File};
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::Context;
use super::failure::Failure;
use super::output::{Spent, grouped};
use super::stop::Stop;
use super::threads::Writing;
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::id::LayerId;
use crate::service::{Layer, LayerService as _};

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

/// Bytes that are asked for, as HTTP writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteRange {
    /// From the first to the last, or to the end.
    From(u64, Option<u64>),
    /// The last so many.
    Last(u64),
}

/// A text that is no range.
#[derive(Debug, thiserror::Error)]
#[error("wanted A-B with A not above B, A- or -N with N above 0, in bytes")]
struct InvalidRange;

impl FromStr for ByteRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse::<u64>().map_err(|_| InvalidRange),
            false => Err(InvalidRange),
        };
        match text.split_once('-').ok_or(InvalidRange)? {
            ("", last) => match number(last)? {
                0 => Err(InvalidRange),
                last => Ok(ByteRange::Last(last)),
            },
            (first, "") => Ok(ByteRange::From(number(first)?, None)),
            (first, last) => match (number(first)?, number(last)?) {
                (first, last) if first <= last => Ok(ByteRange::From(first, Some(last))),
                _ => Err(InvalidRange),
            },
        }
    }
}

impl ByteRange {
    /// The bytes of a layer of `size` bytes; `None` where it has none of them.
    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            ByteRange::From(first, last) => {
                first..last.map_or(size, |last| last.saturating_add(1).min(size))
            }
            ByteRange::Last(count) => size.saturating_sub(count)..size,
        };
        (!range.is_empty()).then_some(range)
    }
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
            Some(path) => self.into_file(wanted, path, &bar).await?,
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
    async fn into_file(
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

/// A file that is not whole yet. It is removed when it is dropped.
struct Partial {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Partial {
    fn create(path: &Path) -> io::Result<Self> {
        let mut name = path
            .file_name()
            .ok_or_else(|| io::Error::other("it has no file name"))?
            .to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let options = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .clone();
        let file = options.open(&partial)?;
        // What another pull is writing is not to be mixed with ours.
        file.try_lock().map_err(|_| {
            io::Error::other(format!(
                "{} is being written by another pull",
                partial.display()
            ))
        })?;
        file.set_len(0)?;
        Ok(Partial {
            file,
            partial,
            path: path.to_owned(),
            published: false,
        })
    }

    fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.published = true;
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // One that stays is overwritten by the next pull.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        for (text, size, want) in [
            ("0-0", 10, Some(0..1)),
            ("0-9", 10, Some(0..10)),
            ("3-5", 10, Some(3..6)),
            ("3-99", 10, Some(3..10)),
            ("3-18446744073709551615", 10, Some(3..10)),
            ("3-", 10, Some(3..10)),
            ("-3", 10, Some(7..10)),
            ("-30", 10, Some(0..10)),
            ("10-", 10, None),
            ("10-11", 10, None),
            ("-1", 0, None),
            ("0-", 0, None),
        ] {
            let range = text.parse::<ByteRange>().map(|range| range.within(size));
            assert_eq!(range.ok(), Some(want), "{text} of {size}");
        }
    }

    #[test]
    fn nonsense_is_no_range() {
        for text in [
            "",
            "-",
            "-0",
            "5-3",
            "a-b",
            "+1-2",
            "1",
            "1-2-3",
            "--1",
            " 1-2",
            "1-2,4-5",
            "99999999999999999999-",
        ] {
            assert!(text.parse::<ByteRange>().is_err(), "{text:?}");
        }
    }
}
