//! What the last collection counted.

use super::{CollectError, Pass};
use crate::s3::bucket::StoredDocument;
use crate::s3::format::collection::LastCollection;
use crate::s3::format::document::{Document as _, encode};
use crate::s3::wire::{Condition, ETag};

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
    Ok(match pass.or_skip(&key, read)? {
        None => Last::default(),
        Some(StoredDocument { document, etag, .. }) => Last {
            counted: document.inspect_err(|error| pass.skip(&key, error)).ok(),
            etag: Some(etag),
        },
    })
}

/// Another collection may have stored its own meanwhile: either will do.
pub(super) async fn store(pass: &Pass<'_>, last: Last) -> Result<(), CollectError> {
    if pass.options.dry_run {
        return Ok(());
    }
    let counted = pass.report(|report| LastCollection {
        version: LastCollection::VERSION,
        links: report.links.saturating_sub(report.links_removed),
        manifests: report.manifests,
    });
    if last.counted == Some(counted) {
        return Ok(());
    }
    let etag = last.etag.as_ref();
    let condition = etag.map_or(Condition::Absent, Condition::Matches);
    let key = pass.store.keys.last_collection();
    let put = pass.store.api.put_if(&key, encode(&counted)?, condition);
    put.await?;
    Ok(())
}
