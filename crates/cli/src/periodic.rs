//! The work that `serve` repeats.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use tokio::time::sleep;

use s3layers::clock;

/// Does `work` at random times, `every` apart on average, so that processes that were started together
/// do not do it together. `None`: never.
///
/// # Cancellation
///
/// That of `work`.
pub(super) async fn regularly<F: Future<Output = ()>>(
    every: Option<Duration>,
    work: impl Fn() -> F,
) -> Infallible {
    let Some(every) = every else {
        return std::future::pending().await;
    };
    let mut pause = every.mul_f64(clock::jitter());
    loop {
        sleep(pause).await;
        work().await;
        pause = every.mul_f64(0.5 + clock::jitter());
    }
}
