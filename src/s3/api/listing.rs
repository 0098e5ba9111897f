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
}
