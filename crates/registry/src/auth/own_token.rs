//! What this registry signs itself: its tokens, and the states of uploads. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac::{self, Key};
use serde::Deserialize as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::jwt::{self, Claims, InvalidToken};
use super::policy::Identity;
use super::scope::{Entry, Scopes};
use super::{SecretKey, Subject};
use s3layers::RepositoryName;

/// Signs and verifies.
pub(super) struct Signer {
    tokens: Key,
    states: Key,
    seals: Key,
    issuer: String,
    service: String,
}

/// What a token of this registry says.
pub(super) struct OwnToken {
    pub(super) identity: Identity,
    pub(super) scopes: Scopes,
    pub(super) expires: u64,
    /// The [seal](Signer::seal) of what vouched for the identity when the token was issued.
    pub(super) seal: String,
}

impl Signer {
    pub(super) fn new(secret: &SecretKey, issuer: &str, service: &str) -> Self {
        Signer {
            tokens: secret.derive("token"),
            states: secret.derive("upload"),
            seals: secret.derive("voucher"),
            issuer: issuer.to_owned(),
            service: service.to_owned(),
        }
    }

    pub(super) fn token(&self, token: &OwnToken, now: u64) -> String {
        let claims = json!({
            "iss": self.issuer,
            "aud": self.service,
            "sub": token.identity.subject.as_str(),
            "groups": token.identity.groups,
            "iat": now,
            "exp": token.expires,
            "access": token.scopes.entries(),
            "seal": token.seal,
        });
        jwt::sign_own(&claims, &self.tokens)
    }

    /// A token that this registry issued. Its expiry is not checked.
    pub(super) fn verify(&self, token: jwt::Token<'_>, now: u64) -> Result<OwnToken, InvalidToken> {
        let claims = token.verify_own(&self.tokens)?;
        let expires = claims.check(&self.issuer, &self.service, now)?;
        let subject = claims.text("sub").ok_or(InvalidToken::Malformed)?;
        let groups = claims.list("groups").filter_map(Value::as_str);
        Ok(OwnToken {
            identity: Identity {
                subject: Subject::new(subject),
                groups: groups.map(str::to_owned).collect(),
            },
            scopes: scopes(&claims),
            expires,
            seal: claims.text("seal").unwrap_or_default().to_owned(),
        })
    }

    /// The same for the same text, and no way back to it.
    pub(super) fn seal(&self, text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.seals, text.as_bytes()))
    }

    /// The state of an upload that this subject began at this time.
    pub(super) fn state(
        &self,
        name: &RepositoryName,
        uuid: Uuid,
        subject: &Subject,
        began: u64,
    ) -> String {
        let tag = hmac::sign(&self.states, &state_message(name, uuid, subject, began));
        format!("{began}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// When this subject began this upload; `None` where it did not.
    pub(super) fn began(
        &self,
        state: &str,
        name: &RepositoryName,
        uuid: Uuid,
        subject: &Subject,
    ) -> Option<u64> {
        let (began, tag) = state.split_once('.')?;
        let began = began.parse().ok()?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
        let message = state_message(name, uuid, subject, began);
        hmac::verify(&self.states, &message, &tag).ok()?;
        Some(began)
    }
}

/// No part of it has a line feed, so it has one reading.
fn state_message(name: &RepositoryName, uuid: Uuid, subject: &Subject, began: u64) -> Vec<u8> {
    format!("{name}\n{uuid}\n{began}\n{subject}").into_bytes()
}

/// The claim `access` of Docker's token protocol. What is malformed grants nothing.
pub(super) fn scopes(claims: &Claims) -> Scopes {
    let entries = claims.list("access");
    Scopes::of(entries.filter_map(|entry| Entry::deserialize(entry).ok()))
}
