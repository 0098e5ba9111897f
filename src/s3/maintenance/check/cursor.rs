//! Where the next check reads on.

use serde::{Deserialize, Serialize};

use super::Check;
use crate::error::{Error, Result};
use crate::s3::bucket::StoredDocument;
use crate::s3::format::document::Document;
use crate::s3::wire::ETag;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    version: u32,
    /// The first 32 bits of the digest of the first layer that was not read.
    next: u64,
}

impl Document for Cursor {
    const WHAT: &'static str = "cursor of the check";
    const VERSION: u32 = 1;
}

/// Where to begin. A cursor that cannot be read begins again.
pub(super) async fn load(check: &Check<'_>) -> Result<(u64, Option<ETag>)> {
    let key = check.store.keys.check_cursor();
    match check.store.read::<Cursor>(&key).await {
        Ok(Some(StoredDocument { document, etag, .. })) => {
            Ok((document.map_or(0, |cursor| cursor.next), Some(etag)))
        }
        Ok(None) => Ok((0, None)),
        // It stays, as a write without its ETag is refused.
        Err(error @ Error::NewerVersion { .. }) => {
            tracing::warn!(%key, %error, "began with the first layer");
            Ok((0, None))
        }
        Err(error) => Err(error),
    }
}

/// Another check may have stored its own meanwhile: either will do.
pub(super) async fn store(check: &Check<'_>, next: u64, before: Option<&ETag>) -> Result<()> {
    let cursor = Cursor {
        version: Cursor::VERSION,
        next,
    };
    let key = check.store.keys.check_cursor();
    check.store.put_over(&key, &cursor, before).await?;
    Ok(())
}
