//! The authorizer of `s3layers serve`: credentials to an identity, and a policy over it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::request::Parts;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::challenge::{INSUFFICIENT_SCOPE, INVALID_TOKEN, TokenError, basic, bearer};
use super::client::{Client, Means, PolicyGrant, without_credentials};
use super::credentials::Credentials;
use super::htpasswd::Users;
use super::issuer::Kind;
use super::jwt::{self, InvalidToken, LEEWAY, Token};
use super::key_store::KeyStore;
use super::own_token::{OwnToken, Signer, scopes};
use super::passwords::{Passwords, Verdict};
use super::policy::{Identity, Policy};
use super::scope::Scopes;
use super::secret::SecretKey;
use super::{Access, Authorizer, Denial, Grant, IssuedToken, Subject, now};
use crate::locks::lock;
use crate::proxies::{Confidential, Peer};
use crate::query::Query;
use s3layers::clock;

/// How often it is looked whether keys are due to be read.
const TICK: Duration = Duration::from_millis(250);

/// How a [`PolicyAuthorizer`] behaves.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Where clients get tokens: the registry's own URL, as clients see it, with `/token`.
    pub realm: String,
    /// The URL of another server that clients get tokens from: that of an issuer of the policy. `None`:
    /// `realm`.
    pub token_server: Option<String>,
    /// The name of the registry in challenges and tokens, usually its host.
    pub service: String,
    /// Signs tokens and the states of uploads.
    pub secret: SecretKey,
    /// The lifetime of a token of this registry.
    pub token_lifetime: Duration,
    /// How long after its expiry a token is good for an upload that its subject began before.
    pub upload_grace: Duration,
    /// Accept credentials over connections that are not encrypted.
    pub plain_credentials: bool,
}

/// Decides by a [`Policy`], for clients with passwords, tokens or certificates.
pub struct PolicyAuthorizer {
    settings: AuthSettings,
    signer: Arc<Signer>,
    passwords: Passwords,
    rules: Mutex<Arc<Rules>>,
}

/// What the files say.
#[derive(Clone)]
struct Rules {
    users: Users,
    /// Counts the reads of `users`.
    generation: u64,
    policy: Arc<Policy>,
    stores: Vec<Arc<KeyStore>>,
}

impl PolicyAuthorizer {
    /// An authorizer over these users and this policy. Tokens of other issuers are refused until
    /// [`refresh_keys`](Self::refresh_keys) has read their keys.
    #[must_use]
    pub fn new(settings: AuthSettings, users: Users, policy: Policy) -> Self {
        PolicyAuthorizer {
            signer: Arc::new(Signer::new(
                &settings.secret,
                &settings.realm,
                &settings.service,
            )),
            passwords: Passwords::new(settings.secret.derive("password")),
            rules: Mutex::new(Arc::new(Rules {
                users,
                generation: 0,
                stores: stores(&policy, &[]),
                policy: Arc::new(policy),
            })),
            settings,
        }
    }

    /// Replaces the users. Requests that are running keep what they were granted.
    pub fn replace_users(&self, users: Users) {
        let mut rules = lock(&self.rules);
        let rules = Arc::make_mut(&mut rules);
        rules.users = users;
        rules.generation += 1;
    }

    /// Replaces the policy. Requests that are running keep what they were granted.
    pub fn replace_policy(&self, policy: Policy) {
        let mut rules = lock(&self.rules);
        let rules = Arc::make_mut(&mut rules);
        rules.stores = stores(&policy, &rules.stores);
        rules.policy = Arc::new(policy);
    }

    /// Keeps the keys of the issuers current, as long as it is polled.
    ///
    /// # Cancellation
    ///
    /// The keys become old.
    pub async fn refresh_keys(&self) -> std::convert::Infallible {
        // One key server that does not answer delays no other.
        let mut running = FuturesUnordered::new();
        loop {
            let rules = self.rules();
            let due = rules.stores.iter().filter(|store| store.begin_if_due());
            running.extend(
                due.cloned()
                    .map(|store| async move { store.refresh().await }),
            );
            let _ = timeout(TICK, async {
                while running.next().await.is_some() {}
                sleep(TICK).await;
            })
            .await;
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&lock(&self.rules))
    }

