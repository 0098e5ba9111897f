//! The contents of the bucket, read without the library, and the seal of a document that a test changed.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::Object;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::Value;

use super::stores::BUCKET;

/// The CRC-64/NVME of the document, as `src/s3/format/document.rs` seals it.
pub fn sealed(document: &str) -> String {
    let body = document.split_once(",\"seal\"").unwrap().0;
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, body.as_bytes());
    format!("{body},\"seal\":\"crc64nvme:{sum:016x}\"}}")
}

/// An object, as it is.
pub async fn get(client: &Client, key: &str) -> Bytes {
    let got = client.get_object().bucket(BUCKET).key(key).send().await;
    got.unwrap().body.collect().await.unwrap().into_bytes()
}

/// Writes other times of the collection into the profile, as only a test does.
pub async fn set_collection_times(client: &Client, times: &str) {
    rewrite_profile(client, |profile| {
        let (head, rest) = profile.split_once(r#""collection":{"#).unwrap();
        let (_, tail) = rest.split_once('}').unwrap();
        format!("{head}{times}{tail}")
    })
    .await;
}

pub async fn rewrite_profile(client: &Client, change: impl Fn(&str) -> String) {
    let profile = get(client, "profile").await;
    let profile = sealed(&change(std::str::from_utf8(&profile).unwrap()));
    let put = client.put_object().bucket(BUCKET).key("profile");
    put.body(profile.into_bytes().into()).send().await.unwrap();
}

/// The size of the document that is written over a removed one where that is not deleted.
pub const TOMBSTONE_SIZE: i64 = 96;

/// Whether a listed object is a document that was removed.
pub fn is_tombstone(object: &Object) -> bool {
    let is_ours = |key: &str| key.contains("/_") || key.contains("layers/sha");
    let is_ours = object.key().is_some_and(is_ours);
    is_ours && object.size() == Some(TOMBSTONE_SIZE)
}

/// Every key in the bucket but those of tombstones.
pub async fn keys(client: &Client) -> BTreeSet<String> {
    let mut pages = client
        .list_objects_v2()
        .bucket(BUCKET)
        .into_paginator()
        .send();
    let mut keys = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        keys.extend(
            page.contents()
                .iter()
                .filter(|object| !is_tombstone(object))
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    keys
}

/// Every key in the bucket, once finished uploads are removed: that follows their answers.
pub async fn keys_at_rest(client: &Client) -> BTreeSet<String> {
    for _ in 0..500 {
        let keys = keys(client).await;
        if !keys.iter().any(|key| key.starts_with("uploads/")) {
            return keys;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("an upload is left: {:?}", keys(client).await);
}

/// Where the bytes of a layer are, as its record says.
pub struct StoredLayer {
    /// Those within the record.
    pub inline: Vec<u8>,
    /// The keys of the objects that have the others, in order.
    pub objects: Vec<String>,
}

/// The layers of all records.
pub async fn stored_layers(client: &Client) -> Vec<StoredLayer> {
    let mut layers = Vec::new();
    for key in keys(client).await {
        if !key.starts_with("layers/sha256/") {
            continue;
        }
        let record: Value = serde_json::from_slice(&get(client, &key).await).unwrap();
        let layer = &record["layer"];
        let uuid = layer["upload"].as_str().unwrap();
        let inline = layer["content"]["inline"].as_str().unwrap_or_default();
        let segments = layer["content"]["segments"].as_array();
        let name = |segment: &Value| segment["name"].as_str().unwrap().to_owned();
        let data = |name| format!("data/{}/{uuid}.{name}", &uuid[..2]);
        layers.push(StoredLayer {
            inline: BASE64.decode(inline).unwrap(),
            objects: segments.into_iter().flatten().map(name).map(data).collect(),
        });
    }
    layers
}

/// Every multipart upload under way.
pub async fn multiparts(client: &Client) -> Vec<String> {
    let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
    let listed = listed.unwrap();
    let uuid_of = |upload: &aws_sdk_s3::types::MultipartUpload| {
        format!("a multipart upload at {}", upload.key().unwrap())
    };
    listed.uploads().iter().map(uuid_of).collect()
}

/// The parts of all multipart uploads under way.
pub async fn parts_under_way(client: &Client) -> usize {
    let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
    let mut parts = 0;
    for upload in listed.unwrap().uploads() {
        let list = client.list_parts().bucket(BUCKET);
        let list = list.key(upload.key().unwrap());
        let list = list.upload_id(upload.upload_id().unwrap());
        parts += list.send().await.unwrap().parts().len();
    }
    parts
}

/// Aborts every multipart upload, as MinIO does a day after it was begun, in use or not.
pub async fn abort_multiparts(client: &Client) {
    let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
    for upload in listed.unwrap().uploads() {
        let abort = client.abort_multipart_upload().bucket(BUCKET);
        let abort = abort.key(upload.key().unwrap());
        let abort = abort.upload_id(upload.upload_id().unwrap());
        abort.send().await.unwrap();
    }
}
