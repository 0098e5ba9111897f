//! What the registry, its metrics and the embedded store have in common: the accept loop, and the refusal of a body that
//! its client has not sent.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
pub use tokio_util::sync::CancellationToken;

/// How long to wait when no connection can be accepted, for lack of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `shutdown` resolves, and runs `serve` for each in a task of its own, with a
/// token that is cancelled when the shutdown begins. While `limit` connections are open, further ones wait in
/// the backlog. Returns the tasks that still run.
///
/// # Errors
///
/// If the listener is not usable.
///
/// # Cancellation
///
/// Dropped, it aborts all connections.
pub async fn accept_until<F>(
    listener: TcpListener,
    limit: usize,
    shutdown: impl Future<Output = ()>,
    serve: impl Fn(TcpStream, CancellationToken) -> F,
) -> io::Result<JoinSet<()>>
where
    F: Future<Output = ()> + Send + 'static,
{
    // Fails early if the socket is not one.
    listener.local_addr()?;
    let places = Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
    let stopped = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                // Answers are small or large, never a trickle: no reason to wait for more.
                let _ = stream.set_nodelay(true);
                let served = serve(stream, stopped.clone());
                connections.spawn(async move {
                    served.await;
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
    stopped.cancel();
    Ok(connections)
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Whether the client waits for 100 (Continue) before it sends the body.
pub fn is_waiting(request: &HeaderMap) -> bool {
    request.contains_key(header::EXPECT)
}

/// Ends the connection after this answer to a client that [waited](is_waiting) and was not asked for all of its body: it
/// sends no more of it, and hyper would read the body from the next request (RFC 9110, 10.1.1).
pub fn end_connection(answer: &mut HeaderMap) {
    answer.insert(header::CONNECTION, HeaderValue::from_static("close"));
}
