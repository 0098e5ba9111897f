//! The collections of `serve`.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;

use s3layers::{CollectOptions, RunError, S3LayerService, clock};
use s3layers_registry::Metrics;

/// Collects at random times, `every` apart on average, so that processes that were started together
/// do not collect together. Any number of them may.
///
/// # Cancellation
///
/// The next collection continues.
pub(super) async fn collect_regularly(
    service: &S3LayerService,
    every: Duration,
    metrics: Option<&Metrics>,
) -> Infallible {
    let mut pause = every.mul_f64(clock::jitter());
    loop {
        sleep(pause).await;
        collect(service, metrics).await;
        pause = every.mul_f64(0.5 + clock::jitter());
    }
}

async fn collect(service: &S3LayerService, metrics: Option<&Metrics>) {
    let collected = service.collect(&CollectOptions::default()).await;
    let (collected, error) = RunError::split(collected);
    if let Some(metrics) = metrics {
        metrics.count_collection(&collected, error.is_some());
    }
    if let Some(error) = error {
        tracing::warn!(%error, "collection failed");
    }
    for reason in &collected.skipped {
        tracing::warn!(reason, "left alone by a collection");
    }
    if let Some(reason) = &collected.stopped {
        tracing::warn!(reason, "collection stopped");
    }
    tracing::info!(
        links_condemned = collected.links_condemned,
        links_removed = collected.links_removed,
        layers_removed = collected.layers_removed,
        layers_freed = collected.layers_freed,
        bytes_freed = collected.bytes_freed(),
        "collected"
    );
}