    /// Who sent this request. `unauthorized` is the denial of one whose credentials are wrong.
    async fn identify(
        &self,
        rules: &Rules,
        head: &Parts,
        peer: Option<Peer>,
        unauthorized: &(dyn Fn(&str, Option<TokenError>) -> Denial + Sync),
    ) -> Result<Client, Denial> {
        let credentials = Credentials::of(&head.headers);
        let credentials = credentials.map_err(|message| unauthorized(message, None))?;
        if !self.settings.plain_credentials
            && head.extensions.get::<Confidential>().is_none()
            && !self.are_public(&credentials, rules)
        {
            let message = "credentials are accepted over https:// only".to_owned();
            return Err(Denial::Forbidden { message });
        }
        let token = match credentials {
            Credentials::None => return Ok(without_credentials(head, &rules.policy)),
            Credentials::Bearer(token) => token,
            Credentials::Basic { password, .. } if jwt::is_token(&password) => password,
            Credentials::Basic { user, password } => {
                let address = peer.map(|peer| peer.0);
                let (users, generation) = (&rules.users, rules.generation);
                let pair = (user.as_str(), password.as_str());
                return match self
                    .passwords
                    .verify(users, generation, pair, address)
                    .await
                {
                    Verdict::Right => Ok(Client::of_policy(
                        Identity::of(Subject::new(format!("user:{user}"))),
                        Means::Password,
                        &rules.policy,
                    )),
                    Verdict::Wrong => Err(unauthorized("wrong user name or password", None)),
                    Verdict::Busy(retry_after) => Err(Denial::TooManyRequests { retry_after }),
                };
            }
        };
        self.client_of_token(&token, rules)
            .map_err(|error| match error {
                InvalidToken::NoKeys(_) => Denial::Unavailable {
                    message: error.to_string(),
                },
                _ => unauthorized(&error.to_string(), Some(INVALID_TOKEN)),
            })
    }

    /// Whether these are no secret: none, or a token that every client gets without any.
    fn are_public(&self, credentials: &Credentials, rules: &Rules) -> bool {
        match credentials {
            Credentials::None => true,
            Credentials::Bearer(token) => self
                .client_of_token(token, rules)
                .is_ok_and(|client| client.identity.subject.is_anonymous()),
            Credentials::Basic { .. } => false,
        }
    }

    /// Who a token says its bearer is. It may be expired.
    fn client_of_token(&self, text: &str, rules: &Rules) -> Result<Client, InvalidToken> {
        let now = now();
        let token = Token::parse(text)?;
        let Some(issuer) = token.claimed_issuer() else {
            return Err(InvalidToken::Issuer);
        };
        if issuer == self.settings.realm {
            let OwnToken {
                identity,
                scopes,
                expires,
                seal,
            } = self.signer.verify(token, now)?;
            // What was taken back has no token any more.
            if self.seal(&identity.subject, rules) != Some(seal) {
                return Err(InvalidToken::Issuer);
            }
            return Ok(Client {
                scopes: Some(scopes),
                expires: Some(expires),
                ..Client::of_policy(identity, Means::Token, &rules.policy)
            });
        }
        let store = rules
            .stores
            .iter()
            .find(|store| store.issuer.issuer == issuer);
        let store = store.ok_or(InvalidToken::Issuer)?;
        let issuer = &store.issuer;
        let keys = store
            .keys()
            .ok_or_else(|| InvalidToken::NoKeys(issuer.name.clone()))?;
        let claims = token
            .verify(&keys, &issuer.algorithms)
            .inspect_err(|error| {
                if matches!(error, InvalidToken::UnknownKey | InvalidToken::Signature) {
                    store.report_unknown_key();
                }
            })?;
        let expires = claims.check(&issuer.issuer, &issuer.audience, now)?;
        let name = claims.text("sub").unwrap_or_default();
        let identity = Identity {
            subject: Subject::new(format!("token:{}:{name}", issuer.name)),
            groups: issuer.groups_of(claims.all()),
        };
        let is_docker = issuer.kind == Kind::Docker;
        Ok(Client {
            scopes: is_docker.then(|| scopes(&claims)),
            policy: (!is_docker).then(|| Arc::clone(&rules.policy)),
            expires: Some(expires),
            identity,
            means: Means::Token,
        })
    }

