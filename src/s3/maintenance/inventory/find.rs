//! Layers by the beginning of their digest, as people type it.

use crate::error::Result;
use crate::s3::bucket::Store;
use s3layers_tarsum::{Algorithm, Digest};

/// Digests that begin with these hex digits, in order, at most `limit` of them.
pub(super) async fn beginning(
    store: &Store,
    algorithm: Algorithm,
    hex_prefix: &str,
    limit: usize,
) -> Result<Vec<Digest>> {
    let prefix = store.keys.layers(algorithm, hex_prefix);
    let (mut digests, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .api
            .list_after(&prefix, after.as_deref(), limit)
            .await?;
        let (objects, more) = page;
        let present = objects.iter().filter(|object| !object.is_tombstone());
        digests.extend(present.filter_map(|object| store.keys.digest_of(object.key.as_str())));
        digests.truncate(limit);
        after = objects.last().map(|object| object.key.to_string());
        // A page may hold tombstones alone.
        if !more || digests.len() == limit {
            return Ok(digests);
        }
    }
}
