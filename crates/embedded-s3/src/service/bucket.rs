//! Buckets.

use s3s::dto;

use super::{Service, convert};
use crate::refusal::Refusal;
use crate::tables::{Snapshot, Transaction};

/// The region of a bucket that names none.
const DEFAULT_REGION: &str = "us-east-1";

/// As `us-east-1` does: creating a bucket that is yours succeeds.
pub(super) async fn create_bucket(
    service: &Service,
    input: dto::CreateBucketInput,
) -> Result<dto::CreateBucketOutput, Refusal> {
    let region = input
        .create_bucket_configuration
        .and_then(|configuration| configuration.location_constraint)
        .map(|region| region.as_str().to_owned());
    let location = Some(format!("/{}", input.bucket));
    service.engine.create_bucket(input.bucket, region).await?;
    Ok(dto::CreateBucketOutput { location })
}

pub(super) async fn delete_bucket(
    service: &Service,
    input: dto::DeleteBucketInput,
) -> Result<dto::DeleteBucketOutput, Refusal> {
    let delete = move |store: &mut Transaction| store.delete_bucket(&input.bucket);
    service.engine.commit(delete).await?;
    Ok(dto::DeleteBucketOutput::default())
}

pub(super) async fn head_bucket(
    service: &Service,
    input: dto::HeadBucketInput,
) -> Result<dto::HeadBucketOutput, Refusal> {
    let region = service.engine.bucket(&input.bucket).await?.region;
    Ok(dto::HeadBucketOutput {
        bucket_region: Some(region.unwrap_or_else(|| DEFAULT_REGION.to_owned())),
        ..Default::default()
    })
}

pub(super) async fn get_bucket_location(
    service: &Service,
    input: dto::GetBucketLocationInput,
) -> Result<dto::GetBucketLocationOutput, Refusal> {
    let region = service.engine.bucket(&input.bucket).await?.region;
    Ok(dto::GetBucketLocationOutput {
        location_constraint: region.map(dto::BucketLocationConstraint::from),
    })
}

/// Buckets keep no versions.
pub(super) async fn get_bucket_versioning(
    service: &Service,
    input: dto::GetBucketVersioningInput,
) -> Result<dto::GetBucketVersioningOutput, Refusal> {
    service.engine.bucket(&input.bucket).await?;
    Ok(dto::GetBucketVersioningOutput::default())
}

pub(super) async fn list_buckets(
    service: &Service,
    input: dto::ListBucketsInput,
) -> Result<dto::ListBucketsOutput, Refusal> {
    let limit = usize::try_from(input.max_buckets.unwrap_or(10_000)).unwrap_or_default();
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let page = move |store: &Snapshot| {
        let rows = store.buckets(after.as_str().max(&prefix))?;
        let listed = rows.filter(|row| match row {
            Ok((name, _)) => name.starts_with(&prefix) && *name > after,
            Err(_) => true,
        });
        listed
            .take(limit.saturating_add(1))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut buckets = service.engine.read(page).await?;
    let has_more = buckets.len() > limit;
    buckets.truncate(limit);
    let last = buckets.last().filter(|_| has_more);
    let continuation_token = last.map(|(name, _)| name.clone());
    let describe = |(name, bucket): (_, crate::model::Bucket)| dto::Bucket {
        name: Some(name),
        creation_date: Some(convert::timestamp(bucket.created)),
        ..Default::default()
    };
    Ok(dto::ListBucketsOutput {
        buckets: Some(buckets.into_iter().map(describe).collect()),
        continuation_token,
        prefix: input.prefix,
        ..Default::default()
    })
}
