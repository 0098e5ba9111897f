//! The walks over `repositories/`: what is linked, what manifests name, and which links no manifest
//! names.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};

use super::links::{self, Judged, Since};
use super::listing::Listing;
use super::names_cache::NamesCache;
use super::repository::Repository;
use super::sessions::OpenUploads;
use super::{AT_ONCE, CollectError, Pass};
use crate::name::RepositoryName;
use crate::s3::format::keys::{EntryKind, Key};
use crate::s3::maintenance::bounded_list::BoundedList;
use crate::s3::maintenance::marks::Marks;
use crate::s3::repositories::names_of_manifest;
use crate::s3::wire::{ETag, ListedObject};
use s3layers_tarsum::Digest;

/// So many links are removed in a pass, 15 MiB, and the records of so many condemned ones are condemned, 5 MiB.
const REMOVALS: usize = 50_000;

/// So many canaries of killed passes are removed in a pass.
const CANARIES: usize = 1000;
/// No pass takes so long.
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What the walk over all repositories has shown.
pub(super) struct RepositoryWalk {
    /// Layers that are linked.
    pub(super) linked: Marks,
    /// Digests that manifests name.
    pub(super) named: Marks,
    /// The store's clock when the listing of links began.
    pub(super) began_at: SystemTime,
    /// What is left to do with links.
    pub(super) judged: Judged,
    /// The keys of those that this pass has removed, or found changed.
    pub(super) removed: Marks,
    /// The keys of lists of what manifests name, of repositories that have manifests.
    pub(super) names: Marks,
    /// Canaries of passes that were killed.
    pub(super) canaries: BoundedList<Key>,
}

/// # Cost
///
/// 1 request for a thousand keys below `repositories/`; 1 for each repository with manifests, and 1
/// for each manifest that no pass before has read, or whose names the cache of its repository cannot hold; those of [`links()`].
pub(super) async fn repositories(
    pass: &Pass<'_>,
    sessions: &OpenUploads,
    canary: Option<&Key>,
) -> Result<RepositoryWalk, CollectError> {
    let mut listing = Listing::of(pass, pass.store.keys.repositories());
    let mut walk = Walk {
        pass,
        sessions,
        walked: RepositoryWalk {
            linked: Marks::small(),
            named: Marks::small(),
            began_at: SystemTime::UNIX_EPOCH,
            judged: Judged {
                removable: BoundedList::new(REMOVALS),
                condemned: BoundedList::new(REMOVALS),
            },
            removed: Marks::small(),
            names: Marks::small(),
            canaries: BoundedList::new(CANARIES),
        },
        current: None,
        manifests: Vec::new(),
    };
    let canaries = pass.store.keys.canary("");
    let mut has_canary = canary.is_none();
    while let Some(page) = listing.next().await? {
        walk.walked.began_at = page.began_at;
        for object in page.objects {
            has_canary |= canary == Some(&object.key);
            let Some((name, kind)) = pass.store.keys.entry_of(object.key.as_str()) else {
                if is_stale_canary(&canaries, &object, page.began_at) {
                    walk.walked.canaries.push(object.key);
                }
                continue;
            };
            walk.begin(name).await?;
            if !object.is_tombstone() {
                walk.add(kind, object);
            }
        }
        walk.read_manifests().await?;
    }
    walk.end().await?;
    if !has_canary {
        return Err(lost_canary());
    }
    Ok(walk.walked)
}

/// One that no pass waits for any more; another pass that it is taken from ends with an error.
fn is_stale_canary(canaries: &Key, object: &ListedObject, now: SystemTime) -> bool {
    let age = now.duration_since(object.modified).unwrap_or_default();
    object.key.as_str().starts_with(canaries.as_str()) && age > MONTH
}

fn lost_canary() -> CollectError {
    CollectError::refused("a listing lacks an object that was written before it")
}

/// The walk over all repositories, one after the other.
struct Walk<'a, 'b> {
    pass: &'a Pass<'b>,
    sessions: &'a OpenUploads,
    walked: RepositoryWalk,
    current: Option<Repository>,
    /// Manifests of the current repository that are listed and not read yet, with their ETags.
    manifests: Vec<(Digest, Option<ETag>)>,
}

impl Walk<'_, '_> {
    /// The next key is of this repository.
    async fn begin(&mut self, name: RepositoryName) -> Result<(), CollectError> {
        if self
            .current
            .as_ref()
            .is_none_or(|current| current.name != name)
        {
            self.end().await?;
            self.pass.report(|report| report.repositories += 1);
            self.current = Some(Repository::new(name));
        }
        Ok(())
    }