    /// Whether an upload was begun by this client, while its token was valid or before.
    fn may_continue(&self, client: &Client, state: Option<&str>, access: &Access) -> bool {
        let Access::Continue(name, uuid) = access else {
            return true;
        };
        let subject = &client.identity.subject;
        let began = state.and_then(|state| self.signer.began(state, name, *uuid, subject));
        began.is_some_and(|began| {
            client
                .expires
                .is_none_or(|expires| began <= expires.saturating_add(LEEWAY))
        })
    }

    /// Whether the token of this client is too old for these accesses.
    fn is_expired(&self, client: &Client, needs: &[Access]) -> bool {
        let is_upload = needs
            .iter()
            .all(|access| matches!(access, Access::Continue(..)));
        let grace = if is_upload && !needs.is_empty() {
            self.settings.upload_grace.as_secs()
        } else {
            0
        };
        let tolerance = grace.saturating_add(LEEWAY);
        client
            .expires
            .is_some_and(|expires| expires.saturating_add(tolerance) <= now())
    }

    /// Of what vouches for a subject: the hash of its password, or what the policy says of its issuer.
    /// `None` where it is not there.
    fn seal(&self, subject: &Subject, rules: &Rules) -> Option<String> {
        let subject = subject.as_str();
        let (kind, name) = subject.split_once(':').unwrap_or((subject, ""));
        let voucher = match kind {
            "user" => rules.users.hash(name)?.to_owned(),
            "token" => {
                let issuer = name.split(':').next()?;
                let mut stores = rules.stores.iter();
                let store = stores.find(|store| store.issuer.name == issuer)?;
                store.issuer.definition()
            }
            _ => String::new(),
        };
        Some(self.signer.seal(&voucher))
    }

    /// A token for the scopes that a client asks for, as far as it may.
    fn issue(&self, client: &Client, rules: &Rules, scopes: Scopes) -> String {
        let now = now();
        let lifetime = self.settings.token_lifetime.as_secs();
        let token = OwnToken {
            scopes: scopes.retain(|name, action| {
                let policy = client.policy.as_ref();
                policy.is_some_and(|policy| policy.allows(&client.identity, name, action))
            }),
            identity: client.identity.clone(),
            expires: now.saturating_add(lifetime),
            seal: self
                .seal(&client.identity.subject, rules)
                .unwrap_or_default(),
        };
        let token = self.signer.token(&token, now);
        json!({
            "token": token,
            "access_token": token,
            "expires_in": lifetime,
            "issued_at": clock::now_timestamp().to_string(),
        })
        .to_string()
    }
}

/// The key stores of a policy. Those of issuers that did not change keep their keys.
fn stores(policy: &Policy, before: &[Arc<KeyStore>]) -> Vec<Arc<KeyStore>> {
    let store = |issuer: &super::issuer::Issuer| {
        let same = before.iter().find(|store| store.issuer == *issuer);
        same.map_or_else(|| Arc::new(KeyStore::new(issuer.clone())), Arc::clone)
    };
    policy.issuers.iter().map(store).collect()
}

