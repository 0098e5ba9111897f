//! The keys of an issuer, kept current beside the requests: no request waits for a key server.
//!
//! They are read every ten minutes, and soon after a token that no key verifies, at most once in nine
//! seconds. While the key server is away the keys of before are used for a day; one that answers without a
//! key has revoked them.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::issuer::{Issuer, KeySource};
use super::jwt::{PublicKey, parse_keys};
use crate::http_client::fetch;
use crate::locks::lock;

const URL_INTERVAL: Duration = Duration::from_secs(600);
const FILE_INTERVAL: Duration = Duration::from_secs(5);
/// After an unknown key, or a failure. A new key is accepted within ten seconds, the reading included.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(9);
/// How long keys are used that cannot be read again.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The keys of an issuer.
pub(super) struct KeyStore {
    pub(super) issuer: Issuer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// And when they were read.
    keys: Option<(Arc<[PublicKey]>, Instant)>,
    /// When they were read last, or begun to be, and whether that ended well.
    last: Option<(Instant, bool)>,
    /// A token was signed with a key that is not here.
    has_unknown_key: bool,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl KeyStore {
    pub(super) fn new(issuer: Issuer) -> Self {
        KeyStore {
            issuer,
            state: Mutex::default(),
        }
    }

    /// The keys. `None`: there are none, or too old ones.
    pub(super) fn keys(&self) -> Option<Arc<[PublicKey]>> {
        let state = lock(&self.state);
        let (keys, read) = state.keys.as_ref()?;
        let is_usable = !keys.is_empty() && read.elapsed() < LIFETIME;
        is_usable.then(|| Arc::clone(keys))
    }

    /// A token was signed with a key that is not here.
    pub(super) fn report_unknown_key(&self) {
        lock(&self.state).has_unknown_key = true;
    }

    /// Whether it is time to read the keys. [`refresh`](Self::refresh) is to follow.
    pub(super) fn begin_if_due(&self) -> bool {
        let mut state = lock(&self.state);
        let is_due = state.last.is_none_or(|(last, was_ok)| {
            let interval = match self.issuer.keys {
                KeySource::File(_) => FILE_INTERVAL,
                _ if state.has_unknown_key || !was_ok => SHORTEST_INTERVAL,
                _ => URL_INTERVAL,
            };
            last.elapsed() >= interval
        });
        if is_due {
            (state.last, state.has_unknown_key) = (Some((Instant::now(), false)), false);
        }
        is_due
    }

    /// Reads the keys.
    pub(super) async fn refresh(&self) {
        let read = self.read().await;
        let mut state = lock(&self.state);
        let is_ok = match read {
            Ok(keys) => {
                let has_keys = !keys.is_empty();
                if !has_keys {
                    tracing::warn!(
                        issuer = %self.issuer.name,
                        "the issuer has no public key for RS256, PS256, ES256, ES384 or EdDSA: its tokens are refused"
                    );
                }
                state.keys = Some((keys.into(), Instant::now()));
                has_keys
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer.name, %error, "reading the keys of an issuer failed");
                false
            }
        };
        state.last = Some((Instant::now(), is_ok));
    }

    async fn read(&self) -> Result<Vec<PublicKey>, String> {
        let ca = self.issuer.ca.as_deref();
        let (place, bytes) = match &self.issuer.keys {
            KeySource::File(path) => match read_file(path).await? {
                Some(bytes) => (path.display().to_string(), bytes.into()),
                None => return Ok(Vec::new()),
            },
            KeySource::Url(url) => (url.clone(), fetch(url, ca).await?),
            KeySource::Discovery(url) => {
                let text = fetch(url, ca).await?;
                let found: Discovery = serde_json::from_slice(&text).map_err(|_| {
                    format!("{url}: expected a JSON object with issuer and jwks_uri")
                })?;
                if found.issuer != self.issuer.issuer {
                    return Err(format!(
                        "{url} is of the issuer {:?}, expected {:?}",
                        found.issuer, self.issuer.issuer
                    ));
                }
                let keys = fetch(&found.jwks_uri, ca).await?;
                (found.jwks_uri, keys)
            }
        };
        parse_keys(&bytes).map_err(|what| format!("{place}: {what}"))
    }
}

/// `None` where it was removed.
async fn read_file(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
