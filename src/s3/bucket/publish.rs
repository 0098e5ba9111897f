//! Publishing: the conditional PUT of a layer's record decides who stores its digest; aliases and
//! links repeat what it says.
//!
//! The rule of writers, on which a collection relies: who writes a link has read the record as live, or has written it
//! so, and signs the link at most [`LOOK_LIFETIME`] after that. A condemned record is written back to live first.
//! [`LiveLayer`] is the proof; `tests/it/collector_protocol` shows what is lost without it.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::{self, Moment};
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::presence::{self, LOOK_LIFETIME};
use crate::s3::bucket::{Loaded, Store};
use crate::s3::format::document::{Document as _, decode, encode, is_tombstone};
use crate::s3::format::keys::Key;
use crate::s3::format::record::{Alias, EntryState, Link, Record, RecordState, StoredLayer};
use crate::s3::names;
use crate::s3::wire::{Condition, ETag, Put};

/// How often a record is contended for before that is reported as an error that can be retried.
const ROUNDS: u32 = 5;

/// A layer whose record was read as live, or was written so.
#[derive(Clone, Debug)]
pub(crate) struct LiveLayer {
    pub(crate) layer: StoredLayer,
    /// When the request began that read or wrote it.
    live_at: Moment,
}

impl LiveLayer {
    /// A layer whose bytes are in the link too, which therefore relies on no record.
    pub(crate) fn inline(layer: StoredLayer) -> Self {
        LiveLayer {
            layer,
            live_at: Moment::now(),
        }
    }

    /// Whether a link can still rely on it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.live_at.is_within(LOOK_LIFETIME)
    }

    /// The same layer with further ids, see [`StoredLayer::with_aliases`].
    pub(crate) fn with_aliases(&self, ids: &[LayerId]) -> Self {
        LiveLayer {
            layer: self.layer.with_aliases(ids),
            live_at: self.live_at,
        }
    }
}

/// The layer with this SHA-256, if it is there; a record that is condemned is written back to live.
///
/// # Cost
///
/// 1 request; where the record is condemned, 2.
///
/// # Errors
///
/// As [`Store::layer`].
pub(crate) async fn find_live(store: &Store, id: &LayerId) -> Result<Option<LiveLayer>> {
    let key = store.keys.layer(id);
    for _ in 0..ROUNDS {
        let read_at = Moment::now();
        let Some(Loaded { document, etag }) = store.record(id).await? else {
            return Ok(None);
        };
        let layer = document.layer;
        match document.state {
            RecordState::Live => {
                let live_at = read_at;
                return Ok(Some(LiveLayer { layer, live_at }));
            }
            RecordState::Dead { .. } | RecordState::Purging { .. } => return Ok(None),
            RecordState::Condemned { .. } => {}
        }
        let rescued = encode(&Record::live(layer.clone()))?;
        let live_at = Moment::now();
        let put = store.api.put_if(&key, rescued, Condition::Matches(&etag));
        if let Put::Written(_) = put.await? {
            return Ok(Some(LiveLayer { layer, live_at }));
        }
    }
    Err(contended(&key))
}

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
) -> Result<LiveLayer> {
    let key = store.keys.layer(&layer.id());
    let mut candidate = layer.clone();
    let mut standing: Option<ETag> = None;
    for _ in 0..ROUNDS {
        let condition = standing.as_ref();
        let condition = condition.map_or(Condition::Absent, Condition::Matches);
        let document = encode(&Record::live(candidate.clone()))?;
        let live_at = Moment::now();
        let put = store.api.put_if_until(&key, document, condition, until);
        let held = match put.await? {
            Put::Written(_) => {
                let layer = candidate;
                return Ok(LiveLayer { layer, live_at });
            }
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
        candidate = layer.clone();
        let is_ours = record.layer.has_same_content(layer);
        match record.state {
            RecordState::Purging { .. } if is_ours && !layer.segments().is_empty() => {
                let reason = "its bytes are being removed by a collection".to_owned();
                return Err(Error::damaged(&key, reason));
            }
            RecordState::Dead { .. } | RecordState::Purging { .. } => {}
            _ if !is_ours && !presence::look(store, &record.layer).await? => {}
            RecordState::Live => {
                let layer = record.layer;
                return Ok(LiveLayer { layer, live_at });
            }
            // Written back to live.
            RecordState::Condemned { .. } => candidate = record.layer,
        }
    }
    Err(contended(&key))
}

/// The record that held its key against ours, with its ETag; `None` where it is gone, or damaged
/// and to be replaced. A tombstone is replaced.
async fn readable(
    store: &Store,
    key: &Key,
    held: &Bytes,
    etag: &mut Option<ETag>,
) -> Result<Option<Record>> {
    if is_tombstone(key, held) {
        return Ok(None);
    }
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
///
/// # Errors
///
/// One that can be retried, where the record was live too long ago.
pub(crate) async fn link(
    store: &Store,
    name: &RepositoryName,
    live: &LiveLayer,
    aliases: &[LayerId],
) -> Result<()> {
    let layer = &live.layer;
    for id in aliases.iter().filter(|id| **id != layer.id()) {
        put_alias(store, layer, id).await?;
    }
    // An unlink has to know all ids.
    link_under(store, name, &live.with_aliases(aliases), aliases).await
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

/// Links a published layer under a repository, by its SHA-256 and some of its other ids. The
/// repository has its marker afterwards.
///
/// # Errors
///
/// As [`link`].
pub(crate) async fn link_under(
    store: &Store,
    name: &RepositoryName,
    live: &LiveLayer,
    aliases: &[LayerId],
) -> Result<()> {
    let links = Box::pin(put_links(store, name, live, aliases));
    // On the heap: a commit runs deep within other futures.
    Box::pin(names::entry(store, name, links)).await
}

async fn put_links(
    store: &Store,
    name: &RepositoryName,
    live: &LiveLayer,
    aliases: &[LayerId],
) -> Result<()> {
    let layer = &live.layer;
    let until = Some((live.live_at, LOOK_LIFETIME));
    let sha256 = layer.id();
    let others = aliases.iter().filter(|id| **id != sha256);
    for id in std::iter::once(&sha256).chain(others) {
        let key = store.keys.link(name, id);
        let link = Link {
            version: Link::VERSION,
            repository: name.clone(),
            id: id.clone(),
            state: EntryState::Live,
            nonce: clock::new_nonce(),
            layer: if *id == sha256 {
                layer.clone()
            } else {
                layer.with_aliases(std::slice::from_ref(id))
            },
        };
        let keep = |standing: &[u8]| match decode::<Link>(&key, standing) {
            Ok(standing) => {
                let has = |id: &LayerId| standing.layer.aliases.contains(id);
                standing.state == EntryState::Live
                    && standing.layer.has_same_content(layer)
                    && layer.aliases.iter().all(has)
            }
            Err(error) => !matches!(error, Error::Damaged { .. }),
        };
        store.put_unless(&key, encode(&link)?, until, keep).await?;
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
    let is_present = record.state.is_present();
    if is_present && record.layer.has_same_content(layer) && record.layer.content != layer.content {
        record.layer.content = layer.content.clone();
        let condition = Condition::Matches(&loaded.etag);
        store.api.put_if(&key, encode(&record)?, condition).await?;
        tracing::info!(%key, "recorded the present ETags of a layer");
    }
    Ok(())
}
