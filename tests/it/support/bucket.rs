//! What is in the bucket, seen behind everybody's back; and the seal of a document that was changed
//! there.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use bytes::Bytes;

use super::stores::BUCKET;

/// The CRC-64/NVME of the document, as `src/s3/document.rs` seals it.
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

/// Every key in the bucket.
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
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    keys
}

/// Every multipart upload under way.
pub async fn multiparts(client: &Client) -> Vec<String> {
    let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
    let listed = listed.unwrap();
    let told = |upload: &aws_sdk_s3::types::MultipartUpload| {
        format!("a multipart upload at {}", upload.key().unwrap())
    };
    listed.uploads().iter().map(told).collect()
}
