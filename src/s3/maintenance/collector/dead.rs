//! Layers that were set to dead, written down before that: a push can replace a dead record, and
//! then nothing else names its old data.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use super::listing::Listing;
use super::plan::{self, DeadAction};
use super::walk::RepositoryWalk;
use super::{CollectError, Pass};
use crate::clock;
use crate::id::LayerId;
use crate::s3::bucket::StoredDocument;
use crate::s3::format::collection::{DeadBatch, DeadLayer};
use crate::s3::format::document::Document as _;
use crate::s3::format::keys::Key;
use crate::s3::format::record::{Record, StoredLayer};

fn names(layer: &StoredLayer) -> DeadLayer {
    DeadLayer {
        digest: layer.digest.clone(),
        upload: layer.upload,
        segments: layer
            .segments()
            .iter()
            .map(|segment| segment.name.clone())
            .collect(),
    }
}

/// Writes down those that have data.
pub(super) async fn note(
    pass: &Pass<'_>,
    condemned: &[StoredDocument<Record>],
) -> Result<(), CollectError> {
    let layers = condemned
        .iter()
        .map(|condemned| names(&condemned.document.layer));
    let layers: Vec<_> = layers.filter(|layer| !layer.segments.is_empty()).collect();
    if layers.is_empty() || pass.options.dry_run {
        return Ok(());
    }
    let key = pass.store.keys.dead_batch(&clock::new_nonce());
    let batch = DeadBatch {
        version: DeadBatch::VERSION,
        layers,
    };
    pass.store.put_over(&key, &batch, None).await?;
    Ok(())
}

/// Removes the data of layers that were replaced, and the lists that have nothing left to do.
///
/// # Cost
///
/// 2 requests for each list, and 1 for each layer that waits longer than usual. `freed`: uploads whose data this pass has
/// removed.
pub(super) async fn settle(
    pass: &Pass<'_>,
    walked: &RepositoryWalk,
    freed: &HashSet<Uuid>,
) -> Result<(), CollectError> {
    let times = pass.times();
    // Before that, every layer waits.
    let least = times.wait().min(times.kept());
    let mut listing = Listing::of(pass, pass.store.keys.dead_batches());
    while let Some(page) = listing.next().await? {
        for object in page.objects {
            let age = page.began_at.duration_since(object.modified);
            let age = age.unwrap_or_default();
            if age >= least {
                settle_batch(pass, &object.key, age, walked, freed).await?;
            }
        }
    }
    Ok(())
}

async fn settle_batch(
    pass: &Pass<'_>,
    key: &Key,
    age: Duration,
    walked: &RepositoryWalk,
    freed: &HashSet<Uuid>,
) -> Result<(), CollectError> {
    let read = pass.store.load::<DeadBatch>(key).await;
    let Some(batch) = pass.or_skip(read)? else {
        return Ok(());
    };
    let batch = batch.document;
    let mut is_settled = true;
    for layer in &batch.layers {
        is_settled &=
            freed.contains(&layer.upload) || settle_layer(pass, layer, age, walked).await?;
    }
    if is_settled {
        // Each list has a key of its own.
        pass.store.api.delete(key).await?;
    }
    Ok(())
}

/// Whether nothing is left to do for a layer.
async fn settle_layer(
    pass: &Pass<'_>,
    layer: &DeadLayer,
    age: Duration,
    walked: &RepositoryWalk,
) -> Result<bool, CollectError> {
    let id = LayerId::from(layer.digest.clone());
    let record = match pass.store.record(&id).await {
        // Whether it names the data is not known.
        Err(error) if error.is_unreadable() => return Ok(false),
        record => record?.map(|loaded| loaded.document),
    };
    // A record that was lost can be written again from a link, as long as the data is there.
    let is_named = walked.linked.contains(&layer.digest) || walked.named.contains(&layer.digest);
    if record.is_none() && is_named {
        return Ok(false);
    }
    let record = record.filter(|record: &Record| record.layer.upload == layer.upload);
    let state = record.as_ref().map(|record| &record.state);
    let has_session = state.is_none() && pass.store.has_session(layer.upload).await?;
    match plan::dead(state, has_session, age, pass.times()) {
        DeadAction::Wait => Ok(false),
        DeadAction::Settled => Ok(true),
        DeadAction::RemoveData => {
            let names = layer.segments.iter();
            let keys = names.map(|name| pass.store.keys.segment(layer.upload, name));
            pass.store.remove_all(&keys.collect::<Vec<_>>()).await?;
            Ok(true)
        }
    }
}
