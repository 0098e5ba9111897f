//! Publishing: the conditional PUT of a layer's record decides who stores its digest; aliases and
//! links repeat what it says.
//!
//! The rule of writers, on which a collection relies: who writes a link has read the record as live, or has written it
//! so, and signs the link at most 15 minutes after that. A condemned record is written back to live first.
//! [`LiveLayer`] is the proof; `tests/it/collector_protocol` shows what is lost without it.
//!
//! A caller that answers that a layer is in a repository, so that its manifest may come, has read the link as live and as
//! younger than half the age at which it is condemned, or has written it so ([`find_link`], [`refresh`]).
//!
//! The state of a layer's links in one repository is that of its link by SHA-256. A link under another id without that
//! one is absent.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::{self, Moment};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::presence;
use crate::s3::bucket::{Loaded, ROUNDS, Store, contended, linked_layer};
use crate::s3::format::document::{Document as _, decode, encode, is_tombstone};
use crate::s3::format::keys::Key;
use crate::s3::format::record::{Alias, EntryState, Link, Record, RecordState, StoredLayer};
use crate::s3::names;
use crate::s3::wire::{Condition, ETag, Put, SmallObject, Written};

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
    pub(crate) fn is_fresh(&self, store: &Store) -> bool {
        self.live_at.is_within(store.times().look())
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
        let Some(Loaded { document, etag, .. }) = store.record(id).await? else {
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

/// As [`find_live`], found by any of its ids, and also where a collection has set it to dead: its bytes
/// are there until it is purging.
pub(crate) async fn revive(store: &Store, id: &LayerId) -> Result<Option<LiveLayer>> {
    let Some(own) = store.own_id(id).await? else {
        return Ok(None);
    };
    let key = store.keys.layer(&own);
    for _ in 0..ROUNDS {
        if let Some(live) = find_live(store, &own).await? {
            return Ok(Some(live));
        }
        let Some(Loaded { document, etag, .. }) = store.record(&own).await? else {
            return Ok(None);
        };
        match document.state {
            RecordState::Purging { .. } => return Ok(None),
            RecordState::Live | RecordState::Condemned { .. } => {}
            RecordState::Dead { .. } => {
                let live = encode(&Record::live(document.layer))?;
                let put = store.api.put_if(&key, live, Condition::Matches(&etag));
                put.await?;
            }
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
    let keep = |standing: &SmallObject| match decode::<Alias>(&key, &standing.bytes) {
        Ok(standing) => {
            // Inline bytes of another upload are the same content, but a collection may remove their alias.
            let is_ours = standing.layer.upload == layer.upload;
            standing.layer.digest != layer.digest
                || (is_ours && standing.layer.has_same_content(layer))
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
    let until = Some((live.live_at, store.times().look()));
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
        let keep = |held: &SmallObject| match decode::<Link>(&key, &held.bytes) {
            Ok(standing) => {
                let has = |id: &LayerId| standing.layer.aliases.contains(id);
                is_reliable(store, &standing.state, held.written)
                    && standing.layer.has_same_content(layer)
                    && layer.aliases.iter().all(has)
            }
            Err(error) => !matches!(error, Error::Damaged { .. }),
        };
        store.put_unless(&key, encode(&link)?, until, keep).await?;
    }
    Ok(())
}

/// Whether clients may rely on a link as it stands: a collection leaves it for long enough.
fn is_reliable(store: &Store, state: &EntryState, written: Written) -> bool {
    let is_young = |age| age <= store.times().touch_age();
    *state == EntryState::Live && written.age().is_some_and(is_young)
}

/// A link by SHA-256 as it was read.
#[derive(Debug)]
pub(crate) struct StandingLink {
    key: Key,
    link: Link,
    etag: ETag,
    written: Written,
}

impl StandingLink {
    pub(crate) fn layer(&self) -> &StoredLayer {
        &self.link.layer
    }
}

/// The link of a layer in a repository, found by any of its ids; `None` where it is not linked.
///
/// # Cost
///
/// 1 request by SHA-256, else 2.
pub(crate) async fn find_link(
    store: &Store,
    name: &RepositoryName,
    id: &LayerId,
) -> Result<Option<StandingLink>> {
    let mut own = id.clone();
    if !id.is_sha256() {
        match store.linked(name, id).await? {
            Some(layer) => own = layer.id(),
            None => return Ok(None),
        }
    }
    let key = store.keys.link(name, &own);
    let Some(loaded) = store.load::<Link>(&key).await? else {
        return Ok(None);
    };
    linked_layer(&key, name, &own, loaded.document.clone())?;
    Ok(Some(StandingLink {
        key,
        link: loaded.document,
        etag: loaded.etag,
        written: loaded.written,
    }))
}

/// Makes sure that clients may rely on a link: writes it again where a collection has condemned it
/// or may condemn it soon. `false` where it was changed since it was read.
///
/// # Cost
///
/// None, or 1 request.
pub(crate) async fn refresh(store: &Store, standing: StandingLink) -> Result<bool> {
    if is_reliable(store, &standing.link.state, standing.written) {
        return Ok(true);
    }
    let link = Link {
        state: EntryState::Live,
        nonce: clock::new_nonce(),
        ..standing.link
    };
    let condition = Condition::Matches(&standing.etag);
    let put = store
        .api
        .put_if(&standing.key, encode(&link)?, condition)
        .await?;
    Ok(matches!(put, Put::Written(_)))
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
