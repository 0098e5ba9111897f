//! What a pass keeps of one repository.

use super::names_cache::NamesCache;
use super::sample::Sample;
use crate::name::RepositoryName;
use crate::s3::format::keys::Key;
use crate::s3::maintenance::marks::Marks;
use s3layers_tarsum::Digest;

/// So many old links of one repository are looked at in a pass: 5 MiB.
const LINKS: usize = 50_000;
/// So many links by other ids: their keys, 3 MiB.
const OTHER_LINKS: usize = 10_000;

/// One repository, while its keys are listed: links come before manifests.
pub(super) struct Repository {
    pub(super) name: RepositoryName,
    pub(super) links: u64,
    /// Old links.
    pub(super) old: Sample<Digest>,
    /// Links by other ids.
    pub(super) others: Sample<Key>,
    pub(super) named: Marks,
    pub(super) names: Option<NamesCache>,
    /// A manifest could not be read, so everything stays.
    pub(super) is_unreadable: bool,
}

impl Repository {
    pub(super) fn new(name: RepositoryName) -> Self {
        Repository {
            name,
            links: 0,
            old: Sample::new(LINKS),
            others: Sample::new(OTHER_LINKS),
            named: Marks::small(),
            names: None,
            is_unreadable: false,
        }
    }
}
