//! A registry in a program of one's own: mounted in axum beside other routes, over a storage of
//! one's choice, behind a check of one's own. Here it is the model, in memory, and whoever knows
//! the word may push.
//!
//! `cargo run --example own_registry`

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use s3layers::registry::{Options, router};
use s3layers::{Algorithm, Digest, MemoryLayerService};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Reading is free; whoever writes has to say the word.
async fn may(request: Request, next: Next) -> Response {
    let reads = matches!(request.method().as_str(), "GET" | "HEAD");
    let word = request.headers().get("authorization");
    if reads || word.is_some_and(|word| word == "Bearer sesame") {
        return next.run(request).await;
    }
    StatusCode::UNAUTHORIZED.into_response()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let registry = router(Arc::new(MemoryLayerService::new()), Options::default());
    let app = Router::new()
        .route("/", get(async || "images live here\n"))
        .fallback_service(registry.clone())
        .layer(from_fn(may));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, app).await });

    let layer = "some bytes";
    let digest = Digest::of(Algorithm::Sha256, layer.as_bytes());
    let push = format!("/v2/library/demo/blobs/uploads/?digest={digest}");
    let pull = format!("/v2/library/demo/blobs/{digest}");
    for (method, path, headers, body) in [
        ("GET", "/", "", ""),
        ("POST", &*push, "", layer),
        ("POST", &*push, "authorization: Bearer sesame\r\n", layer),
        ("GET", &*pull, "", ""),
    ] {
        let answer = ask(address, method, path, headers, body).await?;
        let status = answer.lines().next().unwrap_or_default();
        println!("{method} {path}: {status}");
    }
    let answer = ask(address, "GET", &pull, "", "").await?;
    assert!(answer.ends_with(layer), "{answer}");
    // What a request began is ended before the program is.
    registry.settled().await;
    Ok(())
}

/// Any HTTP client does it.
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
