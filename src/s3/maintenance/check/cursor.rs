//! Where the next check reads on.

use serde::{Deserialize, Serialize};

use super::Check;
use crate::error::Result;
use crate::s3::bucket::Loaded;
use crate::s3::format::document::{Document, encode};
use crate::s3::wire::{Condition, ETag};

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
    let read = check
        .store
        .read::<Cursor>(&check.store.keys.check_cursor())
        .await?;
    Ok(match read {
        Some(Loaded { document, etag, .. }) => {
            (document.map_or(0, |cursor| cursor.next), Some(etag))
        }
        None => (0, None),
    })
}

/// Another check may have stored its own meanwhile: either will do.
pub(super) async fn store(check: &Check<'_>, next: u64, before: Option<&ETag>) -> Result<()> {
    let cursor = Cursor {
        version: Cursor::VERSION,
        next,
    };
    let condition = before.map_or(Condition::Absent, Condition::Matches);
    let key = check.store.keys.check_cursor();
    check
        .store
        .api
        .put_if(&key, encode(&cursor)?, condition)
        .await?;
    Ok(())
}
