//! Listings of objects.

use super::date::CatchDate;
use super::types::ListedObject;
use super::{Api, ApiResult, Call, ETag, Page, SMALL_TIMEOUT, to_system_time};
use crate::s3::keys::Key;
use crate::telemetry::Operation;

impl Api {
    /// One page of the objects below `prefix`, in the order of their keys.
    pub(crate) async fn list(&self, prefix: &str, from: Option<String>) -> ApiResult<Page> {
        let call = Call {
            operation: Operation::ListObjectsV2,
            key: prefix,
            body: 0,
        };
        let date = CatchDate::default();
        let answer = self
            .call(call, || {
                self.client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(prefix)
                    .set_continuation_token(from.clone())
                    .customize()
                    .config_override(Self::settings(SMALL_TIMEOUT))
                    .interceptor(date.clone())
                    .send()
            })
            .await?;
        let objects = answer
            .contents()
            .iter()
            .filter_map(|object| {
                Some(ListedObject {
                    key: Key::from_listing(object.key()?),
                    modified: to_system_time(object.last_modified()?),
                    etag: object.e_tag().map(ETag::parse),
                })
            })
            .collect();
        let next = answer
            .next_continuation_token()
            .filter(|_| answer.is_truncated() == Some(true));
        Ok(Page {
            objects,
            next: next.map(str::to_owned),
            date: date.caught(),
        })
    }

    /// Keys below `prefix` that come after `after`, in order: at most `limit` of them, and at most
    /// a thousand. Whether there are more.
    pub(crate) async fn list_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ApiResult<(Vec<Key>, bool)> {
        let call = Call {
            operation: Operation::ListObjectsV2,
            key: prefix,
            body: 0,
        };
        let answer = self
            .call(call, || {
                self.client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(prefix)
                    .set_start_after(after.map(str::to_owned))
                    .max_keys(i32::try_from(limit).unwrap_or(MAX_KEYS).clamp(1, MAX_KEYS))
                    .customize()
                    .config_override(Self::settings(SMALL_TIMEOUT))
                    .send()
            })
            .await?;
        let keys = answer.contents().iter().filter_map(|object| object.key());
        let keys = keys.map(Key::from_listing).collect();
        Ok((keys, answer.is_truncated() == Some(true)))
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
        let call = Call {
            operation: Operation::ListObjectsV2,
            key: prefix,
            body: 0,
        };
        let answer = self
            .call(call, || {
                self.client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(prefix)
                    .delimiter("/")
                    .set_start_after(after.map(str::to_owned))
                    .set_continuation_token(from.map(str::to_owned))
                    .customize()
                    .config_override(Self::settings(SMALL_TIMEOUT))
                    .send()
            })
            .await?;
        let paths = answer.common_prefixes().iter();
        let paths = paths.filter_map(|path| path.prefix().map(str::to_owned));
        let next = answer
            .next_continuation_token()
            .filter(|_| answer.is_truncated() == Some(true));
        Ok((paths.collect(), next.map(str::to_owned)))
    }
}

/// S3 lists no more at a time.
const MAX_KEYS: i32 = 1000;
