//! The requests to the store and their price in the metrics, compared with what was counted between
//! the server and the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use s3layers::S3LayerService;
use s3layers_registry::{Limits, Metrics, Options, Prices, router, serve};
use serde_json::json;
use tokio::net::TcpListener;

use super::client::Client;
use super::manifests::IMAGE;
use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::fault_client::{FaultClient, GetObject, On, PutObject, UploadPart};
use crate::support::stores;

const PRICES: Prices = Prices {
    writes: 7.0,
    reads: 3.0,
};

struct Counted {
    client: Client,
    wire: FaultClient,
    service: Arc<S3LayerService>,
    metrics: Arc<Metrics>,
}

/// Route and operation.
type Counts = BTreeMap<(String, String), u64>;

impl Counted {
    async fn start() -> Self {
        let (store, wire) = stores::with_wire().await;
        let client = stores::client(&store, wire.http_client());
        let service = S3LayerService::connect(client, stores::config()).await;
        let service = Arc::new(service.unwrap());
        let counted = Arc::clone(&service);
        let metrics = Arc::new(Metrics::new(move || counted.status(), PRICES));
        let registry = router(service.clone(), Options::default()).with_metrics(metrics.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client(listener.local_addr().unwrap());
        let never = std::future::pending();
        tokio::spawn(serve(listener, registry, Limits::default(), never));
        Counted {
            client,
            wire,
            service,
            metrics,
        }
    }

    fn values(&self, metric: &str) -> Vec<(Vec<String>, f64)> {
        let text = self.metrics.text().unwrap();
        let values = text.lines().filter_map(|line| {
            let (labels, value) = line
                .strip_prefix(metric)?
                .strip_prefix('{')?
                .split_once("} ")?;
            let labels = labels
                .split(',')
                .map(|label| label.split('"').nth(1).unwrap().to_owned());
            Some((labels.collect(), value.parse().unwrap()))
        });
        values.collect()
    }

    fn requests(&self) -> Counts {
        let values = self.values("s3layers_s3_requests_total").into_iter();
        let counts = values.map(|(labels, count)| {
            let [route, operation] = <[String; 2]>::try_from(labels).unwrap();
            ((route, operation), count as u64)
        });
        counts.collect()
    }

    fn cost(&self, route: &str) -> f64 {
        let values = self.values("s3layers_s3_cost_dollars_total").into_iter();
        values
            .filter(|(labels, _)| labels[0] == route)
            .map(|(_, cost)| cost)
            .sum()
    }

    /// Does `work`, of which all requests to the store are of `route`.
    async fn expect<T>(&self, route: &str, work: impl Future<Output = T>) -> T {
        self.service.wait_for_background().await;
        let (before, cost_before) = (self.requests(), self.cost(route));
        self.wire.reset();
        let done = work.await;
        self.service.wait_for_background().await;
        let (mut want, mut cost) = (before, 0.0);
        for request in self.wire.log() {
            let operation = format!("{:?}", request.operation);
            cost += match &*operation {
                "DeleteObject" => 0.0,
                "GetObject" | "HeadObject" => 0.003,
                _ => 0.007,
            };
            *want.entry((route.to_owned(), operation)).or_default() += 1;
        }
        assert!(!self.wire.log().is_empty(), "{route} makes requests");
        assert_eq!(self.requests(), want, "{route}");
        let got = self.cost(route) - cost_before;
        assert!((got - cost).abs() < 1e-9, "{route}: {got}, expected {cost}");
        done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_price_by_route_are_those_between_server_and_store() {
    let counted = Counted::start().await;
    let client = counted.client;
    let large = ramp(1, 12 * MIB);
    let digest = sha256(&large);
    let blob = format!("/v2/a/blobs/{digest}");
    counted.expect("blob", client.head(&blob)).await.is(404);
    let at = counted.expect("uploads", client.upload("a")).await;
    // Repeated attempts count.
    counted.wire.fault(On::nth(UploadPart, 1).status(503));
    let half = 6 * MIB as usize;
    let patch = client.send("PATCH", &at, &[], &large[..half]);
    let at = counted.expect("upload", patch).await.is(202).location();
    counted.wire.clear_faults();
    let path = format!("{at}&digest={digest}");
    let put = client.send("PUT", &path, &[], &large[half..]);
    counted.expect("upload", put).await.is(201);
    let got = counted.expect("blob", client.get(&blob)).await.is(200);
    assert_eq!(got.body.len() as u64, 12 * MIB);
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let mount = client.send("POST", &mount, &[], b"");
    counted.expect("uploads", mount).await.is(201);
    let layer = json!({"digest": digest, "size": large.len()});
    let manifest = json!({"schemaVersion": 2, "config": layer, "layers": []}).to_string();
    let (path, headers) = ("/v2/b/manifests/v1", [("content-type", IMAGE)]);
    let put = client.send("PUT", path, &headers, manifest.as_bytes());
    counted.expect("manifest", put).await.is(201);
    counted.expect("manifest", client.get(path)).await.is(200);
    counted
        .expect("tags", client.get("/v2/b/tags/list"))
        .await
        .is(200);
    counted
        .expect("catalog", client.get("/v2/_catalog"))
        .await
        .is(200);
    counted
        .expect("readyz", client.get("/readyz"))
        .await
        .is(200);
    let referrers = format!("/v2/b/referrers/{digest}");
    counted
        .expect("referrers", client.get(&referrers))
        .await
        .is(200);
    counted
        .expect("manifest", client.delete(path))
        .await
        .is(202);
    counted.expect("blob", client.delete(&blob)).await.is(202);
    // What no client caused.
    let sweep = stores::swept(&counted.service, std::time::Duration::ZERO, true);
    counted.expect("background", sweep).await.unwrap();
    let outcomes = counted.values("s3layers_s3_outcomes_total");
    let failed = ["upload".to_owned(), "Throttled".to_owned()];
    assert!(outcomes.contains(&(failed.to_vec(), 1.0)), "{outcomes:?}");
}

#[tokio::test]
async fn readiness_costs_one_request() {
    for (fault, status) in [(None, 200), (Some(On::every(GetObject).status(503)), 503)] {
        let counted = Counted::start().await;
        counted.wire.reset();
        if let Some(fault) = fault {
            counted.wire.fault(fault);
        }
        counted.client.get("/readyz").await.is(status);
        assert_eq!(counted.wire.log().len(), 1);
    }
}

#[tokio::test]
async fn answers_carry_the_id_of_their_request() {
    let counted = Counted::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str())];
    let reply = counted.client.send("GET", "/v2/", &headers, b"").await;
    assert_eq!(reply.header("x-request-id"), Some(trace));
    let reply = counted.client.get("/nowhere").await.is(404);
    let id = reply.header("x-request-id").unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_are_counted_for_their_routes() {
    let counted = Counted::start().await;
    let client = counted.client;
    let small = ramp(1, 100);
    client.push("a", &small, sha256(&small)).await;
    counted.service.wait_for_background().await;
    let before = counted.requests();
    counted.wire.reset();
    let pushes = futures_util::future::join_all((2..10).map(|seed| async move {
        let bytes = ramp(seed, 6 * MIB);
        client.push("a", &bytes, sha256(&bytes)).await;
    }));
    let blob = format!("/v2/a/blobs/{}", sha256(&small));
    let pulls = futures_util::future::join_all((0..40).map(|_| client.get(&blob)));
    tokio::join!(pushes, pulls);
    counted.service.wait_for_background().await;
    let after = counted.requests();
    let added = |route: &str, operation: &str| {
        let key = (route.to_owned(), operation.to_owned());
        let count = |counts: &Counts| counts.get(&key).copied().unwrap_or(0);
        (count(&after) - count(&before)) as usize
    };
    assert_eq!(added("blob", "PutObject"), 0);
    let puts = added("uploads", "PutObject") + added("upload", "PutObject");
    assert_eq!(puts, counted.wire.count(PutObject));
    let gets = ["blob", "uploads", "upload"].map(|route| added(route, "GetObject"));
    assert!(gets[0] >= 40, "{gets:?}");
    assert_eq!(gets.iter().sum::<usize>(), counted.wire.count(GetObject));
}

#[tokio::test]
async fn uploads_are_counted_by_phase() {
    let counted = Counted::start().await;
    let client = counted.client;
    let phase = |phase: &str| {
        let values = counted.values("s3layers_uploads");
        let found = values.iter().find(|(labels, _)| labels[0] == phase);
        found.map(|(_, count)| *count)
    };
    let bytes = ramp(1, 100_000);
    let at = client.upload("a").await;
    let size = bytes.len().to_string();
    let headers = [("content-length", size.as_str())];
    let mut patch = client.begin("PATCH", &at, &headers).await;
    patch.send(&bytes[..10]).await;
    client.status(&at, 10).await;
    assert_eq!((phase("receiving"), phase("publishing")), (Some(1.0), None));
    patch.send(&bytes[10..]).await;
    let at = patch.reply().await.is(202).location();
    assert_eq!(phase("receiving"), Some(0.0));

    let record = On::every(PutObject).key_contains("layers/sha256/");
    let gate = counted.wire.hold(record);
    let path = format!("{at}&digest={}", sha256(&bytes));
    let headers = [("content-length", "0")];
    let mut put = client.begin("PUT", &path, &headers).await;
    gate.reached_by(1).await;
    assert_eq!(phase("receiving"), Some(0.0));
    assert_eq!(phase("publishing"), Some(1.0));
    gate.open();
    put.reply().await.is(201);
    assert_eq!(phase("publishing"), Some(0.0));
}
