//! Read-only registries, removals, immutable tags, limits of a client, and the metrics of all that.

use std::net::IpAddr;
use std::sync::Arc;

use s3layers::{
    Algorithm, CollectReport, Digest, MemoryLayerService, RepositoryService, ServiceStatus,
};
use s3layers_registry::{Metrics, Options, Policy, Prices, Registry, WriteProtection, router};

use super::fixture::{Proof, Reply, Site, send, users};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn registry(service: &MemoryLayerService, write_protection: WriteProtection) -> Registry {
    let service: Arc<dyn RepositoryService> = Arc::new(service.clone());
    let options = Options {
        write_protection,
        ..Options::default()
    };
    router(service, options)
}

async fn ask(registry: &Registry, method: &str, path: &str, body: &str) -> Reply {
    send(registry, method, path, &Proof::None, HERE, body.as_bytes()).await
}

/// An index of nothing, which differs by its annotation.
fn manifest(text: &str) -> (String, String) {
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{{"a":"{text}"}}}}"#
    );
    let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes()).to_string();
    (manifest, digest)
}

#[tokio::test]
async fn protected_registry_refuses_what_it_should() {
    let service = MemoryLayerService::new();
    let open = registry(&service, WriteProtection::default());
    let (one, one_digest) = manifest("one");
    let (two, two_digest) = manifest("two");
    for path in [
        "/v2/a/manifests/v1",
        "/v2/a/manifests/latest",
        "/v2/free/manifests/v1",
    ] {
        assert_eq!(ask(&open, "PUT", path, &one).await.status, 201);
    }
    let read_only = registry(
        &service,
        WriteProtection {
            read_only: true,
            ..Default::default()
        },
    );
    let no_delete = registry(
        &service,
        WriteProtection {
            no_delete: true,
            ..Default::default()
        },
    );
    let immutable_tags = "a:v*".parse().unwrap();
    let immutable = registry(
        &service,
        WriteProtection {
            immutable_tags,
            ..Default::default()
        },
    );
    let by_one = format!("/v2/a/manifests/{one_digest}");
    let tag_again = format!("/v2/a/manifests/{two_digest}?tag=v1");
    let tag_new = format!("/v2/a/manifests/{two_digest}?tag=v2");
    for (registry, method, path, body, status) in [
        (&read_only, "GET", "/v2/a/manifests/v1", "", 200),
        (&read_only, "GET", "/v2/_catalog", "", 200),
        (&read_only, "PUT", "/v2/a/manifests/v1", &*one, 405),
        (&read_only, "POST", "/v2/a/blobs/uploads/", "", 405),
        (&read_only, "DELETE", "/v2/a/manifests/v1", "", 405),
        (&no_delete, "DELETE", "/v2/a/manifests/v1", "", 405),
        (&no_delete, "DELETE", &by_one, "", 405),
        (&no_delete, "PUT", "/v2/a/manifests/v1", &one, 201),
        (&immutable, "PUT", "/v2/a/manifests/v1", &one, 201),
        (&immutable, "PUT", "/v2/a/manifests/v1", &two, 403),
        (&immutable, "PUT", &tag_again, &two, 403),
        (&immutable, "PUT", &tag_new, &two, 201),
        (&immutable, "PUT", "/v2/a/manifests/v2", &one, 403),
        (&immutable, "PUT", "/v2/a/manifests/latest", &two, 201),
        (&immutable, "PUT", "/v2/free/manifests/v1", &two, 201),
        (&immutable, "DELETE", "/v2/a/manifests/v1", "", 403),
        (&immutable, "DELETE", &by_one, "", 403),
        (&immutable, "DELETE", "/v2/a/manifests/latest", "", 202),
        (&immutable, "DELETE", "/v2/free/manifests/v1", "", 202),
    ] {
        let reply = ask(registry, method, path, body).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
    }
    let named = ask(&open, "GET", "/v2/a/manifests/v1", "").await;
    assert_eq!(named.body, one);
}

#[test]
fn pattern_of_no_tag_is_refused() {
    for text in [
        "",
        "a",
        ":v*",
        "a:",
        "Team/**:v*",
        "host:5000/x:v*",
        "**:release/v*",
        "a/:v1",
    ] {
        let parsed = text.parse::<s3layers_registry::ImmutableTags>();
        assert!(parsed.is_err(), "{text}");
    }
}

