//! The access log: one line a request, when its last byte is sent or its connection gone.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::auth::Subject;
use super::client_permits::ClientPermit;
use super::metrics::{GaugeGuard, Metrics};
use super::proxies::Peer;
use s3layers::{UsageCounter, clock, is_lower_hex};

/// So much of a header is written down, in characters.
const LONGEST_HEADER: usize = 200;

/// What is known of a request so far. Written down when it is dropped.
pub(super) struct Entry {
    method: Method,
    path: String,
    began: Instant,
    status: Option<StatusCode>,
    received: Arc<AtomicU64>,
    sent: u64,
    /// Of the requests to the storage.
    usage: Arc<UsageCounter>,
    error: Option<String>,
    subject: Option<Subject>,
    route: &'static str,
    client: Option<Peer>,
    user_agent: Option<String>,
    /// The trace id of the client, or one of ours.
    id: String,
    span: tracing::Span,
    permit: Option<ClientPermit>,
    _running: Option<GaugeGuard>,
    metrics: Option<Arc<Metrics>>,
}

impl Entry {
    pub(super) fn new(
        parts: &Parts,
        received: Arc<AtomicU64>,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        let id = parts.headers.get("traceparent").and_then(trace_id);
        let id = id.unwrap_or_else(clock::new_nonce);
        Entry {
            // Of every level, so that a warning has it, too.
            span: tracing::error_span!("request", id),
            id,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            began: Instant::now(),
            status: None,
            received,
            sent: 0,
            usage: Arc::default(),
            error: None,
            subject: None,
            route: "none",
            client: None,
            user_agent: header_text(&parts.headers, USER_AGENT),
            permit: None,
            _running: metrics.as_ref().map(|metrics| metrics.begin()),
            metrics,
        }
    }

    pub(super) fn routed(&mut self, route: &'static str, client: Option<Peer>) {
        self.route = route;
        self.client = client;
        if let Some(metrics) = &self.metrics {
            self.usage = Arc::new(UsageCounter::within(metrics.usage_of(route)));
        }
    }

    pub(super) fn client(&self) -> Option<Peer> {
        self.client
    }

    pub(super) fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    /// In answers and in the log.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Does `work` for this request: requests to the storage are counted, and events have its id.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.usage.count(work).instrument(self.span.clone()).await
    }

    /// As [`run`](Self::run), for a function.
    pub(super) fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.span.in_scope(|| self.usage.count_call(call))
    }

    /// Until the answer is sent.
    pub(super) fn hold(&mut self, permit: ClientPermit) {
        self.permit = Some(permit);
    }

    pub(super) fn authorized(&mut self, subject: Subject) {
        self.subject = Some(subject);
    }

    pub(super) fn refused(&self, code: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.refused(self.route, code);
        }
    }

    pub(super) fn answered(&mut self, status: StatusCode, error: Option<String>) {
        self.status = Some(status);
        self.error = error;
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    pub(super) fn broke(&mut self, error: &dyn Display) {
        self.error = Some(error.to_string());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // 0: the client went before it was answered.
        let status = self.status.map_or(0, |status| status.as_u16());
        if let Some(metrics) = &self.metrics {
            let bytes = (self.received.load(Relaxed), self.sent);
            metrics.end(self.route, status, self.began.elapsed(), bytes);
        }
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "s3layers::access",
                    method = %self.method,
                    path = %self.path,
                    status,
                    subject = self.subject.as_ref().map(Subject::as_str),
                    client = self.client.map(|peer| tracing::field::display(peer.0)),
                    user_agent = self.user_agent.as_deref(),
                    request_id = self.id,
                    bytes_in = self.received.load(Relaxed),
                    bytes_out = self.sent,
                    ms,
                    s3_requests = self.usage.usage().requests(),
                    error = self.error.as_deref(),
                )
            };
        }
        match status {
            500.. => line!(warn),
            _ => line!(info),
        }
    }
}

/// The beginning of a header, where it is text.
pub(super) fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.chars().take(LONGEST_HEADER).collect())
}

/// The trace id of a W3C `traceparent`, where it is one.
fn trace_id(value: &HeaderValue) -> Option<String> {
    let mut fields = value.to_str().ok()?.split('-');
    let (version, trace) = (fields.next()?, fields.next()?);
    let is_id = version.len() == 2 && trace.len() == 32 && is_lower_hex(trace);
    (is_id && trace.bytes().any(|byte| byte != b'0')).then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_id_cases() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (text, want) in [
            (format!("00-{trace}-00f067aa0ba902b7-01"), Some(trace)),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-{}-x-01", trace.to_uppercase()), None),
            ("00-4bf9-00f067aa0ba902b7-01".to_owned(), None),
            (String::new(), None),
        ] {
            let value = HeaderValue::from_str(&text).unwrap();
            assert_eq!(trace_id(&value).as_deref(), want, "{text}");
        }
    }
}
