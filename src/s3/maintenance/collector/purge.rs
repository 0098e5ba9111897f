//! The end of a layer: its aliases, its data, its record.

use super::{CollectError, Pass, at_once};
use crate::s3::bucket::StoredDocument;
use crate::s3::format::record::{Alias, Record};

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
    purging: Vec<StoredDocument<Record>>,
) -> Result<(), CollectError> {
    if !pass.options.dry_run && !purging.is_empty() {
        let aliases = purging
            .iter()
            .map(|one| remove_aliases(pass, &one.document));
        at_once(aliases).await?;
        let layers = purging.iter().map(|one| &one.document.layer);
        let keys = layers.flat_map(|layer| {
            let names = layer.segments().iter().map(|segment| &segment.name);
            names.map(|name| pass.store.keys.segment(layer.upload, name))
        });
        // Their keys are never used again.
        pass.store.remove_all(&keys.collect::<Vec<_>>()).await?;
        let records = purging.iter().map(async |one| {
            let key = pass.store.keys.layer(&one.document.layer.id());
            Ok(pass.store.remove(&key, &one.etag).await?)
        });
        at_once(records).await?;
    }
    for StoredDocument { document, .. } in purging {
        let layer = document.layer;
        tracing::info!(digest = %layer.digest, size = layer.size, "removed a layer");
        pass.report(|report| {
            report.layers_freed += 1;
            *report.freed.entry(layer.repository).or_default() += layer.size;
        });
    }
    Ok(())
}
