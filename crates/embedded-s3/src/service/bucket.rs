//! Buckets.

use s3s::dto;

use super::{Service, convert};
use crate::listing::{self, Marker, Query};
use crate::model::Bucket;
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
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: None,
        after: Marker::of_name(input.continuation_token.unwrap_or_default()),
        limit,
    };
    let page = move |store: &Snapshot| listing::page(|from| store.buckets(from), &query);
    let page = service.engine.read(page).await?;
    let describe = |(place, bucket): (Marker, Bucket)| dto::Bucket {
        name: Some(place.name),
        creation_date: Some(convert::timestamp(bucket.created)),
        ..Default::default()
    };
    Ok(dto::ListBucketsOutput {
        buckets: Some(page.items.into_iter().map(describe).collect()),
        continuation_token: page.next.map(|next| next.name),
        prefix: input.prefix,
        ..Default::default()
    })
}
