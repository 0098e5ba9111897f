//! Tags: a document each, which names a digest.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{Recent, names_below};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::name::{RepositoryName, Tag};
use crate::registry::store::Page;
use crate::s3::api::ETag;
use crate::s3::cache::Weigh;
use crate::s3::document::{Document, encode};
use crate::s3::store::Store;

/// Which manifest a tag names.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    manifest: Digest,
}

impl Document for Stored {
    const WHAT: &'static str = "tag";
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

/// A tag as it stood a moment ago.
#[derive(Clone, Debug)]
pub(super) struct Named {
    manifest: Digest,
    etag: ETag,
}

impl Weigh for Named {
    fn weight(&self) -> u64 {
        256
    }
}

/// How many tags are read at a time, when all of a repository have to be.
const READS_AT_ONCE: usize = 8;
/// How many tags are listed at a time then.
const LISTED_AT_ONCE: usize = 1000;

pub(super) async fn put(
    store: &Store,
    recent: &Recent,
    name: &RepositoryName,
    tag: &Tag,
    digest: &Digest,
) -> Result<()> {
    let key = store.keys.tag(name, tag);
    let (known, ticket) = (recent.tags.get(&key), recent.tags.ticket(&key));
    let manifest = digest.clone();
    let version = Stored::VERSION;
    let document = encode(&Stored { version, manifest })?;
    let known = known.map(|known| known.etag);
    // Whatever it names, this call is the later one.
    let written = store.overwrite(&key, document, known, |_| false).await;
    match written {
        Ok(Some(etag)) => {
            let manifest = digest.clone();
            recent.tags.wrote(ticket, &key, Named { manifest, etag });
            Ok(())
        }
        other => {
            recent.tags.forget(&key);
            other.map(drop)
        }
    }
}

pub(super) async fn get(
    store: &Store,
    recent: &Recent,
    name: &RepositoryName,
    tag: &Tag,
) -> Result<Option<Digest>> {
    let key = store.keys.tag(name, tag);
    if let Some(named) = recent.tags.get(&key) {
        return Ok(Some(named.manifest));
    }
    let ticket = recent.tags.ticket(&key);
    let Some(loaded) = store.load::<Stored>(&key).await? else {
        return Ok(None);
    };
    let (manifest, etag) = (loaded.document.manifest, loaded.etag);
    let named = Named {
        manifest: manifest.clone(),
        etag,
    };
    recent.tags.read(ticket, &key, named);
    Ok(Some(manifest))
}

/// As the store has it; a tag that cannot be read names nothing.
async fn names(store: &Store, name: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<bool> {
    match store.load::<Stored>(&store.keys.tag(name, tag)).await {
        Ok(loaded) => Ok(loaded.is_some_and(|loaded| loaded.document.manifest == *digest)),
        Err(Error::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn delete(
    store: &Store,
    recent: &Recent,
    name: &RepositoryName,
    tag: &Tag,
) -> Result<bool> {
    let key = store.keys.tag(name, tag);
    if store.api.get_small(&key).await?.is_none() {
        recent.tags.forget(&key);
        return Ok(false);
    }
    let removed = store.api.delete(&key).await;
    recent.tags.forget(&key);
    Ok(removed.map(|()| true)?)
}

/// Removes the tags that name this manifest.
pub(super) async fn delete_all_of(
    store: &Store,
    recent: &Recent,
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
        let removed = store
            .api
            .delete_all(&keys, store.profile.batch_delete)
            .await;
        keys.iter().for_each(|key| recent.tags.forget(key));
        removed?;
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
    names_below(store, &prefix, after, limit, |tag| tag.parse().ok()).await
}
