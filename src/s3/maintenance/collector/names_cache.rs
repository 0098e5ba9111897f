//! What the manifests of a repository name: each manifest is read once, and remembered below `gc/`.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::Listing;
use super::{CollectError, Pass};
use crate::name::RepositoryName;
use crate::s3::format::collection::ManifestNames;
use crate::s3::format::document::{Document as _, encode};
use crate::s3::format::keys::Key;
use crate::s3::maintenance::marks::Marks;
use crate::s3::wire::{Condition, ETag};
use s3layers_tarsum::Digest;

/// A larger list is not stored, and the manifests of its repository are read in every pass: some
/// five thousand of ten layers. In memory it takes half as much again, and as much once more while it is stored.
const LARGEST: usize = 4 * 1024 * 1024;

/// The list of one repository.
#[derive(Debug, Default)]
pub(super) struct NamesCache {
    stored: BTreeMap<String, (String, BTreeSet<Digest>)>,
    etag: Option<ETag>,
    /// What is stored next: manifests that are listed now. Empty where it is too large.
    next: BTreeMap<String, (String, BTreeSet<Digest>)>,
    /// About how many bytes that is.
    size: usize,
    has_changed: bool,
}

impl NamesCache {
    pub(super) async fn load(pass: &Pass<'_>, name: &RepositoryName) -> Result<Self, CollectError> {
        let mut cache = NamesCache::default();
        let key = pass.store.keys.manifest_names(name);
        // One of a newer version stays, as a write without its ETag is refused.
        let read = pass.store.read::<ManifestNames>(&key).await;
        if let Some(read) = pass.or_skip(read)? {
            let own = read.document.ok();
            let own = own.filter(|found| found.repository == *name);
            cache.stored = own.map(|found| found.manifests).unwrap_or_default();
            cache.etag = Some(read.etag);
        }
        Ok(cache)
    }

    /// What a listed manifest names, if that is known.
    pub(super) fn known(
        &mut self,
        digest: &Digest,
        etag: Option<&ETag>,
    ) -> Option<BTreeSet<Digest>> {
        let etag = etag?.to_string();
        let digest = digest.to_string();
        let entry = self
            .stored
            .remove(&digest)
            .filter(|(known, _)| *known == etag)?;
        let names = entry.1.clone();
        self.add(digest, entry);
        Some(names)
    }

    pub(super) fn learn(&mut self, digest: &Digest, etag: Option<&ETag>, names: BTreeSet<Digest>) {
        if let Some(etag) = etag {
            let entry = (etag.to_string(), names);
            self.add(digest.to_string(), entry);
            self.has_changed = true;
        }
    }

    fn add(&mut self, digest: String, entry: (String, BTreeSet<Digest>)) {
        // With the punctuation of JSON.
        let names = entry.1.iter().map(|name| name.hex().len() + 10);
        self.size += digest.len() + entry.0.len() + 10 + names.sum::<usize>();
        if self.size > LARGEST {
            self.next = BTreeMap::new();
        } else {
            self.next.insert(digest, entry);
        }
    }

    /// Stores what was learned. Another collector may have done so: either list will do.
    pub(super) async fn store(
        self,
        pass: &Pass<'_>,
        name: &RepositoryName,
    ) -> Result<(), CollectError> {
        let is_same = !self.has_changed && self.stored.is_empty();
        if is_same || self.size > LARGEST || pass.options.dry_run {
            return Ok(());
        }
        let document = encode(&ManifestNames {
            version: ManifestNames::VERSION,
            repository: name.clone(),
            manifests: self.next,
        })?;
        let key = pass.store.keys.manifest_names(name);
        let condition = self.etag.as_ref();
        let condition = condition.map_or(Condition::Absent, Condition::Matches);
        pass.store.api.put_if(&key, document, condition).await?;
        Ok(())
    }
}

/// Removes the lists of repositories that have no manifest any more. One that another collector needs by now, it writes
/// again.
///
/// # Cost
///
/// 1 request for a thousand lists, and 1 for a thousand that are removed.
pub(super) async fn forget_others(pass: &Pass<'_>, used: &Marks) -> Result<(), CollectError> {
    let mut listing = Listing::of(pass, pass.store.keys.all_manifest_names());
    while let Some(page) = listing.next().await? {
        let keys = page.objects.into_iter().map(|object| object.key);
        let others: Vec<Key> = keys.filter(|key| !used.contains(key.as_str())).collect();
        pass.store.remove_all(&others).await?;
    }
    Ok(())
}
