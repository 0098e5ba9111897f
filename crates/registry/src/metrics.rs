//! Metrics, in the text format of Prometheus. The repository and the user are never labels.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use s3layers::Usage;

/// The content type of what [`Metrics::text`] returns.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// In seconds. A layer takes minutes.
const DURATIONS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
];

/// What an authorizer decides.
const OUTCOMES: [&str; 5] = [
    "granted",
    "unauthorized",
    "forbidden",
    "limited",
    "unavailable",
];

/// What requests to S3 cost, in dollars for a thousand. Removals are free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Of PUT, POST and lists.
    pub writes: f64,
    /// Of GET and HEAD.
    pub reads: f64,
}

impl Default for Prices {
    /// Those of AWS S3 Standard in most regions.
    fn default() -> Self {
        Prices {
            writes: 0.005,
            reads: 0.0004,
        }
    }
}

impl Prices {
    /// What these requests cost, in dollars.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> f64 {
        let price = |operation: &str| match operation {
            "DeleteObject" | "DeleteObjects" | "AbortMultipartUpload" => 0.0,
            "GetObject" | "HeadObject" => self.reads,
            // ListParts is billed as a GET, GetBucket… too.
            "ListParts" => self.reads,
            name if name.starts_with("GetBucket") => self.reads,
            _ => self.writes,
        };
        let costs = usage.requests_by_operation.iter();
        let costs = costs.map(|(operation, count)| price(operation) * *count as f64 / 1000.0);
        costs.sum()
    }
}

/// The counters of a registry.
pub struct Metrics {
    registry: Registry,
    requests: Family<RouteStatus, Counter>,
    seconds: Family<Route, Histogram>,
    received: Family<Route, Counter>,
    sent: Family<Route, Counter>,
    authorizations: Family<Authorization, Counter>,
    /// Requests that are running.
    running: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteStatus {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Authorization {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Metrics {
    /// Counters that begin at zero, with those of the storage, which `usage` reads.
    pub fn new(usage: impl Fn() -> Usage + Send + Sync + 'static, prices: Prices) -> Self {
        let mut registry = Registry::with_prefix("s3layers");
        let seconds = Family::new_with_constructor((|| Histogram::new(DURATIONS)) as fn() -> _);
        let metrics = Metrics {
            requests: Family::default(),
            seconds,
            received: Family::default(),
            sent: Family::default(),
            authorizations: Family::default(),
            running: Gauge::default(),
            registry: Registry::default(),
        };
        let Metrics {
            requests,
            seconds,
            received,
            sent,
            authorizations,
            running,
            ..
        } = &metrics;
        registry.register(
            "http_requests",
            "Requests by route and status; 0: the client left",
            requests.clone(),
        );
        registry.register(
            "http_request_seconds",
            "Time to the last byte of the answer",
            seconds.clone(),
        );
        registry.register(
            "http_received_bytes",
            "Bytes of request bodies",
            received.clone(),
        );
        registry.register("http_sent_bytes", "Bytes of answers", sent.clone());
        registry.register(
            "http_requests_running",
            "Requests that are running",
            running.clone(),
        );
        registry.register(
            "auth",
            "Decisions of the authorizer",
            authorizations.clone(),
        );
        // So that a rate of them is known from the first one on.
        for outcome in OUTCOMES {
            drop(authorizations.get_or_create(&Authorization { outcome }));
        }
        let build = Family::<Build, Gauge>::default();
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&Build { version }).set(1);
        registry.register("build_info", "The version of the program", build);
        let usage = Box::new(usage);
        registry.register_collector(Box::new(StorageUsage { usage, prices }));
        Metrics {
            registry,
            ..metrics
        }
    }

    /// All counters, as [`METRICS_CONTENT_TYPE`].
    ///
    /// # Errors
    ///
    /// Never, as far as is known: a counter could not be written.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(prometheus_text(&text))
    }

    pub(super) fn begin(&self) {
        self.running.inc();
    }

    pub(super) fn end(&self, route: &'static str, status: u16, time: Duration, bytes: (u64, u64)) {
        self.running.dec();
        self.requests
            .get_or_create(&RouteStatus { route, status })
            .inc();
        let route = Route { route };
        self.seconds
            .get_or_create(&route)
            .observe(time.as_secs_f64());
        self.received.get_or_create(&route).inc_by(bytes.0);
        self.sent.get_or_create(&route).inc_by(bytes.1);
    }

    /// `None`: granted.
    pub(super) fn authorized(&self, refused: Option<StatusCode>) {
        let [granted, unauthorized, forbidden, limited, unavailable] = OUTCOMES;
        let outcome = match refused.map(|status| status.as_u16()) {
            None => granted,
            Some(401) => unauthorized,
            Some(403) => forbidden,
            Some(429) => limited,
            Some(_) => unavailable,
        };
        self.authorizations
            .get_or_create(&Authorization { outcome })
            .inc();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The requests to the storage, read at each scrape.
struct StorageUsage {
    usage: Box<dyn Fn() -> Usage + Send + Sync>,
    prices: Prices,
}

impl fmt::Debug for StorageUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageUsage").finish_non_exhaustive()
    }
}

impl Collector for StorageUsage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let usage = (self.usage)();
        let counter = MetricType::Counter;
        let help = "Requests to S3 by operation, repeated attempts included";
        let mut requests = encoder.encode_descriptor("s3_requests", help, None, counter)?;
        for (operation, count) in &usage.requests_by_operation {
            let labels = [("operation", *operation)];
            ConstCounter::new(*count).encode(requests.encode_family(&labels)?)?;
        }
        for (name, help, value) in [
            (
                "s3_sent_bytes",
                "Bytes of request bodies to S3",
                usage.bytes_sent as f64,
            ),
            (
                "s3_received_bytes",
                "Bytes of answers of S3",
                usage.bytes_received as f64,
            ),
            (
                "s3_cost_dollars",
                "The price of the requests to S3",
                self.prices.of(&usage),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        Ok(())
    }
}

/// OpenMetrics as Prometheus' own text format, in which a counter has its suffix everywhere.
fn prometheus_text(text: &str) -> String {
    let counter = |line: &str| {
        let name = line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?;
        Some(name.to_owned())
    };
    let counters: Vec<String> = text.lines().filter_map(counter).collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest))
                if counters.iter().any(|counter| counter == name) =>
            {
                out.push_str(&format!("# {kind} {name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}
