//! `WWW-Authenticate`: how a client gets credentials. Pure.

use super::{Access, scope};

/// What is wrong with the token of a request (RFC 6750, 3.1).
pub(super) type TokenError = &'static str;
pub(super) const INVALID_TOKEN: TokenError = "invalid_token";
pub(super) const INSUFFICIENT_SCOPE: TokenError = "insufficient_scope";

/// For a token of `realm`.
pub(super) fn bearer(
    realm: &str,
    service: &str,
    needs: &[Access],
    error: Option<TokenError>,
) -> String {
    let mut text = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
    let scopes: Vec<_> = needs.iter().filter_map(scope::asked_for).collect();
    if !scopes.is_empty() {
        text.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
    }
    if let Some(error) = error {
        text.push_str(&format!(",error=\"{error}\""));
    }
    text
}

/// For a password.
pub(super) fn basic(service: &str) -> String {
    format!("Basic realm=\"{service}\"")
}
