//! The access log: one line a request, when its last byte is sent or its connection gone.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::auth::Subject;
use s3layers::RepositoryService;

/// What is known of a request so far. Written down when it is dropped.
pub(super) struct Entry {
    method: Method,
    path: String,
    began: Instant,
    status: Option<StatusCode>,
    received: Arc<AtomicU64>,
    sent: u64,
    service: Arc<dyn RepositoryService>,
    requests: u64,
    error: Option<String>,
    subject: Option<Subject>,
}

impl Entry {
    pub(super) fn new(
        method: Method,
        path: &str,
        received: Arc<AtomicU64>,
        service: Arc<dyn RepositoryService>,
    ) -> Self {
        Entry {
            method,
            path: path.to_owned(),
            began: Instant::now(),
            status: None,
            received,
            sent: 0,
            requests: service.requests(),
            service,
            error: None,
            subject: None,
        }
    }

    pub(super) fn authorized(&mut self, subject: Subject) {
        self.subject = Some(subject);
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
        let requests = self.service.requests().saturating_sub(self.requests);
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "s3layers::access",
                    method = %self.method,
                    path = %self.path,
                    status,
                    subject = self.subject.as_ref().map(Subject::as_str),
                    bytes_in = self.received.load(Relaxed),
                    bytes_out = self.sent,
                    ms,
                    // Those of other requests at the same time are among them.
                    s3_requests = requests,
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
