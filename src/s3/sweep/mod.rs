//! Removing what dead uploads left behind.
//!
//! 1. Only `uploads/` is looked at: an upload's session goes last, so what has no session is
//!    published or is a tail.
//! 2. Age is told by the store's clock, and is that of the youngest object below an upload.
//! 3. Nothing is deleted before the session that was found old says `cancelled`, by a conditional
//!    write: an owner that comes back is told so, and cannot lose bytes that it acknowledges.
//! 4. An upload that was being finished is finished, or removed where the store has lost its bytes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use uuid::Uuid;

use super::inventory::{self, Found, ListedSession};
use super::keys::Key;
use super::store::Store;
use super::upload::session::Phase;
use super::upload::stored::Stored;
use super::upload::{cancel, drive_found, remove_cancelled, remove_lost};
use crate::error::{Error, Result};

mod plan;

pub use plan::SweepAction;

/// What a sweep did with one upload, or would do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Swept {
    /// The upload.
    pub uuid: Uuid,
    /// How long ago its youngest object was written.
    pub age: Duration,
    /// What was to be done.
    pub action: SweepAction,
    /// Whether it succeeded; always so in a dry run.
    pub outcome: Result<()>,
}

pub(super) async fn sweep(
    store: &Arc<Store>,
    older_than: Duration,
    dry_run: bool,
) -> Result<Vec<Swept>> {
    let mut swept = Vec::new();
    // All of them before any is touched, so that no page is listed over what is being removed.
    let uploads: Vec<Found> = inventory::found(Arc::clone(store)).try_collect().await?;
    for found in uploads {
        let uuid = found.uuid;
        // A young one needs no closer look.
        if found.age < older_than {
            continue;
        }
        let session = Stored::load(store, uuid).await;
        let stored = match session {
            Ok(stored) => stored,
            Err(error) => {
                let action = SweepAction::Remove;
                swept.push(Swept {
                    uuid,
                    age: found.age,
                    action,
                    outcome: Err(error),
                });
                continue;
            }
        };
        // Its owner came back since it was listed, which may be long ago: it is young.
        let is_as_listed = |stored: &Stored| match &found.session {
            ListedSession::There(Some(etag)) => stored.is(etag),
            ListedSession::There(None) => true,
            ListedSession::Absent => false,
        };
        if stored.as_ref().is_some_and(|stored| !is_as_listed(stored)) {
            continue;
        }
        let phase = stored.as_ref().map(|stored| &stored.session.phase);
        let Some(action) = plan::plan(phase, found.age, older_than) else {
            continue;
        };
        let outcome = match dry_run {
            true => Ok(()),
            false => carry_out(store, action, stored, &found.keys).await,
        };
        swept.push(Swept {
            uuid,
            age: found.age,
            action,
            outcome,
        });
    }
    Ok(swept)
}

async fn carry_out(
    store: &Arc<Store>,
    action: SweepAction,
    stored: Option<Stored>,
    keys: &[Key],
) -> Result<()> {
    let Some(mut stored) = stored else {
        return Ok(store
            .api
            .delete_all(keys, store.profile.batch_delete)
            .await?);
    };
    let outcome = match action {
        SweepAction::Finish => drive_found(store, &mut stored).await.map(drop),
        SweepAction::RemoveCancelled => remove_cancelled(store, &stored).await,
        SweepAction::Remove | SweepAction::RemoveOrphans => cancel(store, &mut stored).await,
    };
    match outcome {
        // Claims that turned out wrong: `sealed` now, and old enough to go.
        Err(
            Error::InvalidChecksum { .. }
            | Error::InvalidTarSum { .. }
            | Error::TarSumVersionUnsupported { .. },
        ) if matches!(stored.session.phase, Phase::Sealed(_)) => cancel(store, &mut stored).await,
        // The store has dropped its parts (MinIO does after a day), and nobody has driven it since:
        // who declares the same id must not be sent to it for ever.
        Err(damaged @ Error::Damaged { .. }) if action == SweepAction::Finish => {
            match remove_lost(store, &mut stored, damaged).await {
                Ok(_) if stored.session.phase == Phase::Cancelled => Ok(()),
                Ok(damaged) => Err(damaged),
                Err(Error::UploadConflict { .. } | Error::UploadUnknown { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        }
        // Its owner came back, or another sweep was quicker: not dead.
        Err(Error::UploadConflict { .. } | Error::UploadUnknown { .. }) => Ok(()),
        outcome => outcome,
    }
}
