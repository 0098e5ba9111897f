//! Taking an upload away: after it was published, after it was cancelled, or when it is lost. The
//! session goes last, so that whatever is left over is found by looking at sessions.

use uuid::Uuid;

use super::claim;
use super::multipart;
use super::plan::finish::{Completed, judge_completed};
use super::session::{Data, Phase, Sealed, Session};
use super::stored::Stored;
use super::writer::Writer;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::s3::api::UploadId;
use crate::s3::keys::Key;
use crate::s3::store::Store;

/// What a finished upload may leave beside what its session names.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Tails that are known to be left.
    pub(crate) dropped: Vec<Key>,
    /// Earlier owners may have left more.
    pub(crate) unknown: bool,
}

/// How often a cancel is repeated over an owner that keeps writing.
const ROUNDS: u32 = 5;

/// Removes an upload whose layer is published. `ours` tells whether the published record names
/// this upload's data; if not, the data is removed too.
pub(crate) async fn remove_finished(
    store: &Store,
    stored: &Stored,
    sealed: &Sealed,
    ours: bool,
    leftovers: Leftovers,
) -> Result<()> {
    let keys = &store.keys;
    let uuid = stored.uuid;
    let (layer, other) = match sealed.data {
        Data::Parts => (keys.data(uuid), keys.whole(uuid)),
        Data::Whole(_) => (keys.whole(uuid), keys.data(uuid)),
    };
    let mut remove = leftovers.dropped;
    remove.extend(stored.session.tails.iter().map(|tail| tail.key(keys, uuid)));
    if leftovers.unknown {
        remove.extend(tails_of(store, stored.uuid).await?);
        if sealed.data == Data::Parts {
            remove.push(other);
        } else {
            abort_multiparts(store, stored).await?;
        }
    }
    if !ours {
        remove.push(layer.clone());
    }
    remove.sort();
    remove.dedup();
    remove.retain(|key| !ours || *key != layer);
    store
        .api
        .delete_all(&remove, store.profile.batch_delete)
        .await?;
    // Whoever began the upload and never let go of it has its claim still.
    let has_claim = !leftovers.unknown;
    remove_claim_and_session(store, stored, has_claim).await
}

/// Cancels an upload that is not being finished, and removes all of it.
pub(crate) async fn cancel(store: &Store, stored: &mut Stored) -> Result<()> {
    match stored.session.phase {
        Phase::Open | Phase::Sealed(_) => {
            let next = Session {
                phase: Phase::Cancelled,
                ..stored.session.clone()
            };
            stored.replace(store, next).await?;
        }
        Phase::Sealing(_) => {
            let reason = "it is being finished and cannot be cancelled";
            return Err(Error::UploadConflict {
                uuid: stored.uuid,
                reason,
            });
        }
        Phase::Cancelled => {}
    }
    remove_cancelled(store, stored).await
}

/// As [`cancel`], for a handle that never owned the upload: it cancels it however far its owner has
/// come since. One that was dropped may have been about to write the session.
pub(super) async fn cancel_for_guest(store: &Store, stored: &mut Stored) -> Result<()> {
    let mut cancelled = cancel(store, stored).await;
    for _ in 0..ROUNDS {
        let is_refused = matches!(cancelled, Err(Error::UploadConflict { .. }));
        if !is_refused || matches!(stored.session.phase, Phase::Sealing(_)) {
            break;
        }
        let uuid = stored.uuid;
        let now = Stored::load(store, uuid).await?;
        *stored = now.ok_or(Error::UploadUnknown { uuid })?;
        cancelled = cancel(store, stored).await;
    }
    cancelled
}

/// Cancels an upload whoever began it, and however far its owner has come. Where it has no session,
/// but objects of an owner that lost it, those are removed.
pub(crate) async fn cancel_by_uuid(store: &Store, uuid: Uuid) -> Result<()> {
    if let Some(mut stored) = Stored::load(store, uuid).await? {
        return cancel_for_guest(store, &mut stored).await;
    }
    let orphans = tails_of(store, uuid).await?;
    if orphans.is_empty() {
        return Err(Error::UploadUnknown { uuid });
    }
    let batched = store.profile.batch_delete;
    Ok(store.api.delete_all(&orphans, batched).await?)
}

/// Removes an upload that was being finished and turned out `damaged`, so that nothing can come of
/// it, unless its layer is published after all: the driver that did so may have ended before the
/// session was removed. Gives the damage back, to be told.
pub(crate) async fn remove_lost(
    store: &Store,
    stored: &mut Stored,
    damaged: Error,
) -> Result<Error> {
    if !may_be_published(store, stored).await? {
        remove_sealing(store, stored).await?;
    }
    Ok(damaged)
}

/// As [`remove_lost`], where the object was read and does not have the bytes, whatever the store
/// says of it.
pub(super) async fn remove_misread(
    store: &Store,
    stored: &mut Stored,
    damaged: Error,
) -> Result<Error> {
    let Phase::Sealing(sealed) = &stored.session.phase else {
        return Ok(damaged);
    };
    if !is_published(store, stored.uuid, sealed).await? {
        remove_sealing(store, stored).await?;
    }
    Ok(damaged)
}

async fn remove_sealing(store: &Store, stored: &mut Stored) -> Result<()> {
    let next = Session {
        phase: Phase::Cancelled,
        ..stored.session.clone()
    };
    stored.replace(store, next).await?;
    remove_cancelled(store, stored).await
}

