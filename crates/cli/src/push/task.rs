//! A running push: reads the input into the upload until it ends or is interrupted.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::interruption::{Interruption, is_refusal};
use super::item::{Item, What};
use super::part_aligner::PartAligner;
use super::report::{Report, ticks};
use crate::BACKGROUND_PATIENCE;
use crate::blocking_io::{ReadThread, Skip, Sums};
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::output::grouped;
use crate::progress::Bar;
use crate::stop::{Stop, interrupted};
use crate::tarsum;
use s3layers::tarsum::TarSummer;
use s3layers::{Algorithm, Digest, Error, Hasher, Layer, LayerId, LayerService as _, LayerUpload};

/// An upload in progress.
pub(super) struct PushTask<'a> {
    item: &'a Item<'a>,
    upload: Box<dyn LayerUpload>,
    bar: Bar,
    /// The digest of the input, if it is known.
    digest: Option<Digest>,
    /// The offset at which this process began or resumed.
    start: u64,
    begun: Instant,
    /// Whether the input can be read again.
    is_file: bool,
    /// Printed if a second signal ends the process.
    _last_words: Arc<Vec<String>>,
}

impl<'a> PushTask<'a> {
    pub(super) fn new(
        item: &'a Item<'a>,
        upload: Box<dyn LayerUpload>,
        stop: &Stop,
        digest: Option<Digest>,
        is_file: bool,
    ) -> Self {
        let uuid = upload.uuid();
        PushTask {
            item,
            bar: Bar::hidden(),
            digest,
            start: upload.offset(),
            begun: Instant::now(),
            is_file,
            _last_words: stop.last_words(vec![
                format!("the store keeps the recorded bytes of upload {uuid} until it is swept"),
                format!("to resume: {}", item.again(Some(uuid), true)),
            ]),
            upload,
        }
    }

    pub(super) fn started(&self) -> Result<(), Failure> {
        let (uuid, offset) = (self.upload.uuid(), self.upload.offset());
        match self.item.options.resume {
            None => self
                .item
                .note(format_args!("upload {uuid} to {}", self.item.options.name)),
            Some(_) => self.item.note(format_args!(
                "upload {uuid} resumes at byte {}",
                grouped(offset)
            )),
        }
        self.item.event(What::Started { uuid, offset })
    }

    /// Writes the rest of the input to the upload, and finishes it.
    pub(super) async fn feed(
        &mut self,
        input: Input,
        summer: Option<TarSummer>,
        stop: &mut Stop,
    ) -> Result<Box<dyn Layer>, Interruption> {
        let id = self.item.options.id.as_ref();
        let claimed = self.digest.clone();
        let claimed = claimed.or_else(|| id.and_then(LayerId::as_digest).cloned());
        // A known digest is verified by the upload; otherwise it is computed here.
        let hasher = claimed.is_none().then(|| Hasher::new(Algorithm::Sha256));
        let sums = Sums { hasher, summer };
        let mut held = PartAligner::new(self.is_file);
        let skip = Skip {
            bytes: self.start,
            digest: self.upload.digest_at_start().cloned(),
        };
        let mut reading =
            ReadThread::start(input.reader, skip, sums).map_err(Interruption::Input)?;
        self.show(input.size, &reading);
        let mut report = Report::default();
        self.take(&mut reading, &mut held, &mut report, stop)
            .await?;
        let end = reading.end().await.map_err(Interruption::of_input)?;
        if end.size < self.upload.offset() {
            return Err(Interruption::Short { size: end.size });
        }
        self.flush(report, stop).await?;
        self.give(held.rest()).await?;
        let digest = claimed
            .or(end.digest)
            .ok_or_else(|| Interruption::Input(io::Error::other("its digest was not computed")))?;
        if let Some(tar_sum) = end.tar_sum {
            let tar_sum = tar_sum.map_err(Interruption::Archive)?;
            self.declare(tar_sum.into()).await?;
        }
        let size = self.upload.offset();
        Ok(self.upload.finish(size, &digest).await?)
    }

    /// Shows the progress from now on.
    fn show(&mut self, size: Option<u64>, reading: &ReadThread) {
        let label = if self.item.has_others {
            self.item.file.to_string_lossy()
        } else {
            "".into()
        };
        self.bar = self.item.context.output.bar(&label, size, self.start);
        self.bar.follow_input(reading.watch());
        let (sent, position) = (self.upload.progress(), Arc::clone(&self.item.position));
        self.bar.follow(move || {
            let sent = sent.bytes();
            position.store(sent, Ordering::Relaxed);
            sent
        });
    }

