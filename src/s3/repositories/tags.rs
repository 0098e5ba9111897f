//! Tags: a document each, which names a digest. Its size is a constant plus the first 12 bits of the
//! digest, so that a listing gives the few tags that can name a manifest. ETags would not: bucket
//! encryption makes them random.

use std::collections::{BTreeSet, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{manifest_document, names_below};
use crate::clock;
use crate::contract::Page;
use crate::error::{Error, Result};
use crate::name::{RepositoryName, Tag};
use crate::s3::bucket::{Store, StoredDocument};
use crate::s3::format::document::{Document, TOMBSTONE_SIZE, decode, encode, is_tombstone};
use crate::s3::format::keys::Key;
use crate::s3::wire::ETag;
use s3layers_tarsum::Digest;

/// Which manifest a tag names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TagDocument {
    version: u32,
    /// Fresh in every write, so that a removal never hits a later write of the same digest.
    nonce: String,
    repository: RepositoryName,
    tag: Tag,
    manifest: Digest,
    /// Makes up the size.
    padding: String,
}

impl Document for TagDocument {
    const WHAT: &'static str = "tag";
    const VERSION: u32 = 1;
}

/// The smallest size of a tag's document, in bytes, which the longest names fit in. The same in every version.
const MIN_SIZE: u64 = 1024;

/// The size of the document of a tag that names this digest.
fn size_of(digest: &Digest) -> u64 {
    let hex = digest.hex().bytes().take(3);
    let bits = hex.filter_map(|digit| char::from(digit).to_digit(16));
    MIN_SIZE + bits.fold(0, |bits, digit| bits << 4 | u64::from(digit))
}

