//! Whether the parts that a session records are still in the store.

use uuid::Uuid;

use super::Phase;
use super::owned::OwnedSession;
use super::plan::resume::{Parts, compare};
use crate::error::{Error, Result};
use crate::s3::bucket::{Store, presence};

/// How often the parts are listed before they count as lost: a listing may lag behind.
const LOOKS: u32 = 2;

/// Compares the recorded parts with those that S3 lists, and takes over the ETags that they have
/// now. `false` where one is gone, and so the upload.
///
/// # Cost
///
/// None without recorded parts; else 1 request for every 1,000 parts. At least 1 more where the upload is frozen, and 3 s
/// more where its object is not there either.
pub(crate) async fn confirm_parts(store: &Store, owned: &mut OwnedSession) -> Result<bool> {
    let session = owned.get();
    let uuid = session.uuid;
    // What a commit has completed is for the commit to find.
    let Some(open) = session
        .multipart
        .as_ref()
        .filter(|open| session.phase == Phase::Open && !open.parts.is_empty())
    else {
        return Ok(true);
    };
    let key = store.keys.multipart(uuid, open.number);
    for look in 1..=LOOKS {
        let listed = store.api.list_parts(&key, &open.upload_id).await?;
        if listed.is_none() && open.freezing {
            let completed = presence::awaited(store, &key, |_| true).await?;
            return Ok(completed.is_some());
        }
        match compare(&open.parts, listed.as_deref()) {
            Parts::Present(parts) => {
                owned.repin(parts);
                return Ok(true);
            }
            Parts::Lost { number, reason } if look == LOOKS => {
                tracing::warn!(%uuid, part = number, reason, "lost the parts of an upload");
            }
            Parts::Lost { .. } => {}
        }
    }
    Ok(false)
}

/// Whether an upload exists and can be resumed. One whose session is damaged cannot.
pub(crate) async fn is_resumable(store: &Store, uuid: Uuid) -> Result<bool> {
    let mut owned = match OwnedSession::load(store, uuid).await {
        Ok(Some(owned)) => owned,
        Ok(None) | Err(Error::Damaged { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    if matches!(owned.get().phase, Phase::Cancelled(_)) {
        return Ok(false);
    }
    confirm_parts(store, &mut owned).await
}
