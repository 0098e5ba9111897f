//! A push under way: the input goes into the upload until it ends, or until something cuts it.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Interval, MissedTickBehavior, interval};
use uuid::Uuid;

use super::What;
use super::held::Held;
use super::item::Item;
use crate::cli::failure::Failure;
use crate::cli::input::{self, Input};
use crate::cli::output::grouped;
use crate::cli::progress::Bar;
use crate::cli::stop::Stop;
use crate::cli::tarsum;
use crate::cli::threads::{Reading, Sums};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::Error;
use crate::id::LayerId;
use crate::service::{Layer, LayerService as _, LayerUpload, Sent};
use crate::tarsum::{BrokenArchive, TarSummer};

/// How often progress is told with `--json`.
const PROGRESS: Duration = Duration::from_millis(500);

/// Why the bytes ended before the input did.
pub(super) enum Cut {
    /// By a signal.
    Told,
    /// The input could not be read.
    Input(io::Error),
    /// The input ends before the bytes that the upload has.
    Short { size: u64 },
    /// It is no archive, and its TarSum is wanted.
    Archive(BrokenArchive),
    /// The store, or the contract.
    Upload(Error),
}

/// An upload and what is known around it.
pub(super) struct Running<'a> {
    item: &'a Item<'a>,
    upload: Box<dyn LayerUpload>,
    bar: Bar,
    /// For the TarSum of an input that can be read once only.
    summer: Option<TarSummer>,
}

impl<'a> Running<'a> {
    pub(super) fn new(
        item: &'a Item<'a>,
        upload: Box<dyn LayerUpload>,
        size: Option<u64>,
        summer: Option<TarSummer>,
    ) -> Self {
        let label = match item.has_others() {
            true => item.file.to_string_lossy(),
            false => "".into(),
        };
        let mut bar = item.context.output.bar(&label, size, upload.offset());
        let sent = upload.sent();
        bar.follow(move || sent.bytes());
        Running {
            item,
            upload,
            bar,
            summer,
        }
    }

    pub(super) fn started(&self) -> Result<(), Failure> {
        let (uuid, offset) = (self.upload.uuid(), self.upload.offset());
        match self.item.push.resume {
            None => self
                .item
                .note(format_args!("upload {uuid} to {}", self.item.push.name)),
            Some(_) => self.item.note(format_args!(
                "upload {uuid} goes on at byte {}",
                grouped(offset)
            )),
        }
        self.item.event(What::Started { uuid, offset })
    }

    /// Gives the upload all that the input has beyond what it holds, and finishes it.
    pub(super) async fn feed(
        &mut self,
        input: Input,
        stop: &mut Stop,
    ) -> Result<Box<dyn Layer>, Cut> {
        let id = self.item.push.id.as_ref();
        let claimed = id.and_then(LayerId::as_digest).cloned();
        // A digest that was given is verified by the upload; another one is computed here.
        let hasher = claimed.is_none().then(|| Hasher::new(Algorithm::Sha256));
        let offset = self.upload.offset();
        let summer = self.summer.take();
        let sums = Sums { hasher, summer };
        let mut held = Held::new(input.size.is_some());
        let mut reading = Reading::start(input.reader, offset, sums).map_err(Cut::Input)?;
        let mut told = Told::default();
        self.take(&mut reading, &mut held, &mut told, stop).await?;
        let end = reading.end().await.map_err(Cut::Input)?;
        if end.size < self.upload.offset() {
            return Err(Cut::Short { size: end.size });
        }
        self.flush(told, stop).await?;
        self.give(held.rest()).await?;
        let digest = claimed
            .or(end.digest)
            .ok_or_else(|| Cut::Input(io::Error::other("its digest was not computed")))?;
        if let Some(tar_sum) = end.tar_sum {
            let tar_sum = tar_sum.map_err(Cut::Archive)?;
            self.declare(tar_sum.into()).await.map_err(Cut::Upload)?;
        }
        let size = self.upload.offset();
        self.upload.finish(size, &digest).await.map_err(Cut::Upload)
    }

