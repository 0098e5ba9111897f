//! Layers: those of the bucket, those of a repository, and one with its object.

use std::sync::Arc;

use futures_util::future::ready;
use futures_util::stream::{Stream, StreamExt as _, TryStreamExt as _};

use super::{LayerEntry, LayerInfo, LayerStat, READS_AT_ONCE, plan, walk};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::format::record::StoredLayer;
use s3layers_tarsum::{Algorithm, Digest};

/// The layers of a repository, or of the bucket: by their links, or by their records.
pub(super) fn entries(
    store: Arc<Store>,
    name: Option<RepositoryName>,
) -> impl Stream<Item = Result<LayerEntry>> {
    let below = match &name {
        Some(name) => store.keys.links(name),
        None => store.keys.layers(Algorithm::Sha256, ""),
    };
    let entries = walk::digests(&store, below).map(move |listed| {
        let (store, name) = (Arc::clone(&store), name.clone());
        async move { Ok(entry(&store, listed?, name.as_ref()).await) }
    });
    entries
        .buffered(READS_AT_ONCE)
        .try_filter_map(|entry| ready(Ok(entry)))
}

/// `None` where it is gone since it was listed.
async fn entry(store: &Store, digest: Digest, name: Option<&RepositoryName>) -> Option<LayerEntry> {
    let id = LayerId::from(digest.clone());
    let layer = match name {
        Some(name) => store.linked(name, &id).await,
        None => store.layer(&id).await,
    };
    let info = layer.transpose()?;
    let info = info.map(|layer| LayerInfo::new(&layer, store));
    Some(LayerEntry { digest, info })
}

pub(super) async fn stat(store: &Store, id: &LayerId) -> Result<LayerStat> {
    let unknown = || Error::LayerUnknown { id: id.clone() };
    let layer = store.layer(id).await?.ok_or_else(unknown)?;
    Ok(LayerStat {
        info: LayerInfo::new(&layer, store),
        damage: damage(store, &layer).await?,
    })
}

/// What is wrong with the objects of a layer, in words.
async fn damage(store: &Store, layer: &StoredLayer) -> Result<Option<String>> {
    for segment in layer.segments() {
        let key = store.keys.segment(layer.upload, &segment.name);
        let head = store.api.head(&key).await?;
        if let Some(reason) = plan::damage(segment, head) {
            return Ok(Some(format!("{key}: {reason}")));
        }
    }
    Ok(None)
}
