//! Manifests: by tag and digest, what they name, what they are about.

use s3layers_registry::Options;
use serde_json::{Value, json};

use super::client::Client;
use super::site::Site;
use crate::support::bytes::{ramp, sha256};

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub fn descriptor(bytes: &[u8], media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

/// An image of one config and one layer, which are pushed.
pub async fn image(client: Client, name: &str, seed: u32) -> Value {
    let (config, layer) = (ramp(seed, 100), ramp(seed + 1, 5000));
    for blob in [&config, &layer] {
        client.push(name, blob, sha256(blob)).await;
    }
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(&layer, "application/vnd.oci.image.layer.v1.tar")],
    })
}

/// Puts a manifest. Its bytes.
pub async fn put(client: Client, path: &str, manifest: &Value) -> Vec<u8> {
    let bytes = manifest.to_string().into_bytes();
    let media_type = manifest["mediaType"].as_str().unwrap();
    let headers = [("content-type", media_type)];
    client.send("PUT", path, &headers, &bytes).await.is(201);
    bytes
}

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_by_tag_and_digest() {
    for site in Site::all().await {
        let [here, there] = site.two_clients().await;
        let bytes = put(here, "/v2/a/manifests/v1", &image(here, "a", 1).await).await;
        let digest = sha256(&bytes).to_string();
        for reference in ["v1", &digest] {
            let path = format!("/v2/a/manifests/{reference}");
            for reply in [there.get(&path).await, there.head(&path).await] {
                let reply = reply.is(200);
                assert_eq!(reply.header("content-type"), Some(IMAGE));
                assert_eq!(reply.header("docker-content-digest"), Some(&*digest));
                let size = bytes.len().to_string();
                assert_eq!(reply.header("content-length"), Some(&*size));
            }
            assert_eq!(there.get(&path).await.body, bytes);
            let tag = format!("\"{digest}\"");
            let known = [("if-none-match", tag.as_str())];
            there.send("GET", &path, &known, b"").await.is(304);
        }
        // Another tag, by the digest, with the tags in the query.
        let path = format!("/v2/a/manifests/{digest}?tag=v3&tag=v2&tag=v3");
        let headers = [("content-type", IMAGE)];
        let reply = here.send("PUT", &path, &headers, &bytes).await.is(201);
        assert_eq!(reply.all("oci-tag"), ["v2", "v3"]);
        assert_eq!(reply.location(), format!("/v2/a/manifests/{digest}"));
        for tag in ["v1", "v2", "v3"] {
            here.head(&format!("/v2/a/manifests/{tag}")).await.is(200);
        }
        // A tag alone, then all of it.
        here.delete("/v2/a/manifests/v1").await.is(202);
        here.head("/v2/a/manifests/v1").await.is(404);
        here.head(&format!("/v2/a/manifests/{digest}"))
            .await
            .is(200);
        here.delete(&format!("/v2/a/manifests/{digest}"))
            .await
            .is(202);
        for reference in ["v2", "v3", &digest] {
            let path = format!("/v2/a/manifests/{reference}");
            here.head(&path).await.is(404);
            here.delete(&path).await.is(404);
        }
    }
}

