//! The end of a layer: its aliases, its data, its record.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::{AT_ONCE, CollectError, Pass};
use crate::s3::format::keys::Key;
use crate::s3::format::record::{Alias, Record};
use crate::s3::wire::ETag;

/// A record as it was judged.
#[derive(Debug)]
pub(super) struct RecordVersion {
    pub(super) record: Record,
    pub(super) etag: ETag,
}

/// Whether an upload has a session: it may be being committed.
///
/// # Cost
///
/// 1 request.
pub(super) async fn has_session(pass: &Pass<'_>, upload: Uuid) -> Result<bool, CollectError> {
    let session = pass.store.keys.session(upload);
    Ok(pass.store.api.get_small(&session).await?.is_some())
}

/// Removes the aliases that name the data of this record.
async fn remove_aliases(pass: &Pass<'_>, record: &Record) -> Result<(), CollectError> {
    for id in &record.layer.aliases {
        let key = pass.store.keys.layer(id);
        let read = pass.store.load::<Alias>(&key).await;
        let Some(read) = pass.or_skip(read)? else {
            continue;
        };
        let is_of_it = |alias: &Alias| {
            alias.layer.upload == record.layer.upload && alias.layer.has_same_content(&record.layer)
        };
        if is_of_it(&read.document) {
            pass.store.remove(&key, &read.etag).await?;
        }
    }
    Ok(())
}

/// Removes the aliases and the data of purging records, then the records. From `purging` on nothing restores them.
pub(super) async fn remove(
    pass: &Pass<'_>,
    purging: Vec<RecordVersion>,
) -> Result<(), CollectError> {
    if !pass.options.dry_run && !purging.is_empty() {
        let aliases = purging.iter().map(|one| remove_aliases(pass, &one.record));
        at_once(aliases).await?;
        let layers = purging.iter().map(|one| &one.record.layer);
        let keys = layers.flat_map(|layer| {
            let names = layer.segments().iter().map(|segment| &segment.name);
            names.map(|name| pass.store.keys.segment(layer.upload, name))
        });
        remove_data(pass, &keys.collect::<Vec<_>>()).await?;
        let records = purging.iter().map(async |one| {
            let key = pass.store.keys.layer(&one.record.layer.id());
            Ok(pass.store.remove(&key, &one.etag).await?)
        });
        at_once(records).await?;
    }
    for RecordVersion { record, .. } in purging {
        let layer = record.layer;
        tracing::info!(digest = %layer.digest, size = layer.size, "removed a layer");
        pass.report(|report| {
            report.layers_freed += 1;
            *report.freed.entry(layer.repository).or_default() += layer.size;
        });
    }
    Ok(())
}

async fn at_once(
    each: impl Iterator<Item = impl Future<Output = Result<(), CollectError>>>,
) -> Result<(), CollectError> {
    let each = stream::iter(each.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    each.try_collect().await
}

/// Removes data objects that no record names any more. Their keys are never used again.
pub(super) async fn remove_data(pass: &Pass<'_>, keys: &[Key]) -> Result<(), CollectError> {
    pass.store.remove_all(keys).await?;
    Ok(())
}
