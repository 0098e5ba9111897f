//! Authentication and authorization.
//!
//! [`Authorizer`] is the contract between the registry and the authentication of its clients. The registry
//! calls it once per request, after routing and before anything is looked up or a byte of the body
//! is read. The accesses that a request needs are a pure table (`needs`). Optional accesses (pull
//! on the source of a mount, each line of the catalog) are asked of the [`Grant`].
//!
//! [`PolicyAuthorizer`] is the implementation that `s3layers serve` uses: passwords, tokens and
//! client certificates are mapped to a [`Subject`], and a [`Policy`] decides what it may do.
//!
//! # Invariants
//!
//! 1. Without a matching rule a request is denied. An unreadable file, an unknown key or an absent
//!    key server never opens anything.
//! 2. Absent and forbidden repositories get the same answer.
//! 3. A decision needs no request to the storage.
//! 4. No credential appears in a log line, an error or a `Debug` output.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::request::Parts;
use uuid::Uuid;

use super::proxies::{ClientCertificate, Peer};
use s3layers::{RepositoryName, clock};

mod authorizer;
mod challenge;
mod client;
mod credentials;
mod htpasswd;
mod issuer;
mod jwt;
mod key_store;
pub(crate) mod needs;
mod own_token;
mod passwords;
pub(crate) mod pattern;
mod policy;
mod scope;
mod secret;

pub use authorizer::{AuthSettings, PolicyAuthorizer};
pub use htpasswd::{InvalidUsers, Users};
pub use needs::{InvalidRequest, Needs, needs};
pub use policy::{Decision, Identity, Policy, PolicyError};
pub use secret::{InvalidSecret, SecretKey};

/// What can be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Read blobs, manifests, tags and referrers.
    Pull,
    /// Upload blobs and manifests, set tags, cancel uploads.
    Push,
    /// Remove blobs, manifests and tags.
    Delete,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 3] = [Action::Pull, Action::Push, Action::Delete];

    /// As scopes and policies have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }
}

/// One thing that a request needs to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any credentials that are valid, those of an anonymous client included. A client without
    /// credentials does not have it, so that it learns the challenge.
    Identity,
    /// The same, to list the repositories. What is listed is asked as [`Access::List`].
    Catalog,
    /// A repository's line in the catalog.
    List(RepositoryName),
    /// [`Action::Pull`] in this repository.
    Pull(RepositoryName),
    /// [`Action::Push`] in this repository.
    Push(RepositoryName),
    /// [`Action::Delete`] in this repository.
    Delete(RepositoryName),
    /// [`Action::Push`] by the subject that began this upload.
    Continue(RepositoryName, Uuid),
}

impl Access {
    /// The repository and what is to be done with it.
    #[must_use]
    pub fn in_repository(&self) -> Option<(&RepositoryName, Action)> {
        match self {
            Access::Identity | Access::Catalog => None,
            Access::List(name) | Access::Pull(name) => Some((name, Action::Pull)),
            Access::Push(name) | Access::Continue(name, _) => Some((name, Action::Push)),
            Access::Delete(name) => Some((name, Action::Delete)),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.in_repository()) {
            (Access::Continue(_, uuid), Some((name, _))) => write!(f, "push {name}, upload {uuid}"),
            (_, Some((name, action))) => write!(f, "{} {name}", action.as_str()),
            (Access::Catalog, None) => f.write_str("any identity, for the catalog"),
            (_, None) => f.write_str("any identity"),
        }
    }
}

/// Who a client is: `anonymous`, `user:alice`, `certificate:builder.example.com`,
/// `token:ISSUER:NAME`. It appears in logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// A subject of this name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Subject(name.into())
    }

    /// The subject of clients without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Subject::new("anonymous")
    }

    /// Whether it is [`anonymous`](Self::anonymous).
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.as_str() == "anonymous"
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that was authorized. Its methods do no I/O.
pub trait Grant: Send + Sync {
    /// Who sent the request.
    fn subject(&self) -> &Subject;

    /// Whether the request may do this as well.
    fn may(&self, access: &Access) -> bool;

    /// What binds an upload to its subject: it becomes the parameter `state` of the upload's
    /// location, and the authorizer checks it in each later request of the upload
    /// ([`Access::Continue`]). `None`: uploads are not bound.
    fn upload_state(&self, name: &RepositoryName, uuid: Uuid) -> Option<String> {
        let _ = (name, uuid);
        None
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// 401: credentials are absent, invalid or insufficient; `challenge` becomes `WWW-Authenticate`.
    Unauthorized {
        /// For example `Bearer realm="https://registry.example.com/token",service="registry"`.
        challenge: String,
        /// For the client. It names no secret.
        message: String,
    },
    /// 403: the client is known, and may not.
    Forbidden {
        /// For the client.
        message: String,
    },
    /// 429: too many attempts.
    TooManyRequests {
        /// After how many seconds the client may try again.
        retry_after: u32,
    },
    /// 503: it cannot be decided now, because a key server does not respond for example.
    Unavailable {
        /// For the client.
        message: String,
    },
}

/// A token, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// Who asked for it.
    pub subject: Subject,
    /// The JSON of Docker's token protocol.
    pub answer: String,
}

/// Decides what a request may do.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Called once per request, before anything is looked up and before a byte of the body is read.
    /// All of `needs` must be granted. `peer` is the client's address as far as it is known: behind
    /// a trusted proxy, the one that the proxy names.
    ///
    /// # Errors
    ///
    /// Where one of `needs` is not granted.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn authorize(
        &self,
        head: &Parts,
        peer: Option<Peer>,
        needs: &[Access],
    ) -> Result<Box<dyn Grant>, Denial>;

    /// Answers `GET /token`. `None`: there is no such endpoint.
    ///
    /// # Errors
    ///
    /// Where the credentials are invalid.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn token(&self, head: &Parts, peer: Option<Peer>) -> Option<Result<IssuedToken, Denial>> {
        let _ = (head, peer);
        None
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let seconds = clock::now_timestamp().as_second();
    u64::try_from(seconds).unwrap_or_default()
}

/// How a client says who it is, as a label of metrics.
pub(crate) fn method_name(head: &Parts) -> &'static str {
    let scheme = head
        .headers
        .get(AUTHORIZATION)
        .map(|value| value.as_bytes());
    let is = |name: &[u8]| {
        let start = scheme.and_then(|value| value.get(..name.len()));
        start.is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    if is(b"basic ") {
        "basic"
    } else if is(b"bearer ") {
        "bearer"
    } else if scheme.is_some() {
        "other"
    } else if head.extensions.get::<ClientCertificate>().is_some() {
        "certificate"
    } else {
        "none"
    }
}

/// Grants everything: a registry without an authorizer.
#[derive(Debug)]
pub(crate) struct Open(Subject);

impl Open {
    pub(crate) fn new() -> Self {
        Open(Subject::anonymous())
    }
}

impl Grant for Open {
    fn subject(&self) -> &Subject {
        &self.0
    }

    fn may(&self, _: &Access) -> bool {
        true
    }
}
