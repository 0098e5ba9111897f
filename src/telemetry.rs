//! Everything that is counted, in one table: the S3 requests by operation, and the bytes moved.
//!
//! A request is counted when it is sent, repeated attempts included, so the figures are what a
//! store would bill. When it is over it is a line of the log, at the level debug, under the target
//! [`TARGET`]: as many lines as requests, with the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

/// What the log calls the origin of the lines about requests.
const TARGET: &str = "s3layers::s3";

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// An S3 operation that this crate uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation { $($name),* }

        impl Operation {
            const ALL: &'static [Operation] = &[$(Operation::$name),*];

            /// The name that S3 gives it.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),* }
            }
        }
    };
}

operations! {
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    DeleteObjects,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    ListObjectsV2,
    GetBucketLifecycleConfiguration,
    GetBucketVersioning,
}

/// The counters of one service.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    requests: [AtomicU64; Operation::ALL.len()],
    sent: AtomicU64,
    received: AtomicU64,
}

impl Telemetry {
    pub(crate) fn usage(&self) -> Usage {
        let by_operation = Operation::ALL
            .iter()
            .map(|&operation| {
                (
                    operation.as_str(),
                    self.requests[operation as usize].load(Relaxed),
                )
            })
            .filter(|&(_, count)| count > 0)
            .collect();
        Usage {
            requests_by_operation: by_operation,
            bytes_sent: self.sent.load(Relaxed),
            bytes_received: self.received.load(Relaxed),
        }
    }
}

/// One request, from when it is sent until it is over: answered, given up, or all of its answer
/// read. Dropping it reports it.
#[derive(Debug)]
pub(crate) struct Request {
    telemetry: Arc<Telemetry>,
    operation: Operation,
    key: String,
    attempt: u32,
    begun: Instant,
    sent: u64,
    received: u64,
    status: Option<u16>,
    outcome: Cow<'static, str>,
}

impl Request {
    /// Counts a request that is about to be sent with a body of so many bytes; the `attempt` is
    /// counted from 1.
    pub(crate) fn sent(
        telemetry: &Arc<Telemetry>,
        operation: Operation,
        key: &str,
        attempt: u32,
        body: u64,
    ) -> Self {
        telemetry.requests[operation as usize].fetch_add(1, Relaxed);
        telemetry.sent.fetch_add(body, Relaxed);
        Request {
            telemetry: Arc::clone(telemetry),
            operation,
            key: key.to_owned(),
            attempt,
            begun: Instant::now(),
            sent: body,
            received: 0,
            status: None,
            outcome: Cow::Borrowed("Abandoned"),
        }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What came back: a status, if anything, and what that means.
    pub(crate) fn ended(&mut self, status: Option<u16>, outcome: impl Into<Cow<'static, str>>) {
        self.status = status;
        self.outcome = outcome.into();
    }

    /// The answer began well, and its body did not end.
    pub(crate) fn broke_off(&mut self) {
        self.outcome = Cow::Borrowed("BrokenBody");
    }

    /// Counts bytes of an object.
    pub(crate) fn received(&mut self, bytes: u64) {
        self.telemetry.received.fetch_add(bytes, Relaxed);
        self.received += bytes;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        tracing::debug!(
            target: TARGET,
            operation = self.operation.as_str(),
            key = self.key,
            attempt = self.attempt,
            status = self.status,
            outcome = &*self.outcome,
            bytes_sent = self.sent,
            bytes_received = self.received,
            ms = self.begun.elapsed().as_millis() as u64,
            "S3 request"
        );
    }
}

/// What a service has asked of its store so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Requests sent, repeated attempts included, by S3 operation. Operations not used are absent.
    pub requests_by_operation: BTreeMap<&'static str, u64>,
    /// Bytes of request bodies, repeated attempts included.
    pub bytes_sent: u64,
    /// Bytes of object bodies received.
    pub bytes_received: u64,
}

impl Usage {
    /// All requests together.
    pub fn requests(&self) -> u64 {
        self.requests_by_operation.values().sum()
    }

    /// What has been added since `earlier`.
    pub fn since(&self, earlier: &Usage) -> Usage {
        let before = |name| {
            earlier
                .requests_by_operation
                .get(name)
                .copied()
                .unwrap_or(0)
        };
        Usage {
            requests_by_operation: self
                .requests_by_operation
                .iter()
                .map(|(&name, &count)| (name, count.saturating_sub(before(name))))
                .filter(|&(_, count)| count > 0)
                .collect(),
            bytes_sent: self.bytes_sent.saturating_sub(earlier.bytes_sent),
            bytes_received: self.bytes_received.saturating_sub(earlier.bytes_received),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.requests())?;
        let mut separator = " (";
        for (name, count) in &self.requests_by_operation {
            write!(f, "{separator}{name} {count}")?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str(")")?;
        }
        write!(
            f,
            ", {} bytes up, {} bytes down",
            self.bytes_sent, self.bytes_received
        )
    }
}
