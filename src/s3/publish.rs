//! Publishing: the conditional PUT of a layer's record decides who stores its digest; aliases and
//! links repeat what it says.

use std::time::Duration;

use bytes::Bytes;

use super::api::{Condition, ETag, Put};
use super::document::{Document as _, decode, encode};
use super::keys::Key;
use super::presence;
use super::record::{Alias, Link, LinkState, Record, RecordState, StoredLayer};
use super::store::Store;
use crate::clock::Moment;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::id::LayerId;
use crate::name::RepositoryName;

/// How often a record is contended for before that is reported as an error that can be retried.
const ROUNDS: u32 = 5;

/// Publishes a layer under its SHA-256. The layer that stands afterwards: ours, or that of another
/// upload of the same bytes, which was first and whose data is there. No attempt is signed later
/// than `until`: so long after that moment.
///
/// # Errors
///
/// `NewerVersion` where the record is of a newer version; it stays.
pub(crate) async fn publish(
    store: &Store,
    layer: &StoredLayer,
    until: Option<(Moment, Duration)>,
) -> Result<StoredLayer> {
    let key = store.keys.layer(&layer.id());
    let mut candidate = layer.clone();
    let mut standing: Option<ETag> = None;
    for _ in 0..ROUNDS {
        let condition = standing.as_ref();
        let condition = condition.map_or(Condition::Absent, Condition::Matches);
        let document = encode(&Record::live(candidate.clone()))?;
        let put = store.api.put_if_until(&key, document, condition, until);
        let held = match put.await? {
            Put::Written(_) => return Ok(candidate),
            Put::Gone => {
                standing = None;
                continue;
            }
            Put::Held(held) => held,
        };
        standing = Some(held.etag);
        let Some(record) = readable(store, &key, &held.bytes, &mut standing).await? else {
            continue;
        };
        let is_ours = record.layer.has_same_content(layer);
        candidate = layer.clone();
        if !is_ours && !presence::look(store, &record.layer).await? {
            continue;
        }
        match record.state {
            RecordState::Live => return Ok(record.layer),
            // Written back to live.
            RecordState::Condemned { .. } => candidate = record.layer,
            RecordState::Dead { .. } | RecordState::Purging { .. } => {}
        }
    }
    Err(contended(&key))
}

/// The record that held its key against ours, with its ETag; `None` where it is gone, or damaged
/// and to be replaced.
async fn readable(
    store: &Store,
    key: &Key,
    held: &Bytes,
    etag: &mut Option<ETag>,
) -> Result<Option<Record>> {
    match decode::<Record>(key, held) {
        Ok(record) => return Ok(Some(record)),
        Err(Error::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    // Once may have been the wire; a record replaced for that would leave its data behind.
    match store.load::<Record>(key).await {
        Ok(None) => {
            *etag = None;
            Ok(None)
        }
        Ok(Some(loaded)) => {
            *etag = Some(loaded.etag);
            Ok(Some(loaded.document))
        }
        Err(error @ Error::Damaged { .. }) => {
            tracing::warn!(%key, %error, "replaced a damaged record");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn contended(key: &Key) -> Error {
    let why = "other writers keep replacing the record";
    let kind = StorageErrorKind::Unavailable;
    StorageError::new("PutObject", key.as_str(), kind, why).into()
}

/// Makes a published layer available under its other ids, and links it under a repository.
pub(crate) async fn link(
    store: &Store,
    name: &RepositoryName,
    layer: &StoredLayer,
    aliases: &[LayerId],
) -> Result<()> {
    for id in aliases.iter().filter(|id| **id != layer.id()) {
        put_alias(store, layer, id).await?;
    }
    // An unlink has to know all ids.
    link_under(store, name, &layer.with_aliases(aliases), aliases).await
}

/// An alias that leads to another layer stays, for two digests can share a TarSum. One that names
/// old data of this layer is replaced.
async fn put_alias(store: &Store, layer: &StoredLayer, id: &LayerId) -> Result<()> {
    let key = store.keys.layer(id);
    let alias = Alias {
        version: Alias::VERSION,
        id: id.clone(),
        layer: layer.with_aliases(std::slice::from_ref(id)),
    };
    let keep = |standing: &[u8]| match decode::<Alias>(&key, standing) {
        Ok(standing) => {
            standing.layer.digest != layer.digest || standing.layer.has_same_content(layer)
        }
        Err(error) => !matches!(error, Error::Damaged { .. }),
    };
    store.put_unless(&key, encode(&alias)?, None, keep).await
}

/// Links a published layer under a repository, by its SHA-256 and some of its other ids.
pub(crate) async fn link_under(
    store: &Store,
    name: &RepositoryName,
    layer: &StoredLayer,
    aliases: &[LayerId],
) -> Result<()> {
    let sha256 = layer.id();
    let others = aliases.iter().filter(|id| **id != sha256);
    for id in std::iter::once(&sha256).chain(others) {
        let key = store.keys.link(name, id);
        let link = Link {
            version: Link::VERSION,
            repository: name.clone(),
            id: id.clone(),
            state: LinkState::Live,
            layer: if *id == sha256 {
                layer.clone()
            } else {
                layer.with_aliases(std::slice::from_ref(id))
            },
        };
        let keep = |standing: &[u8]| match decode::<Link>(&key, standing) {
            Ok(standing) => {
                let has = |id: &LayerId| standing.layer.aliases.contains(id);
                standing.state == LinkState::Live
                    && standing.layer.has_same_content(layer)
                    && layer.aliases.iter().all(has)
            }
            Err(error) => !matches!(error, Error::Damaged { .. }),
        };
        store.put_unless(&key, encode(&link)?, None, keep).await?;
    }
    Ok(())
}

/// Records the ETags that the objects of a layer have now, where its record and link name the same
/// objects with others: the bucket was copied, or encrypted with another key.
pub(crate) async fn repin(store: &Store, layer: &StoredLayer) -> Result<()> {
    let key = store.keys.layer(&layer.id());
    let Some(loaded) = store.load::<Record>(&key).await? else {
        return Ok(());
    };
    let mut record = loaded.document;
    if record.layer.has_same_content(layer) && record.layer.content != layer.content {
        record.layer.content = layer.content.clone();
        let condition = Condition::Matches(&loaded.etag);
        store.api.put_if(&key, encode(&record)?, condition).await?;
        tracing::info!(%key, "recorded the present ETags of a layer");
    }
    Ok(())
}
