//! Layers by the beginning of their digest, as people type it.

use crate::error::Result;
use crate::s3::bucket::Store;
use crate::s3::format::document::TOMBSTONE_SIZE;
use s3layers_tarsum::{Algorithm, Digest};

/// Digests that begin with these hex digits, in order, at most `limit` of them.
pub(super) async fn beginning(
    store: &Store,
    algorithm: Algorithm,
    hex_prefix: &str,
    limit: usize,
) -> Result<Vec<Digest>> {
    let prefix = store.keys.layers(algorithm, hex_prefix);
    let (objects, _) = store.api.list_after(&prefix, None, limit).await?;
    let digests = objects
        .iter()
        .filter(|object| object.size != TOMBSTONE_SIZE)
        .filter_map(|object| store.keys.digest_of(object.key.as_str()));
    Ok(digests.collect())
}
