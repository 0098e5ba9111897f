//! What was begun and then repeated, given up, or taken over.

use s3layers::{Algorithm, Digest};

use super::client::Interruption;
use super::site::Site;
use crate::support::bytes::{MIB, assert_same, ramp, sha256};
use crate::support::fault_client::{On, PutObject};

#[tokio::test]
async fn a_put_that_is_repeated_because_its_answer_was_lost_is_answered_again() {
    for site in Site::all().await {
        let [here, there] = site.two_clients().await;
        let bytes = ramp(1, 100_000);
        let digest = sha256(&bytes);
        let at = here.upload("a").await;
        let path = format!("{at}&digest={digest}");
        here.send("PUT", &path, &[], &bytes).await.is(201);
        for client in [here, there] {
            for body in [&b""[..], &bytes] {
                let reply = client.send("PUT", &path, &[], body).await.is(201);
                assert_eq!(reply.location(), format!("/v2/a/blobs/{digest}"));
            }
        }
        // Of another digest it was not the PUT.
        let other = format!("{at}&digest={}", sha256(b"x"));
        let reply = here.send("PUT", &other, &[], b"").await.is(404);
        assert_eq!(reply.code(), "BLOB_UPLOAD_UNKNOWN");
    }
}

#[tokio::test]
async fn a_patch_that_is_repeated_because_its_answer_was_lost_does_not_append_twice() {
    for site in Site::all().await {
        let [here, there] = site.two_clients().await;
        let bytes = ramp(1, 100_000);
        let at = here.upload("a").await;
        here.send("PATCH", &at, &[], &bytes).await.is(202);
        for client in [here, there] {
            let reply = client.send("PATCH", &at, &[], &bytes).await.is(416);
            assert_eq!(reply.offset(), 100_000);
            assert_eq!(reply.header("range"), Some("0-99999"));
            let headers = [("content-range", "5-100004")];
            let reply = client.send("PATCH", &at, &headers, &bytes).await.is(416);
            assert_eq!(reply.offset(), 100_000);
        }
        let digest = sha256(&bytes);
        // A PUT without bytes can be sent to any location of the upload.
        let path = format!("{at}&digest={digest}");
        there.send("PUT", &path, &[], b"").await.is(201);
    }
}

/// A digest that is not computed as the bytes arrive is verified by reading them, so a finish that is
/// tried for nothing would end the upload.
#[tokio::test]
async fn put_of_a_later_range_leaves_the_upload_open() {
    for client in Site::clients().await {
        let bytes = ramp(1, 3 * MIB);
        let digest = Digest::of(Algorithm::Sha512, &bytes);
        let part = |nth: usize| bytes.slice(nth * MIB as usize..(nth + 1) * MIB as usize);
        let range = |nth: u64| format!("{}-{}", nth * MIB, (nth + 1) * MIB - 1);
        let at = client.upload("a").await;
        let reply = client.send("PATCH", &at, &[], &part(0)).await.is(202);
        let path = format!("{}&digest={digest}", reply.location());
        let (second, third) = (range(1), range(2));
        let headers = [("content-range", third.as_str())];
        client.send("PUT", &path, &headers, &part(2)).await.is(416);
        let headers = [("content-range", second.as_str())];
        let reply = client
            .send("PATCH", &reply.location(), &headers, &part(1))
            .await;
        let path = format!("{}&digest={digest}", reply.is(202).location());
        client.send("PUT", &path, &[], &part(2)).await.is(201);
    }
}

#[tokio::test]
async fn a_wrong_digest_publishes_nothing_and_the_right_one_still_can() {
    for client in Site::clients().await {
        let bytes = ramp(1, 50_000);
        let (digest, wrong) = (sha256(&bytes), sha256(b"wrong"));
        let at = client.upload("a").await;
        let path = format!("{at}&digest={wrong}");
        let reply = client.send("PUT", &path, &[], &bytes).await.is(400);
        assert_eq!(reply.code(), "DIGEST_INVALID");
        client.head(&format!("/v2/a/blobs/{wrong}")).await.is(404);
        let status = client.get(&at).await.is(204);
        assert_eq!(status.offset(), 50_000);
        let path = format!("{}&digest={digest}", status.location());
        client.send("PUT", &path, &[], b"").await.is(201);
    }
}