    /// Writes what is read, until the input ends.
    async fn take(
        &mut self,
        reading: &mut ReadThread,
        held: &mut PartAligner,
        report: &mut Report,
        stop: &mut Stop,
    ) -> Result<(), Interruption> {
        let mut tick = ticks();
        loop {
            let piece = tokio::select! {
                biased;
                () = stop.requested() => {
                    self.take_what_was_read(reading).await?;
                    return Err(Interruption::Signal);
                }
                _ = tick.tick() => {
                    report.update(self.item, self.upload.uuid(), self.now());
                    continue;
                }
                piece = reading.pieces.recv() => piece,
            };
            let Some(piece) = piece else { return Ok(()) };
            held.push(piece);
            self.give_due(held).await?;
        }
    }

    /// Writes the chunks that are due.
    async fn give_due(&mut self, held: &mut PartAligner) -> Result<(), Interruption> {
        loop {
            let due = held.due(self.upload.offset(), self.upload.next_boundary());
            if due.is_empty() {
                return Ok(());
            }
            self.give(due).await?;
        }
    }

    async fn give(&mut self, pieces: impl IntoIterator<Item = Bytes>) -> Result<(), Interruption> {
        for piece in pieces {
            self.upload.write_bytes(piece).await?;
        }
        Ok(())
    }