impl TagDocument {
    fn new(repository: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<Self> {
        let mut stored = TagDocument {
            version: Self::VERSION,
            nonce: clock::new_nonce(),
            repository: repository.clone(),
            tag: tag.clone(),
            manifest: digest.clone(),
            padding: String::new(),
        };
        let length = encode(&stored)?.len() as u64;
        let missing = size_of(digest).saturating_sub(length);
        stored.padding = (0..missing).map(|_| '0').collect();
        Ok(stored)
    }

    /// Whether it was stored under this tag.
    fn check(self, key: &Key, name: &RepositoryName, tag: &Tag) -> Result<Self> {
        if self.repository == *name && self.tag == *tag {
            return Ok(self);
        }
        let reason = format!("it is the tag {} in {}", self.tag, self.repository);
        Err(Error::damaged(key, reason))
    }
}

/// The document of a tag, which may be damaged.
async fn read(
    store: &Store,
    name: &RepositoryName,
    tag: &Tag,
) -> Result<Option<StoredDocument<Result<TagDocument>>>> {
    let key = store.keys.tag(name, tag);
    let read = store.read::<TagDocument>(&key).await?;
    Ok(read.map(|mut read| {
        read.document = read
            .document
            .and_then(|stored| stored.check(&key, name, tag));
        read
    }))
}

/// How many tags are read and removed at a time.
const AT_ONCE: usize = 8;
/// How many candidates are listed at a time.
const LISTED_AT_ONCE: usize = 1000;

pub(super) async fn put(
    store: &Store,
    name: &RepositoryName,
    tag: &Tag,
    digest: &Digest,
) -> Result<()> {
    let stored = TagDocument::new(name, tag, digest)?;
    store.overwrite(&store.keys.tag(name, tag), &stored).await
}

pub(crate) async fn get(store: &Store, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>> {
    let read = read(store, name, tag).await?;
    read.map(|read| Ok(read.document?.manifest)).transpose()
}

pub(super) async fn delete(store: &Store, name: &RepositoryName, tag: &Tag) -> Result<bool> {
    let key = store.keys.tag(name, tag);
    let Some(read) = read(store, name, tag).await? else {
        return Ok(false);
    };
    store.remove(&key, &read.etag).await?;
    Ok(true)
}

/// Removes a tag, unless it names a manifest that is there. Whether it is removed.
pub(super) async fn delete_dangling(
    store: &Store,
    name: &RepositoryName,
    tag: &Tag,
) -> Result<bool> {
    let key = store.keys.tag(name, tag);
    let Some(read) = read(store, name, tag).await? else {
        return Ok(false);
    };
    // One that cannot be read names nothing.
    if let Ok(tag) = &read.document
        && manifest_document::read(store, name, &tag.manifest)
            .await?
            .is_some()
    {
        return Ok(false);
    }
    store.remove_judged(&key, &read.etag).await
}

/// A tag as it was read.
#[derive(Debug)]
pub(crate) struct NamedTag {
    pub(crate) tag: Tag,
    pub(crate) manifest: Digest,
    key: Key,
    etag: ETag,
}

/// The tags that name one of these manifests.
pub(crate) async fn tags_of(
    store: &Store,
    name: &RepositoryName,
    digests: &BTreeSet<Digest>,
) -> Result<Vec<NamedTag>> {
    let folder = store.keys.tags(name);
    let sizes: HashSet<u64> = digests.iter().map(size_of).collect();
    let candidate = |tag: &str, listed| tag.parse().ok().filter(|_| sizes.contains(&listed));
    let (mut all, mut after): (_, Option<Tag>) = (Vec::new(), None);
    loop {
        let from = after.as_ref().map(Tag::as_str);
        let listed = names_below(store, &folder, "", from, LISTED_AT_ONCE, candidate).await?;
        after = listed.items.last().filter(|_| listed.more).cloned();
        let reads = listed.items.into_iter().map(async |tag| {
            Ok::<_, Error>(match read(store, name, &tag).await? {
                Some(StoredDocument {
                    document: Ok(TagDocument { manifest, .. }),
                    etag,
                    ..
                }) if digests.contains(&manifest) => Some(NamedTag {
                    key: store.keys.tag(name, &tag),
                    tag,
                    manifest,
                    etag,
                }),
                // One that cannot be read names nothing.
                _ => None,
            })
        });
        let reads = stream::iter(reads.collect::<Vec<_>>()).buffered(AT_ONCE);
        let read: Vec<_> = reads.try_collect().await?;
        all.extend(read.into_iter().flatten());
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Removes tags that were read. One that is put again meanwhile stays.
pub(super) async fn remove(store: &Store, named: &[NamedTag]) -> Result<()> {
    let removals = stream::iter(named).map(Ok::<_, Error>);
    let removals = removals.try_for_each_concurrent(AT_ONCE, |named| async move {
        store.remove(&named.key, &named.etag).await
    });
    removals.await
}

/// Makes a tag name a manifest, unless it names another one. Whether it names this one now.
pub(super) async fn put_if_absent(
    store: &Store,
    name: &RepositoryName,
    tag: &Tag,
    digest: &Digest,
) -> Result<bool> {
    let key = store.keys.tag(name, tag);
    let document = encode(&TagDocument::new(name, tag, digest)?)?;
    let put = store.replace(&key, None, |held| {
        let is_absent = held.is_none_or(|held| is_tombstone(&key, &held.bytes));
        // A deletion that has read the tag before its image was brought back must not find it as it was.
        let names_it = |tag: TagDocument| tag.manifest == *digest;
        let has_it = held.is_some_and(|held| decode(&key, &held.bytes).is_ok_and(names_it));
        Ok((is_absent || has_it).then(|| document.clone()))
    });
    put.await?;
    Ok(get(store, name, tag).await?.as_ref() == Some(digest))
}

pub(super) async fn page(
    store: &Store,
    name: &RepositoryName,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Tag>> {
    let folder = store.keys.tags(name);
    let parse = |tag: &str, size| tag.parse().ok().filter(|_| size != TOMBSTONE_SIZE);
    names_below(store, &folder, "", after, limit, parse).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3layers_tarsum::Algorithm;

    #[test]
    fn size_of_a_tag_gives_12_bits_of_its_digest() {
        let longest = ("r".repeat(255), "t".repeat(128));
        for (algorithm, hex, want) in [
            (Algorithm::Sha256, "000", 1024),
            (Algorithm::Sha256, "fff", 1024 + 4095),
            (Algorithm::Sha512, "000", 1024),
            (Algorithm::Sha512, "01f", 1024 + 31),
        ] {
            let hex = format!("{hex:0<length$}", length = algorithm.hex_len());
            let digest: Digest = format!("{algorithm}:{hex}").parse().unwrap();
            for (name, tag) in [("a", "b"), (&longest.0, &longest.1)] {
                let (name, tag) = (name.parse().unwrap(), tag.parse().unwrap());
                let stored = TagDocument::new(&name, &tag, &digest).unwrap();
                let size = encode(&stored).unwrap().len() as u64;
                assert_eq!((size, size_of(&digest)), (want, want), "{digest}");
            }
        }
    }
}
