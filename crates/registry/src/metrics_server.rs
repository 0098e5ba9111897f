//! A server of its own for the metrics: `GET /metrics`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use http_listener::accept_until;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::metrics::{METRICS_CONTENT_TYPE, Metrics};

/// A scraper or two, and a person.
const CONNECTIONS: usize = 16;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves `metrics` on `listener`, as long as it is polled. It has no authentication: bind an address
/// that only the scraper reaches.
///
/// # Errors
///
/// If the listener is not usable.
///
/// # Cancellation
///
/// Dropped, it closes all connections.
pub async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>) -> io::Result<()> {
    let serve = |stream, _| {
        let metrics = Arc::clone(&metrics);
        async move {
            let service = service_fn(|request| {
                let response = respond(&metrics, &request);
                async { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            // A scraper that disconnected asks again.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    };
    accept_until(listener, CONNECTIONS, std::future::pending(), serve)
        .await
        .map(drop)
}

fn respond(metrics: &Metrics, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match metrics.text() {
        Ok(text) if request.uri().path() == "/metrics" => {
            *response.body_mut() = Full::from(text);
            let content_type = HeaderValue::from_static(METRICS_CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        Ok(_) => *response.status_mut() = StatusCode::NOT_FOUND,
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}
