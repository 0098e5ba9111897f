//! Checksums that the embedded store cannot verify: a body that comes with one is refused.

use std::fmt::Debug;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, Delete, ObjectIdentifier};
use aws_sdk_s3::{Client, config};
use embedded_s3::EmbeddedStore;

use crate::embedded::{BUCKET, begin, client, put};

/// A body of unknown content, whose checksum the SDK sends as a trailer.
fn stream() -> ByteStream {
    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"123456789"));
    ByteStream::new(SdkBody::from_body_1_x(body))
}

fn code<T: Debug>(
    sent: Result<T, SdkError<impl ProvideErrorMetadata, config::http::HttpResponse>>,
) -> Option<String> {
    sent.err().map(|error| match error.raw_response() {
        Some(answer) if answer.status().as_u16() == 400 => error.code().unwrap().to_owned(),
        answer => unreachable!("{answer:?}"),
    })
}

async fn is_stored(client: &Client) -> bool {
    let head = client.head_object().bucket(BUCKET).key("key");
    head.send().await.is_ok()
}

#[tokio::test]
async fn trailer_that_cannot_be_verified_is_refused() {
    let store = EmbeddedStore::in_memory();
    let client = client(&store).await;
    let upload = begin(&client, "multi").await;
    let mut wrong = Vec::new();
    // The SDK sends a trailer x-amz-checksum-crc32.
    for (announced, want) in [
        (Some("x-amz-checksum-sha512"), Some("InvalidRequest")),
        (Some("x-amz-meta-name"), Some("InvalidRequest")),
        (Some("x-amz-checksum-crc32c"), Some("MalformedTrailerError")),
        (Some(""), Some("MalformedTrailerError")),
        // By s3s, before it reads the body.
        (None, Some("InvalidRequest")),
        (Some("X-Amz-Checksum-CRC32"), None),
    ] {
        let put = client.put_object().bucket(BUCKET).key("key");
        let put = put.content_length(9).body(stream());
        let part = client.upload_part().bucket(BUCKET).key("multi");
        let part = part.upload_id(&upload).part_number(1);
        let part = part.content_length(9).body(stream());
        let announce = move |request: &mut config::http::HttpRequest| {
            request.headers_mut().remove("x-amz-trailer");
            if let Some(announced) = announced {
                request.headers_mut().insert("x-amz-trailer", announced);
            }
        };
        let put = put.customize().mutate_request(announce).send().await;
        let part = part.customize().mutate_request(announce).send().await;
        let (put, part) = (code(put), code(part));
        let is_right = [&put, &part].map(Option::as_deref) == [want; 2];
        if !is_right || is_stored(&client).await != want.is_none() {
            wrong.push(format!("{announced:?}: {put:?}, part {part:?}"));
        }
        let delete = client.delete_object().bucket(BUCKET).key("key");
        delete.send().await.unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn announced_trailer_that_is_missing_is_refused() {
    let client = client(&EmbeddedStore::in_memory()).await;
    let put = client.put_object().bucket(BUCKET).key("key");
    let put = put.body(ByteStream::from_static(b"123456789"));
    let put = put.customize().mutate_request(|request| {
        let headers = request.headers_mut();
        headers.insert("x-amz-trailer", "x-amz-checksum-crc32");
    });
    let refused = code(put.send().await);
    assert_eq!(refused.as_deref(), Some("MalformedTrailerError"));
    assert!(!is_stored(&client).await);
}

#[tokio::test]
async fn unknown_checksum_algorithm_is_refused() {
    let client = client(&EmbeddedStore::in_memory()).await;
    put(&client, "source", b"body".to_vec()).await;
    let upload = begin(&client, "multi").await;
    let name = |name: &'static str| {
        move |request: &mut config::http::HttpRequest| {
            request.headers_mut().insert(name, "SHA3");
        }
    };
    let object = || client.put_object().bucket(BUCKET).key("key").customize();
    let sdk_object = object().mutate_request(name("x-amz-sdk-checksum-algorithm"));
    let object = object().mutate_request(name("x-amz-checksum-algorithm"));
    let part = client.upload_part().bucket(BUCKET).key("multi");
    let part = part.upload_id(&upload).part_number(1).customize();
    let part = part.mutate_request(name("x-amz-checksum-algorithm"));
    let copy = client.copy_object().bucket(BUCKET).key("key");
    let copy = copy.copy_source(format!("{BUCKET}/source"));
    let copy = copy.checksum_algorithm(ChecksumAlgorithm::from("SHA3"));
    let create = client.create_multipart_upload().bucket(BUCKET).key("key");
    let create = create.customize();
    let create = create.mutate_request(name("x-amz-checksum-algorithm"));
    let source = ObjectIdentifier::builder().key("source").build().unwrap();
    let delete = Delete::builder().objects(source).build().unwrap();
    let delete = client.delete_objects().bucket(BUCKET).delete(delete);
    let delete = delete.customize();
    let delete = delete.mutate_request(name("x-amz-checksum-algorithm"));
    let mut wrong = Vec::new();
    for (case, refused) in [
        ("PutObject", code(object.send().await)),
        ("PutObject of an SDK", code(sdk_object.send().await)),
        ("UploadPart", code(part.send().await)),
        ("CopyObject", code(copy.send().await)),
        ("DeleteObjects", code(delete.send().await)),
        ("CreateMultipartUpload", code(create.send().await)),
    ] {
        if refused.as_deref() != Some("InvalidRequest") {
            wrong.push((case, refused));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!is_stored(&client).await);
}
