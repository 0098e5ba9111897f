//! A request as its handler gets it, and what all requests share.

use std::future::Future;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, Response};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::active_uploads::ActiveUploads;
use super::answer_bytes::AnswerBytes;
use super::answers::text;
use super::auth::Grant;
use super::body::{RequestBody, ResponseBody};
use super::client_permits::ClientPermits;
use super::error::{Code, Refusal};
use super::manifests::ArrivalMemory;
use super::metrics::Metrics;
use super::options::Options;
use super::query::Query;
use super::readiness::Readiness;
use super::request_permits::{RequestPermit, RequestPermits};
use s3layers::{Digest, Error, RepositoryName, RepositoryService, UsageCounter};

pub(super) struct Shared {
    pub(super) service: Arc<dyn RepositoryService>,
    pub(super) options: Options,
    pub(super) permits: RequestPermits,
    pub(super) client_permits: Option<ClientPermits>,
    pub(super) active_uploads: ActiveUploads,
    /// For the bodies of manifests.
    pub(super) arrivals: ArrivalMemory,
    /// For responses with manifests and referrers.
    pub(super) answer_bytes: AnswerBytes,
    pub(super) readiness: Readiness,
    /// Tasks that outlive their request.
    pub(super) running: TaskTracker,
    /// Aborts the bodies of requests.
    pub(super) aborting_bodies: CancellationToken,
}

/// A request, taken apart.
pub(super) struct Call {
    pub(super) head: Head,
    pub(super) body: RequestBody,
    pub(super) permit: RequestPermit,
}

/// A request without its body.
pub(super) struct Head {
    pub(super) parts: Parts,
    pub(super) query: Query,
    /// The size of the body, where the client said it.
    pub(super) size: Option<u64>,
    pub(super) grant: Box<dyn Grant>,
    pub(super) metrics: Option<Arc<Metrics>>,
}

impl Head {
    /// A header as text. One that is no text is as if it were not there.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    pub(super) fn has_no_body(&self) -> bool {
        self.size == Some(0)
    }
}

pub(super) type Answer = Result<Response<ResponseBody>, Refusal>;

impl Shared {
    pub(super) async fn ready(&self) -> Answer {
        let service = Arc::clone(&self.service);
        let ask = async move { service.ready().await };
        self.readiness.check(ask).await?;
        Ok(text("ready\n"))
    }

    /// The size of a blob in bytes, where it is linked here and its bytes are stored. A client may rely on it.
    pub(super) async fn blob_size(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let id = digest.clone().into();
        let layer = self.service.confirm_layer(name, &id).await?;
        Ok(layer.map(|layer| layer.size()))
    }

    /// The answer of `work`, which runs whether or not its client waits for it.
    pub(super) async fn outliving(
        &self,
        work: impl Future<Output = Answer> + Send + 'static,
    ) -> Answer {
        let work = self.running.spawn(UsageCounter::inherit(work));
        work.await.unwrap_or_else(|gone| {
            Err(Refusal::new(Code::Unknown, "the work ended early").with_cause(gone.to_string()))
        })
    }
}
