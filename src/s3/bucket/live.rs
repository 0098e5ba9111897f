//! What a collection leaves alone: layers whose record is live, and links on which clients may rely.
//!
//! The rule of writers, on which a collection relies: who writes a link has read the record as live, or has written it
//! so, and signs the link at most 15 minutes after that. A condemned record is written back to live first.
//! [`LiveLayer`] is the proof; `tests/it/collector_protocol` shows what is lost without it.
//!
//! A caller that answers that a layer is in a repository, so that its manifest may come, has read the link as live and as
//! younger than half the age at which it is condemned, or has written it so ([`find_link`], [`refresh`]). The link by SHA-256
//! has all ids by which that was answered: a collection keeps it for a manifest that names one of them.

use super::{ROUNDS, Store, StoredDocument, contended};
use crate::clock::{self, Moment};
use crate::error::Result;
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::format::record::{EntryState, Link, Record, RecordState, StoredLayer};
use crate::s3::wire::{Put, Written};
use crate::telemetry::Event;

/// A layer whose record was read as live, or was written so.
#[derive(Clone, Debug)]
pub(crate) struct LiveLayer {
    pub(crate) layer: StoredLayer,
    /// When the request began that read or wrote it.
    pub(crate) live_at: Moment,
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
        let Some(StoredDocument { document, etag, .. }) = store.record(id).await? else {
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
        let rescued = Record::live(layer.clone());
        let live_at = Moment::now();
        if let Put::Written(_) = store.put_over(&key, &rescued, Some(&etag)).await? {
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
        let Some(StoredDocument { document, etag, .. }) = store.record(&own).await? else {
            return Ok(None);
        };
        match document.state {
            RecordState::Purging { .. } => return Ok(None),
            RecordState::Live | RecordState::Condemned { .. } => {}
            RecordState::Dead { .. } => {
                let live = Record::live(document.layer);
                store.put_over(&key, &live, Some(&etag)).await?;
            }
        }
    }
    Err(contended(&key))
}

/// Whether [`revive`] would find it.
pub(crate) async fn can_be_revived(store: &Store, id: &LayerId) -> Result<bool> {
    let Some(own) = store.own_id(id).await? else {
        return Ok(false);
    };
    let record = store.record(&own).await?;
    Ok(record.is_some_and(|record| {
        let state = &record.document.state;
        !matches!(state, RecordState::Purging { .. })
    }))
}

/// Whether clients may rely on a link as it stands: a collection leaves it for long enough.
pub(crate) fn is_reliable(store: &Store, state: &EntryState, written: Written) -> bool {
    let is_young = |age| age <= store.times().touch_age();
    *state == EntryState::Live && written.age().is_some_and(is_young)
}

/// The links of a layer through which it was found: that by SHA-256, and that by the id that was asked for.
#[derive(Debug)]
pub(crate) struct StandingLink {
    own: StoredDocument<Link>,
    other: Option<StoredDocument<Link>>,
}

impl StandingLink {
    pub(crate) fn layer(&self) -> &StoredLayer {
        &self.own.document.layer
    }

    pub(crate) fn into_layer(self) -> StoredLayer {
        self.own.document.layer
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
    let Some(found) = store.link(name, id).await? else {
        return Ok(None);
    };
    if id.is_sha256() {
        let (own, other) = (found, None);
        return Ok(Some(StandingLink { own, other }));
    }
    let own = store.link(name, &found.document.layer.id()).await?;
    Ok(own.map(|own| StandingLink {
        own,
        other: Some(found),
    }))
}

/// Makes sure that clients may rely on a link that was found by `id`: writes it again where it lacks that id, or where a
/// collection has condemned it or may condemn it soon; and that by `id` too, as a collection may be about to remove one that
/// it found without that by SHA-256. `false` where one was changed since it was read.
///
/// # Cost
///
/// None, or 1 request by SHA-256, else at most 2.
pub(crate) async fn refresh(store: &Store, standing: StandingLink, id: &LayerId) -> Result<bool> {
    for read in std::iter::once(standing.own).chain(standing.other) {
        if !refresh_one(store, read, id).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn refresh_one(store: &Store, read: StoredDocument<Link>, id: &LayerId) -> Result<bool> {
    let StoredDocument {
        document: link,
        etag,
        written,
    } = read;
    if is_reliable(store, &link.state, written) && link.layer.has_id(id) {
        return Ok(true);
    }
    let was_condemned = link.state.is_condemned();
    let key = store.keys.link(&link.repository, &link.id);
    let link = Link {
        state: EntryState::Live,
        nonce: clock::new_nonce(),
        layer: link.layer.with_aliases(std::slice::from_ref(id)),
        ..link
    };
    let put = store.put_over(&key, &link, Some(&etag)).await?;
    let is_written = matches!(put, Put::Written(_));
    if is_written && was_condemned {
        store.api.telemetry().note(Event::LinkRescued);
    }
    Ok(is_written)
}
