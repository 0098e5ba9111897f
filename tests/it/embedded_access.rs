//! Who may do what at the server of the embedded store, and for how long.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use embedded_s3::{EmbeddedStore, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::embedded::{BUCKET, bytes, client, get, put};
use crate::support::stores;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

/// The address of a server over this store.
async fn served(store: &EmbeddedStore, set: impl FnOnce(&mut Limits)) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut limits = Limits::default();
    set(&mut limits);
    let server = store.clone();
    tokio::spawn(async move {
        let never = std::future::pending();
        server.serve_with(listener, limits, never).await
    });
    address
}

/// A client that comes over the socket.
fn outside(inside: &Client, address: &str) -> Client {
    let config = inside
        .config()
        .to_builder()
        .endpoint_url(format!("http://{address}"))
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled());
    let http = aws_smithy_http_client::Builder::new().build_http();
    Client::from_conf(config.http_client(http).build())
}

async fn connected(address: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the server closes the connection.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = vec![0; 1 << 20];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(PATIENCE, read).await.unwrap();
    answer
}

async fn ask(address: &str, line: &str, headers: &str) -> String {
    let request =
        format!("{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n");
    String::from_utf8(rest(connected(address, &request).await).await).unwrap()
}

#[tokio::test]
async fn old_and_foreign_ways_in_are_refused() {
    let store = EmbeddedStore::in_memory();
    let inside = client(&store).await;
    put(&inside, "key", b"body".to_vec()).await;
    let address = served(&store, |_| ()).await;
    let (key, form) = (
        store.access_key(),
        "content-type: multipart/form-data; boundary=x\r\n",
    );
    let v2 = format!("authorization: AWS {key}:c2lnbmF0dXJl\r\n");
    let v2_query = format!("GET /{BUCKET}/key?AWSAccessKeyId={key}&Expires=4102444800&Signature=x");
    for (line, headers, status, code) in [
        (
            format!("GET /{BUCKET}/key"),
            v2.as_str(),
            400,
            "InvalidRequest",
        ),
        (v2_query, "", 400, "InvalidRequest"),
        (
            format!("GET /{BUCKET}/key?X-Amz-Expires=604801&X-Amz-Signature=x"),
            "",
            400,
            "AuthorizationQueryParametersError",
        ),
        (format!("POST /{BUCKET}"), form, 501, "NotImplemented"),
        (format!("GET /{BUCKET}/key"), "", 403, "AccessDenied"),
    ] {
        let answer = ask(&address, &line, headers).await;
        let begins = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&begins), "{line}: {answer}");
        assert!(
            answer.contains(&format!("<Code>{code}</Code>")),
            "{line}: {answer}"
        );
    }
    let week = PresigningConfig::expires_in(Duration::from_secs(604_800)).unwrap();
    let url = outside(&inside, &address)
        .get_object()
        .bucket(BUCKET)
        .key("key");
    let url = url.presigned(week).await.unwrap().uri().to_owned();
    let path = url.strip_prefix(&format!("http://{address}")).unwrap();
    let answer = ask(&address, &format!("GET {path}"), "").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("body"),
        "{answer}"
    );
}

#[tokio::test]
async fn deleting_many_needs_a_checksum() {
    let store = EmbeddedStore::in_memory();
    let client = client(&store).await;
    put(&client, "key", b"body".to_vec()).await;
    for (kept, code) in [
        ("content-type", Some("InvalidRequest")),
        ("x-amz-checksum-crc32", None),
    ] {
        let key = ObjectIdentifier::builder().key("key").build().unwrap();
        let delete = Delete::builder().objects(key).build().unwrap();
        let delete = client.delete_objects().bucket(BUCKET).delete(delete);
        let sent = delete.customize().mutate_request(move |request| {
            for sum in ["x-amz-checksum-crc32", "content-md5"] {
                if sum != kept {
                    request.headers_mut().remove(sum);
                }
            }
        });
        let sent = sent.send().await;
        assert_eq!(
            sent.err()
                .and_then(|error| error.code().map(str::to_owned))
                .as_deref(),
            code
        );
        let listed = client
            .list_objects_v2()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap();
        assert_eq!(listed.contents().is_empty(), code.is_none());
    }
}

