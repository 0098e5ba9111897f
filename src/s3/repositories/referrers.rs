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
use crate::s3::document::{Document, encode};
use crate::s3::keys::Keys;
use crate::s3::store::Store;

#[derive(Debug, Serialize, Deserialize)]
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

    fn version(&self) -> u32 {
        self.version
    }
}

/// How many entries are read at a time.
const READS_AT_ONCE: usize = 8;

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
    let document = encode(&entry)?;
    store.overwrite(&key, document, None, |_| false).await?;
    Ok(())
}

pub(super) async fn page(
    store: &Store,
    name: &RepositoryName,
    subject: &Digest,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Page<Referrer>> {
    let prefix = store.keys.referrers(name, subject);
    let mut after = after.cloned();
    loop {
        let from = after.as_ref().map(Keys::referrer_name);
        let parse = Keys::digest_of_referrer;
        let listed = names_below(store, &prefix, from.as_deref(), limit, parse).await?;
        let (last, more) = (listed.items.last().cloned(), listed.more);
        let reads = listed.items.into_iter().map(|digest| async move {
            let key = store.keys.referrer(name, subject, &digest);
            let loaded = store.load::<Stored>(&key).await?;
            Ok::<_, Error>(loaded.map(|loaded| referrer(digest, loaded.document)))
        });
        let reads = stream::iter(reads).buffered(READS_AT_ONCE);
        let items: Vec<_> = reads
            .try_filter_map(async |one| Ok(one))
            .try_collect()
            .await?;
        // All of them may have gone since they were listed. A page that promises more has an item
        // to go on from.
        if !items.is_empty() || !more || limit == 0 {
            return Ok(Page { items, more });
        }
        after = last;
    }
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
