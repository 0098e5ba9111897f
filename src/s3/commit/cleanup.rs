//! Removes what an upload leaves in the bucket: after it was published, after it was cancelled, and
//! for the sweep. The session goes last, so looking at sessions finds everything that is left.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::{self, Moment};
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::id::LayerId;
use crate::s3::bucket::live::{self, LiveLayer};
use crate::s3::bucket::{Store, objects};
use crate::s3::format::keys::Key;
use crate::s3::format::record::{Segment, SegmentName, StoredLayer};
use crate::s3::publish;
use crate::s3::session::owned::{CancelScope, OwnedSession};
use crate::s3::session::{CommitIntent, Phase, Session, Tail, claim};
use crate::s3::wire::{ListedObject, UploadId, pause};

/// Removes an upload whose layer is published, and its data where the layer does not name it.
pub(super) async fn remove_finished(
    store: &Store,
    session: &Session,
    standing: &LiveLayer,
) -> Result<()> {
    let is_duplicate = standing.layer.upload != session.uuid;
    // A process that was suspended: another driver may have looked at the data meanwhile, and publish it if the
    // equal layer has been collected since.
    if is_duplicate && !standing.is_fresh(store) {
        tracing::info!(uuid = %session.uuid, "left a duplicate to the sweep");
        return Ok(());
    }
    // One without parts was not completed.
    if session.orphans || (session.multipart.is_some() && !session.has_parts()) {
        abort_multiparts(store, session).await?;
    }
    let until = is_duplicate.then(|| (standing.live_at, store.times().look()));
    remove_objects(store, session, Some(&standing.layer), until).await?;
    remove_claim_and_session(store, session).await
}

/// Cancels an upload, and removes what can be removed at once.
///
/// # Errors
///
/// `UploadConflict` where the handle owned the upload and does not any more, or where it is being
/// committed; `UploadUnknown`.
pub(super) async fn cancel(
    store: &Store,
    owned: &mut OwnedSession,
    scope: CancelScope,
) -> Result<()> {
    owned.cancel(store, scope).await?;
    remove_cancelled(store, owned.get(), Duration::ZERO).await
}

/// Removes what is left of a cancelled upload, which was cancelled `age` ago or earlier. Can be
/// repeated, by anyone. Where a commit was under way, session and data stay for `wait`: longer than any
/// driver or stray request of it can live.
pub(crate) async fn remove_cancelled(
    store: &Store,
    session: &Session,
    age: Duration,
) -> Result<()> {
    let Phase::Cancelled(cancellation) = &session.phase else {
        return Ok(());
    };
    abort_multiparts(store, session).await?;
    let Some(intent) = &cancellation.intent else {
        remove_objects(store, session, None, None).await?;
        return remove_claim_and_session(store, session).await;
    };
    if age < store.times().wait() {
        return release_claim(store, session).await;
    }
    let published = published_after_all(store, session, intent).await?;
    remove_objects(store, session, published.as_ref(), None).await?;
    remove_claim_and_session(store, session).await
}

/// Whether a driver has published the upload although it was cancelled: its record or its link
/// names its data. The other one is put right.
async fn published_after_all(
    store: &Store,
    session: &Session,
    intent: &CommitIntent,
) -> Result<Option<StoredLayer>> {
    let id = intent.digest.clone().into();
    let record = recorded(store, &id).await?;
    let link = store.linked(&session.repository, &id).await?;
    let is_ours = |layer: &StoredLayer| layer.upload == session.uuid;
    let (record, link) = (record.filter(is_ours), link.filter(is_ours));
    if let (None, Some(layer)) = (&record, &link) {
        publish::publish(store, layer, None).await?;
    }
    if record.is_some()
        && link.is_none()
        && let Some(live) = live::find_live(store, &id).await?
    {
        publish::link_found(store, &session.repository, &live, &id).await?;
    }
    Ok(record.or(link))
}

