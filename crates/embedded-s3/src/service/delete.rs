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
    let delete = move |store: &mut Transaction| {
        delete(store, &input.bucket, &input.key, input.if_match, quirks)
    };
    service.engine.commit(delete).await?;
    Ok(dto::DeleteObjectOutput::default())
}

/// Deletes an object, if the condition holds.
fn delete(
    store: &mut Transaction,
    bucket: &str,
    key: &str,
    if_match: Option<dto::ETagCondition>,
    quirks: Quirks,
) -> Result<(), Refusal> {
    let conditions = WriteConditions {
        if_match: convert::condition(if_match.filter(|_| !quirks.ignore_delete_conditions)),
        if_none_match: None,
    };
    check_conditions(store, bucket, key, &conditions, quirks)?;
    store.delete_object(bucket, key)
}

/// Whether the request says what its body must be. A web page cannot set these headers in a request to
/// another origin unless that origin allows it.
fn has_checksum(headers: &http::HeaderMap) -> bool {
    let sums = Algorithm::ALL.map(Algorithm::header);
    headers.contains_key("content-md5") || sums.iter().any(|sum| headers.contains_key(*sum))
}

pub(super) async fn delete_objects(
    service: &Service,
    request: S3Request<dto::DeleteObjectsInput>,
) -> Result<dto::DeleteObjectsOutput, Refusal> {
    if !has_checksum(&request.headers) {
        return Err(Refusal::MissingChecksum);
    }
    let dto::DeleteObjectsInput { bucket, delete, .. } = request.input;
    if delete.objects.is_empty() || delete.objects.len() > MAX_DELETES {
        return Err(Refusal::MalformedXml);
    }
    let is_quiet = delete.quiet.unwrap_or(false);
    let quirks = service.quirks;
    let delete_all = move |store: &mut Transaction| {
        store.bucket(&bucket)?;
        let (mut deleted, mut refused) = (Vec::new(), Vec::new());
        for dto::ObjectIdentifier { key, e_tag, .. } in delete.objects {
            let if_match = e_tag.map(dto::ETagCondition::ETag);
            match self::delete(store, &bucket, &key, if_match, quirks) {
                Ok(()) => deleted.push(key),
                Err(refusal) => refused.push((key, refusal.or_failure()?)),
            }
        }
        Ok((deleted, refused))
    };
    let (deleted, refused) = service.engine.commit(delete_all).await?;
    let deleted = deleted.into_iter().map(|key| dto::DeletedObject {
        key: Some(key),
        ..Default::default()
    });
    let refused = refused.into_iter().map(|(key, refusal)| {
        let error = s3s::S3Error::from(refusal);
        dto::Error {
            key: Some(key),
            code: Some(error.code().as_str().to_owned()),
            message: error.message().map(str::to_owned),
            version_id: None,
        }
    });
    Ok(dto::DeleteObjectsOutput {
        deleted: (!is_quiet).then(|| deleted.collect()),
        errors: Some(refused.collect()),
        ..Default::default()
    })
}
