//! One upload as its client knows it: where it is, what came of it, and how far it got.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderName, Response, StatusCode};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::active_uploads::UploadKey;
use crate::body::ResponseBody;
use crate::error::{Code, Refusal};
use crate::location::Base;
use crate::metrics::Metrics;
use crate::receive::UploadReceiver;
use crate::request_permits::RequestPermit;
use crate::{Answer, CONTENT_DIGEST, Call, Head, Shared, bare, range, with};
use s3layers::LayerUpload;
use s3layers::{Algorithm, Digest, Error, RepositoryName, Result, clock};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// How long a finish contends with others before it is refused.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An upload, and how the client knows it.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    base: Base,
    name: RepositoryName,
    uuid: Uuid,
    /// What binds the upload to its subject.
    pub(super) state: Option<String>,
    metrics: Option<Arc<Metrics>>,
}

impl Place {
    pub(super) fn of(shared: &Arc<Shared>, head: &Head, name: RepositoryName, uuid: Uuid) -> Self {
        Place {
            shared: shared.clone(),
            base: Base::of(&head.parts, &shared.options),
            name,
            uuid,
            state: head.query.get("state").map(ToOwned::to_owned),
            metrics: head.metrics.clone(),
        }
    }

    /// See [`ActiveUploads::sync`](crate::active_uploads::ActiveUploads::sync).
    pub(super) async fn sync(&self, takes_over: bool, permit: &mut RequestPermit) {
        let active = &self.shared.active_uploads;
        active.sync(&self.key(), takes_over, permit).await;
    }

    fn key(&self) -> UploadKey {
        (self.name.clone(), self.uuid)
    }

    /// The upload as it is stored.
    pub(super) async fn resume(&self) -> Result<Box<dyn LayerUpload>> {
        let service = &self.shared.service;
        service.resume(&self.name, None, self.uuid).await
    }

    /// From here on the request holds no permit: it waits for its client, for memory, and for the
    /// storage to take the last bytes. How many bodies are read at a time is limited by memory.
    pub(super) fn receiving(&self, upload: Box<dyn LayerUpload>, call: Call) -> UploadReceiver {
        UploadReceiver {
            upload,
            body: call.body,
            active: self.shared.active_uploads.begin(self.key()),
            metrics: self.metrics.clone(),
        }
    }

    /// The upload where the client thinks it is, and the chunk that its body is said to be.
    pub(super) async fn take_up(
        &self,
        call: &mut Call,
    ) -> Result<(Box<dyn LayerUpload>, Option<Range<u64>>), Refusal> {
        let Call { head, permit, .. } = call;
        let chunk = chunk(head)?;
        let at = head.query.only("at")?.map(offset).transpose()?;
        let at = chunk.as_ref().map(|chunk| chunk.start).or(at);
        self.sync(true, permit).await;
        let upload = match at {
            Some(at) => {
                let service = &self.shared.service;
                service.resume_at(&self.name, self.uuid, at).await?
            }
            None => self.resume().await?,
        };
        match at {
            Some(at) if at != upload.offset() && !head.has_no_body() => {
                Err(self.elsewhere(upload.offset()))
            }
            _ => Ok((upload, chunk)),
        }
    }

    /// Receives the body. If it is incomplete, the upload is closed, and the answer names its
    /// offset.
    pub(super) async fn fill(
        &self,
        receiving: &mut UploadReceiver,
        chunk: Option<Range<u64>>,
    ) -> Result<(), Refusal> {
        let refusal = match receiving.run(&self.shared).await {
            Ok(None) => {
                let came = receiving.body.received();
                match chunk.map(|chunk| chunk.end - chunk.start) {
                    Some(said) if said != came => wrong_size(said, came),
                    _ => return Ok(()),
                }
            }
            Ok(Some(stopped)) => stopped,
            Err(error) => {
                // The bytes before the error are kept; the error is in the answer already.
                let _ = receiving.upload.close().await;
                return Err(self.out_of_step(error).await);
            }
        };
        match receiving.upload.close().await {
            Ok(()) => Err(self.placed(refusal, receiving.upload.offset())),
            Err(error) => Err(self.out_of_step(error).await),
        }
    }

