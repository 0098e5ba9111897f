//! Blobs: each way to push one, each way to read one.

use std::sync::Arc;

use s3layers::{Algorithm, Digest, S3LayerService};
use s3layers_registry::{Limits, Options};

use super::client::Reply;
use super::site::{Site, started};
use crate::support::bytes::{KIB, MIB, assert_same, ramp, sha256};
use crate::support::stores;

#[tokio::test]
async fn a_layer_comes_back_however_it_was_pushed() {
    for site in Site::all().await {
        let [here, there] = site.two_clients().await;
        for (seed, size) in [(1, 0), (2, 1), (3, 3 * KIB), (4, 12 * MIB + 7)] {
            for (way, algorithm) in [(0, Algorithm::Sha256), (1, Algorithm::Sha512)] {
                let mut digests = Vec::new();
                // One after the other, so that each meets the ones before as duplicates too.
                for kind in ["whole", "put", "stream", "chunks"] {
                    let bytes = ramp(seed * 10 + way + kind.len() as u32, size);
                    let digest = Digest::of(algorithm, &bytes);
                    match kind {
                        "whole" => here.push("a/b", &bytes, &digest).await,
                        "put" => {
                            let at = here.upload("a/b").await;
                            let path = format!("{at}&digest={digest}");
                            let encoded = path.replace(':', "%3A");
                            let reply = there.send("PUT", &encoded, &[], &bytes).await.is(201);
                            let want = format!("/v2/a/b/blobs/{digest}");
                            assert_eq!(reply.location(), want);
                        }
                        "stream" => {
                            let at = here.upload("a/b").await;
                            let reply = here.send("PATCH", &at, &[], &bytes).await.is(202);
                            assert_eq!(reply.offset(), size);
                            let path = format!("{}&digest={digest}", reply.location());
                            here.send("PUT", &path, &[], b"").await.is(201);
                        }
                        _ => {
                            let mut at = here.upload("a/b").await;
                            let mut sent = 0;
                            for chunk in bytes.chunks(5 * MIB as usize) {
                                let last = sent + chunk.len() as u64 - 1;
                                let range = format!("{sent}-{last}");
                                let headers = [("content-range", range.as_str())];
                                let reply = here.send("PATCH", &at, &headers, chunk).await;
                                at = reply.is(202).location();
                                sent = last + 1;
                            }
                            let path = format!("{at}&digest={digest}");
                            here.send("PUT", &path, &[], b"").await.is(201);
                        }
                    }
                    digests.push((digest, bytes));
                }
                for (digest, bytes) in digests {
                    let path = format!("/v2/a/b/blobs/{digest}");
                    let head = there.head(&path).await.is(200);
                    assert_eq!(head.header("content-length"), Some(&*size.to_string()));
                    let id = digest.to_string();
                    assert_eq!(head.header("docker-content-digest"), Some(&*id));
                    let got = there.get(&path).await.is(200);
                    assert_same(&got.body, &bytes, "the layer");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_part_is_what_was_asked_for() {
    for client in Site::clients().await {
        let size = 6 * MIB;
        let bytes = ramp(1, size);
        let digest = sha256(&bytes);
        client.push("a", &bytes, &digest).await;
        let path = format!("/v2/a/blobs/{digest}");
        let tag = format!("\"{digest}\"");
        for (range, want) in [
            ("bytes=0-0", 0..1),
            ("bytes=5-9", 5..10),
            ("bytes=1048570-1048580", 1_048_570..1_048_581),
            ("bytes=6291400-", 6_291_400..size),
            ("bytes=-100", size - 100..size),
            ("bytes=6291455-99999999", size - 1..size),
        ] {
            let headers = [("range", range), ("if-range", &tag)];
            let reply = client.send("GET", &path, &headers, b"").await.is(206);
            let shown = format!("bytes {}-{}/{size}", want.start, want.end - 1);
            assert_eq!(reply.header("content-range"), Some(&*shown));
            let want = want.start as usize..want.end as usize;
            assert_same(&reply.body, &bytes[want], range);
        }
        for beyond in ["bytes=6291456-", "bytes=9-5", "bytes=-0"] {
            let reply = client.send("GET", &path, &[("range", beyond)], b"").await;
            let reply = reply.is(416);
            assert_eq!(reply.header("content-range"), Some("bytes */6291456"));
        }
        for (headers, status) in [
            (&[("range", "bytes=0-0"), ("if-range", "\"x\"")][..], 200),
            (&[("range", "bytes=0-0,5-5"), ("if-range", "\"x\"")], 200),
            (&[("if-none-match", &*tag)], 304),
            (&[("if-none-match", "\"x\"")], 200),
        ] {
            let reply = client.send("GET", &path, headers, b"").await.is(status);
            assert_eq!(reply.header("etag"), Some(&*tag));
            let size = if status == 200 { bytes.len() } else { 0 };
            assert_eq!(reply.body.len(), size, "{headers:?}");
        }
    }
}

/// Content-Range and bytes of each part.
fn parts_of(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let content_type = reply.header("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=");
    let delimiter = format!("\r\n--{}", boundary.unwrap());
    let mut rest = [b"\r\n", &*reply.body].concat();
    let mut parts = Vec::new();
    loop {
        rest = rest.strip_prefix(delimiter.as_bytes()).unwrap().to_vec();
        if rest == b"--\r\n" {
            return parts;
        }
        let end = rest
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(rest[..end].to_vec()).unwrap();
        assert!(head.contains("\r\nContent-Type: application/octet-stream"));
        let (_, range) = head.split_once("\r\nContent-Range: ").unwrap();
        let after = rest.split_off(end + 4);
        let next = after.windows(delimiter.len());
        let length = next
            .into_iter()
            .position(|here| here == delimiter.as_bytes());
        let (part, left) = after.split_at(length.unwrap());
        parts.push((range.to_owned(), part.to_vec()));
        rest = left.to_vec();
    }
}

#[tokio::test]
async fn several_ranges_bring_their_parts_and_nothing_else() {
    for client in Site::clients().await {
        let size = 12 * MIB;
        let bytes = ramp(1, size);
        let digest = sha256(&bytes);
        client.push("a", &bytes, &digest).await;
        let path = format!("/v2/a/blobs/{digest}");
        for (range, want) in [
            ("bytes=0-99,200-299", vec![0..100, 200..300]),
            (
                "bytes=0-99,200-299,9437184-9437193,-72",
                vec![0..100, 200..300, 9_437_184..9_437_194, size - 72..size],
            ),
            ("bytes=-1, 0-0", vec![0..1, size - 1..size]),
            (
                "bytes=0-9437183,9437185-",
                vec![0..9_437_184, 9_437_185..size],
            ),
        ] {
            let reply = client.send("GET", &path, &[("range", range)], b"").await;
            let reply = reply.is(206);
            assert_eq!(reply.header("content-range"), None);
            assert_eq!(
                reply.header("docker-content-digest"),
                Some(&*digest.to_string())
            );
            let parts = parts_of(&reply);
            assert_eq!(parts.len(), want.len(), "{range}");
            for ((shown, part), want) in parts.into_iter().zip(want) {
                assert_eq!(
                    shown,
                    format!("bytes {}-{}/{size}", want.start, want.end - 1)
                );
                assert_same(&part, &bytes[want.start as usize..want.end as usize], range);
            }
        }
        // Merged, one is left: an answer as to one range.
        for range in [
            "bytes=0-99,100-199",
            "bytes=0-150,50-199",
            "bytes=0-199,9999999999-",
        ] {
            let reply = client.send("GET", &path, &[("range", range)], b"").await;
            let shown = format!("bytes 0-199/{size}");
            let reply = reply.is(206);
            assert_eq!(reply.header("content-range"), Some(&*shown), "{range}");
            assert_same(&reply.body, &bytes[..200], range);
        }
        let reply = client
            .send("GET", &path, &[("range", "bytes=9999999999-,-0")], b"")
            .await;
        reply.is(416);
        // Podman then asks for half as many.
        let many: Vec<_> = (0..1025).map(|at| format!("{0}-{0}", 2 * at)).collect();
        let many = format!("bytes={}", many.join(","));
        let reply = client.send("GET", &path, &[("range", &many)], b"").await;
        reply.is(400);
    }
}

#[tokio::test]
async fn a_range_of_an_empty_layer_is_all_of_it() {
    for client in Site::clients().await {
        let digest = sha256(b"");
        client.push("a", b"", &digest).await;
        let path = format!("/v2/a/blobs/{digest}");
        for range in ["bytes=0-", "bytes=0-99", "bytes=-5"] {
            let reply = client.send("GET", &path, &[("range", range)], b"").await;
            assert_eq!(reply.is(200).header("content-length"), Some("0"));
        }
    }
}

#[tokio::test]
async fn a_layer_is_linked_where_it_was_mounted_and_until_it_is_deleted() {
    for client in Site::clients().await {
        let bytes = ramp(1, 1000);
        let digest = sha256(&bytes);
        client.push("a", &bytes, &digest).await;
        let absent = sha256(b"absent");
        for (query, status) in [
            (format!("mount={digest}&from=c"), 202),
            (format!("mount={absent}&from=a"), 202),
            (format!("mount={absent}"), 202),
            (format!("mount={digest}&from=a"), 201),
        ] {
            let path = format!("/v2/b/blobs/uploads/?{query}");
            let reply = client.send("POST", &path, &[], b"").await.is(status);
            if status == 202 {
                assert_eq!(reply.offset(), 0);
            } else {
                assert_eq!(reply.location(), format!("/v2/b/blobs/{digest}"));
            }
        }
        for (name, status) in [("a", 200), ("b", 200), ("c", 404), ("d", 404)] {
            client
                .head(&format!("/v2/{name}/blobs/{digest}"))
                .await
                .is(status);
        }
        let path = format!("/v2/b/blobs/{digest}");
        client.delete(&path).await.is(202);
        let reply = client.delete(&path).await.is(404);
        assert_eq!(reply.code(), "BLOB_UNKNOWN");
        let reply = client.get(&path).await.is(404);
        assert_eq!(reply.code(), "BLOB_UNKNOWN");
        client.get(&format!("/v2/a/blobs/{digest}")).await.is(200);
    }
}

#[tokio::test]
async fn a_mount_without_a_source_needs_the_option() {
    for site in Site::all().await {
        let closed = site.process().await.client;
        let options = Options {
            automatic_mount: true,
            ..Options::default()
        };
        let open = site.process_with(options).await.client;
        let bytes = ramp(1, 1000);
        let digest = sha256(&bytes);
        closed.push("secret", &bytes, &digest).await;
        for query in [
            format!("mount={digest}"),
            format!("mount={digest}&from="),
            format!("from=&mount={digest}"),
        ] {
            let path = format!("/v2/other/blobs/uploads/?{query}");
            let reply = closed.send("POST", &path, &[], b"").await.is(202);
            assert_eq!(reply.offset(), 0, "an ordinary upload");
            closed
                .head(&format!("/v2/other/blobs/{digest}"))
                .await
                .is(404);
        }
        let path = format!("/v2/other/blobs/uploads/?mount={digest}");
        open.send("POST", &path, &[], b"").await.is(201);
        let got = open.get(&format!("/v2/other/blobs/{digest}")).await.is(200);
        assert_same(&got.body, &bytes, "the layer");
    }
}

#[tokio::test]
async fn a_location_is_as_the_client_sees_us() {
    let [site, _] = Site::all().await;
    let client = site.process().await.client;
    let host = client.0.to_string();
    for (headers, want) in [
        (&[][..], format!("http://{host}/v2/a/")),
        (
            &[
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "registry.example.com"),
            ],
            "https://registry.example.com/v2/a/".into(),
        ),
    ] {
        let reply = client
            .send("POST", "/v2/a/blobs/uploads/", headers, b"")
            .await
            .is(202);
        let location = reply.header("location").unwrap();
        assert!(location.starts_with(&want), "{location}");
    }
    let options = Options {
        relative_location: true,
        ..Options::default()
    };
    let client = site.process_with(options).await.client;
    let reply = client.send("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    let reply = reply.is(202);
    let location = reply.header("location").unwrap();
    assert!(location.starts_with("/v2/a/blobs/uploads/"), "{location}");
}

#[tokio::test]
async fn a_redirect_leads_to_the_store_and_head_is_answered_here() {
    let options = Options {
        redirect: Some(std::time::Duration::from_secs(60)),
        ..Options::default()
    };
    for site in Site::all().await {
        let client = site.process_with(options.clone()).await.client;
        let bytes = ramp(1, 20_000);
        let digest = sha256(&bytes);
        client.push("a", &bytes, &digest).await;
        let path = format!("/v2/a/blobs/{digest}");
        client.head(&path).await.is(200);
        let reply = client.get(&path).await;
        match site {
            // It has no such thing.
            Site::Memory(_) => assert_same(&reply.is(200).body, &bytes, "the layer"),
            Site::Embedded(_) => {
                let reply = reply.is(307);
                let location = reply.header("location").unwrap();
                assert!(location.starts_with("http://embedded/layers/"));
                assert!(location.contains("X-Amz-Signature="));
                assert_eq!(reply.header("cache-control"), Some("no-store"));
            }
        }
        // A layer without a data object is answered here.
        let small = ramp(2, 1000);
        client.push("a", &small, sha256(&small)).await;
        let reply = client.get(&format!("/v2/a/blobs/{}", sha256(&small))).await;
        assert_same(&reply.is(200).body, &small, "a small layer");
    }
}

#[tokio::test]
async fn a_redirect_leads_where_clients_see_the_store() {
    let store = stores::in_memory().await;
    let config = stores::config().presign_endpoint("https://layers.example");
    let client = stores::sdk_client(&store);
    let service = S3LayerService::connect(client, config).await.unwrap();
    let options = Options {
        redirect: Some(std::time::Duration::from_secs(60)),
        ..Options::default()
    };
    let client = started(Arc::new(service), options, Limits::default()).await;
    let client = client.client;
    let bytes = ramp(1, 20_000);
    let digest = sha256(&bytes);
    client.push("a", &bytes, &digest).await;
    let reply = client.get(&format!("/v2/a/blobs/{digest}")).await.is(307);
    let location = reply.header("location").unwrap();
    assert!(location.starts_with("https://layers.example/layers/"));
}
