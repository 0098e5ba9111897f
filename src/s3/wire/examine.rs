//! Requests that only an examination makes: listings with every setting, and the settings of the
//! bucket.

use std::time::SystemTime;

use aws_sdk_s3::types::{
    BucketVersioningStatus, ExpirationStatus, LifecycleRule as SdkRule, TransitionStorageClass,
};

use super::{Api, ApiError, ApiResult, Call, SMALL_TIMEOUT};
use crate::s3::format::keys::Key;
use crate::s3::wire::listing::{self, Sought};
use crate::telemetry::Operation;

/// A page of a listing, in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) keys: Vec<Key>,
    pub(crate) next: Option<String>,
    /// The store's clock, if it reports one.
    pub(crate) date: Option<SystemTime>,
    /// The name that the store reports.
    pub(crate) server: Option<String>,
    /// The host of the request.
    pub(crate) host: Option<String>,
}

/// A rule by which the store removes or moves objects by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LifecycleRule {
    pub(crate) id: String,
    pub(crate) prefix: String,
    /// Objects are removed at some time.
    pub(crate) expires: bool,
    /// Objects are moved to where they cannot be read without being restored.
    pub(crate) archives: bool,
    /// Incomplete multipart uploads are aborted after so many days.
    pub(crate) aborts_after_days: Option<u32>,
    /// Versions that were replaced are removed at some time.
    pub(crate) removes_old_versions: bool,
}

/// Whether the bucket keeps replaced objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versioning {
    Never,
    On,
    Suspended,
}

impl Api {
    /// One page of the objects below `prefix`.
    pub(crate) async fn list_as(&self, prefix: &str, sought: &Sought) -> ApiResult<Listing> {
        let (answer, seen) = self.listed(prefix, sought).await?;
        Ok(Listing {
            keys: listing::keys(&answer),
            next: listing::next_page(&answer),
            date: seen.date,
            server: seen.server,
            host: seen.host,
        })
    }

    /// The rules of the bucket that are in force.
    pub(crate) async fn lifecycle(&self) -> ApiResult<Vec<LifecycleRule>> {
        let call = Call::of(Operation::GetBucketLifecycleConfiguration, "");
        let sent = self.call(call, || {
            self.client
                .get_bucket_lifecycle_configuration()
                .bucket(&self.bucket)
                .customize()
                .config_override(Self::settings(SMALL_TIMEOUT))
                .send()
        });
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(error) if says_none(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let in_force = |rule: &&SdkRule| *rule.status() == ExpirationStatus::Enabled;
        Ok(answer
            .rules()
            .iter()
            .filter(in_force)
            .filter_map(rule)
            .collect())
    }

    pub(crate) async fn versioning(&self) -> ApiResult<Versioning> {
        let call = Call::of(Operation::GetBucketVersioning, "");
        let answer = self
            .call(call, || {
                self.client
                    .get_bucket_versioning()
                    .bucket(&self.bucket)
                    .customize()
                    .config_override(Self::settings(SMALL_TIMEOUT))
                    .send()
            })
            .await?;
        Ok(match answer.status() {
            Some(BucketVersioningStatus::Enabled) => Versioning::On,
            Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
            _ => Versioning::Never,
        })
    }
}

/// A bucket without rules is an error to S3.
fn says_none(error: &ApiError) -> bool {
    let answer = error.storage().answer();
    answer.is_some_and(|answer| answer.ends_with("NoSuchLifecycleConfiguration"))
}

/// A rule as far as it may touch us; `None` where it is about objects with tags, which ours never
/// have.
fn rule(rule: &SdkRule) -> Option<LifecycleRule> {
    let filter = rule.filter();
    let and = filter.and_then(|filter| filter.and());
    let is_tagged = filter.is_some_and(|filter| filter.tag().is_some())
        || and.is_some_and(|and| !and.tags().is_empty());
    if is_tagged {
        return None;
    }
    // Where rules stood before there were filters.
    #[allow(deprecated)]
    let of_old = rule.prefix();
    let prefix = filter
        .and_then(|filter| filter.prefix())
        .or_else(|| and.and_then(|and| and.prefix()))
        .or(of_old);
    let expires = rule.expiration();
    let expires = expires.is_some_and(|when| when.days().is_some() || when.date().is_some());
    let archives = rule.transitions().iter().any(|transition| {
        matches!(
            transition.storage_class(),
            Some(TransitionStorageClass::Glacier | TransitionStorageClass::DeepArchive)
        )
    });
    let aborts = rule.abort_incomplete_multipart_upload();
    Some(LifecycleRule {
        id: rule.id().unwrap_or("without a name").to_owned(),
        prefix: prefix.unwrap_or_default().to_owned(),
        expires,
        archives,
        aborts_after_days: aborts
            .and_then(|aborts| aborts.days_after_initiation())
            .and_then(|days| u32::try_from(days).ok()),
        removes_old_versions: rule.noncurrent_version_expiration().is_some(),
    })
}
