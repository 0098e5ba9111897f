//! The repositories of a registry: which layers, manifests, tags and referrers each has.
//!
//! 1. A link, a manifest, a tag and a referrer's entry are one object each, written on condition
//!    ([`Store::overwrite`](crate::s3::bucket::Store::overwrite)). A repository exists while it has a
//!    link, a manifest or a tag; [`names`] has a marker for each.
//! 2. Documents that belong together are written in an order that a repeated call can continue:
//!    a manifest after its entry among the referrers of its subject, and a removal begins with the
//!    tags ([`manifests`]).
//! 3. Every answer is read from the store after its request began, so it reflects every write that any
//!    process acknowledged before. Nothing is answered from memory.
//! 4. Concurrent writes of one tag or manifest all succeed, and the last one wins
//!    ([`Store::overwrite`](crate::s3::bucket::Store::overwrite)).
//! 5. A removal is conditional on the document that it read
//!    ([`Store::remove`](crate::s3::bucket::Store::remove)): by DELETE, or by a tombstone where the store
//!    deletes without a condition. Each write has a fresh nonce, so a tag, a manifest or a link that
//!    is written again meanwhile stays.

use std::collections::BTreeSet;

use async_trait::async_trait;
use uuid::Uuid;

use super::S3LayerService;
use super::names;
use super::upload;
use crate::clock::Moment;
use crate::contract::{Layer, LayerUpload};
use crate::contract::{Manifest, Page, Referrer, ReferrerKey, RepositoryService};
use crate::error::Result;
use crate::id::LayerId;
use crate::name::{RepositoryName, Tag};
use crate::s3::bucket::Store;
use s3layers_tarsum::Digest;

mod catalog;
mod forget;
mod links;
mod list;
mod manifest_document;
mod manifests;
mod named_digests;
mod referrers;
mod removal;
mod restore;
mod tags;
mod trash;

pub(crate) use forget::expire;
pub use list::ManifestEntry;
pub(crate) use list::digests;
pub(crate) use manifest_document::{get as manifest, names_of_manifest};
pub(crate) use manifests::restore_referrer;
pub(crate) use referrers::{has_referrer, referring_manifest};
pub use removal::RemovedRepository;
pub use restore::{RestoreError, RestoreReport, TrashReference};
pub(crate) use tags::{get as tag, tags_of};
pub use trash::TrashEntry;

/// # Cost
///
/// In requests, where nothing goes wrong, and where this process knows the marker of the repository:
/// the first write in a repository costs 1 more, in a new one 2. A layer's [`is_stored`](crate::Layer::is_stored) costs 1,
/// or none where this service looked at its bytes within 15 minutes.
///
/// | | |
/// |---|---|
/// | `layer`, `tag`, `manifest`, `ready` | 1 |
/// | `resume_at` | none, or as `resume` |
/// | `confirm_layer` | 1, by another id than the SHA-256 2; 1 more for each object that this service has not looked at within 15 minutes, and 1 where the link is condemned or older than 36 hours |
/// | `mount` | 3, or 2 where this service looked at the bytes within 15 minutes |
/// | `unlink` | 3, and 2 for each other id of the layer; 2 more for the last entry of the repository |
/// | `delete_tag` | 3; 2 more for the last entry of the repository |
/// | `put_manifest` | 1, with a subject 2; 3 each to replace one, or 4 to replace a removed one with a subject |
/// | `put_tag` | 1; 3 to replace one |
/// | `delete_manifest` | 4, with a subject 6; 1 for a thousand tags of the repository, 2 for each that named it, and 1 for one in 4096 of the others; 2 more for the last entry |
/// | `tags` | 1 for a thousand, 1 more where there is none |
/// | `referrers` | 1 for a thousand, 1 for each, and up to eight more where they weigh too much |
/// | `repositories` | 1 for a thousand, at most 1 more, and 1 for each that was emptied |
#[async_trait]
impl RepositoryService for S3LayerService {
    async fn layer(&self, name: &RepositoryName, id: &LayerId) -> Result<Box<dyn Layer>> {
        links::layer(&self.store, name, id).await
    }

    async fn confirm_layer(
        &self,
        name: &RepositoryName,
        id: &LayerId,
    ) -> Result<Option<Box<dyn Layer>>> {
        links::confirm(&self.store, name, id).await
    }

    async fn mount(
        &self,
        name: &RepositoryName,
        id: &LayerId,
        from: Option<&RepositoryName>,
    ) -> Result<bool> {
        links::mount(&self.store, name, id, from).await
    }

