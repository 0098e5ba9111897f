//! Referrers: an entry for each manifest that has a subject, below the subject's digest, which says
//! what a descriptor of the manifest does.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::names_below;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::registry::store::{Manifest, Page, Referrer};
use crate::s3::document::Document;
use crate::s3::keys::Keys;
use crate::s3::store::Store;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    media_type: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Document for Stored {
    const WHAT: &'static str = "referrer";
    const VERSION: u32 = 1;
}

/// How many entries are read at a time.
const READS_AT_ONCE: usize = 8;

/// What a page may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within {
    pub(super) limit: usize,
    /// All of its items together, but for the first one.
    pub(super) weight: usize,
}

/// Makes a stored manifest a referrer of its subject.
pub(super) async fn put(
    store: &Store,
    name: &RepositoryName,
    subject: &Digest,
    manifest: &Manifest,
) -> Result<()> {
    let entry = Stored {
        version: Stored::VERSION,
        media_type: manifest.media_type.clone(),
        size: manifest.bytes.len() as u64,
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
    };
    let key = store.keys.referrer(name, subject, &manifest.digest);
    store.overwrite(&key, &entry).await
}

pub(super) async fn page(
    store: &Store,
    name: &RepositoryName,
    subject: &Digest,
    after: Option<&Digest>,
    within: Within,
) -> Result<Page<Referrer>> {
    let prefix = store.keys.referrers(name, subject);
    let limit = within.limit;
    let parse = |name: &str, _| Keys::digest_of_referrer(name);
    let mut after = after.cloned();
    loop {
        let from = after.as_ref().map(Keys::referrer_name);
        let listed = names_below(store, &prefix, from.as_deref(), limit, parse).await?;
        let (last, more) = (listed.items.last().cloned(), listed.more);
        let mut page = read(store, name, subject, listed.items, within.weight).await?;
        page.more |= more;
        // All of them may have gone since they were listed. A page that promises more has an item
        // to go on from.
        if !page.items.is_empty() || !page.more || limit == 0 {
            return Ok(page);
        }
        after = last;
    }
}

/// The first of these entries, as many as weigh no more than so much.
async fn read(
    store: &Store,
    name: &RepositoryName,
    subject: &Digest,
    digests: Vec<Digest>,
    weight: usize,
) -> Result<Page<Referrer>> {
    let (mut items, mut left) = (Vec::new(), weight);
    // Nothing tells the size of an entry before it is read; so the first one is read alone, and
    // then as many as there is room for if they are as the largest so far.
    let mut largest = None;
    let mut digests = digests.into_iter();
    while digests.len() > 0 {
        let fitting = largest.map_or(1, |largest: usize| left / largest.max(1));
        let batch = digests.by_ref().take(fitting.clamp(1, READS_AT_ONCE));
        let reads = batch.map(|digest| async move {
            let key = store.keys.referrer(name, subject, &digest);
            let loaded = store.load::<Stored>(&key).await?;
            Ok::<_, Error>(loaded.map(|loaded| referrer(digest, loaded.document)))
        });
        let reads = stream::iter(reads).buffered(READS_AT_ONCE);
        let read: Vec<_> = reads.try_collect().await?;
        for referrer in read.into_iter().flatten() {
            let heavy = referrer.weight();
            if heavy > left && !items.is_empty() {
                return Ok(Page { items, more: true });
            }
            left = left.saturating_sub(heavy);
            largest = largest.max(Some(heavy));
            items.push(referrer);
        }
    }
    Ok(Page { items, more: false })
}

fn referrer(digest: Digest, stored: Stored) -> Referrer {
    Referrer {
        digest,
        media_type: stored.media_type,
        size: stored.size,
        artifact_type: stored.artifact_type,
        annotations: stored.annotations,
    }
}
