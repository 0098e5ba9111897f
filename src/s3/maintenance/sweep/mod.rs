//! Removing what dead uploads left behind.
//!
//! 1. Only `uploads/` is listed: an upload's session goes last, so data without a session is
//!    published (RELIABILITY.md has the exceptions).
//! 2. Age is by the store's clock, and is that of the youngest object below an upload.
//! 3. Where there is a session that can be read, nothing is deleted before it says `cancelled`, by a conditional
//!    write: an owner that comes back cannot acknowledge bytes after that.
//! 4. An upload that was being committed is committed, or cancelled where that can never succeed. The
//!    data of a cancelled commit is removed much later, unless the record or the link names it.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::s3::bucket::Store;
use crate::s3::commit::{self, cleanup};
use crate::s3::maintenance::inventory::{self, Found, ListedSession};
use crate::s3::session::Phase;
use crate::s3::session::owned::{CancelScope, OwnedSession};

mod plan;

pub use plan::SweepAction;

/// What a sweep did with one upload, or would do.
#[derive(Debug)]
#[non_exhaustive]
pub struct SweptUpload {
    /// The upload.
    pub uuid: Uuid,
    /// How long ago its youngest object was written.
    pub age: Duration,
    /// What was done, was to be done, or would be.
    pub action: SweepAction,
    /// Whether it succeeded; always so in a dry run.
    pub outcome: Result<()>,
}

/// How many uploads are looked at and removed at a time.
const AT_ONCE: usize = 16;

pub(crate) fn sweep(
    store: Arc<Store>,
    older_than: Duration,
    dry_run: bool,
) -> BoxStream<'static, Result<SweptUpload>> {
    // A page is listed only when the uploads of the one before are removed, or nearly so: what is gone
    // comes before the key at which the listing continues.
    let uploads = inventory::found(Arc::clone(&store));
    // A young one needs no closer look: it is live, or about to be.
    let old = uploads.try_filter(move |found| ready(found.age >= older_than));
    // A failure of the listing comes after what was begun before it.
    let swept = old.map(move |found| {
        let store = Arc::clone(&store);
        async move { Ok(Box::pin(sweep_one(&store, found?, dry_run)).await) }
    });
    let swept = swept.buffered(AT_ONCE);
    swept.try_filter_map(|one| ready(Ok(one))).boxed()
}

/// `None` where the upload is left alone.
async fn sweep_one(store: &Arc<Store>, found: Found, dry_run: bool) -> Option<SweptUpload> {
    let (uuid, age) = (found.uuid, found.age);
    let swept = |action, outcome| {
        Some(SweptUpload {
            uuid,
            age,
            action,
            outcome,
        })
    };
    let stored = match OwnedSession::load(store, uuid).await {
        Ok(stored) => stored,
        // No process can resume or commit it. What of its data is published, a record says.
        Err(Error::Damaged { .. }) => None,
        Err(error) => return swept(SweepAction::Remove, Err(error)),
    };
    // Its owner came back since it was listed, which may be long ago: it is young.
    let is_as_listed = |stored: &OwnedSession| match &found.session {
        ListedSession::There(Some(etag)) => stored.is(etag),
        ListedSession::There(None) => true,
        ListedSession::Absent => false,
    };
    if stored.as_ref().is_some_and(|stored| !is_as_listed(stored)) {
        return None;
    }
    let phase = stored.as_ref().map(|stored| &stored.get().phase);
    let action = SweepAction::of(phase);
    // There may be a claim to release; session and data stay for now.
    let is_kept = matches!(phase, Some(Phase::Cancelled(cancelled)) if cancelled.intent.is_some())
        && age < store.times().wait();
    if dry_run {
        return swept(action, Ok(())).filter(|_| !is_kept);
    }
    match carry_out(store, action, stored, &found).await {
        Ok(()) if is_kept => None,
        Ok(()) if action == SweepAction::Commit => swept(SweepAction::CancelCommit, Ok(())),
        // Its owner came back, or another sweep was quicker.
        Err(Error::UploadConflict { .. }) => None,
        // It was committed.
        Err(Error::UploadUnknown { .. }) => swept(action, Ok(())),
        outcome => swept(action, outcome),
    }
}

async fn carry_out(
    store: &Arc<Store>,
    action: SweepAction,
    stored: Option<OwnedSession>,
    found: &Found,
) -> Result<()> {
    let Some(mut owned) = stored else {
        return store.remove_all(&found.keys).await;
    };
    // An upload that is removed has its tails listed in any case; one that was committed has not.
    if action != SweepAction::Remove {
        owned.expect_orphans();
    }
    match action {
        SweepAction::RemoveCancelled => {
            cleanup::remove_cancelled(store, owned.get(), found.age).await
        }
        _ => commit::cancel(store, &mut owned, CancelScope::AsRead).await,
    }
}