    /// Takes what is read, until the input ends.
    async fn take(
        &mut self,
        reading: &mut Reading,
        held: &mut Held,
        told: &mut Told,
        stop: &mut Stop,
    ) -> Result<(), Cut> {
        let mut tick = ticks();
        loop {
            let piece = tokio::select! {
                biased;
                () = stop.told() => {
                    self.take_what_was_read(reading, held).await?;
                    return Err(Cut::Told);
                }
                _ = tick.tick() => {
                    told.tell(self.item, self.upload.uuid(), self.now());
                    continue;
                }
                piece = reading.pieces.recv() => piece,
            };
            let Some(piece) = piece else { return Ok(()) };
            held.push(piece);
            self.give_due(held).await?;
        }
    }

    /// What the upload is to have by now.
    async fn give_due(&mut self, held: &mut Held) -> Result<(), Cut> {
        loop {
            let due = held.due(self.upload.offset(), self.upload.next_boundary());
            if due.is_empty() {
                return Ok(());
            }
            self.give(due).await?;
        }
    }

    async fn give(&mut self, pieces: impl IntoIterator<Item = Bytes>) -> Result<(), Cut> {
        for piece in pieces {
            self.upload.write_bytes(piece).await.map_err(Cut::Upload)?;
        }
        Ok(())
    }

    /// Waits until whole parts have arrived: until then the upload can be closed early.
    async fn flush(&mut self, mut told: Told, stop: &mut Stop) -> Result<(), Cut> {
        let (uuid, offset, sent) = (self.upload.uuid(), self.upload.offset(), self.upload.sent());
        let mut tick = ticks();
        let mut flush = pin!(self.upload.flush());
        loop {
            tokio::select! {
                biased;
                () = stop.told() => return Err(Cut::Told),
                flushed = &mut flush => {
                    return flushed.map_err(|error| Cut::Upload(Error::from_io(error)));
                }
                _ = tick.tick() => told.tell(self.item, uuid, Told::new(offset, &sent)),
            }
        }
    }

    /// How far it is.
    fn now(&self) -> Told {
        Told::new(self.upload.offset(), &self.upload.sent())
    }

    /// Declares what was not known at the beginning: an upload can be told at a resume.
    async fn declare(&mut self, id: LayerId) -> Result<(), Error> {
        self.upload.close().await?;
        let service = self.item.service;
        let name = &self.item.push.name;
        self.upload = service.resume(name, Some(&id), self.upload.uuid()).await?;
        Ok(())
    }

    /// After a signal. What can be read again need not be taken.
    async fn take_what_was_read(
        &mut self,
        reading: &mut Reading,
        held: &mut Held,
    ) -> Result<(), Cut> {
        reading.stop();
        if held.can_be_read_again() {
            return Ok(());
        }
        while self.upload.offset() < reading.read() {
            let Some(piece) = reading.pieces.recv().await else {
                break;
            };
            self.give([piece]).await?;
        }
        Ok(())
    }

    /// Tells that it is there. Its digest is the result.
    pub(super) async fn stored(self, layer: &dyn Layer) -> Result<Digest, Failure> {
        let Running {
            item, upload, bar, ..
        } = self;
        drop(bar);
        item.service.wait_for_background().await;
        let usage = item.service.usage();
        let size = grouped(layer.size());
        match item.has_others() {
            // The requests are those of all of them.
            true => item.note(format_args!("stored {size} bytes")),
            false => item.note(format_args!("stored {size} bytes; {usage}")),
        }
        if let Some(tar_sum) = layer.tar_sum() {
            item.note(format_args!("it is found as {tar_sum}, too"));
        }
        item.event(What::Stored {
            uuid: upload.uuid(),
            digest: layer.digest(),
            tar_sum: layer.tar_sum(),
            size: layer.size(),
            spent: usage.into(),
        })?;
        Ok(layer.digest().clone())
    }

