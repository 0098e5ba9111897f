//! A finish: the last bytes, the claims, and the session as `committing`.

use super::Uploader;
use crate::clock;
use crate::error::{Error, Result};
use crate::s3::commit::claims;
use crate::s3::commit::{self, Concurrency, wrong_claim};
use crate::s3::format::document::Inline;
use crate::s3::format::record::{INLINE_LIMIT, Segment, StoredLayer};
use crate::s3::session::owned::Ownership;
use crate::s3::session::{CommitIntent, Phase, Session, Tail};
use s3layers_tarsum::Digest;

/// How often a finish is repeated over owners that store nothing.
const ROUNDS: u32 = 5;

/// Verifies what is claimed, and publishes the layer. As a takeover, it is repeated over another
/// owner that has stored nothing since: one that was dropped may still write.
pub(in crate::s3::upload) async fn finish(
    uploader: &mut Uploader,
    size: u64,
    digest: &Digest,
) -> Result<StoredLayer> {
    for _ in 1..ROUNDS {
        // A commit is a large future.
        let finished = Box::pin(try_finish(uploader, size, digest)).await;
        // The first write of this handle was refused, and it has sent no part.
        let is_guest =
            uploader.journal.ownership() == Ownership::None && uploader.sender.unrecorded() == 0;
        let is_refused = matches!(finished, Err(Error::UploadConflict { .. }));
        let may_follow = is_guest && is_refused;
        if !may_follow || !uploader.journal.owned().follow(&uploader.store).await? {
            return finished;
        }
        // The refused write has removed it.
        uploader.last = None;
    }
    Box::pin(try_finish(uploader, size, digest)).await
}

async fn try_finish(uploader: &mut Uploader, size: u64, digest: &Digest) -> Result<StoredLayer> {
    let declared = uploader.declared.as_ref();
    let received = uploader.intake.received(declared).await;
    let at = clock::now_timestamp();
    let intent = match claims::check(at, size, digest, declared, received) {
        Ok(intent) => intent,
        Err(wrong) => {
            uploader.journal.confirm_assumed().await?;
            return Err(wrong);
        }
    };
    if let Phase::Committing(standing) = uploader.session().phase.clone()
        && let Some(layer) = complete_previous_commit(uploader, &standing, &intent).await?
    {
        return Ok(layer);
    }
    let mut next = match &uploader.session().phase {
        Phase::Open if is_inline(uploader) => return publish_inline(uploader, intent).await,
        Phase::Open => store_last_bytes(uploader).await?,
        Phase::Committing(_) | Phase::Rejected(_) => uploader.session().clone(),
        Phase::Cancelled(_) => return Err(unknown(uploader)),
    };
    next.phase = Phase::Committing(intent);
    uploader.record(next).await?;
    uploader.release();
    commit::commit(&uploader.store, uploader.journal.owned(), Concurrency::None).await
}

fn unknown(uploader: &Uploader) -> Error {
    let uuid = uploader.journal.uuid();
    Error::UploadUnknown { uuid }
}

/// Completes a commit that was begun before, with its own claims: its driver may be publishing at
/// this moment. `None` where its claims were wrong, so that it cannot have been published.
async fn complete_previous_commit(
    uploader: &mut Uploader,
    standing: &CommitIntent,
    claimed: &CommitIntent,
) -> Result<Option<StoredLayer>> {
    let concurrency = match uploader.journal.ownership() {
        Ownership::Confirmed => Concurrency::None,
        Ownership::None | Ownership::Assumed => Concurrency::Possible,
    };
    let layer = match commit::commit(&uploader.store, uploader.journal.owned(), concurrency).await {
        Ok(layer) => layer,
        Err(error) => match wrong_claim(&error) {
            Some(wrong) if !claimed.unverified.contains(&wrong) => return Ok(None),
            _ => return Err(error),
        },
    };
    let mut ids = claimed.aliases.iter().chain(&claimed.unverified);
    let all_verified = ids.all(|id| {
        layer.id() == *id || standing.aliases.contains(id) || standing.unverified.contains(id)
    });
    if all_verified {
        Ok(Some(layer))
    } else {
        Err(unknown(uploader))
    }
}

/// All bytes are in memory, and fit the documents of the layer.
fn is_inline(uploader: &Uploader) -> bool {
    let session = uploader.session();
    let is_stored = !session.segments.is_empty() || session.has_parts();
    let offset = uploader.offset();
    offset <= INLINE_LIMIT && uploader.intake.buffered() == offset && !is_stored
}

async fn publish_inline(uploader: &mut Uploader, intent: CommitIntent) -> Result<StoredLayer> {
    let mut next = uploader.draft();
    uploader.intake.describe(&mut next);
    next.phase = Phase::Committing(intent);
    commit::commit_inline(&uploader.store, uploader.journal.owned(), next).await
}

/// Brings all bytes into segments and parts: the session that says so.
async fn store_last_bytes(uploader: &mut Uploader) -> Result<Session> {
    uploader.drain().await?;
    uploader.journal.finish_freezing().await?;
    if uploader.last.is_none() && !uploader.draft().has_parts() {
        uploader.last = store_last_segment(uploader).await?;
    }
    if uploader.last.is_none() && uploader.intake.unsent() > 0 {
        Box::pin(uploader.send_part(false)).await?;
        uploader.drain().await?;
    }
    let mut next = uploader.draft();
    next.segments.extend(uploader.last.clone());
    uploader.intake.describe(&mut next);
    next.inline = Inline::default();
    // Objects that are part of a segment now go when the upload ends.
    next.tails = uploader.journal.tails();
    Ok(next)
}

/// What follows the segments, as one object: without parts, if it is a single one or in memory.
async fn store_last_segment(uploader: &mut Uploader) -> Result<Option<Segment>> {
    let tails: Vec<Tail> = uploader.intake.tails().cloned().collect();
    match tails.as_slice() {
        [only] if uploader.intake.buffered() == 0 => Ok(only.as_segment()),
        [] if uploader.intake.buffered() > 0 => {
            if uploader.session().closed {
                uploader.journal.confirm_ownership().await?;
            }
            Ok(uploader.write_whole().await?.as_segment())
        }
        _ => Ok(None),
    }
}
