//! The sweeps of `serve`.

use std::time::Duration;

use futures_util::StreamExt as _;

use s3layers::{S3LayerService, SweptUpload};

/// Uploads untouched for this long are removed: longer than a client pauses, and as long as any
/// store keeps an unfinished upload.
pub(super) const UNTOUCHED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Sweeps once. Any number of processes may, also together: each removal is conditional.
///
/// # Cancellation
///
/// The next sweep continues.
pub(super) async fn sweep(service: &S3LayerService, untouched: Duration) {
    let mut sweep = service.sweep(untouched, false);
    let (mut uploads, mut failed) = (0, 0);
    while let Some(swept) = sweep.next().await {
        match swept {
            Ok(SweptUpload {
                uuid,
                outcome: Err(error),
                ..
            }) => {
                failed += 1;
                tracing::warn!(%uuid, %error, "upload not swept");
            }
            Ok(_) => uploads += 1,
            Err(error) => tracing::warn!(%error, "sweep failed"),
        }
    }
    tracing::info!(uploads, failed, "swept");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::periodic::regularly;
    use crate::store_url::{Absent, BUCKET, StoreUrl, embedded_client};
    use s3layers::{LayerService as _, S3Config};

    #[tokio::test]
    async fn untouched_uploads_are_removed_by_any_number_of_processes() {
        let store = StoreUrl::Memory.open(Absent::Create).await.unwrap();
        let process = async || {
            let client = embedded_client(&store);
            let service = S3LayerService::connect(client, S3Config::new(BUCKET));
            service.await.unwrap()
        };
        let (one, other) = (process().await, process().await);
        let name = "a".parse().unwrap();
        let mut uploads = Vec::new();
        for _ in 0..20 {
            let mut upload = one.upload(&name, None).await.unwrap();
            upload.write_bytes(vec![1; 1000].into()).await.unwrap();
            upload.close().await.unwrap();
            uploads.push(upload.uuid());
        }
        let every = Duration::from_millis(20);
        let remaining = async || {
            let mut remaining = 0;
            for uuid in &uploads {
                remaining += usize::from(one.resume(&name, None, *uuid).await.is_ok());
            }
            remaining
        };
        // Young ones stay.
        sweep(&one, UNTOUCHED).await;
        assert_eq!(remaining().await, uploads.len());
        let all_removed = async {
            while remaining().await > 0 {
                tokio::time::sleep(every).await;
            }
        };
        let sweeps = |service| regularly(Some(every), move || sweep(service, Duration::ZERO));
        tokio::select! {
            never = sweeps(&one) => match never {},
            never = sweeps(&other) => match never {},
            removed = tokio::time::timeout(Duration::from_secs(60), all_removed) => removed.unwrap(),
        }
    }
}