    /// Publishes what the upload has. Others may be finishing it too, or have finished it: it is
    /// taken up again until one of them has, for the digest decides and not who publishes.
    pub(super) async fn conclude(
        &self,
        upload: &mut Box<dyn LayerUpload>,
        digest: &Digest,
    ) -> Result<Response<ResponseBody>> {
        let metrics = self.metrics.as_ref();
        let _counted = metrics.map(|metrics| metrics.count_upload("publishing"));
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let size = upload.offset();
            let refused = match upload.finish(size, digest).await {
                Ok(_) => return Ok(created(&self.base, &self.name, digest)),
                Err(error) => error,
            };
            let resumed = match refused {
                Error::UploadConflict { .. } if begun.elapsed() < PATIENCE => {
                    sleep(pause.mul_f64(0.5 + clock::jitter())).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.resume().await
                }
                refused => Err(refused),
            };
            match resumed {
                Ok(resumed) => *upload = resumed,
                Err(error) => return self.concluded(digest, error).await,
            }
        }
    }

    /// 201 where the upload is gone and the layer is here; the error otherwise.
    async fn concluded(&self, digest: &Digest, error: Error) -> Result<Response<ResponseBody>> {
        if matches!(error, Error::UploadUnknown { .. })
            && self.shared.blob_size(&self.name, digest).await?.is_some()
        {
            return Ok(created(&self.base, &self.name, digest));
        }
        Err(error)
    }

    /// The answer to a PUT that is refused because another request owns the upload, has ended it, or
    /// has stored more: its own bytes may be there already, if the upload ends where they do.
    /// Otherwise it stays refused. A finish that is tried for nothing must not end the upload, as one
    /// by a digest does that only reading the bytes back can verify.
    pub(super) async fn finish_as_it_is(
        &self,
        digest: &Digest,
        end: Option<u64>,
        refusal: Refusal,
    ) -> Answer {
        let is_out_of_step = matches!(
            refusal.status(),
            StatusCode::CONFLICT | StatusCode::RANGE_NOT_SATISFIABLE
        );
        if !is_out_of_step && refusal.code() != Code::BlobUploadUnknown {
            return Err(refusal);
        }
        let finished = match self.resume().await {
            Ok(upload) if !may_be_all(upload.offset(), end, digest) => return Err(refusal),
            Ok(mut upload) => self.conclude(&mut upload, digest).await,
            Err(error) => self.concluded(digest, error).await,
        };
        match finished {
            Err(error) if error.is_retryable() => Err(error.into()),
            finished => finished.map_err(|_| refusal),
        }
    }

    /// An answer that says how far the upload is.
    pub(super) fn at(&self, status: StatusCode, offset: u64) -> Response<ResponseBody> {
        let response = bare(status);
        let location = self.location(offset);
        let response = with(response, LOCATION, &location);
        let response = with(response, RANGE, &range::received(offset));
        with(response, UPLOAD_UUID, &self.uuid.to_string())
    }

    fn location(&self, offset: u64) -> String {
        let state = self.state.as_deref();
        self.base.upload(&self.name, self.uuid, offset, state)
    }

    /// The same for a refusal.
    fn placed(&self, refusal: Refusal, offset: u64) -> Refusal {
        refusal
            .with(LOCATION, &self.location(offset))
            .with(RANGE, &range::received(offset))
            .with(UPLOAD_UUID, &self.uuid.to_string())
    }

    /// 416: the body belongs elsewhere.
    fn elsewhere(&self, offset: u64) -> Refusal {
        let refusal = Refusal::new(
            Code::BlobUploadInvalid,
            format_args!("the next byte of the upload is number {offset}"),
        );
        let refusal = refusal.with_status(StatusCode::RANGE_NOT_SATISFIABLE);
        self.placed(refusal, offset)
    }

    /// What an error of the upload means to the client. Where another writer was faster, what
    /// helps is where the upload is now.
    pub(super) async fn out_of_step(&self, error: Error) -> Refusal {
        if !matches!(error, Error::UploadConflict { .. }) {
            return error.into();
        }
        match self.resume().await {
            Ok(upload) => self.elsewhere(upload.offset()),
            Err(_) => error.into(),
        }
    }
}

/// The offset in the location of an upload.
fn offset(text: &str) -> Result<u64, Refusal> {
    range::number(text).ok_or_else(|| {
        let message = format!("at={text:?} is not an offset: expected the location as it was sent");
        Refusal::new(Code::BlobUploadInvalid, message)
    })
}

/// Whether an upload of so many bytes may be what a PUT wants to finish, whose bytes end there.
fn may_be_all(stored: u64, end: Option<u64>, digest: &Digest) -> bool {
    match end {
        Some(end) => end == stored,
        None => digest.algorithm() == Algorithm::Sha256,
    }
}

/// Where the bytes of a request end in the upload, as far as its head says.
pub(super) fn end(head: &Head) -> Option<u64> {
    if let Ok(Some(chunk)) = chunk(head) {
        return Some(chunk.end);
    }
    let at = range::number(head.query.only("at").ok()??)?;
    at.checked_add(head.size?)
}

/// What `Content-Range` says of the body, held against its size.
fn chunk(head: &Head) -> Result<Option<Range<u64>>, Refusal> {
    let Some(text) = head.header(CONTENT_RANGE) else {
        return Ok(None);
    };
    // Some clients say so of an empty body.
    if head.has_no_body() {
        return Ok(None);
    }
    let chunk = range::uploaded(text).ok_or_else(|| {
        let message = format!("{text:?} is not a range; expected <first byte>-<last byte>");
        Refusal::new(Code::BlobUploadInvalid, message)
    })?;
    let said = chunk.end - chunk.start;
    match head.size {
        Some(declared) if declared != said => Err(wrong_size(said, declared)),
        _ => Ok(Some(chunk)),
    }
}

fn wrong_size(said: u64, came: u64) -> Refusal {
    Refusal::new(
        Code::SizeInvalid,
        format_args!("Content-Range names {said} bytes, and the body has {came}"),
    )
}

/// 201: the layer is here.
pub(super) fn created(
    base: &Base,
    name: &RepositoryName,
    digest: &Digest,
) -> Response<ResponseBody> {
    let response = bare(StatusCode::CREATED);
    let response = with(response, LOCATION, &base.blob(name, digest));
    with(response, CONTENT_DIGEST, &digest.to_string())
}
