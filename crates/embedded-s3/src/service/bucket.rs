//! Buckets.

use jiff::Timestamp;
use s3s::dto;
use s3s::{S3Request, S3Response};

use super::{Service, convert};
use crate::engine::{Decision, bucket};
use crate::index::Change;
use crate::refusal::Refusal;

/// The region of a bucket that names none.
const DEFAULT_REGION: &str = "us-east-1";

/// As `us-east-1` does: creating a bucket that is yours succeeds.
pub(super) async fn create_bucket(
    service: &Service,
    request: S3Request<dto::CreateBucketInput>,
) -> Result<S3Response<dto::CreateBucketOutput>, Refusal> {
    let name = request.input.bucket;
    let region = request
        .input
        .create_bucket_configuration
        .and_then(|configuration| configuration.location_constraint)
        .map(|region| region.as_str().to_owned());
    let location = Some(format!("/{name}"));
    service.engine.create_bucket(name, region).await?;
    Ok(S3Response::new(dto::CreateBucketOutput { location }))
}

pub(super) async fn delete_bucket(
    service: &Service,
    request: S3Request<dto::DeleteBucketInput>,
) -> Result<S3Response<dto::DeleteBucketOutput>, Refusal> {
    let name = request.input.bucket;
    let decide = move |index: &_| {
        if !bucket(index, &name)?.objects.is_empty() {
            return Err(Refusal::BucketNotEmpty);
        }
        Ok(Decision::change(
            Change::DeleteBucket { bucket: name },
            None,
            (),
        ))
    };
    service.engine.commit(decide).await?;
    Ok(S3Response::new(dto::DeleteBucketOutput::default()))
}

pub(super) async fn head_bucket(
    service: &Service,
    request: S3Request<dto::HeadBucketInput>,
) -> Result<S3Response<dto::HeadBucketOutput>, Refusal> {
    let region = service
        .engine
        .read_bucket(&request.input.bucket, |bucket| bucket.region.clone())?;
    Ok(S3Response::new(dto::HeadBucketOutput {
        bucket_region: Some(region.unwrap_or_else(|| DEFAULT_REGION.to_owned())),
        ..Default::default()
    }))
}

pub(super) async fn get_bucket_location(
    service: &Service,
    request: S3Request<dto::GetBucketLocationInput>,
) -> Result<S3Response<dto::GetBucketLocationOutput>, Refusal> {
    let region = service
        .engine
        .read_bucket(&request.input.bucket, |bucket| bucket.region.clone())?;
    Ok(S3Response::new(dto::GetBucketLocationOutput {
        location_constraint: region.map(dto::BucketLocationConstraint::from),
    }))
}

pub(super) async fn list_buckets(
    service: &Service,
    request: S3Request<dto::ListBucketsInput>,
) -> Result<S3Response<dto::ListBucketsOutput>, Refusal> {
    let dto::ListBucketsInput {
        prefix,
        max_buckets,
        continuation_token,
        ..
    } = request.input;
    let limit = usize::try_from(max_buckets.unwrap_or(10_000)).unwrap_or_default();
    let wanted = prefix.clone().unwrap_or_default();
    let after = continuation_token.unwrap_or_default();
    let mut buckets: Vec<(String, Timestamp)> = service.engine.read(|index| {
        index
            .buckets
            .iter()
            .filter(|(name, _)| name.starts_with(&wanted) && **name > after)
            .take(limit.saturating_add(1))
            .map(|(name, bucket)| (name.clone(), bucket.created))
            .collect()
    });
    let more = buckets.len() > limit;
    buckets.truncate(limit);
    let continuation_token = if more {
        buckets.last().map(|(name, _)| name.clone())
    } else {
        None
    };
    let describe = |(name, created)| dto::Bucket {
        name: Some(name),
        creation_date: Some(convert::timestamp(created)),
        ..Default::default()
    };
    Ok(S3Response::new(dto::ListBucketsOutput {
        buckets: Some(buckets.into_iter().map(describe).collect()),
        continuation_token,
        prefix,
        ..Default::default()
    }))
}
