//! Who sent a request, and what limits it: the grant of a request that was authorized.

use std::sync::Arc;

use http::request::Parts;
use uuid::Uuid;

use super::own_token::Signer;
use super::policy::{Identity, Policy};
use super::scope::Scopes;
use super::{Access, Grant, Subject, now};
use crate::proxies::ClientCertificate;
use s3layers::RepositoryName;

/// How a client said who it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    Nothing,
    Password,
    Certificate,
    Token,
}

/// Who sent a request, and what limits it besides the policy.
pub(super) struct Client {
    pub(super) identity: Identity,
    pub(super) means: Means,
    /// What its token grants.
    pub(super) scopes: Option<Scopes>,
    /// `None`: the token decides.
    pub(super) policy: Option<Arc<Policy>>,
    /// When its token expires.
    pub(super) expires: Option<u64>,
}

impl Client {
    pub(super) fn may(&self, access: &Access) -> bool {
        let is_in_scope = self
            .scopes
            .as_ref()
            .is_none_or(|scopes| scopes.covers(access));
        let is_allowed = match (access.in_repository(), &self.policy) {
            (Some((name, action)), Some(policy)) => policy.allows(&self.identity, name, action),
            (Some(_), None) => true,
            (None, _) => self.means != Means::Nothing,
        };
        is_in_scope && is_allowed
    }

    pub(super) fn of_policy(identity: Identity, means: Means, policy: &Arc<Policy>) -> Self {
        Client {
            identity,
            means,
            scopes: None,
            policy: Some(Arc::clone(policy)),
            expires: None,
        }
    }
}

pub(super) fn without_credentials(head: &Parts, policy: &Arc<Policy>) -> Client {
    let (subject, means) = match head.extensions.get::<ClientCertificate>() {
        Some(certificate) => {
            let subject = Subject::new(format!("certificate:{}", certificate.name()));
            (subject, Means::Certificate)
        }
        None => (Subject::anonymous(), Means::Nothing),
    };
    Client::of_policy(Identity::of(subject), means, policy)
}

/// The grant of a [`PolicyAuthorizer`](super::authorizer::PolicyAuthorizer).
pub(super) struct PolicyGrant {
    pub(super) client: Client,
    pub(super) signer: Arc<Signer>,
}

impl Grant for PolicyGrant {
    fn subject(&self) -> &Subject {
        &self.client.identity.subject
    }

    fn may(&self, access: &Access) -> bool {
        self.client.may(access)
    }

    fn upload_state(&self, name: &RepositoryName, uuid: Uuid) -> Option<String> {
        Some(self.signer.state(name, uuid, self.subject(), now()))
    }
}