    fn add(&mut self, kind: EntryKind, object: ListedObject) {
        let Some(repository) = &mut self.current else {
            return;
        };
        let age = self.walked.began_at.duration_since(object.modified);
        let age = age.unwrap_or_default();
        let times = self.pass.times();
        match kind {
            EntryKind::Link(digest) => {
                repository.links += 1;
                self.pass.report(|report| report.links += 1);
                self.walked.linked.insert(&digest);
                if age >= times.wait().min(times.link_age()) {
                    repository.old.insert(digest);
                }
            }
            EntryKind::OtherLink => repository.others.insert(object.key),
            EntryKind::Manifest(digest) => {
                self.pass.report(|report| report.manifests += 1);
                self.manifests.push((digest, object.etag));
            }
            _ => {}
        }
    }

    /// The last key of the current repository was listed.
    async fn end(&mut self) -> Result<(), CollectError> {
        self.read_manifests().await?;
        let (pass, walked) = (self.pass, &mut self.walked);
        let Some(mut repository) = self.current.take() else {
            return Ok(());
        };
        if let Some(names) = repository.names.take() {
            names.store(pass, &repository.name).await?;
            let key = pass.store.keys.manifest_names(&repository.name);
            walked.names.insert(key.as_str());
        }
        let skew = pass.times().look();
        let since = Since {
            listing: walked.began_at,
            upload: self.sessions.began(&repository.name, walked.began_at, skew),
        };
        let (named, judged) = (&mut walked.named, &mut walked.judged);
        links::judge(pass, repository, since, named, judged).await
    }

    /// Marks what the listed manifests name.
    async fn read_manifests(&mut self) -> Result<(), CollectError> {
        let (pass, walked) = (self.pass, &mut self.walked);
        let manifests = std::mem::take(&mut self.manifests);
        let Some(repository) = self.current.as_mut().filter(|_| !manifests.is_empty()) else {
            return Ok(());
        };
        let mut cache = match repository.names.take() {
            Some(names) => names,
            None => NamesCache::load(pass, &repository.name).await?,
        };
        let mut unknown = Vec::new();
        let mut mark = |names: &BTreeSet<Digest>, named: &mut Marks| {
            for digest in names {
                named.insert(digest);
                walked.named.insert(digest);
            }
        };
        for (digest, etag) in manifests {
            match cache.known(&digest, etag.as_ref()) {
                Some(names) => mark(&names, &mut repository.named),
                None => unknown.push((digest, etag)),
            }
        }
        let name = &repository.name;
        let reads = unknown.into_iter().map(async |(digest, etag)| {
            let names = names_of_manifest(pass.store, name, &digest).await;
            (digest, etag, names)
        });
        let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some((digest, etag, names)) = reads.next().await {
            match names {
                Ok(Some(names)) => {
                    mark(&names, &mut repository.named);
                    cache.learn(&digest, etag.as_ref(), names);
                }
                Ok(None) => {}
                Err(error) if error.is_unreadable() => {
                    repository.is_unreadable = true;
                    pass.skip(format_args!("all links of {name}: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        repository.names = Some(cache);
        Ok(())
    }
}

/// Which layers are linked now, and when the listing began. Without the links `removed`, of a pass that changes nothing.
///
/// # Cost
///
/// 1 request for a thousand keys below `repositories/`.
pub(super) async fn links(
    pass: &Pass<'_>,
    canary: Option<&Key>,
    removed: Option<&Marks>,
) -> Result<(Marks, SystemTime), CollectError> {
    let mut linked = Marks::small();
    let mut began_at = SystemTime::UNIX_EPOCH;
    let mut has_canary = canary.is_none();
    let mut listing = Listing::of(pass, pass.store.keys.repositories());
    while let Some(page) = listing.next().await? {
        began_at = page.began_at;
        for object in &page.objects {
            has_canary |= canary == Some(&object.key);
            let entry = pass.store.keys.entry_of(object.key.as_str());
            let is_removed = || removed.is_some_and(|keys| keys.contains(object.key.as_str()));
            if let Some((_, EntryKind::Link(digest))) = entry
                && !object.is_tombstone()
                && !is_removed()
            {
                linked.insert(&digest);
            }
        }
    }
    if !has_canary {
        return Err(lost_canary());
    }
    Ok((linked, began_at))
}