    async fn unlink(&self, name: &RepositoryName, id: &LayerId) -> Result<bool> {
        let kept = BTreeSet::new();
        let unlink = links::unlink(&self.store, name, id, &kept);
        names::removal(&self.store, name, unlink).await
    }

    async fn resume_at(
        &self,
        name: &RepositoryName,
        uuid: Uuid,
        offset: u64,
    ) -> Result<Box<dyn LayerUpload>> {
        let upload = upload::resume_at(&self.store, &self.sessions, name, uuid, offset).await?;
        Ok(Box::new(upload))
    }

    async fn put_manifest(&self, name: &RepositoryName, manifest: &Manifest) -> Result<()> {
        self.put_confirmed_manifest(name, manifest, Moment::now())
            .await
    }

    async fn put_confirmed_manifest(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        since: Moment,
    ) -> Result<()> {
        let put = manifests::put(&self.store, name, manifest, since);
        names::entry(&self.store, name, put).await
    }

    async fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Manifest>> {
        manifest_document::get(&self.store, name, digest).await
    }

    async fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool> {
        let delete = manifests::delete(&self.store, name, digest);
        names::removal(&self.store, name, delete).await
    }

    async fn put_tag(&self, name: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<()> {
        let put = tags::put(&self.store, name, tag, digest);
        names::entry(&self.store, name, put).await
    }

    async fn tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>> {
        tags::get(&self.store, name, tag).await
    }

    async fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<bool> {
        names::removal(&self.store, name, tags::delete(&self.store, name, tag)).await
    }

    async fn tags(
        &self,
        name: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<Tag>>> {
        let page = tags::page(&self.store, name, after, limit).await?;
        if page.items.is_empty() && !page.more && !names::has_entries(&self.store, name).await? {
            return Ok(None);
        }
        Ok(Some(page))
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&ReferrerKey>,
        limit: usize,
        weight: usize,
    ) -> Result<Page<Referrer>> {
        let query = referrers::ReferrerQuery {
            subject,
            artifact_type,
            limit,
            weight,
        };
        referrers::page(&self.store, name, after, query).await
    }

    async fn repositories(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RepositoryName>> {
        catalog::page(&self.store, after, limit).await
    }

    async fn ready(&self) -> Result<()> {
        let store = &self.store;
        Ok(store.api.answers(&store.keys.profile()).await?)
    }
}

/// At most `limit` of the names in a folder that begin with `beginning` and come after `after`.
/// `parse` gets each name and the size of its object in bytes; a name for which it returns `None` is
/// skipped.
///
/// # Cost
///
/// 1 request, and 1 for each thousand names where some were skipped.
async fn names_below<T>(
    store: &Store,
    folder: &str,
    beginning: &str,
    after: Option<&str>,
    limit: usize,
    parse: impl Fn(&str, u64) -> Option<T>,
) -> Result<Page<T>> {
    let prefix = format!("{folder}{beginning}");
    let mut from = after.map(|after| format!("{folder}{}", comparable(after)));
    let (mut items, mut at_once) = (Vec::new(), limit);
    loop {
        let page = store.api.list_after(&prefix, from.as_deref(), at_once);
        let (objects, is_truncated) = page.await?;
        items.extend(objects.iter().filter_map(|object| {
            let name = object.key.as_str().strip_prefix(folder)?;
            parse(name, object.size)
        }));
        let more = is_truncated || items.len() > limit;
        items.truncate(limit);
        match objects.last() {
            Some(last) if is_truncated && items.len() < limit => {
                from = Some(last.key.as_str().to_owned());
                at_once = usize::MAX;
            }
            _ => return Ok(Page { items, more }),
        }
    }
}

/// What stands before and after the same keys as `after`, which a client has sent, and can be sent
/// to a store: every character of ours is printable ASCII.
fn comparable(after: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_graphic();
    let mut plain: String = after.chars().take_while(is_plain).collect();
    if after[plain.len()..].chars().next().is_some_and(|c| c > '~') {
        plain.push('~');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sends_is_compared_as_it_is_and_sent_without_odd_characters() {
        for (after, want) in [
            ("", ""),
            ("v1.0", "v1.0"),
            ("a b", "a"),
            ("a\u{0}b", "a"),
            ("a\u{7f}", "a~"),
            ("aé", "a~"),
        ] {
            let sent = comparable(after);
            assert_eq!(sent, want, "{after:?}");
            for name in ["a", "a-b", "a0", "az", "b", "v1.0", "v1.0-rc"] {
                assert_eq!(name > after, name > sent.as_str(), "{name} and {after:?}");
            }
        }
    }
}
