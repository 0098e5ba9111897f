//! What the last collection counted.

use super::{CollectError, Pass};
use crate::s3::bucket;
use crate::s3::format::collection::LastCollection;
use crate::s3::format::document::{Document as _, encode};
use crate::s3::wire::Condition;

pub(super) type Loaded = bucket::Loaded<LastCollection>;

pub(super) async fn load(pass: &Pass<'_>) -> Result<Option<Loaded>, CollectError> {
    Ok(pass.store.load(&pass.store.keys.last_collection()).await?)
}

/// Another collection may have stored its own meanwhile: either will do.
pub(super) async fn store(pass: &Pass<'_>, last: Option<Loaded>) -> Result<(), CollectError> {
    if pass.options.dry_run {
        return Ok(());
    }
    let counted = pass.report(|report| LastCollection {
        version: LastCollection::VERSION,
        links: report.links.saturating_sub(report.links_removed),
        manifests: report.manifests,
    });
    if last.as_ref().is_some_and(|last| last.document == counted) {
        return Ok(());
    }
    let condition = last
        .as_ref()
        .map_or(Condition::Absent, |last| Condition::Matches(&last.etag));
    let key = pass.store.keys.last_collection();
    let put = pass.store.api.put_if(&key, encode(&counted)?, condition);
    put.await?;
    Ok(())
}