#[tokio::test]
async fn what_a_manifest_names_is_here_first() {
    for site in Site::all().await {
        let client = site.process().await.client;
        let whole = image(client, "a", 1).await;
        let (absent, far) = (&b"absent"[..], &b"far"[..]);
        let mut lacks = whole.clone();
        let layer = descriptor(absent, "application/vnd.oci.image.layer.v1.tar");
        lacks["layers"].as_array_mut().unwrap().push(layer);
        let headers = [("content-type", IMAGE)];
        let path = "/v2/a/manifests/v1";
        let body = lacks.to_string();
        let reply = client.send("PUT", path, &headers, body.as_bytes()).await;
        let reply = reply.is(404);
        assert_eq!(reply.code(), "MANIFEST_BLOB_UNKNOWN");
        let named = &reply.json()["errors"][0]["detail"]["digests"];
        assert_eq!(named, &json!([sha256(absent)]));
        client.head(path).await.is(404);
        // In another repository it is not here either.
        let body = whole.to_string();
        let elsewhere = "/v2/b/manifests/v1";
        client
            .send("PUT", elsewhere, &headers, body.as_bytes())
            .await
            .is(404);

        let mut distant = whole.clone();
        let kept = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        let layer = descriptor(far, kept);
        distant["layers"].as_array_mut().unwrap().push(layer);
        put(client, path, &distant).await;

        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [descriptor(absent, IMAGE)],
        });
        let headers = [("content-type", INDEX)];
        let body = index.to_string();
        let reply = client.send("PUT", path, &headers, body.as_bytes()).await;
        assert_eq!(reply.is(404).code(), "MANIFEST_BLOB_UNKNOWN");
        let options = Options {
            sparse: true,
            ..Options::default()
        };
        let client = site.process_with(options).await.client;
        put(client, path, &index).await;
        put(client, path, &lacks).await;
    }
}

#[tokio::test]
async fn an_index_of_platforms() {
    for client in Site::clients().await {
        let mut manifests = Vec::new();
        for seed in [10, 20] {
            let image = image(client, "a", seed).await;
            let digest = sha256(image.to_string().as_bytes());
            let bytes = put(client, &format!("/v2/a/manifests/{digest}"), &image).await;
            manifests.push(descriptor(&bytes, IMAGE));
        }
        for media_type in [INDEX, LIST] {
            let index = json!({
                "schemaVersion": 2, "mediaType": media_type, "manifests": manifests,
            });
            put(client, "/v2/a/manifests/latest", &index).await;
            let reply = client.get("/v2/a/manifests/latest").await.is(200);
            assert_eq!(reply.header("content-type"), Some(media_type));
        }
    }
}

/// BuildKit's cache with `image-manifest=false`: an index of layers and of its own description.
#[tokio::test]
async fn an_index_may_name_blobs_that_are_here() {
    const CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    for client in Site::clients().await {
        let (layer, cache) = (ramp(1, 5000), ramp(2, 300));
        for blob in [&layer, &cache] {
            client.push("a", blob, sha256(blob)).await;
        }
        let image = image(client, "a", 10).await;
        let path = format!("/v2/a/manifests/{}", sha256(image.to_string().as_bytes()));
        let image = put(client, &path, &image).await;
        let entries = [
            descriptor(&layer, LAYER),
            descriptor(&cache, CACHE),
            // A manifest is one under any media type.
            descriptor(&image, "application/vnd.example"),
        ];
        let index = |entries: &[Value]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        put(client, "/v2/a/manifests/cache", &index(&entries)).await;

        let headers = [("content-type", INDEX)];
        for (absent, why) in [
            (descriptor(b"absent", LAYER), "it is nowhere"),
            (descriptor(b"absent", IMAGE), "there is no such image"),
            (descriptor(&layer, IMAGE), "it is a blob, and no image"),
            (
                json!({"digest": sha256(&layer), "size": 5000}),
                "without a type it is an image",
            ),
        ] {
            let mut entries = entries.to_vec();
            entries.push(absent.clone());
            let body = index(&entries).to_string();
            let path = "/v2/a/manifests/refused";
            let reply = client.send("PUT", path, &headers, body.as_bytes()).await;
            assert_eq!(reply.status, 404, "{why}");
            assert_eq!(reply.code(), "MANIFEST_BLOB_UNKNOWN", "{why}");
            let named = &reply.json()["errors"][0]["detail"]["digests"];
            assert_eq!(named, &json!([absent["digest"]]), "{why}");
        }
        // In another repository none of it is here.
        let body = index(&entries).to_string();
        let path = "/v2/b/manifests/cache";
        let reply = client.send("PUT", path, &headers, body.as_bytes()).await;
        assert_eq!(reply.is(404).code(), "MANIFEST_BLOB_UNKNOWN");
    }
}

