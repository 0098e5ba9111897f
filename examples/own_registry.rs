//! A registry in your own program: mounted in axum beside other routes, over a storage of your choice,
//! behind your own check of who may use it. Here the storage is the model, in memory, and every request
//! to the registry needs a user and a password (HTTP Basic).
//!
//! Clients such as docker ask `GET /v2/` first. A 401 has to name a scheme in `WWW-Authenticate`:
//! without it they do not send the credentials of `docker login`.
//!
//! `cargo run --example own_registry`

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use s3layers::{Algorithm, Digest, MemoryLayerService};
use s3layers_registry::{Options, router};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// `demo:sesame`, as Basic authentication encodes it.
const ALLOWED: &str = "Basic ZGVtbzpzZXNhbWU=";

/// Answers 401 with a challenge unless the request has the credentials.
async fn check(request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION);
    if given.is_some_and(|given| given == ALLOWED) {
        return next.run(request).await;
    }
    let challenge = [(WWW_AUTHENTICATE, r#"Basic realm="registry""#)];
    (StatusCode::UNAUTHORIZED, challenge).into_response()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let registry = router(Arc::new(MemoryLayerService::new()), Options::default());
    let app = Router::new()
        .fallback_service(registry.clone())
        .layer(from_fn(check))
        .route("/", get(async || "images are stored here\n"));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, app).await });

    let layer = "some bytes";
    let digest = Digest::of(Algorithm::Sha256, layer.as_bytes());
    let push = format!("/v2/library/demo/blobs/uploads/?digest={digest}");
    let pull = format!("/v2/library/demo/blobs/{digest}");
    let login = format!("authorization: {ALLOWED}\r\n");
    for (method, path, headers, body) in [
        ("GET", "/", "", ""),
        ("GET", "/v2/", "", ""),
        ("GET", "/v2/", &*login, ""),
        ("POST", &*push, &*login, layer),
        ("GET", &*pull, &*login, ""),
    ] {
        let answer = ask(address, method, path, headers, body).await?;
        let status = answer.lines().next().unwrap_or_default();
        println!("{method} {path}: {status}");
    }
    let answer = ask(address, "GET", "/v2/", "", "").await?.to_lowercase();
    assert!(
        answer.contains("www-authenticate: basic realm="),
        "{answer}"
    );
    let answer = ask(address, "GET", &pull, &login, "").await?;
    assert!(answer.ends_with(layer), "{answer}");
    // Work that a request began is completed before the program ends.
    registry.settled().await;
    Ok(())
}

/// Any HTTP client will do.
async fn ask(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let size = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {size}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