#[tokio::test]
async fn image_of_an_immutable_tag_keeps_its_blobs() {
    let service = MemoryLayerService::new();
    let protection = WriteProtection {
        immutable_tags: "a:v*".parse().unwrap(),
        ..Default::default()
    };
    let registry = registry(&service, protection);
    let config = Digest::of(Algorithm::Sha256, b"{}");
    for name in ["a", "free"] {
        let path = format!("/v2/{name}/blobs/uploads/?digest={config}");
        assert_eq!(ask(&registry, "POST", &path, "{}").await.status, 201);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":2}},"layers":[]}}"#
        );
        let path = format!("/v2/{name}/manifests/v1");
        assert_eq!(ask(&registry, "PUT", &path, &manifest).await.status, 201);
    }
    for (name, deleted, read) in [("a", 403, 200), ("free", 202, 404)] {
        let path = format!("/v2/{name}/blobs/{config}");
        let reply = ask(&registry, "DELETE", &path, "").await;
        assert_eq!(reply.status, deleted, "{name}: {reply:?}");
        assert_eq!(ask(&registry, "GET", &path, "").await.status, read);
    }
}

#[tokio::test]
async fn logins_are_counted() {
    let metrics = Arc::new(Metrics::new(ServiceStatus::default, Prices::default()));
    let site = Site::new(users(&["alice"]), Policy::for_users(false));
    let registry = site.registry.with_metrics(metrics.clone());
    for password in ["ecila", "ecila", "wrong"] {
        let proof = Proof::basic("alice", password);
        send(&registry, "GET", "/token?service=x", &proof, HERE, b"").await;
    }
    let text = metrics.text().unwrap();
    for line in [
        "s3layers_auth_total{method=\"basic\",outcome=\"granted\"} 2",
        "s3layers_auth_total{method=\"basic\",outcome=\"unauthorized\"} 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn metrics_count_requests_and_prices() {
    let service: Arc<dyn RepositoryService> = Arc::new(MemoryLayerService::new());
    let status = || {
        let mut status = ServiceStatus::default();
        let usage = &mut status.background;
        usage
            .requests_by_operation
            .extend([("PutObject", 2000), ("GetObject", 5000)]);
        usage.requests_by_operation.insert("DeleteObject", 9);
        usage.bytes_sent = 7;
        status
    };
    let metrics = Arc::new(Metrics::new(status, Prices::default()));
    let registry = router(service, Options::default()).with_metrics(metrics.clone());
    for (method, path) in [
        ("GET", "/v2/"),
        ("GET", "/v2/"),
        ("POST", "/v2/secret-name/blobs/uploads/"),
        ("GET", "/v2/secret-name/tags/list"),
        ("GET", "/nowhere"),
    ] {
        ask(&registry, method, path, "").await;
    }
    let of_collections =
        "s3layers_http_refusals_total{route=\"manifest\",code=\"MANIFEST_BLOB_UNKNOWN\"} 0";
    assert!(metrics.text().unwrap().contains(of_collections));
    let last_collection = "\ns3layers_gc_last_success_timestamp_seconds";
    assert!(!metrics.text().unwrap().contains(last_collection));
    let mut guarded = CollectReport::default();
    guarded.repositories_left = 1;
    metrics.count_collection(&guarded, false);
    metrics.count_collection(&CollectReport::default(), true);
    assert!(!metrics.text().unwrap().contains(last_collection));
    metrics.count_collection(&CollectReport::default(), false);
    assert!(metrics.text().unwrap().contains(last_collection));
    let text = metrics.text().unwrap();
    for line in [
        "# TYPE s3layers_http_requests_total counter",
        "s3layers_http_requests_total{route=\"base\",status=\"200\"} 2",
        "s3layers_http_requests_total{route=\"uploads\",status=\"202\"} 1",
        "s3layers_http_requests_total{route=\"tags\",status=\"404\"} 1",
        "s3layers_http_requests_total{route=\"none\",status=\"404\"} 1",
        "s3layers_http_request_seconds_count{route=\"base\"} 2",
        "s3layers_http_requests_running 0",
        "s3layers_gc_passes_total{outcome=\"complete\"} 1",
        "s3layers_gc_passes_total{outcome=\"failed\"} 1",
        "s3layers_gc_passes_total{outcome=\"stopped\"} 1",
        "s3layers_http_refusals_total{route=\"tags\",code=\"NAME_UNKNOWN\"} 1",
        "s3layers_s3_requests_total{route=\"background\",operation=\"PutObject\"} 2000.0",
        "s3layers_s3_sent_bytes_total{route=\"background\"} 7.0",
        "s3layers_s3_cost_dollars_total{route=\"background\"} 0.012",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    assert!(!text.contains("secret-name"));
    // The dashboard names no metric that is not there.
    let dashboard = include_str!("../../../../docs/dashboard.json");
    serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
    let names = dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names: Vec<_> = names.filter(|name| name.starts_with("s3layers_")).collect();
    assert!(names.len() > 5);
    for name in names {
        let base = name.trim_end_matches("_bucket").trim_end_matches("_sum");
        let base = base.trim_end_matches("_count");
        assert!(text.contains(&format!("# TYPE {base} ")), "{name}\n{text}");
    }
}
