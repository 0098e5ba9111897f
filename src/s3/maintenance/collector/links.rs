//! Links that no manifest of their repository names.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::plan::{self, LinkAction, LinkFacts};
use super::repository::Repository;
use super::{AT_ONCE, CollectError, Pass, at_once};
use crate::clock;
use crate::error::Error;
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::StoredDocument;
use crate::s3::format::keys::Key;
use crate::s3::format::record::{EntryState, Link};
use crate::s3::maintenance::bounded_list::BoundedList;
use crate::s3::maintenance::marks::Marks;
use crate::s3::names;
use crate::s3::wire::{ETag, Put, Written};
use s3layers_tarsum::Digest;

/// A link as it was judged.
#[derive(Debug)]
pub(super) struct Removable {
    name: RepositoryName,
    pub(super) key: Key,
    etag: ETag,
}

/// How long before `now` a document was written. One second less, as the store reports whole seconds.
pub(super) fn age_at(now: SystemTime, written: Written) -> Result<Duration, CollectError> {
    let at = written.at.ok_or_else(|| {
        CollectError::refused("the store does not report when an object was written")
    })?;
    let age = now.duration_since(at).unwrap_or_default();
    Ok(age.saturating_sub(Duration::from_secs(1)))
}

/// What the judgement of all links leaves to do.
pub(super) struct Judged {
    /// Links that may be removed now.
    pub(super) removable: BoundedList<Removable>,
    /// The layers of links that were condemned.
    pub(super) condemned: BoundedList<Digest>,
}

/// The times that the judgement of a repository's links depends on.
#[derive(Clone, Copy)]
pub(super) struct Since {
    /// When the listing began.
    pub(super) listing: SystemTime,
    /// How long before that the oldest open upload of the repository began.
    pub(super) upload: Option<Duration>,
}