/// Removes the objects below the upload and its data, but not those that the layer names. No request is signed later
/// than `until`: so long after that moment.
async fn remove_objects(
    store: &Store,
    session: &Session,
    standing: Option<&StoredLayer>,
    until: Option<(Moment, Duration)>,
) -> Result<()> {
    let uuid = session.uuid;
    let kept = standing.map_or_else(Vec::new, |layer| data_of(store, layer));
    let mut remove = named_by(store, session);
    if session.orphans {
        let data = below_data(store, uuid).await?;
        // A layer may end with any of them, if a stray request has brought this session back.
        if !has_later(&data, session) {
            remove.extend(orphans_among(store, data).await?);
        }
    }
    if session.orphans || standing.is_none() {
        remove.extend(tails_of(store, uuid).await?);
    }
    remove.sort();
    remove.dedup();
    remove.retain(|key| !kept.contains(key));
    store.remove_all_until(&remove, until).await
}

/// Removes objects that were stored for a write of the session that was refused in the end, as `refused`. If an attempt
/// before took effect, of this process or of a proxy that repeats requests, a newer owner has continued from it, or
/// published it.
pub(crate) async fn remove_unrecorded(
    store: &Store,
    owned: &OwnedSession,
    stored: &[Tail],
    refused: &Phase,
) -> Result<()> {
    if stored.is_empty() {
        return Ok(());
    }
    let (session, uuid) = (owned.get(), owned.uuid());
    let mut kept = match OwnedSession::load(store, uuid).await? {
        Some(now) => named_by(store, now.get()),
        None => Vec::new(),
    };
    if let Phase::Committing(intent) = refused {
        let id = intent.digest.clone().into();
        let record = recorded(store, &id).await?;
        let link = store.linked(&session.repository, &id).await?;
        let layers = record.iter().chain(&link);
        kept.extend(layers.flat_map(|layer| data_of(store, layer)));
    }
    let mut remove = Vec::new();
    for tail in stored {
        let key = tail.key(&store.keys, uuid);
        // Else it is all that there was of the upload: a newer owner may have published it as a layer.
        let may_be_layer = tail.as_segment().is_some() && !matches!(refused, Phase::Committing(_));
        let is_kept =
            kept.contains(&key) || (may_be_layer && is_layer(store, &key, tail.sum.len()).await?);
        if !is_kept {
            remove.push(key);
        }
    }
    store.remove_all(&remove).await
}

/// The objects with the bytes of an upload.
fn named_by(store: &Store, session: &Session) -> Vec<Key> {
    let (keys, uuid) = (&store.keys, session.uuid);
    let tails = session.tails.iter().chain(&session.superseded);
    let tails = tails.map(|tail| tail.key(keys, uuid));
    let segments = session.segments.iter();
    let segments = segments.map(|segment| keys.segment(uuid, &segment.name));
    let open = session.multipart.iter();
    let open = open.map(|open| keys.multipart(uuid, open.number));
    tails.chain(segments).chain(open).collect()
}

/// The layer of a record in any state: one that is dead can still be restored.
async fn recorded(store: &Store, id: &LayerId) -> Result<Option<StoredLayer>> {
    let record = store.record(id).await?;
    Ok(record.map(|record| record.document.layer))
}

/// The objects with the bytes of a layer.
fn data_of(store: &Store, layer: &StoredLayer) -> Vec<Key> {
    let key = |segment: &Segment| store.keys.segment(layer.upload, &segment.name);
    layer.segments().iter().map(key).collect()
}

/// Objects that an owner wrote with one request and could not record: those that are no published layer.
async fn orphans_among(store: &Store, data: Vec<(ListedObject, SegmentName)>) -> Result<Vec<Key>> {
    let mut orphans = Vec::new();
    for (object, name) in data {
        let is_whole = matches!(name, SegmentName::Whole(_));
        if is_whole && !is_layer(store, &object.key, object.size).await? {
            orphans.push(object.key);
        }
    }
    Ok(orphans)
}

