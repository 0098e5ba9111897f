//! A container registry: OCI Distribution over any [`RepositoryService`].
//!
//! [`router`] makes a [`Registry`] of it: a tower `Service` that any HTTP server can mount, be it
//! axum (`fallback_service`), plain hyper, or [`serve`] here. It knows nothing of S3, and keeps
//! nothing that matters: any number of processes serve one storage, and the requests of one upload
//! may reach different ones.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>
//!
//! | path | methods | module |
//! |---|---|---|
//! | `/v2/` | GET | here |
//! | `/v2/<name>/blobs/<digest>` | GET, HEAD, DELETE | `blobs` |
//! | `/v2/<name>/blobs/uploads/` | POST: begin, whole (`?digest=`), mount (`?mount=&from=`) | `uploads` |
//! | `/v2/<name>/blobs/uploads/<uuid>` | GET, PATCH, PUT, DELETE | `uploads` |
//! | `/v2/<name>/manifests/<reference>` | GET, HEAD, PUT, DELETE | `manifests` |
//! | `/v2/<name>/tags/list` | GET | `listings` |
//! | `/v2/<name>/referrers/<digest>` | GET | `listings` |
//! | `/v2/_catalog` | GET | `listings` |
//! | `/livez`, `/readyz` | GET | here |
//! | `/token` | GET: a token for the scopes that the client may use | `auth` |
//! | any, where an origin may use it | OPTIONS: preflight of a browser | `cors` |
//!
//! # What holds
//!
//! 1. Names, references and digests are held against their grammar (`route`) before the storage is
//!    asked anything.
//! 2. A body that breaks off closes its upload, so every byte that came is kept; the status says so
//!    (`uploads`, `receive`).
//! 3. Work that a client began continues after it disconnects: closing, finishing, cancelling
//!    run in tasks of their own. [`Registry::settled`] waits for them.
//! 4. An answer that carries a blob has the bytes that it said, or the connection breaks (`body`).
//! 5. A request that waits for its client, or for another request, holds no permit
//!    (`request_permits`).
//! 6. The bodies of manifests hold a bounded number of bytes, for a bounded time (`manifests`), and
//!    so do the responses that carry them (`answer_bytes`).
//!
//! Without an [`Authorizer`] every client may do everything (`auth`).

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, EXPECT, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::access::Entry;
use self::active_uploads::ActiveUploads;
use self::answer_bytes::AnswerBytes;
use self::auth::Open;
use self::body::RequestBody;
use self::client_permits::ClientPermits;
use self::cors::Cors;
use self::error::{Code, Refusal};
use self::manifests::Room;
use self::proxies::Origin;
use self::query::Query;
use self::request_permits::{RequestPermit, RequestPermits, Work};
use self::route::{Endpoint, Verb, route};
use s3layers::{Digest, Error, RepositoryName};

mod access;
mod active_uploads;
mod answer_bytes;
mod auth;
mod blobs;
mod body;
mod client_permits;
mod client_stream;
mod cors;
mod error;
mod http1;
mod limits;
mod listings;
mod location;
mod manifests;
mod metrics;
mod metrics_server;
mod multipart;
mod options;
mod proxies;
mod query;
mod range;
mod receive;
mod request_permits;
mod route;
mod server;
mod tls;
pub(crate) mod uploads;
mod write_protection;

pub use auth::{
    Access, Action, AuthSettings, Authorizer, Decision, Denied, Grant, Identity, InvalidRequest,
    InvalidSecret, InvalidUsers, Needs, Policy, PolicyAuthorizer, PolicyError, SecretKey, Subject,
    Users, needs,
};
pub use body::{BodyError, ResponseBody};
pub(crate) use body::{bare, with};
pub use cors::{CorsOrigins, InvalidOrigin};
pub use limits::Limits;
pub use metrics::{METRICS_CONTENT_TYPE, Metrics, Prices};
pub use metrics_server::serve_metrics;
pub use options::{DEFAULT_MAX_REQUESTS, Options};
pub use proxies::{
    ClientCertificate, Confidential, Encrypted, InvalidProxies, Peer, TrustedProxies,
};
pub use s3layers::{Manifest, Page, Referrer, ReferrerKey, RepositoryService};
pub use server::{serve, serve_tls};
pub use tls::{Tls, TlsError, TlsFiles};
pub use write_protection::{ImmutableTags, InvalidTagPattern, WriteProtection};

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
            room: Room::default(),
            answer_bytes: AnswerBytes::default(),
            running: watch::Sender::new(()),
            aborting_bodies: watch::Sender::new(false),
        }),
        authorizer: None,
        metrics: None,
    }
}

/// A registry, as a tower `Service` that never fails. A clone is the same registry.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    /// `None`: every client may do everything.
    authorizer: Option<Arc<dyn Authorizer>>,
    metrics: Option<Arc<Metrics>>,
}

