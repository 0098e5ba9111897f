//! What the last collection counted.

use super::{CollectError, Pass};
use crate::s3::bucket::{ROUNDS, StoredDocument};
use crate::s3::format::collection::LastCollection;
use crate::s3::format::document::Document as _;
use crate::s3::wire::{ETag, Put};

#[derive(Debug, Default)]
pub(super) struct Last {
    pub(super) counted: Option<LastCollection>,
    /// Also of a damaged one, which is replaced.
    etag: Option<ETag>,
}

/// One of a newer version stays, as a write without its ETag is refused.
pub(super) async fn load(pass: &Pass<'_>) -> Result<Last, CollectError> {
    let key = pass.store.keys.last_collection();
    let read = pass.store.read::<LastCollection>(&key).await;
    Ok(match pass.or_skip(read)? {
        None => Last::default(),
        Some(StoredDocument { document, etag, .. }) => Last {
            counted: document.inspect_err(|error| pass.skip(error)).ok(),
            etag: Some(etag),
        },
    })
}

/// Stores what is left once this pass has removed `removed` links; before it removes the first one, so that they are not
/// missed by the pass after one that was interrupted.
///
/// # Cost
///
/// 1 request where it changes, and 2 for each time that another collection was first.
pub(super) async fn store(
    pass: &Pass<'_>,
    mut last: Last,
    removed: u64,
) -> Result<(), CollectError> {
    if pass.options.dry_run {
        return Ok(());
    }
    let counted = pass.report(|report| LastCollection {
        version: LastCollection::VERSION,
        links: report.links.saturating_sub(removed),
        manifests: report.manifests,
    });
    let key = pass.store.keys.last_collection();
    for _ in 0..ROUNDS {
        if last.counted == Some(counted) {
            return Ok(());
        }
        let put = pass.store.put_over(&key, &counted, last.etag.as_ref());
        if let Put::Written(_) = put.await? {
            return Ok(());
        }
        last = load(pass).await?;
        match &last.counted {
            // It may remove more than this pass.
            Some(other) if other.links <= counted.links => return Ok(()),
            // One of a newer version.
            None if last.etag.is_none() => return Ok(()),
            _ => {}
        }
    }
    Err(CollectError::refused(format_args!(
        "other collections write {key} at the same time"
    )))
}
