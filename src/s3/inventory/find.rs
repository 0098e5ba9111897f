//! Layers by the beginning of their digest, as people type it.

use crate::digest::{Algorithm, Digest};
use crate::error::Result;
use crate::s3::store::Store;

/// Digests that begin with these hex digits, in order, at most `limit` of them.
pub(super) async fn beginning(
    store: &Store,
    algorithm: Algorithm,
    hex_prefix: &str,
    limit: usize,
) -> Result<Vec<Digest>> {
    let prefix = store.keys.layers(algorithm, hex_prefix);
    let (keys, _) = store.api.list_after(&prefix, None, limit).await?;
    let digests = keys
        .iter()
        .filter_map(|key| store.keys.digest_of(key.as_str()));
    Ok(digests.collect())
}