    /// Waits until all whole parts are stored; until then the upload can be closed early.
    async fn flush(&mut self, mut report: Report, stop: &mut Stop) -> Result<(), Interruption> {
        let (uuid, offset, sent) = (
            self.upload.uuid(),
            self.upload.offset(),
            self.upload.progress(),
        );
        let mut tick = ticks();
        let mut flush = pin!(self.upload.flush());
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => return Err(Interruption::Signal),
                flushed = &mut flush => return Ok(flushed.map_err(Error::from_io)?),
                _ = tick.tick() => report.update(self.item, uuid, Report::new(offset, &sent)),
            }
        }
    }

    /// The current progress.
    fn now(&self) -> Report {
        Report::new(self.upload.offset(), &self.upload.progress())
    }

    /// Declares an id that is known only now, by a resume.
    async fn declare(&mut self, id: LayerId) -> Result<(), Error> {
        self.upload.close().await?;
        let service = self.item.service;
        let name = &self.item.options.name;
        self.upload = service.resume(name, Some(&id), self.upload.uuid()).await?;
        Ok(())
    }

    /// After a signal: saves what was read of an input that cannot be read again.
    async fn take_what_was_read(&mut self, reading: &mut ReadThread) -> Result<(), Interruption> {
        reading.stop();
        if self.is_file {
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

    /// Reports the stored layer. Returns its digest.
    pub(super) async fn stored(mut self, layer: &dyn Layer) -> Result<Digest, Failure> {
        self.bar = Bar::hidden();
        let (item, seconds) = (self.item, self.begun.elapsed().as_secs_f64());
        item.position.store(layer.size(), Ordering::Relaxed);
        // It is stored: nothing is left to resume, and a sweep removes what may stay.
        drop(self._last_words);
        let _ = timeout(BACKGROUND_PATIENCE, item.service.wait_for_background()).await;
        let size = grouped(layer.size());
        if item.has_others {
            item.note(format_args!("stored {size} bytes"));
        } else {
            let requests = item.context.output.requests(&item.service.usage());
            item.note(format_args!("stored {size} bytes; {requests}"));
        }
        if let Some(tar_sum) = layer.tar_sum() {
            item.note(format_args!("it is also found as {tar_sum}"));
        }
        item.event(What::Stored {
            uuid: self.upload.uuid(),
            digest: layer.digest(),
            tar_sum: layer.tar_sum(),
            size: layer.size(),
            sent: layer.size().saturating_sub(self.start),
            seconds,
            traffic: item.traffic(),
        })?;
        Ok(layer.digest().clone())
    }

    /// Closes the upload and reports how to resume it, or cancels it if it can never be finished.
    pub(super) async fn interrupted(mut self, cause: Interruption) -> Failure {
        match &cause {
            // The handle is closed, and another process owns the upload.
            Interruption::Upload(Error::UploadConflict { .. }) => {
                self.bar.leave(self.now().sent);
                self.message(cause)
            }
            // It was cancelled: by another process, or since its bytes are lost.
            Interruption::Upload(Error::UploadUnknown { .. } | Error::Damaged { .. }) => {
                self.bar.leave(self.now().sent);
                let again = self.item.again(None, true);
                self.message(cause).hint(format!("push it again: {again}"))
            }
            Interruption::Upload(error) if is_refusal(error) && !self.may_be_cut_off(error) => {
                let cancelled = self.upload.cancel().await;
                let failure = self.message(cause);
                match cancelled {
                    Ok(()) => failure.hint("the bytes that were sent were removed"),
                    Err(error) => {
                        failure.because(Failure::from(error).context("cannot cancel the upload"))
                    }
                }
            }
            _ => self.close(cause).await,
        }
    }

    /// Whether the bytes can be a beginning of the right ones, from a producer that ended early, and an earlier push
    /// had stored some of them.
    fn may_be_cut_off(&self, error: &Error) -> bool {
        let is_of_bytes = matches!(
            error,
            Error::InvalidChecksum { .. } | Error::InvalidTarSum { .. }
        );
        is_of_bytes && !self.is_file && self.item.options.resume.is_some()
    }

    async fn close(mut self, cause: Interruption) -> Failure {
        let offset = self.upload.offset();
        // After a failure of the store the handle is closed, and its progress is recorded.
        let closed = match &cause {
            Interruption::Upload(error) if !is_refusal(error) => None,
            _ => Some(self.upload.close().await),
        };
        let kept = matches!(closed, Some(Ok(()))).then_some(offset);
        self.bar.leave(kept.unwrap_or_else(|| self.now().sent));
        let hints = match &cause {
            Interruption::Short { .. } | Interruption::Other => self.needs_its_input(offset),
            Interruption::Archive(_) => self.kept(kept, false),
            _ => self.kept(kept, true),
        };
        let failure = self.message(cause);
        let failure = match closed {
            Some(Err(error)) => {
                failure.because(Failure::from(error).context("cannot close the upload"))
            }
            _ => failure,
        };
        failure.hints(hints)
    }

    /// The message of an interruption.
    fn message(&self, cause: Interruption) -> Failure {
        let input = input::name(self.item.file);
        match cause {
            Interruption::Signal => interrupted(),
            Interruption::Input(error) => input::cannot_read(self.item.file, &error),
            Interruption::Short { size } => Failure::new(format!(
                "{input} has {} bytes, but the upload has {} already; expected the whole layer",
                grouped(size),
                grouped(self.upload.offset())
            )),
            Interruption::Other => Failure::new(format!(
                "{input} does not begin with the {} bytes of the upload",
                grouped(self.start)
            )),
            Interruption::Archive(broken) => {
                tarsum::has_none(self.item.file, &broken).hint("it can be stored without --tarsum")
            }
            Interruption::Upload(error) => self.refusal(error),
        }
    }

    fn refusal(&self, error: Error) -> Failure {
        let hint = match &error {
            Error::InvalidChecksum { .. } | Error::InvalidTarSum { .. } if self.is_file => {
                Some("the file changed while it was read; push it again")
            }
            error if self.may_be_cut_off(error) => {
                Some("the input ended early, or the --id is that of another layer")
            }
            Error::InvalidChecksum { .. } | Error::InvalidTarSum { .. } => {
                Some("push it again with the right --id, or without")
            }
            Error::LayerTooLarge { .. } => {
                Some("push it again with a larger --part-size or --memory-budget")
            }
            _ => None,
        };
        Failure::from(error).hints(hint)
    }

    /// The hints for another input than that of the upload.
    fn needs_its_input(&self, offset: u64) -> Vec<String> {
        let uuid = self.upload.uuid();
        let bytes = grouped(offset);
        vec![
            format!("upload {uuid} keeps its {bytes} bytes; resume it with its own file"),
            "to store this one, push it without --resume".to_owned(),
        ]
    }

    /// Reports what the store keeps. Returns the hints.
    fn kept(&self, offset: Option<u64>, with_tar_sum: bool) -> Vec<String> {
        let uuid = self.upload.uuid();
        let resume = self.item.again(Some(uuid), with_tar_sum);
        // The error that follows has the same hints.
        let _ = self.item.event(What::Kept {
            uuid,
            offset,
            resume: &resume,
            traffic: self.item.traffic(),
        });
        let kept = match offset {
            Some(offset) => format!("the store keeps all {} bytes", grouped(offset)),
            None => "the store keeps what has arrived".to_owned(),
        };
        let again = if input::is_stdin(self.item.file) {
            ", with the whole layer on standard input"
        } else if self.is_file {
            ""
        } else {
            ", with the whole layer again"
        };
        vec![
            format!("{kept} of upload {uuid} until it is swept"),
            format!("to resume{again}: {resume}"),
        ]
    }
}
