//! DELETE, of one object and of many.

use s3s::{S3Request, dto};

use super::Service;
use super::convert;
use super::object::check_conditions;
use crate::checksum::Algorithm;
use crate::precondition::WriteConditions;
use crate::quirks::Quirks;
use crate::refusal::Refusal;
use crate::tables::{Tables as _, Transaction};

/// The largest number of keys in one request.
const MAX_DELETES: usize = 1000;

pub(super) async fn delete_object(
    service: &Service,
    input: dto::DeleteObjectInput,
) -> Result<dto::DeleteObjectOutput, Refusal> {
    let quirks = service.quirks;
    let object = dto::ObjectIdentifier {
        key: input.key,
        version_id: input.version_id,
        size: input.if_match_size,
        last_modified_time: input.if_match_last_modified_time,
        ..Default::default()
    };
    let delete = move |store: &mut Transaction| {
        delete(store, &input.bucket, &object, input.if_match, quirks)
    };
    service.engine.commit(delete).await?;
    Ok(dto::DeleteObjectOutput::default())
}

/// Deletes an object, if the condition holds.
fn delete(
    store: &mut Transaction,
    bucket: &str,
    object: &dto::ObjectIdentifier,
    if_match: Option<dto::ETagCondition>,
    quirks: Quirks,
) -> Result<(), Refusal> {
    convert::refuse_unsupported!(object; size, last_modified_time);
    // In a bucket without versions this is the id of the current object.
    if object.version_id.as_deref() != Some("null") {
        convert::refuse_unsupported!(object; version_id);
    }
    let key = &object.key;
    let conditions = WriteConditions {
        if_match: if_match.filter(|_| !quirks.ignore_delete_conditions),
        if_none_match: None,
    };
    check_conditions(store, bucket, key, &conditions, quirks)?;
    store.delete_object(bucket, key)
}

/// Whether the request says what its body must be. A web page cannot set these headers in a request to
/// another origin unless that origin allows it.
fn has_checksum(headers: &http::HeaderMap) -> bool {
    let mut sums = Algorithm::ALL.into_iter().map(Algorithm::header);
    headers.contains_key("content-md5") || sums.any(|sum| headers.contains_key(sum))
}

pub(super) async fn delete_objects(
    service: &Service,
    request: S3Request<dto::DeleteObjectsInput>,
) -> Result<dto::DeleteObjectsOutput, Refusal> {
    if !has_checksum(&request.headers) {
        return Err(Refusal::MissingChecksum);
    }
    convert::algorithm(request.input.checksum_algorithm.as_ref())?;
    let dto::DeleteObjectsInput { bucket, delete, .. } = request.input;
    if delete.objects.is_empty() || delete.objects.len() > MAX_DELETES {
        return Err(Refusal::MalformedXml);
    }
    let is_quiet = delete.quiet.unwrap_or(false);
    let quirks = service.quirks;
    let delete_all = move |store: &mut Transaction| {
        store.bucket(&bucket)?;
        let (mut deleted, mut refused) = (Vec::new(), Vec::new());
        for object in delete.objects {
            let if_match = object.e_tag.clone().map(dto::ETagCondition::ETag);
            let outcome = self::delete(store, &bucket, &object, if_match, quirks);
            let (key, version_id) = (Some(object.key), object.version_id);
            match outcome {
                Ok(()) => deleted.push(dto::DeletedObject {
                    key,
                    version_id,
                    ..Default::default()
                }),
                Err(refusal) => {
                    let error = s3s::S3Error::from(refusal.or_failure()?);
                    refused.push(dto::Error {
                        key,
                        version_id,
                        code: Some(error.code().as_str().to_owned()),
                        message: error.message().map(str::to_owned),
                    });
                }
            }
        }
        Ok((deleted, refused))
    };
    let (deleted, refused) = service.engine.commit(delete_all).await?;
    Ok(dto::DeleteObjectsOutput {
        deleted: (!is_quiet).then_some(deleted),
        errors: Some(refused),
        ..Default::default()
    })
}
