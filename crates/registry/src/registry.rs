//! The registry as a tower `Service`: from a request to its answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Entry;
use super::active_uploads::ActiveUploads;
use super::answer_bytes::AnswerBytes;
use super::answers::{API_VERSION, REQUEST_ID, base, json, text};
use super::auth::{self, Authorizer, Denial, Grant, IssuedToken, Open};
use super::body::{BodyError, RequestBody, ResponseBody, with};
use super::call::{Answer, Call, Head, Shared};
use super::client_permits::ClientPermits;
use super::cors::Cors;
use super::dispatch::{dispatch, work_of};
use super::error::Refusal;
use super::manifests::ArrivalMemory;
use super::metrics::Metrics;
use super::options::Options;
use super::proxies::{self, Peer};
use super::query::Query;
use super::readiness::Readiness;
use super::request_permits::RequestPermits;
use super::route::{Endpoint, route};
use super::webhook::{Draft, Webhook};
use s3layers::RepositoryService;

/// A registry over `service`.
///
/// ```
/// use std::sync::Arc;
/// use s3layers::MemoryLayerService;
/// use s3layers_registry::{Options, router};
/// use tower_service::Service as _;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let mut registry = router(Arc::new(MemoryLayerService::new()), Options::default());
/// let request = http::Request::get("/v2/").body(http_body_util::Empty::new())?;
/// assert_eq!(registry.call(request).await?.status(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn router(service: Arc<dyn RepositoryService>, options: Options) -> Registry {
    Registry {
        shared: Arc::new(Shared {
            client_permits: options.max_requests_per_client.map(ClientPermits::new),
            permits: RequestPermits::new(options.max_requests),
            service,
            options,
            active_uploads: ActiveUploads::default(),
            arrivals: ArrivalMemory::default(),
            answer_bytes: AnswerBytes::default(),
            readiness: Readiness::default(),
            running: TaskTracker::new(),
            aborting_bodies: CancellationToken::new(),
        }),
        authorizer: None,
        metrics: None,
        webhook: None,
    }
}

/// A registry, as a tower `Service` that never fails. A clone is the same registry.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    /// `None`: every client may do everything.
    authorizer: Option<Arc<dyn Authorizer>>,
    metrics: Option<Arc<Metrics>>,
    webhook: Option<Webhook>,
}

impl Registry {
    /// The same registry, with an authorizer that decides what requests may do. Without one every
    /// client may do everything.
    #[must_use]
    pub fn with_authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// The same registry, which counts its requests here.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// The same registry, which sends events about its requests here.
    #[must_use]
    pub fn with_webhook(mut self, webhook: Webhook) -> Self {
        self.webhook = Some(webhook);
        self
    }

