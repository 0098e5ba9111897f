//! DELETE, of one object and of many.

use s3s::dto;
use s3s::{S3Request, S3Response};

use super::Service;
use super::convert;
use crate::checksum::Algorithm;
use crate::engine::{Decision, bucket};
use crate::index::Change;
use crate::precondition::{self, WriteConditions};
use crate::quirks::Quirks;
use crate::refusal::Refusal;

pub(super) async fn delete_object(
    service: &Service,
    request: S3Request<dto::DeleteObjectInput>,
) -> Result<S3Response<dto::DeleteObjectOutput>, Refusal> {
    let dto::DeleteObjectInput {
        bucket: name,
        key,
        if_match,
        ..
    } = request.input;
    let quirks = service.quirks;
    let conditions = conditions(if_match, quirks);
    let decide = move |index: &_| {
        let current = bucket(index, &name)?.objects.get(&key);
        precondition::may_write(
            current.map(|object| object.etag.as_str()),
            &conditions,
            quirks,
        )?;
        Ok(match current {
            Some(_) => Decision::change(Change::DeleteObject { bucket: name, key }, None, ()),
            None => Decision::answer(()),
        })
    };
    service.engine.commit(decide).await?;
    Ok(S3Response::new(dto::DeleteObjectOutput::default()))
}

fn conditions(if_match: Option<dto::ETagCondition>, quirks: Quirks) -> WriteConditions {
    let if_match = if_match.filter(|_| !quirks.ignore_delete_conditions);
    WriteConditions {
        if_match: convert::condition(if_match),
        if_none_match: None,
    }
}

/// Whether the request says what its body must be. A web page cannot set these headers in a request to
/// another origin unless that origin allows it.
fn has_checksum(headers: &http::HeaderMap) -> bool {
    let sums = Algorithm::ALL.map(Algorithm::header);
    headers.contains_key("content-md5") || sums.iter().any(|sum| headers.contains_key(*sum))
}

/// The largest number of keys in one request.
const MAX_DELETES: usize = 1000;

pub(super) async fn delete_objects(
    service: &Service,
    request: S3Request<dto::DeleteObjectsInput>,
) -> Result<S3Response<dto::DeleteObjectsOutput>, Refusal> {
    if !has_checksum(&request.headers) {
        return Err(Refusal::MissingChecksum);
    }
    let dto::DeleteObjectsInput {
        bucket: name,
        delete,
        ..
    } = request.input;
    if delete.objects.is_empty() || delete.objects.len() > MAX_DELETES {
        return Err(Refusal::MalformedXml);
    }
    let quiet = delete.quiet.unwrap_or(false);
    let quirks = service.quirks;
    let decide = move |index: &_| {
        let mut decision = Decision::answer((Vec::new(), Vec::new()));
        let objects = &bucket(index, &name)?.objects;
        for dto::ObjectIdentifier { key, e_tag, .. } in delete.objects {
            let current = objects.get(&key);
            let conditions = conditions(e_tag.map(dto::ETagCondition::ETag), quirks);
            let etag = current.map(|object| object.etag.as_str());
            if let Err(refusal) = precondition::may_write(etag, &conditions, quirks) {
                decision.answer.1.push((key, refusal));
                continue;
            }
            if current.is_some() {
                decision.changes.push(Change::DeleteObject {
                    bucket: name.clone(),
                    key: key.clone(),
                });
            }
            decision.answer.0.push(key);
        }
        Ok(decision)
    };
    let (deleted, refused) = service.engine.commit(decide).await?;
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
    Ok(S3Response::new(dto::DeleteObjectsOutput {
        deleted: (!quiet).then(|| deleted.collect()),
        errors: Some(refused.collect()),
        ..Default::default()
    }))
}
