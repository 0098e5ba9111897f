//! Listings of objects.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::Object;

use super::{Answered, Api, ApiError, ApiResult, Call, ETag, Page, SMALL_TIMEOUT, to_system_time};
use crate::error::StorageErrorKind;
use crate::s3::format::keys::Key;
use crate::s3::wire::types::ListedObject;
use crate::s3::wire::witness::Seen;
use crate::telemetry::Operation;

/// What a listing is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sought {
    /// Only what comes after this, itself left out.
    pub(crate) after: Option<String>,
    /// Where a page before said that this one begins.
    pub(crate) from: Option<String>,
    /// Keys at most; S3 lists no more than a thousand.
    pub(crate) limit: Option<i32>,
}

/// S3 lists no more at a time.
const MAX_KEYS: i32 = 1000;

impl Api {
    /// One page of what is below `prefix`, as it was answered.
    pub(super) async fn listed(
        &self,
        prefix: &str,
        sought: &Sought,
    ) -> ApiResult<(ListObjectsV2Output, Seen)> {
        let call = Call::of(Operation::ListObjectsV2, prefix);
        let sent = self.call_attempted(call, || {
            self.client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_start_after(sought.after.clone())
                .set_continuation_token(sought.from.clone())
                .set_max_keys(sought.limit)
                .customize()
                .config_override(Self::settings(SMALL_TIMEOUT))
                .send()
        });
        let Answered { answer, seen, .. } = sent.await?;
        let next = answer.next_continuation_token();
        let is_cut = answer
            .is_truncated()
            .ok_or_else(|| call.incomplete("IsTruncated"))?;
        if is_cut && (next.is_none() || next == sought.from.as_deref()) {
            let why = "the listing does not get on: it has more pages, and names no next one";
            return Err(refused(prefix, why));
        }
        Ok((answer, seen))
    }

    /// One page of the objects below `prefix`, in the order of their keys.
    pub(crate) async fn list(&self, prefix: &str, from: Option<String>) -> ApiResult<Page> {
        let sought = Sought {
            from,
            ..Sought::default()
        };
        let (answer, seen) = self.listed(prefix, &sought).await?;
        Ok(Page {
            objects: objects(&answer, prefix)?,
            next: next_page(&answer),
            date: seen.date,
        })
    }

    /// Objects below `prefix` whose keys come after `after`, in the order of their keys: at most
    /// `limit` of them, and at most a thousand. Whether there are more; then there is one at least.
    ///
    /// # Errors
    ///
    /// Where the store lists out of order, and there are more: the next page would leave some out.
    pub(crate) async fn list_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ApiResult<(Vec<ListedObject>, bool)> {
        let mut sought = Sought {
            after: after.map(str::to_owned),
            limit: Some(i32::try_from(limit).unwrap_or(MAX_KEYS).clamp(1, MAX_KEYS)),
            ..Sought::default()
        };
        loop {
            let (answer, _) = self.listed(prefix, &sought).await?;
            let mut objects = objects(&answer, prefix)?;
            let more = answer.is_truncated() == Some(true);
            if more && !objects.is_sorted_by_key(|object| &object.key) {
                return Err(refused(prefix, "the store lists keys out of order"));
            }
            objects.retain(|object| after < Some(object.key.as_str()));
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            objects.dedup_by(|a, b| a.key == b.key);
            // S3 may answer with fewer keys than were asked for, and with none at all.
            if !more || !objects.is_empty() {
                return Ok((objects, more));
            }
            sought.from = next_page(&answer);
        }
    }
}

fn refused(prefix: &str, why: &'static str) -> ApiError {
    let call = Call::of(Operation::ListObjectsV2, prefix);
    ApiError::Other(call.failed(StorageErrorKind::Other, why))
}

/// Those whose keys begin with the prefix that was asked for.
fn objects(answer: &ListObjectsV2Output, prefix: &str) -> ApiResult<Vec<ListedObject>> {
    let entry = |object: &Object| {
        Some(ListedObject {
            key: Key::from_listing(object.key()?),
            size: u64::try_from(object.size()?).ok()?,
            modified: to_system_time(object.last_modified()?),
            etag: object.e_tag().map(ETag::parse),
        })
    };
    let is_below = |object: &&Object| object.key().is_none_or(|key| key.starts_with(prefix));
    let below = answer.contents().iter().filter(is_below);
    let call = Call::of(Operation::ListObjectsV2, prefix);
    let entries = below.map(|object| {
        entry(object).ok_or_else(|| call.incomplete("key, size or date of an object"))
    });
    entries.collect()
}

pub(super) fn keys(answer: &ListObjectsV2Output) -> Vec<Key> {
    let keys = answer.contents().iter().filter_map(|object| object.key());
    keys.map(Key::from_listing).collect()
}

/// Where the next page begins.
pub(super) fn next_page(answer: &ListObjectsV2Output) -> Option<String> {
    let next = answer.next_continuation_token();
    let next = next.filter(|_| answer.is_truncated() == Some(true));
    next.map(str::to_owned)
}
