//! Publishing: the conditional PUT of a layer's record decides who stores its digest; aliases and
//! links repeat what it says.
//!
//! The state of a layer's links in one repository is that of its link by SHA-256. A link under another id without that
//! one is absent.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::{self, Moment};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::live::{self, LiveLayer};
use crate::s3::bucket::presence;
use crate::s3::bucket::{ROUNDS, Store, check_layer, contended};
use crate::s3::format::document::{Document as _, decode, encode, is_tombstone};
use crate::s3::format::record::{Alias, EntryState, Link, Record, RecordState, StoredLayer};
use crate::s3::names;
use crate::s3::wire::{Condition, ETag, Put, SmallObject};
use crate::telemetry::Event;

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
    let id = layer.id();
    let key = store.keys.layer(&id);
    let mut candidate = layer.clone();
    let mut standing: Option<ETag> = None;
    for _ in 0..ROUNDS {
        let condition = standing
            .as_ref()
            .map_or(Condition::Absent, Condition::Matches);
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
        let record = readable(store, &id, &held.bytes, &mut standing).await?;
        let Some(record) = record else {
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

/// The record of this id that held its key against ours, with its ETag; `None` where it is gone, or damaged, and to be
/// replaced. A tombstone is replaced.
async fn readable(
    store: &Store,
    id: &LayerId,
    held: &Bytes,
    etag: &mut Option<ETag>,
) -> Result<Option<Record>> {
    let key = store.keys.layer(id);
    if is_tombstone(&key, held) {
        return Ok(None);
    }
    let checked = |record: Record| check_layer(&key, id, &record.layer).map(|()| record);
    match decode(&key, held).and_then(checked) {
        Ok(record) => return Ok(Some(record)),
        Err(Error::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    // Once may have been the wire; a record replaced for that would leave its data behind.
    match store.record(id).await {
        Ok(loaded) => {
            *etag = loaded.as_ref().map(|loaded| loaded.etag.clone());
            Ok(loaded.map(|loaded| loaded.document))
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
    for id in aliases.iter().filter(|id| **id != live.layer.id()) {
        put_alias(store, &live.layer, id).await?;
    }
    // An unlink has to know all ids.
    link_under(store, name, &live.with_aliases(aliases), aliases).await
}

/// As [`link`], of a layer that was found by `id`, by all ids that are known of it: the record may lack the id by which a
/// manifest names the layer, and a collection removes a link by SHA-256 that does not know that id.
pub(crate) async fn link_found(
    store: &Store,
    name: &RepositoryName,
    live: &LiveLayer,
    id: &LayerId,
) -> Result<()> {
    let live = live.with_aliases(std::slice::from_ref(id));
    let aliases = live.layer.aliases.clone();
    link(store, name, &live, &aliases).await
}

/// An alias that leads to another layer stays, for two digests can share a TarSum. One that names
/// old data of this layer is replaced.
pub(crate) async fn put_alias(store: &Store, layer: &StoredLayer, id: &LayerId) -> Result<()> {
    let key = store.keys.layer(id);
    let document = encode(&Alias {
        version: Alias::VERSION,
        id: id.clone(),
        layer: layer.with_aliases(std::slice::from_ref(id)),
    })?;
    let put = store.replace(&key, None, |held| {
        let will_do = match held.map(|held| decode::<Alias>(&key, &held.bytes)) {
            None | Some(Err(Error::Damaged { .. })) => false,
            Some(Err(_)) => true,
            // Inline bytes of another upload are the same content, but a collection may remove their alias.
            Some(Ok(Alias { layer: old, .. })) => {
                old.digest != layer.digest
                    || (old.upload == layer.upload && old.has_same_content(layer))
            }
        };
        Ok((!will_do).then(|| document.clone()))
    });
    put.await.map(drop)
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
    let until = Some((live.live_at, store.times().look()));
    let sha256 = live.layer.id();
    // On the heap: a commit runs deep within other futures.
    let links = Box::pin(async {
        for id in std::iter::once(&sha256).chain(aliases.iter().filter(|id| **id != sha256)) {
            let key = store.keys.link(name, id);
            let put = store.replace(&key, until, |held| link_over(store, name, live, id, held));
            let replaced = put.await?.map(|old| decode::<Link>(&key, &old.bytes));
            if matches!(replaced, Some(Ok(old)) if old.state.is_condemned()) {
                store.api.telemetry().note(Event::LinkRescued);
            }
        }
        Ok(())
    });
    Box::pin(names::entry(store, name, links)).await
}

/// The link that is to replace the one that stands there: with the ids of both, as a manifest may name the layer by an id
/// that this writer does not know. `None` where that one will do.
fn link_over(
    store: &Store,
    name: &RepositoryName,
    live: &LiveLayer,
    id: &LayerId,
    held: Option<&SmallObject>,
) -> Result<Option<Bytes>> {
    let mut layer = live.with_aliases(std::slice::from_ref(id)).layer;
    let key = store.keys.link(name, id);
    match held.map(|held| (decode::<Link>(&key, &held.bytes), held.written)) {
        Some((Ok(old), written)) if old.layer.digest == layer.digest => {
            layer.aliases = old.layer.with_aliases(&layer.aliases).aliases;
            let is_complete = old.layer.aliases.len() == layer.aliases.len();
            let is_reliable = live::is_reliable(store, &old.state, written);
            if is_complete && is_reliable && old.layer.has_same_content(&layer) {
                return Ok(None);
            }
        }
        None | Some((Ok(_) | Err(Error::Damaged { .. }), _)) => {}
        Some((Err(_), _)) => return Ok(None),
    }
    let link = Link {
        version: Link::VERSION,
        repository: name.clone(),
        id: id.clone(),
        state: EntryState::Live,
        nonce: clock::new_nonce(),
        layer,
    };
    encode(&link).map(Some)
}
