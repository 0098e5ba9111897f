//! The floor: the same bytes by a plain parallel S3 copy, with the SDK's fastest settings and no
//! registry in between. Nothing is hashed, kept or published.

use std::error::Error;
use std::future::Future;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::Store;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Parts of an upload, in bytes.
const PART: usize = 16 << 20;
/// Ranges of a download, in bytes.
const RANGE: usize = 8 << 20;
/// At a time.
const IN_FLIGHT: usize = 8;

pub fn client(store: &Store, url: &str) -> Client {
    let keys = Credentials::new(&store.access_key, &store.secret_key, None, None, "bench");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(url)
        .force_path_style(true)
        .credentials_provider(keys)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// Runs them, so many at a time; the outcomes come as they end.
async fn in_parallel<T: Send + 'static, F>(works: Vec<F>) -> Outcome<Vec<T>>
where
    F: Future<Output = Outcome<T>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    for work in works {
        if running.len() == IN_FLIGHT
            && let Some(one) = running.join_next().await
        {
            done.push(one??);
        }
        running.spawn(work);
    }
    while let Some(one) = running.join_next().await {
        done.push(one??);
    }
    Ok(done)
}

pub async fn upload(client: &Client, bucket: &str, key: &str, bytes: &Bytes) -> Outcome<()> {
    let begun = client
        .create_multipart_upload()
        .bucket(bucket)
        .key(key)
        .send()
        .await?;
    let upload_id = begun.upload_id().unwrap_or_default().to_owned();
    let parts = (1..).zip((0..bytes.len()).step_by(PART));
    let works = parts.map(|(number, from)| {
        let part = bytes.slice(from..bytes.len().min(from + PART));
        let request = client
            .upload_part()
            .bucket(bucket)
            .key(key)
            .upload_id(&upload_id);
        let request = request.part_number(number).body(ByteStream::from(part));
        async move {
            let sent = request.customize().disable_payload_signing().send().await?;
            let part = CompletedPart::builder().part_number(number);
            Ok(part.set_e_tag(sent.e_tag).build())
        }
    });
    let mut parts = in_parallel(works.collect()).await?;
    parts.sort_by_key(CompletedPart::part_number);
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let complete = client.complete_multipart_upload().bucket(bucket).key(key);
    complete
        .upload_id(upload_id)
        .multipart_upload(parts)
        .send()
        .await?;
    Ok(())
}

pub async fn download(client: &Client, bucket: &str, key: &str, size: usize) -> Outcome<()> {
    let works = (0..size).step_by(RANGE).map(|from| {
        let last = size.min(from + RANGE) - 1;
        let request = client.get_object().bucket(bucket).key(key);
        let request = request.range(format!("bytes={from}-{last}"));
        async move {
            let mut body = request.send().await?.body;
            let mut read = 0;
            while let Some(piece) = body.try_next().await? {
                read += piece.len();
            }
            Ok(read)
        }
    });
    let read: usize = in_parallel(works.collect()).await?.iter().sum();
    if read == size {
        Ok(())
    } else {
        Err(format!("{read} bytes of {size}").into())
    }
}

/// Removes all objects below a prefix.
pub async fn remove(client: &Client, bucket: &str, prefix: &str) -> Outcome<()> {
    let mut pages = client
        .list_objects_v2()
        .bucket(bucket)
        .prefix(prefix)
        .into_paginator()
        .send();
    while let Some(page) = pages.try_next().await? {
        for object in page.contents() {
            let request = client.delete_object().bucket(bucket);
            request.set_key(object.key.clone()).send().await?;
        }
    }
    Ok(())
}
