//! Taking an upload away: after it was published, after it was cancelled, or when it is lost. The
//! session goes last, so that whatever is left over is found by looking at sessions.

use uuid::Uuid;

use super::claim;
use super::plan::finish::{Completed, judge_completed};
use super::session::{Data, Phase, Sealed, Session};
use super::stored::Stored;
use super::writer::Writer;
use crate::digest::{Digest, Hasher};
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
    if may_be_published(store, stored).await? {
        return Ok(damaged);
    }
    let next = Session {
        phase: Phase::Cancelled,
        ..stored.session.clone()
    };
    stored.replace(store, next).await?;
    remove_cancelled(store, stored).await?;
    Ok(damaged)
}

async fn may_be_published(store: &Store, stored: &Stored) -> Result<bool> {
    let Phase::Sealing(sealed) = &stored.session.phase else {
        return Ok(false);
    };
    let data = match sealed.data {
        Data::Parts => store.keys.data(stored.uuid),
        Data::Whole(_) => store.keys.whole(stored.uuid),
    };
    let found = store.api.head(&data).await?;
    Ok(
        match judge_completed(found.as_ref(), stored.session.sums.whole) {
            Completed::Absent => false,
            // Whoever found it damaged was wrong.
            Completed::Right => true,
            Completed::Wrong | Completed::Unproven => match &sealed.digest {
                None => true,
                Some(digest) => {
                    let record = store.record(&digest.clone().into()).await?;
                    record.is_some_and(|record| record.data == data)
                }
            },
        },
    )
}

/// Removes all of an upload that is marked as cancelled. Can be repeated, by anyone.
pub(crate) async fn remove_cancelled(store: &Store, stored: &Stored) -> Result<()> {
    abort_multiparts(store, stored).await?;
    let mut remove = tails_of(store, stored.uuid).await?;
    remove.push(store.keys.data(stored.uuid));
    remove.push(store.keys.whole(stored.uuid));
    store
        .api
        .delete_all(&remove, store.profile.batch_delete)
        .await?;
    remove_claim_and_session(store, stored, false).await
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
        store.api.abort_multipart(&data, &id).await?;
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
