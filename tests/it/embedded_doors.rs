//! The two doors of the embedded store: the connector inside the process, and the server.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use embedded_s3::EmbeddedStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::embedded::{BUCKET, bytes, client, client_with, get, put};

#[tokio::test]
async fn requests_in_the_process_are_verified_too() {
    let store = EmbeddedStore::in_memory().with_keys("access", "a-canary-secret");
    let right = client(&store).await;
    put(&right, "key", b"body".to_vec()).await;
    let wrong = client_with(&store, "another-secret");
    let refused = wrong
        .get_object()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some("SignatureDoesNotMatch"));
    assert!(!format!("{store:?} {:?}", store.http_client()).contains("canary"));
}

#[tokio::test]
async fn an_answer_in_the_process_has_a_date() {
    let store = EmbeddedStore::in_memory();
    let client = client(&store).await;
    put(&client, "key", b"body".to_vec()).await;
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("key")
        .send()
        .await
        .unwrap();
    let age = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::try_from(*head.last_modified().unwrap()).unwrap());
    assert!(age.unwrap().as_secs() < 60);
}

/// Of a client that has sent half a head, and of one that waits after its answer.
#[tokio::test]
async fn stopped_server_waits_for_no_connection_without_a_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        EmbeddedStore::in_memory()
            .serve(listener, async { stopped.await.unwrap_or_default() })
            .await
    });
    let mut clients = Vec::new();
    for sent in [
        &b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"GET /x HTTP/1.1\r\nhost: x\r\n\r\nPUT /x/y HTTP/1.1\r\nHo",
    ] {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(sent).await.unwrap();
        // What the server has answered, it has read, with what came behind it.
        client.read_u8().await.unwrap();
        clients.push(client);
    }
    let begun = std::time::Instant::now();
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    // Running requests get ten seconds.
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn stopped_server_completes_running_requests() {
    let store = EmbeddedStore::in_memory();
    let inside = client(&store).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = store.clone();
    let server = tokio::spawn(async move {
        server
            .serve(listener, async { stopped.await.unwrap_or_default() })
            .await
    });

    let config = inside
        .config()
        .to_builder()
        .endpoint_url(format!("http://{address}"));
    let config = config.http_client(aws_smithy_http_client::Builder::new().build_http());
    let outside = Client::from_conf(config.build());
    // The second half of the body comes when the server knows that it has to stop.
    let (rest, body) = tokio::sync::mpsc::channel(1);
    let body = futures_util::stream::unfold(body, |mut body| async move {
        let frame = body.recv().await?;
        Some((frame, body))
    });
    let body = futures_util::StreamExt::fuse(body);
    let body = ByteStream::from_body_1_x(http_body_util::StreamBody::new(body));
    let put = outside
        .put_object()
        .bucket(BUCKET)
        .key("key")
        .content_length(200_000)
        .body(body);
    let put = tokio::spawn(put.customize().disable_payload_signing().send());
    let frame = |seed| Ok::<_, std::io::Error>(http_body::Frame::data(bytes(seed, 100_000).into()));
    rest.send(frame(1)).await.unwrap();
    rest.reserve().await.unwrap();
    stop.send(()).unwrap();
    rest.send(frame(2)).await.unwrap();
    drop(rest);
    put.await.unwrap().unwrap();
    server.await.unwrap().unwrap();
    assert_eq!(
        get(&inside, "key").await,
        [bytes(1, 100_000), bytes(2, 100_000)].concat()
    );
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "it still listens"
    );
}

/// Its client sends no body after a refusal, and the next request of the connection would be read as that body.
#[tokio::test]
async fn refusal_of_a_body_that_was_not_sent_ends_the_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let store = EmbeddedStore::in_memory();
        store.serve(listener, std::future::pending()).await
    });
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        "PUT /bucket/y HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        head.to_lowercase().contains("\r\nconnection: close"),
        "{answer}"
    );
    server.abort();
}
