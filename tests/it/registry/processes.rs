//! Several processes over one storage: what one has acknowledged, every other one answers by.

use aws_sdk_s3::primitives::ByteStream;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::client::Client;
use super::manifests::{self, IMAGE, INDEX, descriptor, image};
use super::site::Site;
use crate::support::bucket;
use crate::support::bytes::{KIB, MIB, assert_same, ramp, sha256};
use crate::support::crowd;
use crate::support::stores::{self, BUCKET};

/// The status of a manifest PUT.
async fn put(client: Client, path: &str, manifest: &Value) -> u16 {
    let media_type = manifest["mediaType"].as_str().unwrap();
    let body = manifest.to_string().into_bytes();
    let headers = [("content-type", media_type)];
    client.send("PUT", path, &headers, &body).await.status
}

fn digest_of(manifest: &Value) -> String {
    sha256(manifest.to_string().as_bytes()).to_string()
}

fn variant(image: &Value, number: usize) -> Value {
    let mut image = image.clone();
    image["annotations"] = json!({"variant": number.to_string()});
    image
}

#[tokio::test]
async fn tag_moved_or_removed_by_another_process_is_seen_at_once() {
    for site in Site::all().await {
        let [here, there] = site.two_clients().await;
        let image = image(here, "a", 1).await;
        let tag = "/v2/a/manifests/latest";
        for number in 0..3 {
            let moved = variant(&image, number);
            assert_eq!(put(here, tag, &moved).await, 201);
            let seen = there.head(tag).await.is(200);
            let digest = seen.header("docker-content-digest").unwrap();
            assert_eq!(digest, digest_of(&moved));
        }
        here.delete(tag).await.is(202);
        there.head(tag).await.is(404);
        let last = variant(&image, 2);
        let by_digest = format!("/v2/a/manifests/{}", digest_of(&last));
        there.head(&by_digest).await.is(200);
        here.delete(&by_digest).await.is(202);
        there.head(&by_digest).await.is(404);
        there.delete(&by_digest).await.is(404);
    }
}