    /// Lets go of the upload, and says how to go on.
    pub(super) async fn cut(mut self, cut: Cut) -> Failure {
        let offset = self.upload.offset();
        // After a failure of the store the handle is closed, and what arrived is recorded.
        let closed = match &cut {
            Cut::Upload(error) if !is_refusal(error) => None,
            _ => Some(self.upload.close().await),
        };
        self.bar.leave(match closed {
            Some(Ok(())) => offset,
            _ => self.now().sent,
        });
        let can_go_on = match &cut {
            Cut::Upload(Error::UploadConflict { .. } | Error::UploadUnknown { .. }) => false,
            // Bytes of two inputs, which no third one can put right.
            Cut::Upload(Error::InvalidChecksum { .. }) => self.item.push.id.is_some(),
            _ => true,
        };
        let kept = matches!(closed, Some(Ok(()))).then_some(offset);
        let failure = self.told(cut);
        let failure = match closed {
            Some(Err(error)) => {
                failure.because(Failure::from(error).context("cannot close the upload"))
            }
            _ => failure,
        };
        match can_go_on {
            true => failure.hints(self.kept(kept)),
            false => failure,
        }
    }

    /// What the cut was, in words.
    fn told(&self, cut: Cut) -> Failure {
        let input = input::name(self.item.file);
        match cut {
            Cut::Told => Failure::new("interrupted"),
            Cut::Input(error) => Failure::of(&error).context(format_args!("cannot read {input}")),
            Cut::Short { size } => Failure::new(format!(
                "{input} has {} bytes and the upload has {} already; wanted the whole layer",
                grouped(size),
                grouped(self.upload.offset())
            )),
            Cut::Archive(broken) => tarsum::has_none(&input, &broken)
                .hint("it can be stored all the same: leave out --tarsum"),
            Cut::Upload(error) => self.refusal(error),
        }
    }

    fn refusal(&self, error: Error) -> Failure {
        let hint = match &error {
            Error::InvalidChecksum { .. } if self.item.push.id.is_none() => Some(
                "the input is not the one that the upload began with; push it without --resume",
            ),
            Error::InvalidTarSum { .. } if self.item.push.tarsum => {
                Some("it changed while it was read; push it again")
            }
            Error::InvalidChecksum { .. } | Error::InvalidTarSum { .. } => {
                Some("if the id was wrong, push again with the right one, or without")
            }
            _ => None,
        };
        let failure = Failure::from(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Tells what the store keeps; the hints for people.
    fn kept(&self, offset: Option<u64>) -> Vec<String> {
        let uuid = self.upload.uuid();
        let resume = self.item.again(Some(uuid));
        // The error that follows says the same.
        let _ = self.item.event(What::Kept {
            uuid,
            offset,
            resume: &resume,
            spent: self.item.service.usage().into(),
        });
        let kept = match offset {
            Some(offset) => format!("the store keeps all {} bytes", grouped(offset)),
            None => "the store keeps what arrived".to_owned(),
        };
        let again = match input::is_stdin(self.item.file) {
            true => ", with the whole layer on standard input",
            false => "",
        };
        vec![
            format!("{kept} of upload {uuid} until it is swept"),
            format!("to go on{again}: {resume}"),
        ]
    }
}

/// How far an upload is, as it was told last.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    /// Bytes that it has taken.
    offset: u64,
    /// Bytes that have left.
    sent: u64,
}

impl Told {
    fn new(offset: u64, sent: &Sent) -> Self {
        // A few that were sent before may count twice.
        let sent = sent.bytes().min(offset);
        Told { offset, sent }
    }

    /// Tells programs, where that has changed.
    fn tell(&mut self, item: &Item<'_>, uuid: Uuid, now: Told) {
        if *self == now {
            return;
        }
        *self = now;
        // A failure to print comes again with an event that matters.
        let _ = item.event(What::Progress {
            uuid,
            offset: now.offset,
            sent: now.sent,
            spent: item.service.usage().into(),
        });
    }
}

fn ticks() -> Interval {
    let mut tick = interval(PROGRESS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// Whether the upload can still be closed after this error: a claim was wrong, and nothing else.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidLength { .. }
            | Error::InvalidChecksum { .. }
            | Error::InvalidTarSum { .. }
            | Error::TarSumVersionUnsupported { .. }
    )
}
