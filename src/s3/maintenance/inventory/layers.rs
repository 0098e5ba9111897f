//! Layers: those of the bucket, those of a repository, and one with its object.

use std::sync::Arc;

use futures_util::future::ready;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

use super::{LayerEntry, LayerInfo, LayerStat, READS_AT_ONCE, plan, walk};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::format::document::TOMBSTONE_SIZE;
use crate::s3::format::record::StoredLayer;
use s3layers_tarsum::{Algorithm, Digest};

pub(super) fn all(store: Arc<Store>) -> impl Stream<Item = Result<LayerEntry>> {
    let keys = store.keys.clone();
    let below = keys.layers(Algorithm::Sha256, "");
    entries(store, below, Read::Record, move |key| keys.digest_of(key))
}

pub(super) fn of(
    store: Arc<Store>,
    name: RepositoryName,
) -> impl Stream<Item = Result<LayerEntry>> {
    let keys = store.keys.clone();
    let below = keys.links(&name);
    let read = Read::Link(name.clone());
    entries(store, below, read, move |key| {
        keys.digest_of_link(&name, key)
    })
}

/// Which document of a layer is read.
#[derive(Clone)]
enum Read {
    Record,
    Link(RepositoryName),
}

/// The layers whose documents are below a prefix, each under a key that holds the digest.
fn entries(
    store: Arc<Store>,
    below: String,
    read: Read,
    digest_of: impl Fn(&str) -> Option<Digest> + Send,
) -> impl Stream<Item = Result<LayerEntry>> {
    let pages = walk::pages(Arc::clone(&store), below);
    let listed = pages.map_ok(move |page| {
        let objects = page.objects.iter();
        let present = objects.filter(|object| object.size != TOMBSTONE_SIZE);
        // What is not called as we would call it is none of ours.
        let listed = present.filter_map(|object| digest_of(object.key.as_str()));
        stream::iter(listed.map(Ok).collect::<Vec<_>>())
    });
    let entries = listed.try_flatten().map(move |listed| {
        let (store, read) = (Arc::clone(&store), read.clone());
        async move {
            match listed {
                Ok(digest) => Ok(entry(&store, digest, read).await),
                Err(error) => Err(error),
            }
        }
    });
    entries
        .buffered(READS_AT_ONCE)
        .try_filter_map(|entry| ready(Ok(entry)))
}

/// `None` where it is gone since it was listed.
async fn entry(store: &Store, digest: Digest, read: Read) -> Option<LayerEntry> {
    let id = LayerId::from(digest.clone());
    let layer = match &read {
        Read::Record => store.layer(&id).await,
        Read::Link(name) => store.linked(name, &id).await,
    };
    let info = match layer {
        Ok(layer) => Ok(LayerInfo::new(&layer?, store)),
        Err(error) => Err(error),
    };
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