#[tokio::test]
async fn what_is_cancelled_is_gone() {
    for site in Site::all().await {
        let [here, there] = site.two_clients().await;
        let at = here.upload("a").await;
        here.send("PATCH", &at, &[], b"some bytes").await.is(202);
        there.delete(&at).await.is(204);
        for client in [here, there] {
            let reply = client.get(&at).await.is(404);
            assert_eq!(reply.code(), "BLOB_UPLOAD_UNKNOWN");
            client.delete(&at).await.is(404);
            client.send("PATCH", &at, &[], b"more").await.is(404);
        }
    }
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository() {
    for client in Site::clients().await {
        let at = client.upload("a").await;
        let elsewhere = at.replace("/v2/a/", "/v2/b/");
        client.get(&elsewhere).await.is(404);
        client.get(&at).await.is(204);
    }
}

#[tokio::test]
async fn a_finish_outlives_its_client() {
    let site = Site::embedded().await;
    let (process, wire) = site.process_over_wire().await;
    let client = process.client;
    let bytes = ramp(1, 100_000);
    let digest = sha256(&bytes);
    let at = client.upload("a").await;
    let reply = client.send("PATCH", &at, &[], &bytes).await.is(202);
    let path = format!("{}&digest={digest}", reply.location());
    // The record is what publishes it.
    let gate = wire.hold(On::every(PutObject).key_contains("layers/sha256/"));
    let conversation = client.begin("PUT", &path, &[("content-length", "0")]).await;
    gate.reached_by(1).await;
    drop(conversation);
    let blob = format!("/v2/a/blobs/{digest}");
    let other = site.process().await.client;
    other.head(&blob).await.is(404);
    gate.open();
    process.registry.settled().await;
    assert_same(&other.get(&blob).await.is(200).body, &bytes, "the layer");
}

#[tokio::test]
async fn status_of_a_running_patch_counts_the_bytes_sent() {
    for client in Site::clients().await {
        let bytes = ramp(1, 3 * MIB);
        let at = client.upload("a").await;
        let size = bytes.len().to_string();
        let headers = [("content-length", size.as_str())];
        let mut patch = client.begin("PATCH", &at, &headers).await;
        let mut sent = 0;
        for upto in [1000, 2 * MIB as usize, bytes.len() - 1] {
            patch.send(&bytes[sent..upto]).await;
            sent = upto;
            // The question does not end it.
            let status = client.status(&at, sent).await;
            assert_eq!(status.offset(), sent as u64);
        }
        patch.send(&bytes[sent..]).await;
        let reply = patch.reply().await.is(202);
        assert_eq!(reply.offset(), bytes.len() as u64);
        let path = format!("{}&digest={}", reply.location(), sha256(&bytes));
        client.send("PUT", &path, &[], b"").await.is(201);
    }
}

#[tokio::test]
async fn resume_on_another_connection_takes_over_from_a_stalled_one() {
    for client in Site::clients().await {
        let bytes = ramp(1, 200_000);
        let at = client.upload("a").await;
        let headers = [("content-length", "200000")];
        let mut hanging = client.begin("PATCH", &at, &headers).await;
        hanging.send(&bytes[..70_000]).await;
        let status = client.status(&at, 70_000).await;
        assert_eq!(status.offset(), 70_000);
        let at = status.location();
        let reply = client.send("PATCH", &at, &[], &bytes[70_000..]).await;
        let reply = reply.is(202);
        let path = format!("{}&digest={}", reply.location(), sha256(&bytes));
        client.send("PUT", &path, &[], b"").await.is(201);
        assert_eq!(hanging.reply().await.status, 409);
    }
}

#[tokio::test]
async fn interrupted_put_keeps_its_bytes_and_publishes_nothing() {
    for client in Site::clients().await {
        let bytes = ramp(1, 50_000);
        let digest = sha256(&bytes);
        for how in [Interruption::EndOfStream, Interruption::ShortBody] {
            let at = client.upload("a").await;
            let path = format!("{at}&digest={digest}");
            client.interrupt("PUT", &path, &bytes, how).await;
            let status = client.status(&at, 50_000).await;
            assert_eq!(status.offset(), 50_000, "{how:?}");
            client.head(&format!("/v2/a/blobs/{digest}")).await.is(404);
        }
    }
}
