//! A body on its way into an upload, frame by frame.
//!
//! It runs in a task that owns both, since the handler of a request is dropped when its client
//! disconnects. However it ends, the caller closes or finishes the upload, so the bytes are kept.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;
use tokio::time::{Instant, timeout};

use super::active_uploads::{ActiveUpload, SyncRequest};
use super::body::{Broken, RequestBody};
use super::call::Shared;
use super::error::{Code, Refusal};
use super::metrics::Metrics;
use s3layers::{Error, LayerUpload, Result};

/// A status request waits until the body has been idle this long: what lay in the socket when the
/// connection broke is read by then.
const QUIET: Duration = Duration::from_millis(200);
/// A status request waits no longer than this for a client that keeps sending.
const BUSY: Duration = Duration::from_secs(2);

/// An upload and the body that it receives.
pub(super) struct UploadReceiver {
    pub(super) upload: Box<dyn LayerUpload>,
    pub(super) body: RequestBody,
    pub(super) active: ActiveUpload,
    pub(super) metrics: Option<Arc<Metrics>>,
}

impl UploadReceiver {
    /// Receives the body to its end, or as much as arrives; then it returns why. No byte is read that
    /// there is no memory for.
    ///
    /// # Errors
    ///
    /// Those of the upload. [`LayerTooLarge`](Error::LayerTooLarge) before the first byte where the
    /// client declares more than the upload can hold.
    pub(super) async fn run(&mut self, shared: &Shared) -> Result<Option<Refusal>> {
        self.check_declared_size()?;
        let metrics = self.metrics.as_ref();
        let _counted = metrics.map(|metrics| metrics.count_upload("receiving"));
        let aborting = &shared.aborting_bodies;
        let idle = shared.options.body_idle_timeout;
        loop {
            if aborting.is_cancelled() {
                return Ok(Some(aborted()));
            }
            if let Some(request) = self.active.sync_request() {
                match self.sync(shared, request).await? {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(end) => return Ok(end),
                }
            }
            tokio::select! {
                biased;
                ready = self.upload.ready() => ready?,
                () = aborting.cancelled() => continue,
                () = self.active.sync_requested() => continue,
            }
            let frame = tokio::select! {
                biased;
                frame = timeout(idle, self.body.next()) => frame,
                () = aborting.cancelled() => continue,
                () = self.active.sync_requested() => continue,
            };
            match frame {
                // It may wait for memory, and what is not written then the client sends again.
                Ok(Ok(Some(bytes))) => tokio::select! {
                    biased;
                    written = self.upload.write_bytes(bytes) => written?,
                    () = aborting.cancelled() => {}
                },
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(broken)) => return Ok(Some(broken.into())),
                Err(_) => return Ok(Some(Broken::Idle(idle).into())),
            }
        }
    }

    fn check_declared_size(&self) -> Result<()> {
        let declared = self.body.declared().unwrap_or(0);
        let limit = self.upload.max_size();
        if self.upload.offset().saturating_add(declared) > limit {
            return Err(Error::LayerTooLarge { limit });
        }
        Ok(())
    }

    /// Stores what is under way, and acknowledges it, unless the body ends meanwhile.
    async fn sync(
        &mut self,
        shared: &Shared,
        request: SyncRequest,
    ) -> Result<ControlFlow<Option<Refusal>>> {
        let until = Instant::now() + BUSY;
        while Instant::now() < until {
            match timeout(QUIET, self.body.next()).await {
                Err(_) => break,
                Ok(Ok(Some(bytes))) => self.upload.write_bytes(bytes).await?,
                Ok(Ok(None)) => return Ok(ControlFlow::Break(None)),
                Ok(Err(broken)) => return Ok(ControlFlow::Break(Some(broken.into()))),
            }
        }
        if request.takes_over {
            return Ok(ControlFlow::Break(Some(taken_over())));
        }
        let (name, uuid) = (self.upload.name().clone(), self.upload.uuid());
        let offset = self.upload.offset();
        self.upload.close().await?;
        self.active.acknowledge(request);
        self.upload = shared.service.resume_at(&name, uuid, offset).await?;
        if self.upload.offset() != offset {
            return Err(Error::UploadConflict {
                uuid,
                reason: "another request wrote to it",
            });
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Another request of the same upload came.
fn taken_over() -> Refusal {
    Refusal::new(
        Code::BlobUploadInvalid,
        "another request continues this upload",
    )
    .with_status(StatusCode::CONFLICT)
    .closing_connection()
}

/// This process is stopping.
fn aborted() -> Refusal {
    Refusal::new(
        Code::Unavailable,
        "this server is stopping; resume the upload",
    )
    .with(RETRY_AFTER, "1")
    .closing_connection()
}