#[tokio::test]
async fn manifest_is_refused_whose_parts_another_process_removed() {
    for site in Site::all().await {
        let [here, there] = site.two_clients().await;
        let image = image(here, "a", 1).await;
        let layer = image["layers"][0]["digest"].as_str().unwrap().to_owned();
        let blob = format!("/v2/a/blobs/{layer}");
        there.head(&blob).await.is(200);
        here.delete(&blob).await.is(202);
        assert_eq!(put(there, "/v2/a/manifests/v1", &image).await, 404);
        there.head(&blob).await.is(404);
        let mount = format!("/v2/b/blobs/uploads/?mount={layer}&from=a");
        there.send("POST", &mount, &[], b"").await.is(202);

        let image = manifests::image(here, "a", 1).await;
        let bytes = manifests::put(here, "/v2/a/manifests/v1", &image).await;
        let path = format!("/v2/a/manifests/{}", sha256(&bytes));
        there.head(&path).await.is(200);
        here.delete(&path).await.is(202);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [descriptor(&bytes, IMAGE)],
        });
        assert_eq!(put(there, "/v2/a/manifests/all", &index).await, 404);
        // What was removed elsewhere is written again.
        assert_eq!(put(there, "/v2/a/manifests/v1", &image).await, 201);
        here.head("/v2/a/manifests/v1").await.is(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_puts_of_one_tag_are_all_created() {
    for site in Site::all().await {
        let processes = [site.process().await.client, site.process().await.client];
        let image = image(processes[0], "a", 1).await;
        for writers in [2, 4, 8, 16] {
            let variants: Vec<_> = (0..4 * writers).map(|n| variant(&image, n)).collect();
            for together in variants.chunks(writers) {
                let puts = together.iter().enumerate().map(|(number, image)| {
                    put(processes[number % 2], "/v2/a/manifests/latest", image)
                });
                let statuses = join_all(puts).await;
                assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
                let one = processes[0].head("/v2/a/manifests/latest").await.is(200);
                let other = processes[1].head("/v2/a/manifests/latest").await.is(200);
                let named = one.header("docker-content-digest").unwrap();
                assert_eq!(other.header("docker-content-digest"), Some(named));
                assert!(together.iter().any(|image| digest_of(image) == named));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_sent_several_times_at_once_is_created_for_all() {
    for site in Site::all().await {
        for count in [1, 2] {
            let mut processes = Vec::new();
            for _ in 0..count {
                processes.push(site.process().await.client);
            }
            // In the session, as one object, and as parts.
            for (round, size) in [3000, 100 * KIB, 6 * MIB]
                .into_iter()
                .cycle()
                .take(9)
                .enumerate()
            {
                let bytes = ramp(round as u32, size);
                let digest = sha256(&bytes);
                let at = processes[0].upload("a").await;
                let at = processes[0].send("PATCH", &at, &[], &bytes).await.is(202);
                let at = at.location();
                let (path, _) = at.split_once('?').unwrap();
                let path = format!("{path}?digest={digest}");
                let puts = (0..8).map(|number| {
                    let client = processes[number % count];
                    let path = if number < 4 {
                        path.clone()
                    } else {
                        format!("{at}&digest={digest}")
                    };
                    async move { client.send("PUT", &path, &[], b"").await }
                });
                for reply in join_all(puts).await {
                    reply.is(201);
                }
                let blob = format!("/v2/a/blobs/{digest}");
                for client in &processes {
                    assert_same(&client.get(&blob).await.is(200).body, &bytes, "the blob");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_that_carries_its_bytes_to_two_processes_is_created_for_both() {
    for site in Site::all().await {
        let processes = [site.process().await.client, site.process().await.client];
        let bytes = ramp(1, 100 * KIB);
        let at = processes[0].upload("a").await;
        let path = format!("{at}&digest={}", sha256(&bytes));
        for client in processes {
            client.send("PUT", &path, &[], &bytes).await.is(201);
        }
        // All bytes were stored before, and the client does not know.
        let bytes = ramp(2, 100 * KIB);
        let at = processes[0].upload("a").await;
        processes[0].send("PATCH", &at, &[], &bytes).await.is(202);
        let path = format!("{at}&digest={}", sha256(&bytes));
        processes[1].send("PUT", &path, &[], &bytes).await.is(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_clients_behind_a_balancer_get_no_wrong_answer() {
    for site in Site::all().await {
        for count in [1, 2, 3] {
            let mut processes = Vec::new();
            for _ in 0..count {
                processes.push(site.process().await);
            }
            let addresses: Vec<_> = processes.iter().map(|p| p.client.0.to_string()).collect();
            let root = format!("{count}");
            let crowd = tokio::task::spawn_blocking(move || crowd::run(&addresses, &root));
            let requests = crowd.await.unwrap();
            let requests = requests.unwrap_or_else(|wrong| panic!("{count} processes: {wrong}"));
            println!("{count} processes: {requests} requests, 0 wrong");
        }
    }
}

/// Another process has appended since, which the one that is asked does not know.
#[tokio::test]
async fn old_offset_of_an_upload_decides_no_answer() {
    let site = Site::embedded().await;
    let [here, there] = site.two_clients().await;
    let bytes = ramp(1, 50_000);
    let (first, rest) = bytes.split_at(20_000);

    let old = here.upload("a").await;
    let old = here
        .send("PATCH", &old, &[], first)
        .await
        .is(202)
        .location();
    let (path, _) = old.split_once('?').unwrap();
    let now = format!("{path}?at=20000");
    there.send("PATCH", &now, &[], rest).await.is(202);
    let empty = here.send("PATCH", &old, &[], b"").await;
    assert_eq!(empty.is(416).offset(), 50_000);

    let old = here.upload("b").await;
    let old = here
        .send("PATCH", &old, &[], first)
        .await
        .is(202)
        .location();
    let (path, _) = old.split_once('?').unwrap();
    let now = format!("{path}?at=20000");
    there.send("PATCH", &now, &[], rest).await.is(202);
    let path = format!("{old}&digest={}", sha256(&bytes));
    here.send("PUT", &path, &[], b"").await.is(201);
}

#[tokio::test]
async fn blob_whose_bytes_are_gone_is_unknown_until_it_is_pushed_again() {
    for size in [17 * KIB, 100 * KIB, 6 * MIB] {
        for emptied in [false, true] {
            let site = Site::embedded().await;
            let Site::Embedded(store) = &site else {
                unreachable!("it was made embedded");
            };
            let bucket = stores::sdk_client(store);
            let here = site.process().await.client;
            let bytes = ramp(1, size);
            let digest = sha256(&bytes);
            let blob = format!("/v2/a/blobs/{digest}");
            here.push("a", &bytes, &digest).await;
            here.push("a", b"{}", sha256(b"{}")).await;
            let keys = bucket::keys(&bucket).await;
            let mut lost = None;
            for key in keys.into_iter().filter(|key| key.starts_with("data/")) {
                if bucket::get(&bucket, &key).await == bytes {
                    lost = Some(key);
                }
            }
            let lost = lost.unwrap();
            if emptied {
                let put = bucket.put_object().bucket(BUCKET).key(&lost);
                let put = put.body(ByteStream::from_static(b""));
                put.send().await.unwrap();
            } else {
                let delete = bucket.delete_object().bucket(BUCKET).key(&lost);
                delete.send().await.unwrap();
            }

            // One that has never looked at the bytes, and one that learns it by a read.
            let there = site.process().await.client;
            there.head(&blob).await.is(404);
            here.get(&blob).await.is(404);
            for client in [here, there] {
                client.head(&blob).await.is(404);
                client.get(&blob).await.is(404);
                for ranges in ["bytes=1-3", "bytes=0-0,3-4"] {
                    let part = [("range", ranges)];
                    client.send("GET", &blob, &part, b"").await.is(404);
                }
                let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
                client.send("POST", &mount, &[], b"").await.is(202);
                let image = json!({
                    "schemaVersion": 2,
                    "mediaType": IMAGE,
                    "config": descriptor(b"{}", "application/vnd.oci.image.config.v1+json"),
                    "layers": [descriptor(&bytes, "application/vnd.oci.image.layer.v1.tar")],
                });
                assert_eq!(put(client, "/v2/a/manifests/v1", &image).await, 404);
            }
            there.push("a", &bytes, &digest).await;
            for client in [here, there] {
                client.head(&blob).await.is(200);
                assert_same(&client.get(&blob).await.is(200).body, &bytes, "repaired");
            }
        }
    }
}
