//! Layers: those of the bucket, those of a repository, and one with its object.

use std::sync::Arc;

use futures_util::future::ready;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

use super::{LayerEntry, LayerInfo, LayerStat, READS_AT_ONCE, plan, walk};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::keys::Key;
use crate::s3::store::Store;

pub(super) fn all(store: Arc<Store>) -> impl Stream<Item = Result<LayerEntry>> {
    let keys = store.keys.clone();
    let below = keys.layers(Algorithm::Sha256, "");
    entries(store, below, move |key| keys.digest_of(key))
}

pub(super) fn of(
    store: Arc<Store>,
    name: RepositoryName,
) -> impl Stream<Item = Result<LayerEntry>> {
    let keys = store.keys.clone();
    let below = keys.links(&name);
    entries(store, below, move |key| keys.digest_of_link(&name, key))
}

/// The records below a prefix, each under a key that tells the digest.
fn entries(
    store: Arc<Store>,
    below: String,
    digest_of: impl Fn(&str) -> Option<Digest> + Send,
) -> impl Stream<Item = Result<LayerEntry>> {
    let pages = walk::pages(Arc::clone(&store), below);
    let listed = pages.map_ok(move |page| {
        let keys = page.objects.into_iter().map(|object| object.key);
        // What is not called as we would call it is none of ours.
        let listed = keys.filter_map(|key| Some((digest_of(key.as_str())?, key)));
        stream::iter(listed.map(Ok).collect::<Vec<_>>())
    });
    let entries = listed.try_flatten().map(move |listed| {
        let store = Arc::clone(&store);
        async move {
            match listed {
                Ok((digest, key)) => Ok(entry(&store, digest, &key).await),
                Err(error) => Err(error),
            }
        }
    });
    entries
        .buffered(READS_AT_ONCE)
        .try_filter_map(|entry| ready(Ok(entry)))
}

/// `None` where it is gone since it was listed.
async fn entry(store: &Store, digest: Digest, key: &Key) -> Option<LayerEntry> {
    let info = match store.record_at(key).await {
        Ok(record) => Ok(LayerInfo::from(&record?)),
        Err(error) => Err(error),
    };
    Some(LayerEntry { digest, info })
}

pub(super) async fn stat(store: &Store, id: &LayerId) -> Result<LayerStat> {
    let unknown = || Error::LayerUnknown { id: id.clone() };
    let mut record = store.record(id).await?.ok_or_else(unknown)?;
    let mut damage = plan::damage(&record, store.api.head(&record.data).await?.as_ref());
    if damage.is_some()
        && let Some(now) = store.record(&record.digest.clone().into()).await?
        && now.data != record.data
    {
        // An alias is not told when the record that it repeats is replaced; a reader goes by that.
        record = now.known_as(&record.also);
        damage = plan::damage(&record, store.api.head(&record.data).await?.as_ref());
    }
    Ok(LayerStat {
        info: LayerInfo::from(&record),
        damage,
    })
}