/// Whether an object of so many bytes is a published layer.
async fn is_layer(store: &Store, key: &Key, size: u64) -> Result<bool> {
    let Some(digest) = objects::sha256(store, key, size).await? else {
        return Ok(false);
    };
    let layer = recorded(store, &digest.into()).await?;
    Ok(layer.is_some_and(|layer| data_of(store, &layer).contains(key)))
}

/// Whether an object was completed from a multipart upload that this session has not named yet. Then the session is an
/// old one, which a stray request has brought back.
pub(crate) async fn is_over(store: &Store, session: &Session) -> Result<bool> {
    Ok(has_later(&below_data(store, session.uuid).await?, session))
}

fn has_later(data: &[(ListedObject, SegmentName)], session: &Session) -> bool {
    let is_later = |name: &SegmentName| matches!(name, SegmentName::Multipart(number) if *number >= session.multiparts);
    data.iter().any(|(_, name)| is_later(name))
}

async fn below_data(store: &Store, uuid: Uuid) -> Result<Vec<(ListedObject, SegmentName)>> {
    let prefix = store.keys.data_prefix(uuid);
    let objects = objects::below(store, &prefix).await?.into_iter();
    let named = objects.filter_map(|object| {
        let name = object.key.as_str().strip_prefix(&prefix)?.parse().ok()?;
        Some((object, name))
    });
    Ok(named.collect())
}

/// Every tail below the upload, named by the session or not.
async fn tails_of(store: &Store, uuid: Uuid) -> Result<Vec<Key>> {
    let session = store.keys.session(uuid);
    let objects = objects::below(store, &store.keys.upload(uuid)).await?;
    let keys = objects.into_iter().map(|object| object.key);
    Ok(keys.filter(|key| *key != session).collect())
}

/// Removes the objects of an upload that has no session.
///
/// # Errors
///
/// `UploadUnknown` where there are none.
pub(crate) async fn remove_orphaned_tails(store: &Store, uuid: Uuid) -> Result<()> {
    let orphans = tails_of(store, uuid).await?;
    if orphans.is_empty() {
        return Err(Error::UploadUnknown { uuid });
    }
    store.remove_all(&orphans).await
}

/// Ends the multipart upload that the session names and, where an owner did not close, all others.
async fn abort_multiparts(store: &Store, session: &Session) -> Result<()> {
    let key = |number| store.keys.multipart(session.uuid, number);
    if let Some(open) = &session.multipart {
        abort(store, &key(open.number), &open.upload_id).await?;
    }
    if session.orphans {
        for number in 0..=session.multiparts {
            let key = key(number);
            for upload_id in store.api.multiparts_at(&key).await? {
                abort(store, &key, &upload_id).await?;
            }
        }
    }
    Ok(())
}

/// Ends a multipart upload that an owner may still be sending to. S3 may keep a part that is on its
/// way at that moment, and says to look ([AbortMultipartUpload]).
///
/// [AbortMultipartUpload]: https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
async fn abort(store: &Store, key: &Key, upload_id: &UploadId) -> Result<()> {
    let begun = Instant::now();
    let mut looks = 0;
    loop {
        store.api.abort_multipart(key, upload_id).await?;
        let parts = store.api.list_parts(key, upload_id).await?;
        if parts.is_none_or(|parts| parts.is_empty()) {
            return Ok(());
        }
        looks += 1;
        let Some(pause) = pause(looks, begun.elapsed(), false, clock::jitter()) else {
            let (operation, why) = ("AbortMultipartUpload", "the upload still has parts");
            let kind = StorageErrorKind::Unavailable;
            return Err(StorageError::new(operation, key.as_str(), kind, why).into());
        };
        tokio::time::sleep(pause).await;
    }
}

async fn release_claim(store: &Store, session: &Session) -> Result<()> {
    match &session.declared_id {
        Some(id) => claim::release(store, &session.repository, id, session.uuid).await,
        None => Ok(()),
    }
}

async fn remove_claim_and_session(store: &Store, session: &Session) -> Result<()> {
    release_claim(store, session).await?;
    let key = store.keys.session(session.uuid);
    Ok(store.api.delete(&key).await?)
}
