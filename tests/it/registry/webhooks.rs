//! Events of the registry, posted to a receiver over HTTP.

use std::future::Future;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use s3layers::{MemoryLayerService, ServiceStatus};
use s3layers_registry::{Metrics, Options, Prices, Registry, Webhook, router};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{pause, timeout};

use super::auth::fixture::{Proof, Reply, send};
use super::manifests::IMAGE;
use crate::support::bytes::sha256;
use crate::support::http_request::HttpRequest;
use crate::support::log::Log;
use crate::support::own_process::in_own_process;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry with a webhook.
struct Site {
    registry: Registry,
    metrics: Arc<Metrics>,
    delivery: JoinHandle<()>,
}

impl Site {
    fn new(receiver: SocketAddr, authorization: Option<&str>) -> Self {
        let metrics = Arc::new(Metrics::new(ServiceStatus::default, Prices::default()));
        let url = format!("http://{receiver}/hook?key=canary-query");
        let authorization = authorization.map(|value| HeaderValue::from_str(value).unwrap());
        let (webhook, delivery) =
            Webhook::new(url.parse().unwrap(), authorization, Some(metrics.clone()));
        let options = Options {
            public_url: Some("https://registry.example.com/".to_owned()),
            ..Options::default()
        };
        let registry = router(Arc::new(MemoryLayerService::new()), options);
        Site {
            registry: registry.with_webhook(webhook),
            metrics,
            delivery: tokio::spawn(delivery.run()),
        }
    }

    async fn send(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let here = [127, 0, 0, 1].into();
        send(&self.registry, method, path, &Proof::None, here, body).await
    }

