//! Events about pushes, pulls, mounts and removals, posted to a URL.
//!
//! Requests never wait for the receiver: an event is put in a bounded queue, and dropped where that is full.
//! A batch that the receiver does not accept is repeated some times and dropped then.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Uri};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, mpsc};
use tokio::time::sleep;

pub(super) use self::event::Draft;
use super::http_client::{send, tls_config};
use super::metrics::Metrics;

mod event;

/// Events that wait for the receiver.
const QUEUE: usize = 1000;
/// Events of one request.
const BATCH: usize = 100;
/// Over about four minutes, so that a restart of the receiver loses no event.
const ATTEMPTS: u32 = 10;
/// Between two attempts; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Outcomes of events, in metrics.
const DELIVERED: &str = "delivered";
const DROPPED: &str = "dropped";
const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v2+json";

/// Where events are posted: an `https` URL, or an `http` URL of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookUrl(Uri);

/// A URL that events are not posted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a URL with https://, or with http:// and a loopback address, without a user or a password"
)]
pub struct InvalidWebhookUrl;

impl FromStr for WebhookUrl {
    type Err = InvalidWebhookUrl;

    fn from_str(text: &str) -> Result<Self, InvalidWebhookUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidWebhookUrl)?;
        let authority = uri.authority().ok_or(InvalidWebhookUrl)?;
        let host = authority.host().trim_matches(['[', ']']);
        let is_local = || {
            let ip = host.parse::<std::net::IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        };
        let is_private = match uri.scheme_str() {
            Some("https") => !host.is_empty(),
            Some("http") => is_local(),
            _ => false,
        };
        if !is_private || authority.as_str().contains('@') {
            return Err(InvalidWebhookUrl);
        }
        Ok(WebhookUrl(uri))
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The queue of events of a registry.
#[derive(Clone)]
pub struct Webhook {
    queue: mpsc::Sender<Value>,
    metrics: Option<Arc<Metrics>>,
}

/// Posts the events of a [`Webhook`].
pub struct Delivery {
    queue: mpsc::Receiver<Value>,
    url: WebhookUrl,
    authorization: Option<HeaderValue>,
    tls: OnceCell<Arc<ClientConfig>>,
    metrics: Option<Arc<Metrics>>,
}

impl Webhook {
    /// A queue of events, and their delivery to `url` with this header `Authorization`. `metrics` count
    /// the events that were delivered and dropped.
    #[must_use]
    pub fn new(
        url: WebhookUrl,
        mut authorization: Option<HeaderValue>,
        metrics: Option<Arc<Metrics>>,
    ) -> (Self, Delivery) {
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        for outcome in [DELIVERED, DROPPED] {
            count(metrics.as_deref(), outcome, 0);
        }
        let (queue, events) = mpsc::channel(QUEUE);
        let delivery = Delivery {
            queue: events,
            url,
            authorization,
            tls: OnceCell::new(),
            metrics: metrics.clone(),
        };
        (Webhook { queue, metrics }, delivery)
    }

    /// Never waits.
    pub(super) fn send(&self, event: Value) {
        if self.queue.try_send(event).is_err() {
            count(self.metrics.as_deref(), DROPPED, 1);
        }
    }
}

impl Delivery {
    /// Delivers events in order until each [`Registry`](super::Registry) with the webhook is dropped and no
    /// event waits.
    ///
    /// # Cancellation
    ///
    /// Events that wait are lost; the receiver may get those that are being sent.
    pub async fn run(mut self) {
        let mut events = Vec::with_capacity(BATCH);
        while self.queue.recv_many(&mut events, BATCH).await > 0 {
            let outcome = if self.deliver(&events).await {
                DELIVERED
            } else {
                DROPPED
            };
            count(self.metrics.as_deref(), outcome, events.len());
            events.clear();
        }
    }

    /// Whether the receiver accepted the events.
    async fn deliver(&self, events: &[Value]) -> bool {
        let body = Bytes::from(json!({ "events": events }).to_string());
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            let Err(error) = self.post(body.clone()).await else {
                return true;
            };
            // Path and query may be secret.
            let host = self.url.0.host();
            tracing::warn!(host, attempt, attempts = ATTEMPTS, %error, "events were not delivered");
            if attempt < ATTEMPTS {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        false
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let mut request = Request::post(&self.url.0).header(CONTENT_TYPE, MEDIA_TYPE);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(body.into())
            .map_err(|error| error.to_string())?;
        let tls = self.tls.get_or_try_init(|| async { tls_config(None) });
        let status = send(request, tls.await?).await?.status();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("status {}, expected 2xx", status.as_u16()))
    }
}

fn count(metrics: Option<&Metrics>, outcome: &'static str, events: usize) {
    if let Some(metrics) = metrics {
        metrics.count_events(outcome, events as u64);
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("host", &self.url.0.host())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encrypted_or_local() {
        for (text, is_valid) in [
            ("https://hooks.example.com/registry?a=b", true),
            ("http://127.0.0.1:8080/hook", true),
            ("http://[::1]/hook", true),
            ("http://localhost:1", true),
            ("http://hooks.example.com/", false),
            ("http://192.0.2.1/", false),
            ("http://127.0.0.1.example.com/", false),
            ("https://user:password@hooks.example.com/", false),
            ("ftp://127.0.0.1/", false),
            ("hooks.example.com", false),
            ("/hook", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<WebhookUrl>().is_ok(), is_valid, "{text}");
        }
    }
}