struct Shared {
    service: Arc<dyn RepositoryService>,
    options: Options,
    permits: RequestPermits,
    client_permits: Option<ClientPermits>,
    active_uploads: ActiveUploads,
    /// For the bodies of manifests.
    room: Room,
    /// For responses with manifests and referrers.
    answer_bytes: AnswerBytes,
    /// Each task that outlives its request has a receiver.
    running: watch::Sender<()>,
    /// Whether the bodies of requests are aborted.
    aborting_bodies: watch::Sender<bool>,
}

/// How long `/readyz` waits for the storage. Probes have a limit of a few seconds, and are
/// repeated.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// A request, taken apart.
struct Call {
    head: Head,
    body: RequestBody,
    permit: RequestPermit,
}

/// A request without its body.
struct Head {
    parts: Parts,
    query: Query,
    /// The size of the body, where the client said it.
    size: Option<u64>,
    grant: Box<dyn Grant>,
}

impl Head {
    /// A header as text. One that is no text is as if it were not there.
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    fn has_no_body(&self) -> bool {
        self.size == Some(0)
    }
}

type Answer = Result<Response<ResponseBody>, Refusal>;

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

    /// Answers a request that came by HTTP/1 from `origin`, as RFC 9112 requires.
    async fn handle_http1<B>(
        &self,
        mut request: Request<B>,
        origin: &Origin,
    ) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        origin.insert_into(request.extensions_mut());
        self.respond(request, http1::check).await
    }

    async fn respond<B>(
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
        let service = self.shared.service.clone();
        let mut entry = Entry::new(&parts, received, service, self.metrics.clone());
        let answer = match cors.as_ref().and_then(Cors::preflight) {
            Some(response) => Ok(response),
            None => self.answer(parts, body, check, &mut entry).await,
        };
        let (mut response, error) = match answer {
            Ok(response) => (response, None),
            Err(refusal) => refusal.into_response(),
        };
        if let Some(cors) = cors {
            cors.allow(response.headers_mut());
        }
        entry.answered(response.status(), error);
        response
            .headers_mut()
            .insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
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
            let found = route(&parts.method, parts.uri.path())?;
            Ok((found, Query::parse(parts.uri.query())?))
        });
        let ((verb, endpoint), query) = match parsed {
            Ok(parsed) => parsed,
            Err(refusal) => {
                body.discard();
                return Err(refusal);
            }
        };
        let trusted = &self.shared.options.trusted_proxies;
        let client = proxies::identify_client(&mut parts, trusted);
        entry.routed(endpoint.name(), client);
        if let Err(refusal) = self.admit(&endpoint, client, entry) {
            body.discard();
            return Err(refusal);
        }
        let grant = match self.authorize(&parts, client, &endpoint, verb).await {
            Ok(grant) => grant,
            Err(refusal) => {
                body.discard_unauthorized();
                return Err(refusal);
            }
        };
        entry.authorized(grant.subject().clone());
        match endpoint {
            Endpoint::Token => return self.token(&parts, client).await,
            Endpoint::Live => return Ok(text("alive\n")),
            Endpoint::Ready => return ready(&self.shared).await,
            Endpoint::Base => return Ok(base()),
            _ => {}
        }
        let work = work_of(&endpoint, verb);
        let patience = self.shared.options.patience;
        let Some(permit) = self.shared.permits.acquire(work, patience).await else {
            return Err(
                Refusal::new(Code::TooManyRequests, "too many requests at a time")
                    .with(RETRY_AFTER, "2")
                    .closing_connection(),
            );
        };
        let head = Head {
            query,
            size: body.declared(),
            parts,
            grant,
        };
        let call = Call { head, body, permit };
        dispatch(&self.shared, call, verb, endpoint).await
    }

    async fn authorize(
        &self,
        parts: &Parts,
        client: Option<Peer>,
        endpoint: &Endpoint,
        verb: Verb,
    ) -> Result<Box<dyn Grant>, Refusal> {
        let needed = auth::needs::needed(endpoint, verb);
        if let Some(needed) = &needed {
            self.shared.options.write_protection.check(needed)?;
        }
        let (Some(authorizer), Some(needed)) = (&self.authorizer, needed) else {
            return Ok(Box::new(Open::new()));
        };
        let granted = authorizer.authorize(parts, client, &[needed]).await;
        let granted = granted.map_err(Refusal::from);
        if let Some(metrics) = &self.metrics {
            metrics.authorized(granted.as_ref().err().map(Refusal::status));
        }
        granted
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
            return Err(Refusal::new(Code::TooManyRequests, message).with(RETRY_AFTER, "2"));
        };
        entry.hold(permit);
        Ok(())
    }

    async fn token(&self, parts: &Parts, client: Option<Peer>) -> Answer {
        let authorizer = self.authorizer.as_ref().ok_or_else(Refusal::no_such_path)?;
        let token = authorizer.token(parts, client).await;
        let text = token.ok_or_else(Refusal::no_such_path)??;
        let response = json(text.into(), "application/json");
        Ok(with(response, CACHE_CONTROL, "no-store"))
    }

    /// Resolves when nothing runs any more that a request began: uploads that are being closed,
    /// layers that are being published. A server that has answered its last request waits for it.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    pub async fn settled(&self) {
        self.shared.running.closed().await;
    }

    /// Aborts the body of every upload that is being received, now and later. The uploads are
    /// closed, so every byte that arrived is kept; the requests are answered with 503, and any
    /// process can resume the uploads.
    pub fn abort_bodies(&self) {
        self.shared.aborting_bodies.send_replace(true);
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

/// Small reads have permits of their own.
fn work_of(endpoint: &Endpoint, verb: Verb) -> Work {
    match (endpoint, verb) {
        (Endpoint::Blob(..) | Endpoint::Manifest(..), Verb::Get | Verb::Head) => Work::Lookup,
        _ => Work::Long,
    }
}

async fn dispatch(shared: &Arc<Shared>, call: Call, verb: Verb, endpoint: Endpoint) -> Answer {
    match (endpoint, verb) {
        (Endpoint::Blob(name, digest), Verb::Delete) => blobs::delete(shared, &name, digest).await,
        (Endpoint::Blob(name, digest), verb) => {
            blobs::read(shared, &call.head, &name, digest, verb == Verb::Head).await
        }
        (Endpoint::Uploads(name), _) => uploads::begin(shared, call, name).await,
        (Endpoint::Upload(name, uuid), Verb::Patch) => {
            uploads::append(shared, call, name, uuid).await
        }
        (Endpoint::Upload(name, uuid), Verb::Put) => {
            uploads::finish(shared, call, name, uuid).await
        }
        (Endpoint::Upload(name, uuid), Verb::Delete) => {
            uploads::cancel(shared, call, &name, uuid).await
        }
        (Endpoint::Upload(name, uuid), _) => uploads::status(shared, call, &name, uuid).await,
        (Endpoint::Manifest(name, reference), Verb::Put) => {
            manifests::put(shared, call, &name, reference).await
        }
        (Endpoint::Manifest(name, reference), Verb::Delete) => {
            manifests::delete(shared, &name, reference).await
        }
        (Endpoint::Manifest(name, reference), verb) => {
            manifests::read(shared, &call.head, &name, reference, verb == Verb::Head).await
        }
        (Endpoint::Tags(name), _) => listings::tags(shared, &call.head.query, &name).await,
        (Endpoint::Referrers(name, digest), _) => {
            listings::referrers(shared, &call.head.query, &name, &digest).await
        }
        (Endpoint::Catalog, _) => listings::catalog(shared, &call.head).await,
        // Answered before a place was taken.
        (Endpoint::Base | Endpoint::Live | Endpoint::Ready | Endpoint::Token, _) => Ok(base()),
    }
}

impl Shared {
    /// The size of a blob in bytes, where it is linked here and its bytes are stored. A client may rely on it.
    async fn blob_size(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let id = digest.clone().into();
        let layer = self.service.confirm_layer(name, &id).await?;
        Ok(layer.map(|layer| layer.size()))
    }

    /// Runs `work` whether or not its client waits for it.
    fn spawn(&self, work: impl Future<Output = Answer> + Send + 'static) -> JoinHandle<Answer> {
        let running = self.running.subscribe();
        tokio::spawn(async move {
            let answer = work.await;
            drop(running);
            answer
        })
    }

    /// As `spawn`, and its answer.
    async fn outliving(&self, work: impl Future<Output = Answer> + Send + 'static) -> Answer {
        match self.spawn(work).await {
            Ok(answer) => answer,
            Err(gone) => {
                Err(Refusal::new(Code::Unknown, "the work ended early")
                    .with_cause(gone.to_string()))
            }
        }
    }

    fn idle(&self) -> Duration {
        self.options.body_idle_timeout
    }
}

async fn ready(shared: &Shared) -> Answer {
    let refusal = match timeout(READY_TIMEOUT, shared.service.ready()).await {
        Ok(Ok(())) => return Ok(text("ready\n")),
        Ok(Err(error)) => Refusal::from(error),
        Err(_) => Refusal::new(
            Code::Unavailable,
            format_args!(
                "no answer from the storage within {} s",
                READY_TIMEOUT.as_secs()
            ),
        ),
    };
    Err(refusal.with_status(StatusCode::SERVICE_UNAVAILABLE))
}

fn base() -> Response<ResponseBody> {
    json("{}".into(), "application/json")
}

fn text(text: &'static str) -> Response<ResponseBody> {
    json(Bytes::from_static(text.as_bytes()), "text/plain")
}

/// 200 with this body.
fn json(text: Bytes, content_type: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(text));
    let content_type = HeaderValue::from_static(content_type);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, content_type);
    response
}
