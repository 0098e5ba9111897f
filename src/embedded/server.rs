//! The door to the network: HTTP/1.1 on a listener, until told to stop.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::HeaderValue;
use http::header::SERVER;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::EmbeddedError;

/// How long running requests may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted, for lack of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` resolves, then lets running requests end, for [`GRACE`] at most.
pub(super) async fn serve(
    service: S3Service,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), EmbeddedError> {
    // Told once and for all: fails early if the socket is not one.
    listener.local_addr().map_err(EmbeddedError::Serve)?;
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = match select(shutdown.as_mut(), pin!(listener.accept())).await {
            Either::Left(((), _)) => break,
            Either::Right((accepted, _)) => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(service.clone(), stream, stopped.clone()));
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

/// One connection, until it ends by itself or `stopped` is told and its request is done.
async fn connection(service: S3Service, stream: TcpStream, mut stopped: watch::Receiver<()>) {
    // Answers are small or large, never a trickle: no reason to wait for more.
    let _ = stream.set_nodelay(true);
    let named = service_fn(|request: http::Request<Incoming>| async {
        let mut answer = service.call(request.map(s3s::Body::from)).await?;
        let name = HeaderValue::from_static(super::SERVER);
        answer.headers_mut().entry(SERVER).or_insert(name);
        Ok::<_, s3s::HttpError>(answer)
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), named)
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