#[tokio::test]
async fn a_size_that_differs_from_what_is_stored_is_refused() {
    for site in Site::all().await {
        for sparse in [false, true] {
            let options = Options {
                sparse,
                ..Options::default()
            };
            let client = site.process_with(options).await.client;
            let good = image(client, "a", 1).await;
            let bytes = put(client, "/v2/a/manifests/good", &good).await;
            let index = json!({
                "schemaVersion": 2, "mediaType": INDEX, "manifests": [
                    descriptor(&bytes, IMAGE),
                    descriptor(&ramp(2, 5000), "application/vnd.oci.image.layer.v1.tar"),
                ],
            });
            let mut referrer = good.clone();
            referrer["subject"] = descriptor(&bytes, IMAGE);
            for (manifest, size) in [
                (&good, "/config/size"),
                (&good, "/layers/0/size"),
                (&index, "/manifests/0/size"),
                (&index, "/manifests/1/size"),
                (&referrer, "/subject/size"),
            ] {
                put(client, "/v2/a/manifests/good", manifest).await;
                let mut wrong = manifest.clone();
                let size = wrong.pointer_mut(size).unwrap();
                *size = json!(size.as_u64().unwrap() + 1);
                let media_type = wrong["mediaType"].as_str().unwrap().to_owned();
                let headers = [("content-type", media_type.as_str())];
                let body = wrong.to_string();
                let path = "/v2/a/manifests/wrong";
                let reply = client.send("PUT", path, &headers, body.as_bytes()).await;
                assert_eq!(reply.is(400).code(), "MANIFEST_INVALID", "{wrong}");
                client.get(path).await.is(404);
            }
        }
    }
}

#[tokio::test]
async fn a_key_in_another_case_hides_nothing() {
    for client in Site::clients().await {
        let mut image = image(client, "a", 1).await;
        image["Layers"] = json!([descriptor(
            b"absent",
            "application/vnd.oci.image.layer.v1.tar"
        )]);
        let headers = [("content-type", IMAGE)];
        let path = "/v2/a/manifests/hidden";
        let body = image.to_string();
        let reply = client.send("PUT", path, &headers, body.as_bytes()).await;
        assert_eq!(reply.is(400).code(), "MANIFEST_INVALID");
        client.get(path).await.is(404);
    }
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    for client in Site::clients().await {
        let image = image(client, "a", 1).await.to_string();
        let wrong = format!("/v2/a/manifests/{}", sha256(b"other"));
        let large = vec![b' '; 4 * 1024 * 1024 + 1];
        let tags = (0..101).map(|tag| format!("&tag=t{tag}"));
        let many = format!(
            "/v2/a/manifests/{}?{}",
            sha256(image.as_bytes()),
            tags.collect::<String>()
        );
        let tag = "/v2/a/manifests/v1";
        for (path, media_type, body, status, code) in [
            (tag, IMAGE, &b"{"[..], 400, "MANIFEST_INVALID"),
            (tag, INDEX, image.as_bytes(), 400, "MANIFEST_INVALID"),
            (tag, "text/plain", image.as_bytes(), 400, "MANIFEST_INVALID"),
            (&*wrong, IMAGE, image.as_bytes(), 400, "DIGEST_INVALID"),
            (tag, IMAGE, &large, 413, "SIZE_INVALID"),
            (&*many, IMAGE, image.as_bytes(), 414, "TAG_INVALID"),
            (
                "/v2/a/manifests/v1?tag=.x",
                IMAGE,
                image.as_bytes(),
                400,
                "TAG_INVALID",
            ),
        ] {
            let headers = [("content-type", media_type)];
            let reply = client.send("PUT", path, &headers, body).await;
            let got = (reply.status, &*reply.code());
            assert_eq!(got, (status, code), "{media_type} {path}");
        }
        // Of 4 MiB it is taken.
        let mut padded = image.into_bytes();
        padded.resize(4 * 1024 * 1024, b' ');
        client
            .send("PUT", tag, &[("content-type", IMAGE)], &padded)
            .await
            .is(201);
    }
}
