//! Layers that no link names.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::links::{age_at, has_link};
use super::listing::Listing;
use super::plan::{self, RecordAction};
use super::walk::RepositoryWalk;
use super::{CollectError, Pass, at_once, dead, purge};
use crate::clock::{self, Moment};
use crate::id::LayerId;
use crate::s3::bucket::StoredDocument;
use crate::s3::format::document::encode;
use crate::s3::format::record::{Record, RecordState};
use crate::s3::maintenance::bounded_list::BoundedList;
use crate::s3::wire::{Condition, ETag, Put};
use s3layers_tarsum::{Algorithm, Digest};

/// So many records without links are looked at in a pass: 10 MiB.
const CANDIDATES: usize = 100_000;
/// So many are judged before those that can go are written down and set to dead.
const BATCH: usize = 200;

/// What is done to many records at once.
#[derive(Debug)]
enum Due {
    Kill(StoredDocument<Record>),
    Remove(StoredDocument<Record>),
}

/// # Cost
///
/// 1 request for a thousand records. For each layer that goes, over all passes: 3 to read the record, 1 for each of condemned,
/// dead and purging, 1 to look for its session and at most 1 for its link before it is dead, 1 to remove the
/// record, and 2 for each alias; 1 for 200 data objects. Returns the uploads whose data was removed.
pub(super) async fn collect(
    pass: &Pass<'_>,
    walked: &RepositoryWalk,
) -> Result<HashSet<Uuid>, CollectError> {
    let mut freed = HashSet::new();
    let candidates = candidates(pass, walked).await?;
    if walked.linked.is_crowded() || walked.named.is_crowded() {
        pass.skip(
            "some layers: links and manifests name so many digests that many layers look named",
        );
    }
    if are_too_many(pass, &candidates, walked).await? {
        return Ok(freed);
    }
    for batch in candidates.first.chunks(BATCH) {
        let judgements = batch.iter().map(async |digest| {
            let id = LayerId::from(digest.clone());
            judge(pass, &id, walked).await
        });
        let (mut condemned, mut purging) = (Vec::new(), Vec::new());
        for due in at_once(judgements).await?.into_iter().flatten() {
            match due {
                Due::Kill(record) => condemned.push(record),
                Due::Remove(record) => purging.push(record),
            }
        }
        kill(pass, condemned).await?;
        freed.extend(purging.iter().map(|one| one.document.layer.upload));
        purge::remove(pass, purging).await?;
    }
    Ok(freed)
}

/// Whether more records would be condemned than may be: not those that were condemned before.
async fn are_too_many(
    pass: &Pass<'_>,
    candidates: &BoundedList<Digest>,
    walked: &RepositoryWalk,
) -> Result<bool, CollectError> {
    let (all, share) = (pass.report(|report| report.layers), pass.options.max_share);
    if !plan::is_too_many(candidates.len(), all, share) {
        return Ok(false);
    }
    // Of those that are not looked at, all.
    let mut due = candidates.more;
    for batch in candidates.first.chunks(BATCH) {
        let looks = batch
            .iter()
            .map(async |digest| Box::pin(look(pass, &digest.clone().into(), walked)).await);
        let looked = at_once(looks).await?;
        let actions = looked.iter().flatten().map(|(_, action)| *action);
        due += actions
            .filter(|action| *action == RecordAction::Condemn)
            .count() as u64;
    }
    let are_too_many = plan::is_too_many(due, all, share);
    if are_too_many {
        pass.report(|report| {
            report.stopped = Some(format!(
                "{due} of {all} layers would be condemned, as no link names them, more than the share that may go"
            ));
        });
    }
    Ok(are_too_many)
}

/// A record, and the step that it is due; `None` where it is gone or stays.
async fn look(
    pass: &Pass<'_>,
    id: &LayerId,
    walked: &RepositoryWalk,
) -> Result<Option<(StoredDocument<Record>, RecordAction)>, CollectError> {
    let Some(loaded) = pass.or_skip(pass.store.record(id).await)? else {
        return Ok(None);
    };
    let age = age_at(walked.began_at, loaded.written)?;
    let action = plan::record(&loaded.document.state, age, pass.times());
    Ok(Some((loaded, action)))
}

/// Old records that no link was listed for.
async fn candidates(
    pass: &Pass<'_>,
    walked: &RepositoryWalk,
) -> Result<BoundedList<Digest>, CollectError> {
    let keys = &pass.store.keys;
    let times = pass.times();
    let least = times.record_age().min(times.wait()).min(times.kept());
    let mut candidates = BoundedList::new(CANDIDATES);
    let mut listing = Listing::of(pass, keys.layers(Algorithm::Sha256, ""));
    while let Some(page) = listing.next().await? {
        for object in page.objects.iter().filter(|object| !object.is_tombstone()) {
            let Some(digest) = keys.digest_of(object.key.as_str()) else {
                continue;
            };
            pass.report(|report| report.layers += 1);
            let age = page.began_at.duration_since(object.modified);
            let is_young = age.unwrap_or_default() < least;
            if is_young || walked.linked.contains(&digest) || walked.named.contains(&digest) {
                continue;
            }
            candidates.push(digest);
        }
    }
    Ok(candidates)
}

