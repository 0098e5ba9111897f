//! Listings of objects.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;

use super::date::CatchDate;
use super::types::ListedObject;
use super::{Api, ApiResult, Call, ETag, Page, SMALL_TIMEOUT, to_system_time};
use crate::s3::keys::Key;
use crate::telemetry::Operation;

/// What a listing is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sought {
    /// What ends a path that several keys have in common, which is then told once.
    pub(crate) delimiter: Option<&'static str>,
    /// Only what comes after this, itself left out.
    pub(crate) after: Option<String>,
    /// Where a page before said that this one begins.
    pub(crate) from: Option<String>,
    /// Keys and paths at most; S3 tells no more than a thousand.
    pub(crate) limit: Option<i32>,
}

/// S3 lists no more at a time.
const MAX_KEYS: i32 = 1000;

impl Api {
    /// One page of what is below `prefix`, as it was answered. `seen` catches what the head of the
    /// answer tells.
    pub(super) async fn listed(
        &self,
        prefix: &str,
        sought: &Sought,
        seen: &CatchDate,
    ) -> ApiResult<ListObjectsV2Output> {
        let call = Call {
            operation: Operation::ListObjectsV2,
            key: prefix,
            body: 0,
        };
        self.call(call, || {
            self.client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_delimiter(sought.delimiter.map(str::to_owned))
                .set_start_after(sought.after.clone())
                .set_continuation_token(sought.from.clone())
                .set_max_keys(sought.limit)
                .customize()
                .config_override(Self::settings(SMALL_TIMEOUT))
                .interceptor(seen.clone())
                .send()
        })
        .await
    }

    /// One page of the objects below `prefix`, in the order of their keys.
    pub(crate) async fn list(&self, prefix: &str, from: Option<String>) -> ApiResult<Page> {
        let seen = CatchDate::default();
        let sought = Sought {
            from,
            ..Sought::default()
        };
        let answer = self.listed(prefix, &sought, &seen).await?;
        Ok(Page {
            objects: objects(&answer),
            next: next_page(&answer),
            date: seen.caught(),
        })
    }

    /// Objects below `prefix` whose keys come after `after`, in the order of their keys: at most
    /// `limit` of them, and at most a thousand. Whether there are more.
    pub(crate) async fn list_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ApiResult<(Vec<ListedObject>, bool)> {
        let sought = Sought {
            after: after.map(str::to_owned),
            limit: Some(i32::try_from(limit).unwrap_or(MAX_KEYS).clamp(1, MAX_KEYS)),
            ..Sought::default()
        };
        let answer = self.listed(prefix, &sought, &CatchDate::default()).await?;
        Ok((objects(&answer), answer.is_truncated() == Some(true)))
    }

    /// A page of the paths that go on from `prefix` to the next slash, each with that at its end,
    /// in order; and where the next page begins.
    #[cfg(feature = "registry")]
    pub(crate) async fn list_level(
        &self,
        prefix: &str,
        after: Option<&str>,
        from: Option<&str>,
    ) -> ApiResult<(Vec<String>, Option<String>)> {
        let sought = Sought {
            delimiter: Some("/"),
            after: after.map(str::to_owned),
            from: from.map(str::to_owned),
            ..Sought::default()
        };
        let answer = self.listed(prefix, &sought, &CatchDate::default()).await?;
        Ok((paths(&answer), next_page(&answer)))
    }
}

fn objects(answer: &ListObjectsV2Output) -> Vec<ListedObject> {
    let objects = answer.contents().iter().filter_map(|object| {
        Some(ListedObject {
            key: Key::from_listing(object.key()?),
            size: u64::try_from(object.size()?).ok()?,
            modified: to_system_time(object.last_modified()?),
            etag: object.e_tag().map(ETag::parse),
        })
    });
    objects.collect()
}

pub(super) fn keys(answer: &ListObjectsV2Output) -> Vec<Key> {
    let keys = answer.contents().iter().filter_map(|object| object.key());
    keys.map(Key::from_listing).collect()
}

/// What several keys have in common.
pub(super) fn paths(answer: &ListObjectsV2Output) -> Vec<String> {
    let paths = answer.common_prefixes().iter();
    let paths = paths.filter_map(|path| path.prefix().map(str::to_owned));
    paths.collect()
}

/// Where the next page begins.
pub(super) fn next_page(answer: &ListObjectsV2Output) -> Option<String> {
    let next = answer.next_continuation_token();
    let next = next.filter(|_| answer.is_truncated() == Some(true));
    next.map(str::to_owned)
}
