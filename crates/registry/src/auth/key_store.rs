//! The keys of an issuer, kept current beside the requests: no request waits for a key server.
//!
//! They are read every ten minutes, and soon after a token that no key verifies, at most once in nine
//! seconds. While the key server is away the keys of before are used for a day.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::fetch::fetch;
use super::issuer::{Issuer, KeySource};
use super::jwt::{PublicKey, parse_keys};
use crate::locks::{lock, read, write};

const URL_INTERVAL: Duration = Duration::from_secs(600);
const FILE_INTERVAL: Duration = Duration::from_secs(5);
/// After an unknown key, or a failure. A new key is accepted within ten seconds, the reading included.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(9);
/// How long keys are used that cannot be read again.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The keys of an issuer.
pub(super) struct KeyStore {
    pub(super) issuer: Issuer,
    keys: RwLock<Option<(Arc<[PublicKey]>, Instant)>>,
    last_attempt: Mutex<Option<(Instant, bool)>>,
    has_unknown_key: AtomicBool,
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
            keys: RwLock::default(),
            last_attempt: Mutex::default(),
            has_unknown_key: AtomicBool::new(false),
        }
    }

    /// The keys. `None`: there are none, or too old ones.
    pub(super) fn keys(&self) -> Option<Arc<[PublicKey]>> {
        let keys = read(&self.keys);
        let (keys, read) = keys.as_ref()?;
        (read.elapsed() < LIFETIME).then(|| Arc::clone(keys))
    }

    /// A token was signed with a key that is not here.
    pub(super) fn report_unknown_key(&self) {
        self.has_unknown_key.store(true, Relaxed);
    }

    /// Reads the keys if it is time to.
    pub(super) async fn refresh_if_due(&self) {
        if !self.is_due() {
            return;
        }
        self.has_unknown_key.store(false, Relaxed);
        let read = self.read().await;
        let is_ok = read.is_ok();
        match read {
            Ok(keys) => {
                let mut current = write(&self.keys);
                *current = Some((keys.into(), Instant::now()));
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer.name, %error, "reading the keys of an issuer failed");
            }
        }
        let mut last = lock(&self.last_attempt);
        *last = Some((Instant::now(), is_ok));
    }

    fn is_due(&self) -> bool {
        let last = *lock(&self.last_attempt);
        let Some((last, was_ok)) = last else {
            return true;
        };
        let interval = match self.issuer.keys {
            KeySource::File(_) => FILE_INTERVAL,
            _ if self.has_unknown_key.load(Relaxed) || !was_ok => SHORTEST_INTERVAL,
            _ => URL_INTERVAL,
        };
        last.elapsed() >= interval
    }

    async fn read(&self) -> Result<Vec<PublicKey>, String> {
        let ca = self.issuer.ca.as_deref();
        let (place, bytes) = match &self.issuer.keys {
            KeySource::File(path) => (path.display().to_string(), read_file(path).await?.into()),
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

async fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(owned)).await;
    let read = read.map_err(std::io::Error::other).and_then(|read| read);
    read.map_err(|error| format!("{}: {error}", path.display()))
}
