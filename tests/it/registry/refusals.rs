//! What is refused, and how: statuses and codes of the specification.

use std::sync::Arc;

use s3layers::{S3LayerService, StoreProfile};
use s3layers_registry::{Limits, Options};

use super::manifests::IMAGE;
use super::site::{Site, started};
use crate::support::bucket::keys;
use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::stores;

#[tokio::test]
async fn refusals_have_the_status_and_the_code_of_the_specification() {
    let digest = sha256(b"absent");
    for client in Site::clients().await {
        let at = client.upload("a").await;
        let upload = at.split_once('?').unwrap().0;
        let absent = "/v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000";
        for (method, path, status, code) in [
            ("GET", "/", 404, "NOT_FOUND"),
            ("GET", "/v2/a", 404, "NOT_FOUND"),
            ("GET", "/v2/A/tags/list", 400, "NAME_INVALID"),
            ("GET", "/v2/a/../b/tags/list", 400, "NAME_INVALID"),
            (
                "GET",
                "/v2/a/tags/list?n=x",
                400,
                "PAGINATION_NUMBER_INVALID",
            ),
            ("GET", "/v2/none/tags/list", 404, "NAME_UNKNOWN"),
            ("GET", "/v2/none/tags/list?n=0", 404, "NAME_UNKNOWN"),
            ("GET", "/v2/a/blobs/sha256:00", 400, "DIGEST_INVALID"),
            ("GET", "/v2/a/blobs/md5:00", 400, "DIGEST_INVALID"),
            ("GET", &format!("/v2/a/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
            (
                "DELETE",
                &format!("/v2/a/blobs/{digest}"),
                404,
                "BLOB_UNKNOWN",
            ),
            (
                "GET",
                &format!("/v2/a/manifests/{digest}"),
                404,
                "MANIFEST_UNKNOWN",
            ),
            ("GET", "/v2/a/manifests/latest", 404, "MANIFEST_UNKNOWN"),
            ("DELETE", "/v2/a/manifests/latest", 404, "MANIFEST_UNKNOWN"),
            ("GET", "/v2/a/manifests/.bad", 404, "MANIFEST_UNKNOWN"),
            ("GET", "/v2/a/manifests/sha256:00", 404, "MANIFEST_UNKNOWN"),
            ("DELETE", "/v2/a/manifests/.bad", 404, "MANIFEST_UNKNOWN"),
            ("PUT", "/v2/a/manifests/.bad", 400, "TAG_INVALID"),
            ("PUT", "/v2/a/manifests/sha256:00", 400, "DIGEST_INVALID"),
            ("GET", "/v2/a/referrers/latest", 400, "DIGEST_INVALID"),
            ("GET", absent, 404, "BLOB_UPLOAD_UNKNOWN"),
            ("PATCH", absent, 404, "BLOB_UPLOAD_UNKNOWN"),
            ("DELETE", absent, 404, "BLOB_UPLOAD_UNKNOWN"),
            (
                "PUT",
                &format!("{absent}?digest={digest}"),
                404,
                "BLOB_UPLOAD_UNKNOWN",
            ),
            ("GET", "/v2/a/blobs/uploads/x", 404, "BLOB_UPLOAD_UNKNOWN"),
            ("PUT", upload, 400, "DIGEST_INVALID"),
            ("PUT", &format!("{upload}?digest=x"), 400, "DIGEST_INVALID"),
            (
                "POST",
                "/v2/a/blobs/uploads/?mount=x",
                400,
                "DIGEST_INVALID",
            ),
            (
                "POST",
                &format!("/v2/a/blobs/uploads/?mount={digest}&from=A"),
                400,
                "NAME_INVALID",
            ),
            (
                "POST",
                "/v2/a/blobs/uploads/?digest=x",
                400,
                "DIGEST_INVALID",
            ),
            (
                "POST",
                "/v2/a/blobs/uploads/?digest=%zz",
                400,
                "DIGEST_INVALID",
            ),
            ("GET", "/v2/a/tags/list?last=%f", 400, "UNSUPPORTED"),
            (
                "POST",
                &format!("/v2/a/blobs/uploads/?mount={digest}&from=b&from=c"),
                400,
                "NAME_INVALID",
            ),
            (
                "PATCH",
                &format!("{upload}?at=x"),
                400,
                "BLOB_UPLOAD_INVALID",
            ),
            (
                "PATCH",
                &format!("{upload}?at=-1"),
                400,
                "BLOB_UPLOAD_INVALID",
            ),
            (
                "PATCH",
                &format!("{upload}?at=18446744073709551616"),
                400,
                "BLOB_UPLOAD_INVALID",
            ),
            (
                "PUT",
                &format!("{upload}?at=&digest={digest}"),
                400,
                "BLOB_UPLOAD_INVALID",
            ),
            ("PUT", "/v2/a/blobs/uploads/", 405, "UNSUPPORTED"),
            (
                "PATCH",
                &format!("/v2/a/blobs/{digest}"),
                405,
                "UNSUPPORTED",
            ),
            ("OPTIONS", "/v2/", 405, "UNSUPPORTED"),
        ] {
            let reply = client.send(method, path, &[], b"").await;
            assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
            assert_eq!(reply.code(), code, "{method} {path}");
            assert_eq!(reply.header("allow").is_some(), status == 405, "{path}");
        }
        for (range, body, status, code) in [
            ("x", "abc", 400, "BLOB_UPLOAD_INVALID"),
            ("0-9", "abc", 400, "SIZE_INVALID"),
            ("3-5", "abc", 416, "BLOB_UPLOAD_INVALID"),
        ] {
            let headers = [("content-range", range)];
            let reply = client.send("PATCH", &at, &headers, body.as_bytes()).await;
            assert_eq!((reply.status, &*reply.code()), (status, code), "{range}");
        }
        let status = client.get(&at).await.is(204);
        assert_eq!(status.offset(), 0, "nothing of it was taken");
    }
}

#[tokio::test]
async fn a_refusal_is_read_before_a_large_body_is_sent_in_vain() {
    let client = Site::client_of_memory().await;
    let absent = "/v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000";
    let body = vec![0; 3 * 1024 * 1024];
    client.send("PATCH", absent, &[], &body).await.is(404);
    // Who asks first need not send it.
    let headers = [("content-length", "3145728"), ("expect", "100-continue")];
    let mut conversation = client.begin("PATCH", absent, &headers).await;
    let refused = conversation.reply().await.is(404);
    // The next request would be read as that body.
    assert_eq!(refused.header("connection"), Some("close"));
}

#[tokio::test]
async fn body_that_no_upload_can_hold_is_refused_before_it_is_sent() {
    let store = stores::in_memory().await;
    let bucket = stores::sdk_client(&store);
    let mut profile = StoreProfile::AWS;
    profile.max_object_size = 12 * MIB;
    let config = stores::config().part_size(5 * MIB).profile(profile);
    let service = S3LayerService::connect(bucket.clone(), config).await;
    let service = Arc::new(service.unwrap());
    let limit = service.max_layer_size();
    assert_eq!(limit, 10 * MIB, "two parts");
    let client = started(service, Options::default(), Limits::default())
        .await
        .client;
    let bytes = ramp(1, limit);
    let digest = sha256(&bytes);

    let begin = format!("/v2/a/blobs/uploads/?digest={digest}");
    let at = client.upload("a").await;
    let reply = client.send("PATCH", &at, &[], &bytes[..10]).await.is(202);
    let at = reply.location();
    let before = keys(&bucket).await;
    for (method, path, size) in [
        ("POST", &begin, limit + 1),
        ("PATCH", &at, limit - 9),
        ("PATCH", &at, u64::MAX / 2),
        ("PUT", &format!("{at}&digest={digest}"), limit - 9),
    ] {
        let size = size.to_string();
        let headers = [("content-length", size.as_str())];
        // None of the body is sent.
        let mut conversation = client.begin(method, path, &headers).await;
        let reply = conversation.reply().await.is(413);
        assert_eq!(reply.code(), "SIZE_INVALID", "{method}");
        assert!(reply.json().to_string().contains(&limit.to_string()));
    }
    assert_eq!(keys(&bucket).await, before, "no upload is left behind");
    assert_eq!(client.get(&at).await.is(204).offset(), 10);
    let path = format!("{at}&digest={digest}");
    client.send("PUT", &path, &[], &bytes[10..]).await.is(201);
}

/// Three checks of the OCI's suite 1.1.1 that later ones lack: 01_pull_test.go:152 and 198, and
/// 02_push_test.go:329.
#[tokio::test]
async fn a_manifest_by_a_reference_that_cannot_be_one_is_not_found() {
    for client in Site::clients().await {
        let path = "/v2/some/repo/manifests/.INVALID_MANIFEST_NAME";
        client.head(path).await.is(404);
        client.get(path).await.is(404);
        let headers = [("content-type", IMAGE)];
        let body = br#"{"schemaVersion":2,"layers":[]}"#;
        client.send("PUT", path, &headers, body).await.is(400);
    }
}

#[tokio::test]
async fn it_says_that_it_lives_and_what_it_speaks() {
    for client in Site::clients().await {
        for path in ["/livez", "/readyz", "/v2/", "/v2"] {
            let reply = client.get(path).await.is(200);
            let version = reply.header("docker-distribution-api-version");
            assert_eq!(version, Some("registry/2.0"), "{path}");
            client.head(path).await.is(200);
        }
    }
}