/// Takes the step that a record without links is due, or returns it.
async fn judge(
    pass: &Pass<'_>,
    id: &LayerId,
    walked: &RepositoryWalk,
) -> Result<Option<Due>, CollectError> {
    let Some((read, action)) = look(pass, id, walked).await? else {
        return Ok(None);
    };
    Ok(match action {
        RecordAction::Keep => None,
        RecordAction::Condemn => {
            condemn_as_judged(pass, &read).await?;
            None
        }
        RecordAction::Kill if is_used(pass, &read.document, walked).await? => None,
        RecordAction::Kill => Some(Due::Kill(read)),
        RecordAction::Purge => {
            let nonce = clock::new_nonce();
            let purging = put(pass, &read, RecordState::Purging { nonce }, None).await?;
            purging.map(|etag| Due::Remove(StoredDocument { etag, ..read }))
        }
        RecordAction::Finish => Some(Due::Remove(read)),
    })
}

/// Whether a record that may be set to dead is used: its upload may be being committed, or the repository that it was
/// published in has a link of it, which a listing may have lost.
async fn is_used(
    pass: &Pass<'_>,
    record: &Record,
    walked: &RepositoryWalk,
) -> Result<bool, CollectError> {
    let layer = &record.layer;
    if pass.store.has_session(layer.upload).await? {
        return Ok(true);
    }
    let key = pass.store.keys.link(&layer.repository, &layer.id());
    if walked.removed.contains(key.as_str()) {
        return Ok(false);
    }
    has_link(pass, &key).await
}

/// Condemns the records of layers whose links were condemned, so that both wait at the same time. Those that a manifest
/// names stay live; others may have other links: a condemned record is served as before.
pub(super) async fn condemn_all(
    pass: &Pass<'_>,
    walked: &mut RepositoryWalk,
) -> Result<(), CollectError> {
    let condemned = std::mem::take(&mut walked.judged.condemned.first);
    let condemned: BTreeSet<Digest> = condemned
        .into_iter()
        .filter(|digest| !walked.named.contains(digest))
        .collect();
    let condemnations = condemned
        .into_iter()
        .map(async |digest| Box::pin(condemn(pass, &digest.into())).await);
    at_once(condemnations).await?;
    Ok(())
}

async fn condemn(pass: &Pass<'_>, id: &LayerId) -> Result<(), CollectError> {
    let Some(read) = pass.or_skip(pass.store.record(id).await)? else {
        return Ok(());
    };
    let age = read.written.age();
    let is_old = age.is_some_and(|age| age >= pass.times().record_age());
    if read.document.state != RecordState::Live || !is_old {
        return Ok(());
    }
    condemn_as_judged(pass, &read).await
}

async fn condemn_as_judged(
    pass: &Pass<'_>,
    read: &StoredDocument<Record>,
) -> Result<(), CollectError> {
    let nonce = clock::new_nonce();
    let condemned = put(pass, read, RecordState::Condemned { nonce }, None).await?;
    if condemned.is_some() {
        pass.report(|report| {
            report.layers_condemned += 1;
            report.bytes_condemned += read.document.layer.size;
        });
    }
    Ok(())
}

/// Writes a record in another state, if it is still as it was judged. Its new ETag.
async fn put(
    pass: &Pass<'_>,
    read: &StoredDocument<Record>,
    state: RecordState,
    until: Option<(Moment, Duration)>,
) -> Result<Option<ETag>, CollectError> {
    if pass.options.dry_run {
        return Ok(Some(read.etag.clone()));
    }
    let key = pass.store.keys.layer(&read.document.layer.id());
    tracing::debug!(%key, ?state, "wrote the state of a record");
    let record = encode(&Record {
        state,
        ..read.document.clone()
    })?;
    let condition = Condition::Matches(&read.etag);
    let put = pass.store.api.put_if_until(&key, record, condition, until);
    match put.await? {
        Put::Written(etag) => Ok(Some(etag)),
        Put::Held(_) | Put::Gone => Ok(None),
    }
}

/// Sets condemned records to dead, after they were written down and before another pass can take the list for
/// settled.
///
/// Those that it comes to too late, at a low rate or with a slow store, are left to the next pass.
async fn kill(pass: &Pass<'_>, condemned: Vec<StoredDocument<Record>>) -> Result<(), CollectError> {
    let (noted_at, lifetime) = (Moment::now(), pass.times().look());
    dead::note(pass, &condemned).await?;
    let kills = condemned.iter().map(async |read| {
        let nonce = clock::new_nonce();
        let until = Some((noted_at, lifetime));
        match put(pass, read, RecordState::Dead { nonce }, until).await {
            Ok(Some(_)) => pass.report(|report| {
                report.layers_removed += 1;
                report.bytes_removed += read.document.layer.size;
            }),
            Ok(None) => {}
            Err(_) if !noted_at.is_within(lifetime) => return Ok(1),
            Err(error) => return Err(error),
        }
        Ok(0)
    });
    let late: u64 = at_once(kills).await?.into_iter().sum();
    if late > 0 {
        pass.skip(format_args!(
            "{late} layers: their removal took longer than {} seconds; the next collection continues",
            lifetime.as_secs()
        ));
    }
    Ok(())
}
