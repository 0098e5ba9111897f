//! Manifests: a document each, which has the manifest's bytes and what a registry asks of it
//! without reading them. Its digest is in its key, and is computed on every read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Recent, referrers, tags};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::registry::store::Manifest;
use crate::s3::cache::Weigh;
use crate::s3::document::{Document, Inline, encode};
use crate::s3::keys::Key;
use crate::s3::store::Store;

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    bytes: Inline,
}

impl Document for Stored {
    const WHAT: &'static str = "manifest";
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

impl Weigh for Manifest {
    fn weight(&self) -> u64 {
        let annotations = self.annotations.iter();
        let annotations: usize = annotations
            .map(|(key, value)| key.len() + value.len())
            .sum();
        (self.bytes.len() + annotations) as u64
    }
}

/// How often a manifest that does not have its digest is read: once may have been the wire.
const READS: u32 = 2;

/// The manifests of all repositories.
pub(super) struct Manifests<'a> {
    pub(super) store: &'a Store,
    pub(super) recent: &'a Recent,
}

impl Manifests<'_> {
    pub(super) async fn put(&self, name: &RepositoryName, manifest: &Manifest) -> Result<()> {
        let stored = Stored {
            version: Stored::VERSION,
            media_type: manifest.media_type.clone(),
            subject: manifest.subject.clone(),
            artifact_type: manifest.artifact_type.clone(),
            annotations: manifest.annotations.clone(),
            bytes: Inline(manifest.bytes.clone()),
        };
        let key = self.store.keys.manifest(name, &manifest.digest);
        let ticket = self.recent.manifests.ticket(&key);
        // One that stands is the same, but for its media type: nothing to keep.
        let document = encode(&stored)?;
        self.store
            .overwrite(&key, document, None, |_| false)
            .await?;
        self.recent.manifests.wrote(ticket, &key, manifest.clone());
        match &manifest.subject {
            Some(subject) => referrers::put(self.store, name, subject, manifest).await,
            None => Ok(()),
        }
    }

    pub(super) async fn get(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Manifest>> {
        let key = self.store.keys.manifest(name, digest);
        if let Some(manifest) = self.recent.manifests.get(&key) {
            return Ok(Some(manifest));
        }
        let ticket = self.recent.manifests.ticket(&key);
        let found = self.load(&key, digest).await?;
        if let Some(manifest) = &found {
            let manifest = manifest.clone();
            self.recent.manifests.read(ticket, &key, manifest);
        }
        Ok(found)
    }

    /// The manifest as it is stored; what has not its digest is not it.
    async fn load(&self, key: &Key, digest: &Digest) -> Result<Option<Manifest>> {
        for _ in 0..READS {
            let Some(loaded) = self.store.load::<Stored>(key).await? else {
                return Ok(None);
            };
            let stored = loaded.document;
            let bytes = stored.bytes.0;
            if Digest::of(digest.algorithm(), &bytes) == *digest {
                return Ok(Some(Manifest {
                    digest: digest.clone(),
                    media_type: stored.media_type,
                    bytes,
                    subject: stored.subject,
                    artifact_type: stored.artifact_type,
                    annotations: stored.annotations,
                }));
            }
            tracing::warn!(%key, "a manifest does not have its digest; read again");
        }
        Err(Error::Damaged {
            key: key.to_string(),
            reason: "the manifest in it has another digest".to_owned(),
        })
    }

    pub(super) async fn delete(&self, name: &RepositoryName, digest: &Digest) -> Result<bool> {
        let (store, key) = (self.store, self.store.keys.manifest(name, digest));
        let subject = match self.load(&key, digest).await {
            Ok(None) => return Ok(false),
            Ok(Some(manifest)) => manifest.subject,
            // It is there, and can be removed; what it refers to cannot be known any more.
            Err(Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        tags::delete_all_of(store, self.recent, name, digest).await?;
        if let Some(subject) = subject {
            let entry = store.keys.referrer(name, &subject, digest);
            store.api.delete(&entry).await?;
        }
        let removed = store.api.delete(&key).await;
        self.recent.manifests.forget(&key);
        Ok(removed.map(|()| true)?)
    }
}
