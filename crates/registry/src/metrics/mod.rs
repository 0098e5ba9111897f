//! Metrics, in the text format of Prometheus. The repository and the user are never labels.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::locks::lock;
use s3layers::{CollectReport, ServiceStatus, UsageCounter, clock};

pub use self::storage::{InvalidPrices, Prices};
use self::storage::{Routes, Storage};

mod storage;

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

/// How a collection can end.
const COLLECTION_OUTCOMES: [&str; 3] = ["complete", "stopped", "failed"];

/// The counters of a registry.
pub struct Metrics {
    registry: Registry,
    requests: Family<RouteStatus, Counter>,
    seconds: Durations,
    received: Family<Route, Counter>,
    sent: Family<Route, Counter>,
    refusals: Family<RouteCode, Counter>,
    authorizations: Family<Authorization, Counter>,
    /// Requests that are running.
    running: Gauge,
    uploads: Family<Phase, Gauge>,
    routes: Arc<Routes>,
    collections: Family<Outcome, Counter>,
    /// Absent before the first one, so that no alarm takes it for one of 1970.
    last_collection: Family<NoLabels, Gauge>,
    collected: Family<Action, Counter>,
    collected_bytes: Family<Action, Counter>,
    events: Family<Outcome, Counter>,
}

/// Something that a gauge counts until this is dropped.
pub(super) struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn in_gauge(gauge: &Gauge) -> Self {
        gauge.inc();
        GaugeGuard(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Of a metric that is absent until it has a value.
type NoLabels = [(&'static str, &'static str); 0];
type Durations = Family<Route, Histogram, fn() -> Histogram>;

macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),* })*) => {
        $(
            #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
            struct $name {
                $($label: $kind,)*
            }
        )*
    };
}

labels! {
    Route { route: &'static str }
    RouteStatus { route: &'static str, status: u16 }
    RouteCode { route: &'static str, code: &'static str }
    Authorization { method: &'static str, outcome: &'static str }
    Outcome { outcome: &'static str }
    Phase { phase: &'static str }
    Action { what: &'static str, action: &'static str }
    Build { version: &'static str }
}

/// A new metric of this registry.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// Counters that begin at zero, with those of the storage, which `status` reads.
    pub fn new(status: impl Fn() -> ServiceStatus + Send + Sync + 'static, prices: Prices) -> Self {
        let mut registry = Registry::with_prefix("s3layers");
        let all = &mut registry;
        let help = "Requests by route and status; 0: the client left";
        let requests = registered(all, "http_requests", help);
        let seconds: Durations = Family::new_with_constructor(|| Histogram::new(DURATIONS));
        let help = "Time to the last byte of the answer";
        all.register("http_request_seconds", help, seconds.clone());
        let mut metrics = Metrics {
            requests,
            seconds,
            received: registered(all, "http_received_bytes", "Bytes of request bodies"),
            sent: registered(all, "http_sent_bytes", "Bytes of answers"),
            refusals: registered(
                all,
                "http_refusals",
                "Errors by route and code of the specification",
            ),
            running: registered(all, "http_requests_running", "Requests that are running"),
            uploads: registered(all, "uploads", "Uploads that requests work on, by phase"),
            authorizations: registered(all, "auth", "Decisions of the authorizer"),
            events: registered(all, "webhook_events", "Events by outcome"),
            collections: registered(all, "gc_passes", "Collections by outcome"),
            last_collection: registered(
                all,
                "gc_last_success_timestamp_seconds",
                "When a collection ended that was complete, in seconds since 1970",
            ),
            collected: registered(all, "gc_items", "Links and layers by what collections did"),
            collected_bytes: registered(all, "gc_bytes", "Bytes of layers by what collections did"),
            routes: Arc::default(),
            registry,
        };
        // So that a rate of them is known from the first one on.
        for outcome in OUTCOMES {
            let method = "none";
            drop(
                metrics
                    .authorizations
                    .get_or_create(&Authorization { method, outcome }),
            );
        }
        for outcome in COLLECTION_OUTCOMES {
            drop(metrics.collections.get_or_create(&Outcome { outcome }));
        }
        // What collections must never cause.
        let (route, code) = ("manifest", "MANIFEST_BLOB_UNKNOWN");
        drop(metrics.refusals.get_or_create(&RouteCode { route, code }));
        let help = "The version of the program";
        let build: Family<Build, Gauge> = registered(&mut metrics.registry, "build_info", help);
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&Build { version }).set(1);
        let storage = Storage {
            read: Box::new(status),
            routes: Arc::clone(&metrics.routes),
            prices,
        };
        metrics.registry.register_collector(Box::new(storage));
        metrics
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

    /// Counts the requests to S3 of a route, or of other work of the process.
    pub fn usage_of(&self, route: &'static str) -> Arc<UsageCounter> {
        let mut routes = lock(&self.routes);
        Arc::clone(routes.entry(route).or_default())
    }

    /// Counts a request as running.
    pub(super) fn begin(&self) -> GaugeGuard {
        GaugeGuard::in_gauge(&self.running)
    }

    /// Counts an upload in this phase.
    pub(super) fn count_upload(&self, phase: &'static str) -> GaugeGuard {
        GaugeGuard::in_gauge(&self.uploads.get_or_create(&Phase { phase }))
    }

    pub(super) fn end(&self, route: &'static str, status: u16, time: Duration, bytes: (u64, u64)) {
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

    pub(super) fn refused(&self, route: &'static str, code: &'static str) {
        self.refusals
            .get_or_create(&RouteCode { route, code })
            .inc();
    }

    /// Counts what a collection did, also before it failed.
    pub fn count_collection(&self, collected: &CollectReport, is_failed: bool) {
        let [complete, stopped, failed] = COLLECTION_OUTCOMES;
        let outcome = if is_failed {
            failed
        } else if collected.stopped.is_some() || collected.repositories_left > 0 {
            stopped
        } else {
            complete
        };
        self.collections.get_or_create(&Outcome { outcome }).inc();
        if outcome == complete {
            let now = clock::now_timestamp().as_second();
            self.last_collection.get_or_create(&[]).set(now);
        }
        for (what, action, count) in [
            ("links", "condemned", collected.links_condemned),
            ("links", "restored", collected.links_restored),
            ("links", "removed", collected.links_removed),
            ("layers", "condemned", collected.layers_condemned),
            ("layers", "removed", collected.layers_removed),
            ("layers", "freed", collected.layers_freed),
        ] {
            self.collected
                .get_or_create(&Action { what, action })
                .inc_by(count);
        }
        let what = "layers";
        for (action, bytes) in [
            ("condemned", collected.bytes_condemned),
            ("removed", collected.bytes_removed),
            ("freed", collected.bytes_freed()),
        ] {
            self.collected_bytes
                .get_or_create(&Action { what, action })
                .inc_by(bytes);
        }
    }

    pub(super) fn count_events(&self, outcome: &'static str, count: u64) {
        self.events
            .get_or_create(&Outcome { outcome })
            .inc_by(count);
    }

    /// `None`: granted.
    pub(super) fn authorized(&self, method: &'static str, refused: Option<StatusCode>) {
        let [granted, unauthorized, forbidden, limited, unavailable] = OUTCOMES;
        let outcome = match refused.map(|status| status.as_u16()) {
            None => granted,
            Some(401) => unauthorized,
            Some(403) => forbidden,
            Some(429) => limited,
            Some(_) => unavailable,
        };
        self.authorizations
            .get_or_create(&Authorization { method, outcome })
            .inc();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
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