    /// Pushes a blob, which is an event.
    async fn push(&self, bytes: &[u8]) {
        let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(bytes));
        assert_eq!(self.send("POST", &path, bytes).await.status, 201);
    }

    fn events(&self, outcome: &str) -> u64 {
        let text = self.metrics.text().unwrap();
        let name = format!("s3layers_webhook_events_total{{outcome=\"{outcome}\"}} ");
        let values: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&name))
            .collect();
        assert_eq!(values.len(), 1, "{text}");
        values[0].parse().unwrap()
    }

    /// Waits until every event is delivered or dropped.
    async fn finish(self) -> Arc<Metrics> {
        drop(self.registry);
        in_time(self.delivery).await.unwrap();
        self.metrics
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("in time")
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What a receiver got.
type Posts = UnboundedReceiver<HttpRequest>;

/// Answers requests with these statuses, further ones with 200.
fn receive(listener: TcpListener, statuses: &[u16]) -> Posts {
    let (sender, posts) = unbounded_channel();
    let statuses = statuses.to_vec();
    std::thread::spawn(move || {
        for status in statuses.into_iter().chain(std::iter::repeat(200)) {
            let (mut stream, _) = listener.accept().unwrap();
            let request = HttpRequest::read(&mut stream).unwrap();
            let head = format!("HTTP/1.1 {status} x\r\nlocation: /elsewhere\r\n");
            let answer = format!("{head}content-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    posts
}

async fn next_events(posts: &mut Posts, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        let request = in_time(posts.recv()).await.unwrap();
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        events.extend(body["events"].as_array().unwrap().iter().cloned());
    }
    events
}

#[tokio::test]
async fn actions_of_clients_are_events_in_their_order() {
    let (listener, address) = listen();
    let mut posts = receive(listener, &[]);
    let site = Site::new(address, None);
    let config = sha256(b"{}");
    site.push(b"{}").await;
    let mount = format!("/v2/b/blobs/uploads/?mount={config}&from=a");
    assert_eq!(site.send("POST", &mount, b"").await.status, 201);
    let begun = site.send("POST", "/v2/b/blobs/uploads/", b"").await;
    assert_eq!(begun.status, 202);
    let part = site.send("PATCH", &begun.location(), b"{").await;
    assert_eq!(part.status, 202);
    let end = format!("{}&digest={config}", part.location());
    assert_eq!(site.send("PUT", &end, b"}").await.status, 201);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "config": {"digest": config, "size": 2}, "layers": [],
    });
    let manifest = manifest.to_string();
    let named = sha256(manifest.as_bytes());
    let (path, two) = ("/v2/b/manifests/v1", "/v2/b/manifests/v1?tag=v2");
    assert_eq!(site.send("PUT", two, manifest.as_bytes()).await.status, 201);
    for (method, path, status) in [
        ("HEAD", path, 200),
        ("GET", "/v2/b/tags/list", 200),
        ("GET", "/v2/b/manifests/none", 404),
        ("GET", path, 200),
        ("GET", &*format!("/v2/b/blobs/{config}"), 200),
        ("DELETE", path, 202),
        ("DELETE", path, 404),
        ("DELETE", &format!("/v2/b/manifests/{named}"), 202),
        ("DELETE", &format!("/v2/b/blobs/{config}"), 202),
    ] {
        assert_eq!(
            site.send(method, path, b"").await.status,
            status,
            "{method} {path}"
        );
    }

    let (blob, size) = ("application/octet-stream", manifest.len());
    let content = |media: &str, digest: &dyn std::fmt::Display, name: &str, kind: &str| {
        json!({
            "mediaType": media, "digest": digest.to_string(), "repository": name,
            "url": format!("https://registry.example.com/v2/{name}/{kind}/{digest}"),
        })
    };
    let sized = |mut target: Value, size: usize| {
        (target["size"], target["length"]) = (size.into(), size.into());
        target
    };
    let tagged = |mut target: Value, tag: &str| {
        target["tag"] = tag.into();
        target
    };
    let mut mounted = content(blob, &config, "b", "blobs");
    mounted["fromRepository"] = "a".into();
    let mut pushed = sized(content(IMAGE, &named, "b", "manifests"), size);
    let pulled = tagged(pushed.clone(), "v1");
    // The request had no Content-Type.
    pushed.as_object_mut().unwrap().remove("mediaType");
    let wanted = [
        ("push", sized(content(blob, &config, "a", "blobs"), 2)),
        ("mount", mounted),
        ("push", content(blob, &config, "b", "blobs")),
        ("push", tagged(pushed.clone(), "v1")),
        ("push", tagged(pushed, "v2")),
        ("pull", pulled),
        ("pull", sized(content(blob, &config, "b", "blobs"), 2)),
        ("delete", json!({"repository": "b", "tag": "v1"})),
        (
            "delete",
            json!({"repository": "b", "digest": named.to_string()}),
        ),
        (
            "delete",
            json!({"repository": "b", "digest": config.to_string()}),
        ),
    ];
    let events = next_events(&mut posts, wanted.len()).await;
    for (event, (action, target)) in events.iter().zip(&wanted) {
        assert_eq!(event["action"], *action, "{event}");
        assert_eq!(event["target"], *target, "{event}");
        assert_eq!(event["actor"]["name"], "anonymous", "{event}");
        assert_eq!(event["request"]["addr"], "127.0.0.1", "{event}");
        assert!(
            event["timestamp"].as_str().unwrap().ends_with('Z'),
            "{event}"
        );
    }
    let metrics = site.finish().await.text().unwrap();
    assert!(posts.try_recv().is_err());
    for line in ["{outcome=\"delivered\"} 10", "{outcome=\"dropped\"} 0"] {
        assert!(
            metrics.contains(&format!("s3layers_webhook_events_total{line}\n")),
            "{metrics}"
        );
    }
}

#[tokio::test]
async fn tags_in_the_query_of_a_push_are_events_once_and_of_others_not() {
    let (listener, address) = listen();
    let mut posts = receive(listener, &[]);
    let site = Site::new(address, None);
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let digest = sha256(index);
    for (method, path, status) in [
        ("PUT", "/v2/a/manifests/v1?tag=v2&tag=v1&tag=v2", 201),
        ("GET", "/v2/a/manifests/v1?tag=x", 200),
        ("GET", &*format!("/v2/a/manifests/{digest}?tag=x"), 200),
        ("DELETE", "/v2/a/manifests/v1?tag=x", 202),
        ("DELETE", &format!("/v2/a/manifests/{digest}?tag=x"), 202),
    ] {
        let body = if method == "PUT" { &index[..] } else { b"" };
        let reply = site.send(method, path, body).await;
        assert_eq!(reply.status, status, "{method} {path}");
    }
    site.finish().await;
    let mut events = Vec::new();
    while let Ok(request) = posts.try_recv() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let posted = body["events"].as_array().unwrap().iter();
        events.extend(posted.map(|event| json!([event["action"], event["target"]["tag"]])));
    }
    let want = [
        json!(["push", "v1"]),
        json!(["push", "v2"]),
        json!(["pull", "v1"]),
        json!(["pull", null]),
        json!(["delete", "v1"]),
        json!(["delete", null]),
    ];
    assert_eq!(events, want);
}

#[tokio::test]
async fn an_event_is_repeated_until_the_receiver_is_back() {
    let (listener, address) = listen();
    let site = Site::new(address, None);
    site.push(b"one").await;
    // It ends during the first attempt.
    let ended = spawn_blocking(move || drop(listener.accept().unwrap()));
    in_time(ended).await.unwrap();
    let mut posts = receive(TcpListener::bind(address).unwrap(), &[503, 307]);
    // The two that were refused and the one that was accepted.
    let events = next_events(&mut posts, 3).await;
    assert_eq!(events[0]["id"], events[2]["id"]);
    assert_eq!(site.events("dropped"), 0);
    let metrics = site.finish().await.text().unwrap();
    assert!(metrics.contains("s3layers_webhook_events_total{outcome=\"delivered\"} 1\n"));
}

#[tokio::test]
async fn events_of_an_absent_receiver_are_dropped_and_counted() {
    let (listener, address) = listen();
    drop(listener);
    let site = Site::new(address, None);
    site.push(b"one").await;
    // Without waiting for the pauses.
    pause();
    drop(site.registry);
    let delivered = timeout(Duration::from_secs(1800), site.delivery).await;
    delivered.expect("a bounded number of attempts").unwrap();
    let metrics = site.metrics.text().unwrap();
    assert!(
        metrics.contains("s3layers_webhook_events_total{outcome=\"dropped\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn requests_do_not_wait_for_a_receiver_that_does_not_answer() {
    // Connections stay in its queue.
    let (_listener, address) = listen();
    let site = Site::new(address, None);
    let bytes = b"bytes";
    site.push(bytes).await;
    let blob = format!("/v2/a/blobs/{}", sha256(bytes));
    // More than the queue and the batch that is being sent.
    in_time(async {
        for _ in 0..1200 {
            assert_eq!(site.send("GET", &blob, b"").await.status, 200);
        }
    })
    .await;
    assert_eq!(site.events("delivered"), 0);
    assert!(site.events("dropped") >= 100, "{}", site.events("dropped"));
}

#[tokio::test(flavor = "current_thread")]
async fn no_event_of_the_log_shows_the_secrets_of_the_receiver() {
    if !in_own_process("registry::webhooks::no_event_of_the_log_shows_the_secrets_of_the_receiver")
    {
        return;
    }
    let (log, _guard) = Log::begin();
    let (listener, address) = listen();
    let mut posts = receive(listener, &[500]);
    let site = Site::new(address, Some("Bearer canary-token"));
    site.push(b"one").await;
    for _ in 0..2 {
        let request = in_time(posts.recv()).await.unwrap();
        assert_eq!(request.target, "/hook?key=canary-query");
        assert_eq!(request.headers["authorization"], "Bearer canary-token");
    }
    let metrics = site.finish().await.text().unwrap();
    let logged = log.text();
    assert!(
        logged.contains("status 500") && logged.contains("127.0.0.1"),
        "{logged}"
    );
    assert!(
        !logged.contains("canary") && !metrics.contains("canary"),
        "{logged}"
    );
}
