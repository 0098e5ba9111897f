//! Tags: a document each, which names a digest.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::names_below;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::name::{RepositoryName, Tag};
use crate::registry::store::Page;
use crate::s3::document::Document;
use crate::s3::store::Store;

/// Which manifest a tag names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    manifest: Digest,
}

impl Document for Stored {
    const WHAT: &'static str = "tag";
    const VERSION: u32 = 1;
}

/// How many tags are read at a time, when all of a repository have to be.
const READS_AT_ONCE: usize = 8;
/// How many tags are listed at a time then.
const LISTED_AT_ONCE: usize = 1000;

pub(super) async fn put(
    store: &Store,
    name: &RepositoryName,
    tag: &Tag,
    digest: &Digest,
) -> Result<()> {
    let stored = Stored {
        version: Stored::VERSION,
        manifest: digest.clone(),
    };
    store.overwrite(&store.keys.tag(name, tag), &stored).await
}

pub(super) async fn get(store: &Store, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>> {
    let loaded = store.load::<Stored>(&store.keys.tag(name, tag)).await?;
    Ok(loaded.map(|loaded| loaded.document.manifest))
}

/// As the store has it; a tag that cannot be read names nothing.
async fn names(store: &Store, name: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<bool> {
    match store.load::<Stored>(&store.keys.tag(name, tag)).await {
        Ok(loaded) => Ok(loaded.is_some_and(|loaded| loaded.document.manifest == *digest)),
        Err(Error::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn delete(store: &Store, name: &RepositoryName, tag: &Tag) -> Result<bool> {
    let key = store.keys.tag(name, tag);
    if store.api.get_small(&key).await?.is_none() {
        return Ok(false);
    }
    store.api.delete(&key).await?;
    Ok(true)
}

/// Removes the tags that name this manifest.
pub(super) async fn delete_all_of(
    store: &Store,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<()> {
    let mut after: Option<Tag> = None;
    loop {
        let from = after.as_ref().map(Tag::as_str);
        let all = page(store, name, from, LISTED_AT_ONCE).await?;
        let last = all.items.last().filter(|_| all.more).cloned();
        let looks = all.items.into_iter().map(|tag| async move {
            let names = names(store, name, &tag, digest).await?;
            Ok::<_, Error>(names.then(|| store.keys.tag(name, &tag)))
        });
        let looks = stream::iter(looks).buffer_unordered(READS_AT_ONCE);
        let keys: Vec<_> = looks
            .try_filter_map(async |key| Ok(key))
            .try_collect()
            .await?;
        store
            .api
            .delete_all(&keys, store.profile.batch_delete)
            .await?;
        after = last;
        if after.is_none() {
            return Ok(());
        }
    }
}

pub(super) async fn page(
    store: &Store,
    name: &RepositoryName,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Tag>> {
    let prefix = store.keys.tags(name);
    names_below(store, &prefix, after, limit, |tag, _| tag.parse().ok()).await
}
