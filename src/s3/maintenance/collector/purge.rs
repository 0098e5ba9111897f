//! The end of a layer: its aliases, its data, its record.

use uuid::Uuid;

use super::{CollectError, Pass, records};
use crate::clock;
use crate::s3::format::keys::Key;
use crate::s3::format::record::{Alias, Record, RecordState, SegmentName};
use crate::s3::wire::ETag;

/// Whether an upload has a session: it may be being committed.
///
/// # Cost
///
/// 1 request.
pub(super) async fn has_session(pass: &Pass<'_>, upload: Uuid) -> Result<bool, CollectError> {
    pass.pace().await;
    let session = pass.store.keys.session(upload);
    Ok(pass.store.api.get_small(&session).await?.is_some())
}

/// Removes a layer whose record was dead for long enough. From here on nothing restores it.
pub(super) async fn purge(
    pass: &Pass<'_>,
    record: Record,
    etag: &ETag,
) -> Result<(), CollectError> {
    let nonce = clock::new_nonce();
    let purging = records::put(pass, record.clone(), RecordState::Purging { nonce }, etag);
    match purging.await? {
        Some(etag) => remove(pass, &record, &etag).await,
        None => Ok(()),
    }
}

/// Removes the aliases that name the data of this record.
async fn remove_aliases(pass: &Pass<'_>, record: &Record) -> Result<(), CollectError> {
    for id in &record.layer.aliases {
        let key = pass.store.keys.layer(id);
        pass.pace().await;
        let Some(read) = pass.store.read::<Alias>(&key).await? else {
            continue;
        };
        let is_of_it = |alias: &Alias| {
            alias.layer.upload == record.layer.upload && alias.layer.has_same_content(&record.layer)
        };
        if read.document.as_ref().is_ok_and(is_of_it) {
            pass.pace().await;
            pass.store.remove(&key, &read.etag).await?;
        }
    }
    Ok(())
}

/// Removes the aliases and the data of a purging record, then the record.
pub(super) async fn remove(
    pass: &Pass<'_>,
    record: &Record,
    etag: &ETag,
) -> Result<(), CollectError> {
    let layer = &record.layer;
    let names = layer.segments().iter().map(|segment| segment.name.clone());
    let names: Vec<_> = names.collect();
    if !pass.options.dry_run {
        remove_aliases(pass, record).await?;
        remove_data(pass, layer.upload, &names).await?;
        pass.pace().await;
        let key = pass.store.keys.layer(&layer.id());
        pass.store.remove(&key, etag).await?;
    }
    tracing::info!(digest = %layer.digest, size = layer.size, "removed a layer");
    pass.report(|report| {
        report.layers_freed += 1;
        *report.freed.entry(layer.repository.clone()).or_default() += layer.size;
    });
    Ok(())
}

/// Removes data objects that no record names any more. Their keys are never used again.
pub(super) async fn remove_data(
    pass: &Pass<'_>,
    upload: Uuid,
    names: &[SegmentName],
) -> Result<(), CollectError> {
    let keys = names
        .iter()
        .map(|name| pass.store.keys.segment(upload, name));
    let keys: Vec<Key> = keys.collect();
    pass.pace().await;
    let batched = pass.store.profile.batch_delete;
    pass.store.api.delete_all(&keys, batched).await?;
    Ok(())
}
