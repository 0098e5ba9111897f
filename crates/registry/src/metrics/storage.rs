//! What the storage did and has: requests and prices by route, memory, events. Read at each scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use s3layers::{PoolLoad, ServiceStatus, Usage, UsageCounter};

/// The route of the requests to S3 that no request of a client caused.
const BACKGROUND: &str = "background";

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

/// Prices that are no two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected two prices in dollars, of 1000 writes and of 1000 reads, such as 0.005,0.0004")]
pub struct InvalidPrices;

impl FromStr for Prices {
    type Err = InvalidPrices;

    /// `WRITES,READS`.
    fn from_str(text: &str) -> Result<Self, InvalidPrices> {
        let price = |text: &str| {
            text.trim()
                .parse()
                .ok()
                .filter(|price| (0.0..1e6).contains(price))
        };
        let (writes, reads) = text.split_once(',').ok_or(InvalidPrices)?;
        let (writes, reads) = price(writes).zip(price(reads)).ok_or(InvalidPrices)?;
        Ok(Prices { writes, reads })
    }
}

impl fmt::Display for Prices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.writes, self.reads)
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

/// The requests to S3 of each route.
pub(super) type Routes = Mutex<BTreeMap<&'static str, Arc<UsageCounter>>>;

/// Reads the status of a service.
pub(super) type Read = dyn Fn() -> ServiceStatus + Send + Sync;

/// The metrics of the storage.
pub(super) struct Storage {
    pub(super) read: Box<Read>,
    pub(super) routes: Arc<Routes>,
    pub(super) prices: Prices,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}

/// A value with its labels.
type Sample<'a> = (Vec<(&'a str, &'a str)>, f64);

impl Storage {
    fn by_route(&self, background: Usage) -> Vec<(&'static str, Usage)> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = routes
            .iter()
            .map(|(route, counter)| (*route, counter.usage()));
        counted.chain([(BACKGROUND, background)]).collect()
    }
}

impl Collector for Storage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = (self.read)();
        let routes = self.by_route(status.background);
        let samples = routes.iter().flat_map(|(route, usage)| {
            let requests = usage.requests_by_operation.iter();
            requests.map(|(operation, count)| {
                let labels = vec![("route", *route), ("operation", *operation)];
                (labels, *count as f64)
            })
        });
        let help = "Requests to S3 by route and operation, repeated attempts included";
        counters(&mut encoder, "s3_requests", help, samples)?;
        let samples = routes.iter().flat_map(|(route, usage)| {
            let outcomes = usage.outcomes.iter();
            outcomes.map(|(outcome, count)| {
                (
                    vec![("route", *route), ("outcome", &**outcome)],
                    *count as f64,
                )
            })
        });
        let help = "Requests to S3 that ended, by route and outcome";
        counters(&mut encoder, "s3_outcomes", help, samples)?;
        let mut of_routes = |name, help, value: &dyn Fn(&Usage) -> f64| {
            let samples = routes
                .iter()
                .map(|(route, usage)| (vec![("route", *route)], value(usage)));
            counters(&mut encoder, name, help, samples)
        };
        of_routes("s3_sent_bytes", "Bytes of request bodies to S3", &|usage| {
            usage.bytes_sent as f64
        })?;
        of_routes("s3_received_bytes", "Bytes of answers of S3", &|usage| {
            usage.bytes_received as f64
        })?;
        of_routes(
            "s3_cost_dollars",
            "The price of the requests to S3",
            &|usage| self.prices.of(usage),
        )?;
        let events = status
            .events
            .iter()
            .map(|(event, count)| (vec![("event", *event)], *count as f64));
        counters(
            &mut encoder,
            "events",
            "What an operator should know of",
            events,
        )?;
        let pools = [("uploads", status.uploads), ("readers", status.readers)];
        let mut of_pools = |name, help, value: &dyn Fn(&PoolLoad) -> f64| {
            let samples = pools
                .iter()
                .map(|(pool, load)| (vec![("pool", *pool)], value(load)));
            gauges(&mut encoder, name, help, samples)
        };
        of_pools("memory_limit_bytes", "The memory of a pool", &|pool| {
            pool.total as f64
        })?;
        of_pools("memory_held_bytes", "Memory in use", &|pool| {
            pool.held as f64
        })?;
        of_pools("memory_waiters", "Requests for memory that wait", &|pool| {
            pool.waiting as f64
        })?;
        let help = "Requests to S3 in flight that carry bytes of layers";
        gauges(
            &mut encoder,
            "parts_in_flight",
            help,
            [(Vec::new(), status.writes as f64)],
        )
    }
}

fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = Sample<'a>>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        ConstCounter::new(value).encode(family.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}

fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = Sample<'a>>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(family.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}
