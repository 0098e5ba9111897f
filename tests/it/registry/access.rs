//! The access log: a line a request, with what it moved and cost, and no secret.

use std::time::Duration;

use s3layers_registry::Options;
use serde_json::Value;

use super::site::Site;
use crate::support::bytes::{ramp, sha256};
use crate::support::log::Log;
use crate::support::own_process::in_own_process;

/// The lines of the access log.
fn lines(log: &Log) -> Vec<Value> {
    let text = log.text();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["target"] == "s3layers::access")
        .collect()
}

#[tokio::test(flavor = "current_thread")]
async fn each_request_has_a_line() {
    if !in_own_process("registry::access::each_request_has_a_line") {
        return;
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let options = Options {
        redirect: Some(Duration::from_secs(60)),
        ..Options::default()
    };
    let client = Site::embedded().await.process_with(options).await.client;
    let bytes = ramp(1, 20_000);
    let digest = sha256(&bytes);
    client.push("a", &bytes, &digest).await;
    let path = format!("/v2/a/blobs/{digest}");
    client.get(&path).await.is(307);
    client.get("/v2/a/manifests/none").await.is(404);

    let lines = lines(&log);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let push = &lines[0]["fields"];
    assert_eq!(
        (&push["method"], &push["status"]),
        (&"POST".into(), &201.into())
    );
    assert_eq!(push["path"], "/v2/a/blobs/uploads/");
    assert_eq!(push["bytes_in"], 20_000);
    assert!(push["s3_requests"].as_u64().unwrap() >= 3, "{push}");
    assert!(push["ms"].is_u64());
    assert_eq!(lines[1]["fields"]["status"], 307);
    let refused = &lines[2]["fields"];
    assert_eq!(refused["error"], "a has no tag none");
    assert!(refused["bytes_out"].as_u64().unwrap() > 20);
    assert!(
        !format!("{lines:?}").contains("Signature"),
        "a URL is a secret"
    );
}
