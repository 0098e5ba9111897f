//! A server for a registry: HTTP/1.1 on a listener, until told to stop.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::Registry;
use super::patience::Patient;

/// How long to wait when no connection can be accepted, for lack of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// What a server bears. What a request may do is in [`Options`](super::Options).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at a time. Further ones wait to be accepted. Default: 10,000.
    pub connections: usize,
    /// How long a connection may take for the head of a request, which includes the time between
    /// two requests. Default: 100 seconds, for many clients keep an idle connection for 90 and are
    /// not prepared to find it closed.
    pub header_timeout: Duration,
    /// How long a client may take nothing of what it is sent. Then its connection is cut. Default: 60
    /// seconds.
    pub write_timeout: Duration,
    /// How long running requests may take once the server is told to stop. In the last third of it
    /// uploads are broken off, and every byte that came is kept. Default: 30 seconds.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            header_timeout: Duration::from_secs(100),
            write_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// Serves `registry` on `listener` until `shutdown` resolves. Then it accepts nothing more, lets
/// what runs end, breaks off the uploads that do not (every byte that came is kept, and they can go
/// on at another process), and returns within [`Limits::drain`].
///
/// # Errors
///
/// Where the listener is not usable.
///
/// # Cancellation
///
/// Dropped, it cuts off all requests. What they acknowledged stays; see
/// [`Registry::settled`] for what goes on.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    // Told once and for all: fails early if the socket is not one.
    listener.local_addr()?;
    let places = limits.connections.clamp(1, Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(places));
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
                let registry = registry.clone();
                let (limits, stopped) = (limits.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(registry, stream, &limits, stopped).await;
                    drop(place);
                });
            }
            // One connection that failed is no reason to refuse the others.
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drop(stop);
    drain(registry, connections, limits.drain).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Lets all end, and breaks off what does not.
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
    registry.hang_up();
    if timeout_at(now + within, ended).await.is_err() {
        tracing::warn!(
            "requests still ran after {} seconds and were cut off",
            within.as_secs()
        );
    }
}

/// One connection, until it ends by itself or `stopped` is told and its request is done.
async fn connection(
    registry: Registry,
    stream: TcpStream,
    limits: &Limits,
    mut stopped: watch::Receiver<()>,
) {
    // Answers are small or large, never a trickle: no reason to wait for more.
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().map(|peer| peer.ip()).ok();
    let stream = Patient::new(stream, limits.write_timeout);
    let service = service_fn(|request| {
        let registry = registry.clone();
        async move { Ok::<_, Infallible>(registry.handle_http1(request, peer).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .serve_connection(TokioIo::new(stream), service)
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
