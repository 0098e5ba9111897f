//! The entry from the network: HTTP/1.1 on a listener, until shutdown.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use http::HeaderValue;
use http::header;
use http_body::{Body, Frame, SizeHint};
use http_listener::{CancellationToken, accept_until};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutWriter;

use crate::error::EmbeddedError;
use crate::limits::{BodyState, Limits, TimedBody};
use crate::refusal::Refusal;
use crate::service::{HttpService, SERVER, answer};

/// How long running requests may take after shutdown began.
const GRACE: Duration = Duration::from_secs(10);
/// How long a connection without a request may take to end then: its last answer may still be on its way.
const IDLE_GRACE: Duration = Duration::from_secs(2);
/// What is read of a connection at a time, in bytes.
const READ_BUFFER: usize = 64 * 1024;

/// Serves until `shutdown` resolves, then lets running requests end, for [`GRACE`] at most.
pub(crate) async fn serve(
    service: HttpService,
    listener: TcpListener,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), EmbeddedError> {
    let limit = limits.connections;
    let requests = limits.requests.clamp(1, Semaphore::MAX_PERMITS);
    let served = Arc::new(ServerState {
        service,
        requests: Semaphore::new(requests),
        limits,
    });
    let serve = |stream, stopped| connection(Arc::clone(&served), stream, stopped);
    let connections = accept_until(listener, limit, shutdown, serve).await;
    let mut connections = connections.map_err(EmbeddedError::Serve)?;
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!(
            "requests still ran after {} seconds and were cut off",
            GRACE.as_secs()
        );
    }
    Ok(())
}

/// What all connections share.
struct ServerState {
    service: HttpService,
    requests: Semaphore,
    limits: Limits,
}

impl ServerState {
    async fn call(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<s3s::HttpResponse, s3s::HttpError> {
        let Ok(_permit) = timeout(self.limits.patience, self.requests.acquire()).await else {
            return answer(Refusal::SlowDown);
        };
        let is_waiting = http_listener::is_waiting(request.headers());
        let body_state = Arc::new(BodyState::default());
        let request = request.map(|body| {
            let timed = TimedBody::new(body, self.limits.body_timeout, Arc::clone(&body_state));
            s3s::Body::http_body(timed)
        });
        let mut answered = self.service.call(request).await?;
        if body_state.has_stalled.load(Ordering::Relaxed) && !answered.status().is_success() {
            return answer(Refusal::BodyTimeout);
        }
        if is_waiting && !body_state.was_read.load(Ordering::Relaxed) {
            http_listener::end_connection(answered.headers_mut());
        }
        Ok(answered)
    }
}

/// One connection, until it ends by itself, or shutdown began and its request is done.
async fn connection(served: Arc<ServerState>, stream: TcpStream, stopped: CancellationToken) {
    // A client that asks for an object and does not read it would keep the connection open.
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(served.limits.write_timeout));
    // Until the body of its answer was handed to the connection.
    let request_guard = Arc::new(());
    let named = service_fn(|request| async {
        let guard = Arc::clone(&request_guard);
        let mut answer = served.call(request).await?;
        let name = HeaderValue::from_static(SERVER);
        answer.headers_mut().entry(header::SERVER).or_insert(name);
        Ok::<_, s3s::HttpError>(answer.map(|body| GuardedBody {
            body,
            _guard: guard,
        }))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(served.limits.header_timeout)
            .max_buf_size(READ_BUFFER)
            .serve_connection(TokioIo::new(Box::pin(stream)), named)
    );
    let result = match select(connection.as_mut(), pin!(stopped.cancelled())).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            loop {
                let is_idle = || Arc::strong_count(&request_guard) == 1;
                let was_idle = is_idle();
                match timeout(IDLE_GRACE, connection.as_mut()).await {
                    Ok(result) => break result,
                    Err(_) if was_idle && is_idle() => return,
                    Err(_) => {}
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The body of an answer, which keeps its request begun.
struct GuardedBody {
    body: s3s::Body,
    _guard: Arc<()>,
}

impl Body for GuardedBody {
    type Data = <s3s::Body as Body>::Data;
    type Error = <s3s::Body as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
