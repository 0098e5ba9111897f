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
use tokio_io_timeout::TimeoutWriter;

use super::metrics::{METRICS_CONTENT_TYPE, Metrics};

/// A scraper or two, and a person.
const CONNECTIONS: usize = 16;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may make no progress.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

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
            let mut stream = TimeoutWriter::new(stream);
            stream.set_timeout(Some(WRITE_TIMEOUT));
            let stream = TokioIo::new(Box::pin(stream));
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            // A scraper that disconnected asks again.
            let _ = server.serve_connection(stream, service).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prices;
    use s3layers::ServiceStatus;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;
    use tokio::time::{Instant, advance, pause, resume, sleep};

    const REQUEST: &str = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";

    /// More requests than answers that sockets hold.
    #[tokio::test]
    async fn clients_that_do_not_read_are_disconnected() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new(ServiceStatus::default, Prices::default()));
        tokio::spawn(serve_metrics(listener, metrics));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            let requests = REQUEST.repeat(200);
            stream.write_all(requests.as_bytes()).await.unwrap();
            silent.push(stream);
        }
        let mut scraper = tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = REQUEST.replace("host", "connection: close\r\nhost");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let begun = Instant::now();
        while !scraper.is_finished() {
            assert!(begun.elapsed() < 20 * WRITE_TIMEOUT, "no answer");
            pause();
            advance(WRITE_TIMEOUT / 10).await;
            resume();
            sleep(Duration::from_millis(20)).await;
        }
        let answer = (&mut scraper).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        drop(silent);
    }
}