async fn may_be_published(store: &Store, stored: &Stored) -> Result<bool> {
    let Phase::Sealing(sealed) = &stored.session.phase else {
        return Ok(false);
    };
    let data = data_of(store, stored.uuid, sealed);
    let found = store.api.head(&data).await?;
    Ok(
        match judge_completed(found.as_ref(), stored.session.sums.whole) {
            Completed::Absent => false,
            // Whoever found it damaged was wrong.
            Completed::Right => true,
            // Whoever reads it finds out, and it is completed but once.
            Completed::Unproven if sealed.data == Data::Parts => true,
            Completed::Wrong | Completed::Unproven => {
                is_published(store, stored.uuid, sealed).await?
            }
        },
    )
}

/// Whether the layer is this upload's data, as far as can be told.
async fn is_published(store: &Store, uuid: Uuid, sealed: &Sealed) -> Result<bool> {
    let Some(digest) = &sealed.digest else {
        return Ok(true);
    };
    let record = store.record(&digest.clone().into()).await?;
    Ok(record.is_some_and(|record| record.data == data_of(store, uuid, sealed)))
}

fn data_of(store: &Store, uuid: Uuid, sealed: &Sealed) -> Key {
    match sealed.data {
        Data::Parts => store.keys.data(uuid),
        Data::Whole(_) => store.keys.whole(uuid),
    }
}

/// Removes all of an upload that is marked as cancelled. Can be repeated, by anyone.
pub(crate) async fn remove_cancelled(store: &Store, stored: &Stored) -> Result<()> {
    abort_multiparts(store, stored).await?;
    let mut remove = tails_of(store, stored.uuid).await?;
    remove.extend(unpublished_data(store, stored).await?);
    store
        .api
        .delete_all(&remove, store.profile.batch_delete)
        .await?;
    remove_claim_and_session(store, stored, false).await
}

/// The keys of the data that a cancelled upload may have left.
///
/// The first write of a session is the only one that needs none to be there. Carried out once more
/// when all is over, it brings back a session that names nothing, of an upload that is published.
async fn unpublished_data(store: &Store, stored: &Stored) -> Result<Vec<Key>> {
    let keys = &store.keys;
    let whole = keys.whole(stored.uuid);
    if !stored.session.is_as_begun() {
        return Ok(vec![keys.data(stored.uuid), whole]);
    }
    // Nothing is completed that a session does not name. A `.whole` object can be of a process that
    // died before it wrote the session.
    let Some(found) = store.api.head(&whole).await? else {
        return Ok(Vec::new());
    };
    let Some(pieces) = store.api.get_pieces(&whole, found.size).await? else {
        return Ok(Vec::new());
    };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    pieces.iter().for_each(|piece| hasher.update(piece));
    let published = store.record(&hasher.digest().into()).await?;
    match published {
        Some(record) if record.data == whole => Ok(Vec::new()),
        _ => Ok(vec![whole]),
    }
}

async fn abort_multiparts(store: &Store, stored: &Stored) -> Result<()> {
    let data = store.keys.data(stored.uuid);
    let mut ids = store.api.multiparts_at(&data).await?;
    ids.extend(
        stored
            .session
            .upload_id
            .clone()
            .filter(|id| !ids.contains(id)),
    );
    for id in ids {
        multipart::end(store, &data, &id).await?;
    }
    Ok(())
}

impl Writer {
    /// The upload was cancelled or finished. Whoever removed the rest of it may have looked before
    /// what the session would have named now was there, and no sweep looks there.
    pub(super) async fn take_back(&self, upload_id: Option<UploadId>) {
        let began = upload_id.filter(|_| self.stored.session.upload_id.is_none());
        let whole = self.hashers.first().filter(|_| self.unrecorded_whole);
        let whole = whole.map(Hasher::digest);
        if let Err(error) = take_back(&self.store, self.stored.uuid, began, whole).await {
            tracing::warn!(uuid = %self.stored.uuid, %error, "could not take back what was stored");
        }
    }
}

/// Removes a multipart upload that was begun, and the `.whole` object whose bytes have this
/// digest, unless another handle found it there and published it.
async fn take_back(
    store: &Store,
    uuid: Uuid,
    began: Option<UploadId>,
    whole: Option<Digest>,
) -> Result<()> {
    if let Some(upload_id) = began {
        let data = store.keys.data(uuid);
        store.api.abort_multipart(&data, &upload_id).await?;
    }
    let Some(digest) = whole else {
        return Ok(());
    };
    let key = store.keys.whole(uuid);
    let published = store.record(&digest.into()).await?;
    if published.is_none_or(|record| record.data != key) {
        store.api.delete(&key).await?;
    }
    Ok(())
}

/// Every tail below the upload, named by the session or not.
async fn tails_of(store: &Store, uuid: Uuid) -> Result<Vec<Key>> {
    let session = store.keys.session(uuid);
    let prefix = store.keys.upload(uuid);
    let mut tails = Vec::new();
    let mut from = None;
    loop {
        let page = store.api.list(&prefix, from).await?;
        tails.extend(
            page.objects
                .into_iter()
                .map(|object| object.key)
                .filter(|k| *k != session),
        );
        from = page.next;
        if from.is_none() {
            return Ok(tails);
        }
    }
}

/// `has_claim` tells that the claim is known to be this upload's, and needs no look.
async fn remove_claim_and_session(store: &Store, stored: &Stored, has_claim: bool) -> Result<()> {
    let Session { name, declared, .. } = &stored.session;
    store.left.forget(&store.keys.session(stored.uuid));
    match declared {
        Some(id) if has_claim => store.api.delete(&store.keys.claim(name, id)).await?,
        Some(id) => claim::release(store, name, id, stored.uuid).await?,
        None => {}
    }
    store.api.delete(&store.keys.session(stored.uuid)).await?;
    Ok(())
}