#[tokio::test]
async fn keys_are_random_unless_given() {
    let (one, other) = (EmbeddedStore::in_memory(), EmbeddedStore::in_memory());
    assert_ne!(one.access_key(), other.access_key());
    assert_ne!(one.secret_key(), other.secret_key());
    assert_eq!(one.access_key().len(), 20);
    assert!(one.secret_key().len() >= 40);
    let client = crate::embedded::client_with(&one, other.secret_key());
    let refused = client.list_buckets().send().await.unwrap_err();
    assert_eq!(refused.code(), Some("SignatureDoesNotMatch"));
    let given = one.with_keys("access", "secret");
    assert_eq!(
        (given.access_key(), given.secret_key()),
        ("access", "secret")
    );
}

type Sender = mpsc::Sender<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>;

/// A PUT whose body comes as it is sent here.
fn slow_put(client: &Client, key: &str) -> (Sender, tokio::task::JoinHandle<Option<String>>) {
    let (sender, body) = mpsc::channel(1);
    let body = futures_util::stream::unfold(body, |mut body| async move {
        let frame = body.recv().await?;
        Some((frame, body))
    });
    let body = futures_util::StreamExt::fuse(body);
    let body = ByteStream::from_body_1_x(http_body_util::StreamBody::new(body));
    let put = client.put_object().bucket(BUCKET).key(key);
    let put = put.content_length(200_000).body(body);
    let sent = put.customize().disable_payload_signing().send();
    let code = async move {
        let failed = sent.await.err()?;
        Some(failed.code().unwrap_or("no answer").to_owned())
    };
    (sender, tokio::spawn(code))
}

fn half(seed: u64) -> Result<http_body::Frame<bytes::Bytes>, std::io::Error> {
    Ok(http_body::Frame::data(bytes(seed, 100_000).into()))
}

#[tokio::test]
async fn stalled_clients_are_disconnected() {
    let (folder, store) = stores::in_folder().await;
    let inside = client(&store).await;
    let address = served(&store, |limits| {
        limits.header_timeout = SHORT;
        limits.body_timeout = SHORT;
        limits.write_timeout = SHORT;
    })
    .await;
    let client = outside(&inside, &address);

    // In the middle of a body.
    let (sender, code) = slow_put(&client, "key");
    sender.send(half(1)).await.unwrap();
    let code = timeout(PATIENCE, code).await.unwrap().unwrap();
    assert_eq!(code.as_deref(), Some("RequestTimeout"));
    assert_eq!(crate::embedded::blobs(folder.path()), 0);

    // In the middle of a head, and before it.
    for begun in ["GET /bucket/key HT", ""] {
        let stream = connected(&address, begun).await;
        rest(stream).await;
    }

    // In the middle of an answer, which is larger than what sockets hold.
    let size = 64 << 20;
    put(&inside, "large", bytes(2, size)).await;
    let soon = PresigningConfig::expires_in(PATIENCE).unwrap();
    let url = client.get_object().bucket(BUCKET).key("large");
    let url = url.presigned(soon).await.unwrap().uri().to_owned();
    let path = url.strip_prefix(&format!("http://{address}")).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let stream = connected(&address, &request).await;
    sleep(10 * SHORT).await;
    assert!(rest(stream).await.len() < size);
}

#[tokio::test]
async fn connections_and_requests_are_limited() {
    let store = EmbeddedStore::in_memory();
    let inside = client(&store).await;
    let address = served(&store, |limits| {
        limits.connections = 2;
        limits.requests = 1;
        limits.patience = SHORT;
    })
    .await;
    let client = outside(&inside, &address);
    let (sender, code) = slow_put(&client, "key");
    sender.send(half(1)).await.unwrap();
    // The store has begun to read it.
    sender.reserve().await.unwrap();
    sender.reserve().await.unwrap();
    let busy = ask(&address, "GET /", "").await;
    assert!(
        busy.starts_with("HTTP/1.1 503") && busy.contains("SlowDown"),
        "{busy}"
    );

    let idle = TcpStream::connect(&address).await.unwrap();
    // Its place is taken when its first byte is answered.
    let third = ask(&address, "GET /", "");
    let mut third = std::pin::pin!(third);
    assert!(
        timeout(4 * SHORT, third.as_mut()).await.is_err(),
        "a third was served"
    );
    drop(idle);
    let answer = timeout(PATIENCE, third).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    sender.send(half(2)).await.unwrap();
    drop(sender);
    assert_eq!(code.await.unwrap(), None);
    let stored = get(&inside, "key").await;
    assert_eq!(stored, [bytes(1, 100_000), bytes(2, 100_000)].concat());
}
