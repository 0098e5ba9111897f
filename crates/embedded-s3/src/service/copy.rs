//! Copies: a GET and a PUT inside the store. The bytes are read and hashed once more, since the
//! ETag of a copy is the MD5 of its bytes.

use std::ops::Range;

use futures_util::TryStreamExt as _;
use s3s::dto;

use super::Service;
use super::convert;
use super::object::plain_object;
use super::upload::part_of;
use crate::checksum::{Algorithm, Sum};
use crate::engine::PinnedPart;
use crate::model::Object;
use crate::multipart::{self, MAX_BODY};
use crate::precondition::{self, ReadConditions, WriteConditions};
use crate::receive::{EtagSource, ReceivedBody, receive};
use crate::refusal::Refusal;
use crate::send::OutgoingBody;

/// The object that is copied from, if its conditions hold.
async fn source(
    service: &Service,
    source: &dto::CopySource,
    conditions: &ReadConditions,
) -> Result<(Object, Vec<PinnedPart>), Refusal> {
    let dto::CopySource::Bucket {
        bucket,
        key,
        version_id: None,
    } = source
    else {
        return Err(Refusal::NotImplemented(
            "This store copies only from <bucket>/<key>.".into(),
        ));
    };
    let (object, parts) = service.engine.pinned(bucket, key).await?;
    match precondition::may_read(&object.etag, object.modified.as_second(), conditions) {
        // A copy has no 304.
        Err(Refusal::NotModified(_)) => Err(Refusal::PreconditionFailed),
        Err(refusal) => Err(refusal),
        Ok(()) => Ok((object, parts)),
    }
}

/// Receives bytes that are stored already.
async fn receive_again(
    service: &Service,
    parts: Vec<PinnedPart>,
    range: Range<u64>,
    algorithm: Algorithm,
) -> Result<ReceivedBody, Refusal> {
    let body = OutgoingBody::new(parts, range)?.map_err(Refusal::from);
    receive(&service.engine, body, &[algorithm], EtagSource::Md5).await
}

/// Takes the conditions out of either copy.
macro_rules! source_conditions {
    ($input:expr) => {
        ReadConditions {
            if_match: $input.copy_source_if_match.take(),
            if_none_match: $input.copy_source_if_none_match.take(),
            if_modified_since: convert::seconds($input.copy_source_if_modified_since.take()),
            if_unmodified_since: convert::seconds($input.copy_source_if_unmodified_since.take()),
        }
    };
}

pub(super) async fn copy_object(
    service: &Service,
    mut input: dto::CopyObjectInput,
) -> Result<dto::CopyObjectOutput, Refusal> {
    convert::refuse_unsupported!(input; sse_customer_algorithm, copy_source_sse_customer_algorithm, tagging);
    service.engine.bucket(&input.bucket).await?;
    let (object, parts) = source(service, &input.copy_source, &source_conditions!(input)).await?;
    if object.size > MAX_BODY {
        return Err(Refusal::InvalidRequest(
            "The source is larger than 5 GiB.".into(),
        ));
    }
    let replace = input
        .metadata_directive
        .as_ref()
        .is_some_and(|directive| directive.as_str() == dto::MetadataDirective::REPLACE);
    if !replace && is_itself(&input) {
        return Err(Refusal::InvalidRequest(
            "An object is copied to itself only to change its metadata.".into(),
        ));
    }
    let attributes = if replace {
        convert::attributes!(input)
    } else {
        object.attributes.clone()
    };
    let algorithm = copied_algorithm(&input, &object)?;
    let received = receive_again(service, parts, 0..object.size, algorithm).await?;
    let (copy, blob) = plain_object(received, attributes, algorithm, service.quirks);
    let mut result = dto::CopyObjectResult {
        e_tag: convert::etag(&copy.etag),
        last_modified: Some(convert::timestamp(copy.modified)),
        ..Default::default()
    };
    convert::set_object_sum!(result, copy);
    service
        .put(
            input.bucket,
            input.key,
            copy,
            blob,
            WriteConditions::default(),
        )
        .await?;
    Ok(dto::CopyObjectOutput {
        copy_object_result: Some(result),
        ..Default::default()
    })
}

fn is_itself(input: &dto::CopyObjectInput) -> bool {
    matches!(&input.copy_source, dto::CopySource::Bucket { bucket, key, .. }
        if **bucket == *input.bucket && **key == *input.key)
}

/// The checksum that the copy gets: the requested one, else that of the source.
fn copied_algorithm(input: &dto::CopyObjectInput, source: &Object) -> Result<Algorithm, Refusal> {
    let named = convert::algorithm(input.checksum_algorithm.as_ref())?;
    let of_source = source.sum.as_ref().map(|sum: &Sum| sum.algorithm);
    Ok(named.or(of_source).unwrap_or(Algorithm::Crc64Nvme))
}

pub(super) async fn upload_part_copy(
    service: &Service,
    mut input: dto::UploadPartCopyInput,
) -> Result<dto::UploadPartCopyOutput, Refusal> {
    convert::refuse_unsupported!(input; sse_customer_algorithm, copy_source_sse_customer_algorithm);
    let number = multipart::part_number(input.part_number)?;
    let upload = service
        .upload(&input.bucket, &input.key, &input.upload_id)
        .await?;
    let algorithm = upload.algorithm;
    let (object, parts) = source(service, &input.copy_source, &source_conditions!(input)).await?;
    let range = copied_range(input.copy_source_range.as_deref(), object.size)?;
    let received = receive_again(service, parts, range, algorithm).await?;
    let (part, blob) = part_of(number, received, algorithm);
    let mut result = dto::CopyPartResult {
        e_tag: convert::etag(&part.etag),
        last_modified: Some(convert::timestamp(part.modified)),
        ..Default::default()
    };
    let returned = part
        .sum
        .clone()
        .filter(|_| upload.declared)
        .map(|value| Sum { algorithm, value });
    convert::set_sum!(result, &returned);
    service
        .put_part(input.bucket, input.key, input.upload_id, part, blob)
        .await?;
    Ok(dto::UploadPartCopyOutput {
        copy_part_result: Some(result),
        ..Default::default()
    })
}

/// `bytes=first-last`, both given and inside the source.
fn copied_range(range: Option<&str>, size: u64) -> Result<Range<u64>, Refusal> {
    let range = match range {
        None => 0..size,
        Some(text) => match dto::Range::parse(text) {
            Ok(dto::Range::Int {
                first,
                last: Some(last),
            }) if last < size => first..last + 1,
            Ok(dto::Range::Int { last: Some(_), .. }) => return Err(Refusal::InvalidRange),
            _ => {
                return Err(Refusal::InvalidArgument(
                    "The x-amz-copy-source-range must be bytes=first-last.".into(),
                ));
            }
        },
    };
    if range.end - range.start > MAX_BODY {
        return Err(Refusal::EntityTooLarge);
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_ranges() {
        for (range, want) in [
            (None, Some(0..100)),
            (Some("bytes=0-99"), Some(0..100)),
            (Some("bytes=10-19"), Some(10..20)),
            (Some("bytes=0-100"), None),
            (Some("bytes=10-"), None),
            (Some("bytes=-10"), None),
            (Some("10-19"), None),
        ] {
            assert_eq!(copied_range(range, 100).ok(), want, "{range:?}");
        }
    }
}