    /// Answers a request.
    ///
    /// # Cancellation
    ///
    /// Work that must not be interrupted continues: bytes that arrived are kept, a layer that
    /// is being published is published. See [`settled`](Self::settled).
    pub async fn handle<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        self.respond(request, |_| Ok(())).await
    }

    /// Answers a request that passes `check`.
    pub(super) async fn respond<B>(
        &self,
        request: Request<B>,
        check: fn(&Parts) -> Result<(), Refusal>,
    ) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (parts, body) = request.into_parts();
        let cors = Cors::of(&parts, self.shared.options.cors_origins.as_ref());
        let received = Arc::new(AtomicU64::new(0));
        let waits = parts.headers.contains_key(EXPECT);
        let body = RequestBody::new(body, received.clone(), waits);
        let mut entry = Entry::new(&parts, received, self.metrics.clone());
        let answer = match cors.as_ref().and_then(Cors::preflight) {
            Some(response) => Ok(response),
            None => self.answer(parts, body, check, &mut entry).await,
        };
        let (mut response, error) = match answer {
            Ok(response) => (response, None),
            Err(refusal) => {
                entry.refused(refusal.code().as_str());
                refusal.into_response()
            }
        };
        if let Some(cors) = cors {
            cors.allow(response.headers_mut());
        }
        entry.answered(response.status(), error);
        let headers = response.headers_mut();
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        if let Ok(id) = HeaderValue::from_str(entry.id()) {
            headers.insert(REQUEST_ID, id);
        }
        response.body_mut().set_entry(entry);
        response
    }

    async fn answer(
        &self,
        mut parts: Parts,
        body: RequestBody,
        check: fn(&Parts) -> Result<(), Refusal>,
        entry: &mut Entry,
    ) -> Answer {
        let parsed = check(&parts).and_then(|()| {
            let endpoint = route(&parts.method, parts.uri.path())?;
            Ok((endpoint, Query::parse(parts.uri.query())?))
        });
        let (endpoint, query) = match parsed {
            Ok(parsed) => parsed,
            Err(refusal) => return body.refuse(refusal),
        };
        let trusted = &self.shared.options.trusted_proxies;
        let client = proxies::identify_client(&mut parts, trusted);
        entry.routed(endpoint.name(), client);
        if let Err(refusal) = self.admit(&endpoint, client, entry) {
            return body.refuse(refusal);
        }
        if matches!(endpoint, Endpoint::Token) {
            return self.token(&parts, client, entry).await;
        }
        let grant = match self.authorize(&parts, client, &endpoint).await {
            Ok(grant) => grant,
            Err(refusal) => {
                body.discard_unauthorized();
                return Err(refusal);
            }
        };
        entry.authorized(grant.subject().clone());
        match endpoint {
            Endpoint::Live => return Ok(text("alive\n")),
            Endpoint::Ready => return entry.run(self.shared.ready()).await,
            Endpoint::Base => return Ok(base()),
            _ => {}
        }
        let work = work_of(&endpoint, &parts.method);
        let patience = self.shared.options.patience;
        let Some(permit) = self.shared.permits.acquire(work, patience).await else {
            return Err(Refusal::too_many("too many requests at a time").closing_connection());
        };
        let head = Head {
            query,
            size: body.declared(),
            parts,
            grant,
            metrics: self.metrics.clone(),
        };
        let draft = self
            .webhook
            .as_ref()
            .and_then(|_| Draft::new(&endpoint, &head, &self.shared.options));
        let call = Call { head, body, permit };
        let answer = entry.run(dispatch(&self.shared, call, endpoint)).await;
        if let (Some(webhook), Some(draft), Ok(response)) = (&self.webhook, draft, &answer) {
            for event in draft.complete(entry, response) {
                webhook.send(event);
            }
        }
        answer
    }

    async fn authorize(
        &self,
        parts: &Parts,
        client: Option<Peer>,
        endpoint: &Endpoint,
    ) -> Result<Box<dyn Grant>, Refusal> {
        let needed = auth::needs::needed(endpoint, &parts.method);
        if let Some(needed) = &needed {
            self.shared.options.write_protection.check(needed)?;
        }
        let (Some(authorizer), Some(needed)) = (&self.authorizer, needed) else {
            return Ok(Box::new(Open::new()));
        };
        let granted = authorizer.authorize(parts, client, &[needed]).await;
        self.decided(parts, granted)
    }

    /// Counts what the authorizer decided.
    fn decided<T>(&self, parts: &Parts, decision: Result<T, Denial>) -> Result<T, Refusal> {
        let decision = decision.map_err(Refusal::from);
        if let Some(metrics) = &self.metrics {
            let refused = decision.as_ref().err().map(Refusal::status);
            metrics.authorized(auth::method_name(parts), refused);
        }
        decision
    }

    /// Refuses a request of a client that has too many.
    fn admit(
        &self,
        endpoint: &Endpoint,
        client: Option<Peer>,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let is_probe = matches!(endpoint, Endpoint::Live | Endpoint::Ready);
        let (Some(permits), Some(Peer(client)), false) =
            (&self.shared.client_permits, client, is_probe)
        else {
            return Ok(());
        };
        let Some(permit) = permits.acquire(client) else {
            let message = "this client has too many requests at a time";
            return Err(Refusal::too_many(message));
        };
        entry.hold(permit);
        Ok(())
    }

    async fn token(&self, parts: &Parts, client: Option<Peer>, entry: &mut Entry) -> Answer {
        let authorizer = self.authorizer.as_ref().ok_or_else(Refusal::no_such_path)?;
        let token = authorizer.token(parts, client).await;
        let token = token.ok_or_else(Refusal::no_such_path)?;
        let IssuedToken { subject, answer } = self.decided(parts, token)?;
        entry.authorized(subject);
        let response = json(answer.into(), "application/json");
        Ok(with(response, CACHE_CONTROL, "no-store"))
    }

    /// Resolves when nothing runs any more that a request began: uploads that are being closed,
    /// layers that are being published. A server that has answered its last request waits for it.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    pub async fn settled(&self) {
        self.shared.running.close();
        self.shared.running.wait().await;
    }

    /// Aborts the body of every upload that is being received, now and later. The uploads are
    /// closed, so every byte that arrived is kept; the requests are answered with 503, and any
    /// process can resume the uploads.
    pub fn abort_bodies(&self) {
        self.shared.aborting_bodies.cancel();
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl<B> tower_service::Service<Request<B>> for Registry
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let registry = self.clone();
        Box::pin(async move { Ok(registry.handle(request).await) })
    }
}