/// Judges the old links of a repository; condemns them, or writes them back to live. Adds those that can
/// be removed now. A link that was listed and is gone by now, as another collection has removed it, does not count: else
/// the next collection would miss it. `all_named` is what manifests of all repositories name.
///
/// # Cost
///
/// 1 request for each link that no manifest names by its SHA-256, 2 where these are more than the share that may go,
/// and 1 more where it is condemned. 2 for each link by another id.
pub(super) async fn judge(
    pass: &Pass<'_>,
    mut repository: Repository,
    since: Since,
    all_named: &mut Marks,
    judged: &mut Judged,
) -> Result<(), CollectError> {
    let orphans = orphans(pass, &mut repository, all_named).await?;
    if repository.is_unreadable {
        return Ok(());
    }
    let Repository { old, named, .. } = &repository;
    // Not one that is named: should it be condemned, it stays so, as a listing does not show the state. A client that relies on
    // it after its manifest is deleted writes it back.
    let unnamed = old.things.iter().filter(|digest| !named.contains(*digest));
    let unnamed: Vec<_> = unnamed.collect();
    if are_too_many(pass, &repository, &unnamed, since).await? {
        return Ok(());
    }
    let repository = &repository;
    // On the heap, and only once it begins.
    let judgements = unnamed
        .into_iter()
        .map(async |digest| Box::pin(judge_one(pass, repository, digest, since)).await);
    let mut judgements = stream::iter(judgements.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    let mut gone = 0;
    while let Some(one) = judgements.try_next().await? {
        match one {
            Outcome::Condemned(digest) => judged.condemned.push(digest),
            Outcome::Removable(link) => judged.removable.push(link),
            Outcome::Gone => gone += 1,
            Outcome::Stays => {}
        }
    }
    subtract(pass, repository.old.in_all(gone));
    orphans
        .into_iter()
        .for_each(|link| judged.removable.push(link));
    Ok(())
}

/// Whether more links would be condemned than may be. What was condemned before, or is too young, does not count.
async fn are_too_many(
    pass: &Pass<'_>,
    repository: &Repository,
    unnamed: &[&Digest],
    since: Since,
) -> Result<bool, CollectError> {
    let (links, share) = (repository.links, pass.options.max_share);
    if !plan::is_too_many(repository.old.in_all(unnamed.len()), links, share) {
        return Ok(false);
    }
    let looks = unnamed.iter().map(async |digest| {
        let looked = Box::pin(look(pass, repository, digest, since)).await?;
        Ok(match looked {
            Looked::Link(_, action) => Some(action),
            Looked::Unreadable => Some(LinkAction::Keep),
            Looked::Gone => None,
        })
    });
    let looked = at_once(looks).await?;
    let count = |wanted| looked.iter().filter(|looked| **looked == wanted).count();
    let due = repository.old.in_all(count(Some(LinkAction::Condemn)));
    let are_too_many = plan::is_too_many(due, links, share);
    if are_too_many {
        subtract(pass, repository.old.in_all(count(None)));
        pass.report(|report| report.repositories_left += 1);
        pass.skip(format_args!(
            "all links of {}: {due} of {links} would be condemned, more than the share that may go",
            repository.name
        ));
    }
    Ok(are_too_many)
}

/// Links that were listed, and do not count.
fn subtract(pass: &Pass<'_>, links: u64) {
    pass.report(|report| report.links = report.links.saturating_sub(links));
}

/// A link that was listed, and what is to be done with it.
enum Looked {
    Link(Box<StoredDocument<Link>>, LinkAction),
    Unreadable,
    Gone,
}

/// Looks at a link that no manifest names by its SHA-256.
async fn look(
    pass: &Pass<'_>,
    repository: &Repository,
    digest: &Digest,
    since: Since,
) -> Result<Looked, CollectError> {
    let id = LayerId::from(digest.clone());
    let read = pass.store.link(&repository.name, &id).await;
    if matches!(read, Ok(None)) {
        return Ok(Looked::Gone);
    }
    let Some(loaded) = pass.or_skip(read)? else {
        return Ok(Looked::Unreadable);
    };
    let link = &loaded.document;
    let mut digests = link.layer.aliases.iter().filter_map(LayerId::as_digest);
    let facts = LinkFacts {
        is_condemned: link.state != EntryState::Live,
        is_named: digests.any(|digest| repository.named.contains(digest)),
        age: age_at(since.listing, loaded.written)?,
        upload_began: since.upload,
    };
    let action = plan::link(facts, pass.times());
    Ok(Looked::Link(Box::new(loaded), action))
}

enum Outcome {
    Condemned(Digest),
    Removable(Removable),
    Stays,
    Gone,
}

async fn judge_one(
    pass: &Pass<'_>,
    repository: &Repository,
    digest: &Digest,
    since: Since,
) -> Result<Outcome, CollectError> {
    let (loaded, action) = match look(pass, repository, digest, since).await? {
        Looked::Link(loaded, action) => (*loaded, action),
        Looked::Unreadable => return Ok(Outcome::Stays),
        Looked::Gone => return Ok(Outcome::Gone),
    };
    let (link, etag) = (loaded.document, loaded.etag);
    let name = repository.name.clone();
    let key = pass.store.keys.link(&name, &digest.clone().into());
    Ok(match action {
        LinkAction::Keep => Outcome::Stays,
        LinkAction::Condemn => {
            let nonce = clock::new_nonce();
            let is_written = put(pass, &key, link, EntryState::Condemned { nonce }, &etag).await?;
            if !is_written {
                return Ok(Outcome::Stays);
            }
            tracing::debug!(%key, "condemned a link");
            pass.report(|report| report.links_condemned += 1);
            Outcome::Condemned(digest.clone())
        }
        LinkAction::Restore => {
            if put(pass, &key, link, EntryState::Live, &etag).await? {
                pass.report(|report| report.links_restored += 1);
            }
            Outcome::Stays
        }
        LinkAction::Remove => Outcome::Removable(Removable { name, key, etag }),
    })
}

/// Writes a link in another state, if it is still as it was judged. Whether it is written.
async fn put(
    pass: &Pass<'_>,
    key: &Key,
    link: Link,
    state: EntryState,
    etag: &ETag,
) -> Result<bool, CollectError> {
    if pass.options.dry_run {
        return Ok(true);
    }
    let link = Link {
        state,
        nonce: clock::new_nonce(),
        ..link
    };
    let put = pass.store.put_over(key, &link, Some(etag)).await?;
    Ok(matches!(put, Put::Written(_)))
}

/// Whether a link stands under this key, also one that cannot be read.
pub(super) async fn has_link(pass: &Pass<'_>, key: &Key) -> Result<bool, CollectError> {
    match pass.store.read::<Link>(key).await {
        Err(Error::NewerVersion { .. }) => Ok(true),
        read => Ok(read?.is_some()),
    }
}

/// Reads the links by other ids. A layer is named where one of them is: its link by SHA-256 may have lost that id.
/// Those that no manifest names and whose layer has no link by SHA-256.
async fn orphans(
    pass: &Pass<'_>,
    repository: &mut Repository,
    all_named: &mut Marks,
) -> Result<Vec<Removable>, CollectError> {
    let name = &repository.name;
    let keys = std::mem::take(&mut repository.others.things);
    let reads = keys
        .into_iter()
        .map(async |key| other_link(pass, name, key).await);
    let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    let mut orphans = Vec::new();
    while let Some(read) = reads.try_next().await? {
        let Some((link, orphan)) = read else { continue };
        let id = link.id.as_digest();
        if link.layer.has_id(&link.id) && id.is_some_and(|id| repository.named.contains(id)) {
            repository.named.insert(&link.layer.digest);
            // Where its link by SHA-256 is lost, a repair writes it again: the bytes stay until then.
            all_named.insert(&link.layer.digest);
        } else {
            orphans.extend(orphan);
        }
    }
    Ok(orphans)
}

/// A link by another id, and how it is removed if its layer has no link by SHA-256. It is older than a link is when it is
/// condemned, so a client that relies on it writes it again.
async fn other_link(
    pass: &Pass<'_>,
    name: &RepositoryName,
    key: Key,
) -> Result<Option<(Link, Option<Removable>)>, CollectError> {
    let read = pass.store.load::<Link>(&key).await;
    let Some(read) = pass.or_skip(read)? else {
        return Ok(None);
    };
    let own = pass.store.keys.link(name, &read.document.layer.id());
    let is_linked = has_link(pass, &own).await?;
    let age = read.written.age();
    let is_old = age.is_some_and(|age| age > pass.times().link_age());
    let orphan = (!is_linked && is_old).then(|| Removable {
        name: name.clone(),
        key,
        etag: read.etag,
    });
    Ok(Some((read.document, orphan)))
}

/// How many links of a repository are removed one after the other, before it is looked for entries.
const REMOVALS: usize = 100;

/// Removes links that are still as they were judged. How many there were. After an error, what was begun is completed, so
/// that the catalog shows no repository of which all was removed.
///
/// # Cost
///
/// 1 request for each link, and 1 or 3 for each hundred of a repository.
pub(super) async fn remove(pass: &Pass<'_>, links: &[Removable]) -> Result<u64, CollectError> {
    if pass.options.dry_run {
        let removed = links.len() as u64;
        pass.report(|report| report.links_removed += removed);
        return Ok(removed);
    }
    let has_failed = AtomicBool::new(false);
    let repositories = links.chunk_by(|one, next| one.name == next.name);
    let removals = repositories.flat_map(|links| links.chunks(REMOVALS));
    let removals = removals.map(async |links| {
        if has_failed.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let removed = Box::pin(remove_some(pass, links)).await;
        has_failed.fetch_or(removed.is_err(), Ordering::Relaxed);
        removed
    });
    let removals = stream::iter(removals.collect::<Vec<_>>());
    let ended: Vec<_> = removals.buffer_unordered(AT_ONCE).collect().await;
    ended.into_iter().sum()
}

/// Some of one repository.
async fn remove_some(pass: &Pass<'_>, links: &[Removable]) -> Result<u64, CollectError> {
    let Some(Removable { name, .. }) = links.first() else {
        return Ok(0);
    };
    let (mut removed, mut ended) = (0, Ok(()));
    let removal = async {
        for Removable { key, etag, .. } in links {
            match pass.store.remove_judged(key, etag).await {
                Ok(is_removed) => {
                    tracing::debug!(%key, is_removed, "removed a link, unless it was written since");
                    removed += u64::from(is_removed);
                }
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
        }
        pass.report(|report| report.links_removed += removed);
        Ok(removed > 0)
    };
    let looked = names::removal(pass.store, name, removal).await;
    ended?;
    looked?;
    Ok(removed)
}
