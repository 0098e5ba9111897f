//! What the storage did and has: requests and prices by route, memory, events. Read at each scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::locks::lock;
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
            // ListParts is billed as a GET, GetBucket… too.
            "GetObject" | "HeadObject" | "ListParts" => self.reads,
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
        let routes = lock(&self.routes);
        let counted = routes
            .iter()
            .map(|(route, counter)| (*route, counter.usage()));
        counted.chain([(BACKGROUND, background)]).collect()
    }

    fn encode_requests(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        background: Usage,
    ) -> Result<(), fmt::Error> {
        let routes = self.by_route(background);
        let new = ConstCounter::new;
        let samples = routes.iter().flat_map(|(route, usage)| {
            let requests = usage.requests_by_operation.iter();
            requests.map(|(operation, count)| {
                let labels = vec![("route", *route), ("operation", *operation)];
                (labels, *count as f64)
            })
        });
        let help = "Requests to S3 by route and operation, repeated attempts included";
        encode_family(encoder, "s3_requests", help, new, samples)?;
        let samples = routes.iter().flat_map(|(route, usage)| {
            let outcomes = usage.outcomes.iter();
            outcomes.map(|(outcome, count)| {
                let labels = vec![("route", *route), ("outcome", &**outcome)];
                (labels, *count as f64)
            })
        });
        let help = "Requests to S3 that ended, by route and outcome";
        encode_family(encoder, "s3_outcomes", help, new, samples)?;
        let mut of_routes = |name, help, value: &dyn Fn(&Usage) -> f64| {
            let routes = routes.iter();
            let samples = routes.map(|(route, usage)| (vec![("route", *route)], value(usage)));
            encode_family(encoder, name, help, new, samples)
        };
        let help = "Bytes of request bodies to S3";
        of_routes("s3_sent_bytes", help, &|usage| usage.bytes_sent as f64)?;
        let help = "Bytes of answers of S3";
        of_routes("s3_received_bytes", help, &|usage| {
            usage.bytes_received as f64
        })?;
        let help = "The price of the requests to S3";
        of_routes("s3_cost_dollars", help, &|usage| self.prices.of(usage))
    }
}

impl Collector for Storage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = (self.read)();
        self.encode_requests(&mut encoder, status.background)?;
        let events = status.events.iter();
        let events = events.map(|(event, count)| (vec![("event", *event)], *count as f64));
        let help = "What an operator should know of";
        encode_family(&mut encoder, "events", help, ConstCounter::new, events)?;
        let pools = [("uploads", status.uploads), ("readers", status.readers)];
        let of_pools = |value: fn(&PoolLoad) -> f64| {
            let pools = pools.iter();
            let samples = pools.map(|(pool, load)| (vec![("pool", *pool)], value(load)));
            samples.collect::<Vec<_>>()
        };
        let (limit, held) = (
            of_pools(|pool| pool.total as f64),
            of_pools(|pool| pool.held as f64),
        );
        let waiting = of_pools(|pool| pool.waiting as f64);
        let writes = vec![(Vec::new(), status.writes as f64)];
        for (name, help, samples) in [
            ("memory_limit_bytes", "The memory of a pool", limit),
            ("memory_held_bytes", "Memory in use", held),
            ("memory_waiters", "Requests for memory that wait", waiting),
            (
                "parts_in_flight",
                "Requests to S3 in flight that carry bytes of layers",
                writes,
            ),
        ] {
            encode_family(&mut encoder, name, help, ConstGauge::new, samples)?;
        }
        Ok(())
    }
}

fn encode_family<'a, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: fn(f64) -> M,
    samples: impl IntoIterator<Item = Sample<'a>>,
) -> Result<(), fmt::Error> {
    let kind = metric(0.0).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in samples {
        metric(value).encode(family.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}
