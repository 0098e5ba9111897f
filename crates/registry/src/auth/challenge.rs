//! `WWW-Authenticate`: how a client gets credentials. Pure.

use super::{Access, scope};

/// What challenges of one registry have in common.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) service: String,
}

/// What is wrong with the token of a request (RFC 6750, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    Invalid,
    InsufficientScope,
}

impl Challenge {
    pub(super) fn bearer(&self, needs: &[Access], error: Option<TokenError>) -> String {
        let (realm, service) = (&self.realm, &self.service);
        let mut text = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
        let scopes: Vec<_> = needs.iter().filter_map(scope::asked_for).collect();
        if !scopes.is_empty() {
            text.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
        }
        if let Some(error) = error {
            let error = match error {
                TokenError::Invalid => "invalid_token",
                TokenError::InsufficientScope => "insufficient_scope",
            };
            text.push_str(&format!(",error=\"{error}\""));
        }
        text
    }

    pub(super) fn basic(&self) -> String {
        format!("Basic realm=\"{}\"", self.service)
    }
}