#[async_trait]
impl Authorizer for PolicyAuthorizer {
    async fn authorize(
        &self,
        head: &Parts,
        peer: Option<Peer>,
        needs: &[Access],
    ) -> Result<Box<dyn Grant>, Denial> {
        let settings = &self.settings;
        let realm = settings.token_server.as_ref().unwrap_or(&settings.realm);
        let unauthorized = |message: &str, error: Option<TokenError>| Denial::Unauthorized {
            challenge: bearer(realm, &settings.service, needs, error),
            message: message.to_owned(),
        };
        let rules = self.rules();
        let client = self.identify(&rules, head, peer, &unauthorized).await?;
        if self.is_expired(&client, needs) {
            let message = InvalidToken::Expired.to_string();
            return Err(unauthorized(&message, Some(INVALID_TOKEN)));
        }
        if let Some(access) = needs.iter().find(|access| !client.may(access)) {
            let message = format!("{} may not: {access}", client.identity.subject);
            let error = match client.means {
                Means::Password | Means::Certificate => return Err(Denial::Forbidden { message }),
                Means::Nothing => None,
                Means::Token => Some(INSUFFICIENT_SCOPE),
            };
            return Err(unauthorized(&message, error));
        }
        let query = Query::parse(head.uri.query()).unwrap_or_default();
        let state = query.get("state");
        if !needs
            .iter()
            .all(|access| self.may_continue(&client, state, access))
        {
            let message = "the upload was begun by another client, or its location is incomplete";
            return Err(Denial::Forbidden {
                message: message.to_owned(),
            });
        }
        Ok(Box::new(PolicyGrant {
            client,
            signer: Arc::clone(&self.signer),
        }))
    }

    async fn token(&self, head: &Parts, peer: Option<Peer>) -> Option<Result<IssuedToken, Denial>> {
        Some(self.answer_token(head, peer).await)
    }
}

impl PolicyAuthorizer {
    async fn answer_token(&self, head: &Parts, peer: Option<Peer>) -> Result<IssuedToken, Denial> {
        let unauthorized = |message: &str, _: Option<TokenError>| Denial::Unauthorized {
            challenge: basic(&self.settings.service),
            message: message.to_owned(),
        };
        // The token is sealed with what the client was identified by.
        let rules = self.rules();
        let client = self.identify(&rules, head, peer, &unauthorized).await?;
        if self.is_expired(&client, &[]) {
            return Err(unauthorized("the token is expired", None));
        }
        // A token that could be exchanged for a token would never expire.
        if client.scopes.is_some() {
            return Err(unauthorized(
                "a registry token is no credential of this endpoint",
                None,
            ));
        }
        let may_be_anonymous = client
            .policy
            .as_ref()
            .is_some_and(|policy| policy.knows_anonymous());
        if client.means == Means::Nothing && !may_be_anonymous {
            return Err(unauthorized("authentication required", None));
        }
        let Ok(query) = Query::parse(head.uri.query()) else {
            return Err(Denial::Forbidden {
                message: "the query has invalid percent-encoding".to_owned(),
            });
        };
        Ok(IssuedToken {
            answer: self.issue(&client, &rules, Scopes::parse(query.all("scope"))),
            subject: client.identity.subject,
        })
    }
}

