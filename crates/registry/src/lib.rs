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

mod access;
mod active_uploads;
mod answer_bytes;
mod answers;
mod auth;
mod blobs;
mod body;
mod call;
mod client_permits;
mod client_stream;
mod cors;
mod dispatch;
mod error;
mod http1;
mod http_client;
mod limits;
mod listings;
mod location;
mod locks;
mod manifests;
mod metrics;
mod metrics_server;
mod multipart;
mod options;
mod proxies;
mod query;
mod range;
mod readiness;
mod receive;
mod registry;
mod request_permits;
mod route;
mod server;
mod tls;
pub(crate) mod uploads;
mod webhook;
mod write_protection;

pub use auth::{
    Access, Action, AuthSettings, Authorizer, Decision, Denial, Grant, Identity, InvalidRequest,
    InvalidSecret, InvalidUsers, IssuedToken, Needs, Policy, PolicyAuthorizer, PolicyError,
    SecretKey, Subject, Users, needs,
};
pub use body::{BodyError, ResponseBody};
pub(crate) use body::{bare, with};
pub use cors::{CorsOrigins, InvalidOrigin};
pub use limits::Limits;
pub use metrics::{InvalidPrices, METRICS_CONTENT_TYPE, Metrics, Prices};
pub use metrics_server::serve_metrics;
pub use options::{DEFAULT_MAX_REQUESTS, Options};
pub use proxies::{
    ClientCertificate, Confidential, Encrypted, InvalidProxies, Peer, TrustedProxies,
};
pub use registry::{Registry, router};
pub use s3layers::{Manifest, Page, Referrer, ReferrerKey, RepositoryService};
pub use server::{serve, serve_tls};
pub use tls::{Tls, TlsError, TlsFiles};
pub use webhook::{Delivery, InvalidWebhookUrl, Webhook, WebhookUrl};
pub use write_protection::{ImmutableTags, InvalidTagPattern, WriteProtection};

use answers::{CONTENT_DIGEST, json};
use call::{Answer, Call, Head, Shared};
