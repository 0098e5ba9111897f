//! The collections of `serve`.

use s3layers::{CollectOptions, RunError, S3LayerService};
use s3layers_registry::Metrics;

/// Collects once. Any number of processes may, also together.
///
/// # Cancellation
///
/// The next collection continues.
pub(super) async fn collect(service: &S3LayerService, metrics: Option<&Metrics>) {
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
