//! A server for a registry: HTTP/1.1 on a listener, until a shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, Request, Response, StatusCode};
use http_listener::{CancellationToken, accept_until};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::client_permits::ClientPermits;
use super::client_stream::{Activity, ClientStream, TrackedBody};
use super::http1::check as check_http1;
use super::limits::Limits;
use super::proxies::{Encrypted, Peer};
use super::tls::{Tls, client_certificate};
use super::{Registry, ResponseBody};

/// What is read of a connection at a time, in bytes: no budget counts it.
const BUFFER: usize = 32 * 1024;
/// The same for some connections: a push then costs a fifth less CPU time.
const LARGE_BUFFER: usize = 256 * 1024;
const LARGE_BUFFERS: usize = 16;

/// Serves `registry` on `listener` until `shutdown` resolves. Then it accepts no more connections,
/// closes those that have no complete request, waits for running requests, aborts the uploads that
/// take too long (every byte that arrived is kept, and any process can resume them), and returns
/// within [`Limits::drain`].
///
/// # Errors
///
/// Where the listener is not usable.
///
/// # Cancellation
///
/// Dropped, it cuts off all requests. What they acknowledged stays; see
/// [`Registry::settled`] for the work that continues.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    run(listener, None, registry, limits, shutdown).await
}

/// As [`serve`], over TLS.
///
/// # Errors
///
/// As [`serve`].
///
/// # Cancellation
///
/// As [`serve`].
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<Tls>,
    registry: Registry,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    run(listener, Some(tls), registry, limits, shutdown).await
}

async fn run(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    registry: Registry,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let clients = limits.connections_per_client.map(ClientPermits::new);
    let large_buffers = Arc::new(Semaphore::new(LARGE_BUFFERS));
    let serve = |stream: TcpStream, stopped| {
        let (registry, tls, limits) = (registry.clone(), tls.clone(), limits.clone());
        let client = stream.peer_addr().map(|peer| peer.ip()).ok();
        let clients = clients.as_ref().zip(client);
        let permit = clients.map(|(clients, client)| clients.acquire(client));
        let large_buffer = Arc::clone(&large_buffers).try_acquire_owned().ok();
        async move {
            let buffer = large_buffer.as_ref().map_or(BUFFER, |_| LARGE_BUFFER);
            // Too many of this client: closed at once.
            if !matches!(permit, Some(None)) {
                connection(registry, stream, tls, &limits, buffer, stopped).await;
            }
            drop((permit, large_buffer));
        }
    };
    let connections = accept_until(listener, limits.connections, shutdown, serve).await?;
    drain(registry, connections, limits.drain).await;
    Ok(())
}

/// Waits for running requests, and aborts those that take too long.
async fn drain(registry: Registry, mut connections: JoinSet<()>, within: Duration) {
    let now = Instant::now();
    let ended = async {
        while connections.join_next().await.is_some() {}
        registry.settled().await;
    };
    let mut ended = pin!(ended);
    if timeout_at(now + within * 2 / 3, ended.as_mut())
        .await
        .is_ok()
    {
        return;
    }
    registry.abort_bodies();
    if timeout_at(now + within, ended).await.is_err() {
        tracing::warn!(
            "requests still ran after {} seconds and were cut off",
            within.as_secs()
        );
    }
}

async fn connection(
    registry: Registry,
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    limits: &Limits,
    buffer: usize,
    stopped: CancellationToken,
) {
    let mut origin = Extensions::new();
    if let Ok(peer) = stream.peer_addr() {
        origin.insert(Peer(peer.ip()));
    }
    let Some(tls) = tls else {
        return exchange(registry, stream, origin, limits, buffer, stopped).await;
    };
    let handshake = timeout(limits.header_timeout, tls.accept(stream));
    let stream = tokio::select! {
        shaken = handshake => shaken.unwrap_or_else(|elapsed| Err(elapsed.into())),
        () = stopped.cancelled() => return,
    };
    match stream {
        Ok(stream) => {
            origin.insert(Encrypted);
            if let Some(certificate) = client_certificate(&stream) {
                origin.insert(certificate);
            }
            exchange(registry, stream, origin, limits, buffer, stopped).await;
        }
        Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
    }
}

/// Serves one connection until it ends. Its requests get the extensions of `origin`. After `stopped`, it ends with the
/// running request, or at once where none is complete.
async fn exchange(
    registry: Registry,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    origin: Extensions,
    limits: &Limits,
    buffer: usize,
    stopped: CancellationToken,
) {
    let activity = Arc::new(Activity::default());
    let stream = ClientStream::new(stream, limits, Arc::clone(&activity));
    let service =
        service_fn(|request| answer(registry.clone(), request, origin.clone(), &activity));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle_timeout)
            .max_buf_size(buffer)
            .max_header_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut is_stopping = false;
    let result = loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => break result,
            // Polls the connection again.
            () = activity.body_dropped() => {}
            () = stopped.cancelled(), if !is_stopping => {
                if activity.is_idle() {
                    return;
                }
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(
    registry: Registry,
    request: Request<Incoming>,
    origin: Extensions,
    activity: &Arc<Activity>,
) -> Result<Response<TrackedBody<ResponseBody>>, Infallible> {
    let guard = activity.begin();
    let is_waiting = http_listener::is_waiting(request.headers());
    let mut request = request.map(|body| TrackedBody::of_request(body, Arc::clone(&guard)));
    request.extensions_mut().extend(origin);
    let mut response = registry.respond(request, check_http1).await;
    if is_waiting && activity.has_unread() {
        http_listener::end_connection(response.headers_mut());
    }
    if matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ) {
        activity.limit_linger();
    }
    Ok(response.map(|body| TrackedBody::of_answer(body, guard)))
}