impl fmt::Debug for PolicyAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyAuthorizer")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use s3layers::RepositoryName;
    use uuid::Uuid;

    fn authorizer(upload_grace: Duration) -> PolicyAuthorizer {
        let settings = AuthSettings {
            realm: "https://registry/token".to_owned(),
            token_server: None,
            service: "registry".to_owned(),
            secret: SecretKey::new(&[7; 32]).unwrap(),
            token_lifetime: Duration::from_secs(300),
            upload_grace,
            plain_credentials: true,
        };
        PolicyAuthorizer::new(settings, Users::default(), Policy::for_users(false))
    }

    #[tokio::test]
    async fn expired_token_continues_uploads_that_were_begun_before() {
        const HOUR: u64 = 3600;
        let name: RepositoryName = "a".parse().unwrap();
        let uuid = Uuid::from_u128(1);
        let (upload, push) = (
            Access::Continue(name.clone(), uuid),
            Access::Push(name.clone()),
        );
        let subject = Subject::new("certificate:x");
        // How long ago the token expired and the upload began.
        for (grace, expired, began, access, want) in [
            (24 * HOUR, HOUR, 2 * HOUR, &upload, true),
            (24 * HOUR, HOUR, HOUR, &upload, true),
            // Begun with another token, after this one expired.
            (24 * HOUR, HOUR, HOUR / 2, &upload, false),
            (24 * HOUR, 25 * HOUR, 26 * HOUR, &upload, false),
            (0, HOUR, 2 * HOUR, &upload, false),
            (24 * HOUR, HOUR, 2 * HOUR, &push, false),
            (24 * HOUR, HOUR, 2 * HOUR, &Access::Identity, false),
            // Within the leeway.
            (0, 30, 2 * HOUR, &push, true),
        ] {
            let authorizer = authorizer(Duration::from_secs(grace));
            let token = OwnToken {
                identity: Identity::of(subject.clone()),
                scopes: Scopes::parse(["repository:a:*"].into_iter()),
                expires: now() - expired,
                seal: authorizer.seal(&subject, &authorizer.rules()).unwrap(),
            };
            let token = authorizer.signer.token(&token, now() - expired - HOUR);
            let state = authorizer
                .signer
                .state(&name, uuid, &subject, now() - began);
            let request = Request::patch(format!("/v2/a/blobs/uploads/{uuid}?state={state}"))
                .header("authorization", format!("Bearer {token}"));
            let (head, ()) = request.body(()).unwrap().into_parts();
            let got = authorizer
                .authorize(&head, None, std::slice::from_ref(access))
                .await;
            assert_eq!(got.is_ok(), want, "{grace} {expired} {began} {access}");
        }
    }

    /// An issuer may write any number, and settings may be as large.
    #[tokio::test]
    async fn longest_times_never_expire() {
        let name: RepositoryName = "a".parse().unwrap();
        let uuid = Uuid::from_u128(1);
        let upload = Access::Continue(name.clone(), uuid);
        let subject = Subject::new("certificate:x");
        for expires in [i64::MAX.unsigned_abs(), u64::MAX] {
            for grace in [Duration::ZERO, Duration::MAX] {
                let mut authorizer = authorizer(grace);
                authorizer.settings.token_lifetime = Duration::MAX;
                let identity = Identity::of(subject.clone());
                let scopes = Scopes::parse(["repository:a:*"].into_iter());
                let token = OwnToken {
                    identity,
                    scopes,
                    expires,
                    seal: authorizer.seal(&subject, &authorizer.rules()).unwrap(),
                };
                let token = authorizer.signer.token(&token, now());
                let state = authorizer.signer.state(&name, uuid, &subject, now());
                let request = Request::patch(format!("/v2/a/blobs/uploads/{uuid}?state={state}"))
                    .header("authorization", format!("Bearer {token}"));
                let (head, ()) = request.body(()).unwrap().into_parts();
                let needs = std::slice::from_ref(&upload);
                let client = authorizer.authorize(&head, None, needs).await;
                assert!(client.is_ok(), "{expires} {grace:?}");
                let rules = authorizer.rules();
                let anonymous = Identity::of(Subject::anonymous());
                let client = Client::of_policy(anonymous, Means::Nothing, &rules.policy);
                let issued = authorizer.issue(&client, &rules, Scopes::parse(std::iter::empty()));
                let issued: serde_json::Value = serde_json::from_str(&issued).unwrap();
                let issued = Token::parse(issued["token"].as_str().unwrap()).unwrap();
                let issued = authorizer.signer.verify(issued, now()).unwrap();
                assert_eq!(issued.expires, u64::MAX);
            }
        }
    }
}
