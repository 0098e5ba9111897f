//! The entry from the network: HTTP/1.1 on a listener, until shutdown.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use http::HeaderValue;
use http::header;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutWriter;

use crate::error::EmbeddedError;
use crate::limits::{Limits, TimedBody};
use crate::refusal::Refusal;
use crate::service::{HttpService, SERVER, answer};

/// How long running requests may take after shutdown began.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted, for lack of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);
/// What is read of a connection at a time, in bytes.
const READ_BUFFER: usize = 64 * 1024;

/// Serves until `shutdown` resolves, then lets running requests end, for [`GRACE`] at most.
pub(crate) async fn serve(
    service: HttpService,
    listener: TcpListener,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), EmbeddedError> {
    // Fails early if the listener is unusable.
    listener.local_addr().map_err(EmbeddedError::Serve)?;
    let places = semaphore(limits.connections);
    let served = Arc::new(Served {
        service,
        requests: semaphore(limits.requests),
        limits,
    });
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = match select(shutdown.as_mut(), pin!(accept(&listener, &places))).await {
            Either::Left(((), _)) => break,
            Either::Right((accepted, _)) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (served, stopped) = (served.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(&served, stream, stopped).await;
                    drop(place);
                });
            }
            // One connection that failed is no reason to refuse the others.
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drop(stop);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!(
            "requests still ran after {} seconds and were cut off",
            GRACE.as_secs()
        );
    }
    Ok(())
}

fn semaphore(places: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)))
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// What all connections share.
struct Served {
    service: HttpService,
    requests: Arc<Semaphore>,
    limits: Limits,
}

impl Served {
    async fn call(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<s3s::HttpResponse, s3s::HttpError> {
        let Ok(_permit) = timeout(self.limits.patience, self.requests.acquire()).await else {
            return answer(Refusal::SlowDown);
        };
        let has_stalled = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| {
            let timed = TimedBody::new(body, self.limits.body_timeout, has_stalled.clone());
            s3s::Body::http_body(timed)
        });
        let answered = self.service.call(request).await?;
        if has_stalled.load(Ordering::Relaxed) && !answered.status().is_success() {
            return answer(Refusal::BodyTimeout);
        }
        Ok(answered)
    }
}

/// One connection, until it ends by itself, or shutdown began and its request is done.
async fn connection(served: &Served, stream: TcpStream, mut stopped: watch::Receiver<()>) {
    // Answers are small or large, never a trickle: no reason to wait for more.
    let _ = stream.set_nodelay(true);
    // A client that asks for an object and does not read it would keep the connection open.
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(served.limits.write_timeout));
    let named = service_fn(|request| async {
        let mut answer = served.call(request).await?;
        let name = HeaderValue::from_static(SERVER);
        answer.headers_mut().entry(header::SERVER).or_insert(name);
        Ok::<_, s3s::HttpError>(answer)
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(served.limits.header_timeout)
            .max_buf_size(READ_BUFFER)
            .serve_connection(TokioIo::new(Box::pin(stream)), named)
    );
    let result = match select(connection.as_mut(), pin!(stopped.changed())).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
