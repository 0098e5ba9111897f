//! All manifests of a repository, tagged or not.

use std::sync::Arc;

use futures_util::future::ready;
use futures_util::stream::{BoxStream, Stream, StreamExt as _, TryStreamExt as _};

use super::manifest_document;
use crate::contract::Manifest;
use crate::error::Result;
use crate::name::RepositoryName;
use crate::s3::S3LayerService;
use crate::s3::bucket::Store;
use crate::s3::maintenance::inventory;
use s3layers_tarsum::Digest;

/// How many manifests are read at a time: one has up to 4 MiB.
const READS_AT_ONCE: usize = 4;

/// A manifest in a listing.
#[derive(Debug)]
#[non_exhaustive]
pub struct ManifestEntry {
    /// Its digest.
    pub digest: Digest,
    /// The manifest, or why it could not be read.
    pub manifest: Result<Manifest>,
}

/// The digests of the manifests of a repository, in the order of their keys.
///
/// # Cost
///
/// 1 request for a thousand.
pub(crate) fn digests(
    store: &Arc<Store>,
    name: &RepositoryName,
) -> impl Stream<Item = Result<Digest>> + use<> {
    inventory::digests(store, store.keys.manifests(name))
}

impl S3LayerService {
    /// The manifests of a repository, whether or not a tag names them, in the order of their keys:
    /// by algorithm, then by digest. None where there is no such repository.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::Error::Storage) where the listing failed; the stream ends with it. A
    /// manifest that could not be read is an item with the reason.
    ///
    /// # Cost
    ///
    /// One request for a thousand manifests, and one for each. In memory a page, and four manifests.
    pub fn manifests_of(&self, name: &RepositoryName) -> BoxStream<'static, Result<ManifestEntry>> {
        let (store, name) = (Arc::clone(&self.store), name.clone());
        let entries = digests(&store, &name).map(move |digest| {
            let (store, name) = (Arc::clone(&store), name.clone());
            async move {
                let digest = digest?;
                let manifest = manifest_document::get(&store, &name, &digest)
                    .await
                    .transpose();
                Ok(manifest.map(|manifest| ManifestEntry { digest, manifest }))
            }
        });
        // One that was removed since it was listed is left out.
        let entries = entries.buffered(READS_AT_ONCE);
        entries.try_filter_map(|entry| ready(Ok(entry))).boxed()
    }
}
