//! Multipart uploads, from Create to Complete or Abort.

use std::collections::BTreeMap;

use s3s::dto;
use s3s::{S3Request, S3Response};
use uuid::Uuid;

use super::Service;
use super::convert::{self, Promised};
use super::object::{checksum_type, now};
use crate::blob::NewBlob;
use crate::checksum::{Algorithm, Kind, Sum};
use crate::engine::{Decision, bucket};
use crate::index::{Bucket, Change, Object, Part, Upload};
use crate::multipart::{self, Completion, NamedPart};
use crate::precondition::{self, WriteConditions};
use crate::quirks::Quirks;
use crate::receive::{Claims, Received};
use crate::refusal::Refusal;

pub(super) async fn create_multipart_upload(
    service: &Service,
    request: S3Request<dto::CreateMultipartUploadInput>,
) -> Result<S3Response<dto::CreateMultipartUploadOutput>, Refusal> {
    let mut input = request.input;
    convert::refuse_unsupported!(input; sse_customer_algorithm, tagging, object_lock_mode);
    let named = input
        .checksum_algorithm
        .take()
        .filter(|_| !service.quirks.ignore_checksums);
    let (algorithm, kind) = checksum_of(named.as_ref(), input.checksum_type.as_ref())?;
    let upload = Upload {
        initiated: now(),
        attributes: convert::attributes!(input),
        algorithm,
        kind,
        declared: named.is_some(),
        parts: BTreeMap::new(),
    };
    let upload_id = new_upload_id(&upload);
    let output = dto::CreateMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(upload_id.clone()),
        checksum_type: named.is_some().then(|| checksum_type(kind)),
        checksum_algorithm: named,
        ..Default::default()
    };
    let decide = move |index: &_| {
        bucket(index, &input.bucket)?;
        let change = Change::CreateUpload {
            bucket: input.bucket,
            key: input.key,
            upload_id,
            upload,
        };
        Ok(Decision::change(change, None, ()))
    };
    service.engine.commit(decide).await?;
    Ok(S3Response::new(output))
}

/// What Create names, with S3's defaults.
fn checksum_of(
    algorithm: Option<&dto::ChecksumAlgorithm>,
    kind: Option<&dto::ChecksumType>,
) -> Result<(Algorithm, Kind), Refusal> {
    let unknown = |what: &str| Refusal::InvalidRequest(format!("{what} is unknown here."));
    let algorithm = match algorithm {
        None => Algorithm::Crc64Nvme,
        Some(name) => {
            Algorithm::named(name.as_str()).ok_or_else(|| unknown("The checksum algorithm"))?
        }
    };
    let kind = match kind {
        None => algorithm.usual_kind(),
        Some(name) => Kind::named(name.as_str()).ok_or_else(|| unknown("The checksum type"))?,
    };
    if !algorithm.allows(kind) {
        return Err(Refusal::InvalidRequest(format!(
            "The checksum type {} is not for {}.",
            kind.name(),
            algorithm.name()
        )));
    }
    Ok((algorithm, kind))
}

/// Begins with the time: uploads of one key are listed in the order they were begun.
fn new_upload_id(upload: &Upload) -> String {
    format!(
        "{:012x}-{}",
        upload.initiated.as_millisecond(),
        Uuid::new_v4().simple()
    )
}

/// The upload, if it is of that key.
fn find<'a>(bucket: &'a Bucket, key: &str, upload_id: &str) -> Result<&'a Upload, Refusal> {
    bucket
        .uploads
        .get(&(key.to_owned(), upload_id.to_owned()))
        .ok_or(Refusal::NoSuchUpload)
}

impl Service {
    /// Which checksum the parts of an upload have, and whether the client chose it.
    pub(super) fn upload_checksum(
        &self,
        name: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(Algorithm, bool), Refusal> {
        self.engine.read_bucket(name, |bucket| {
            find(bucket, key, upload_id).map(|upload| (upload.algorithm, upload.declared))
        })?
    }

    /// Adds a received part to its upload, if that is still there.
    pub(super) async fn put_part(
        &self,
        name: String,
        key: String,
        upload_id: String,
        part: Part,
        blob: Option<NewBlob>,
    ) -> Result<(), Refusal> {
        let decide = move |index: &_| {
            find(bucket(index, &name)?, &key, &upload_id)?;
            Ok(Decision::change(
                Change::PutPart {
                    bucket: name,
                    key,
                    upload_id,
                    part,
                },
                blob,
                (),
            ))
        };
        self.engine.commit(decide).await
    }

    /// A received body as a part.
    pub(super) fn part_of(
        &self,
        number: u16,
        received: Received,
        algorithm: Algorithm,
    ) -> (Part, Option<NewBlob>) {
        let sum = received.sum(algorithm).map(|sum| sum.value.clone());
        let Received {
            size, etag, blob, ..
        } = received;
        let part = Part {
            number,
            size,
            etag,
            modified: now(),
            sum,
            blob: blob.as_ref().map(|blob| blob.id),
        };
        (part, blob)
    }
}

pub(super) async fn upload_part(
    service: &Service,
    request: S3Request<dto::UploadPartInput>,
) -> Result<S3Response<dto::UploadPartOutput>, Refusal> {
    let S3Request {
        mut input,
        headers,
        trailing_headers,
        ..
    } = request;
    convert::refuse_unsupported!(input; sse_customer_algorithm);
    let number = multipart::part_number(input.part_number)?;
    let (algorithm, declared) =
        service.upload_checksum(&input.bucket, &input.key, &input.upload_id)?;
    let claims = Claims {
        size: convert::content_length(input.content_length)?,
        md5: input.content_md5.take(),
        sums: convert::sums!(input),
    };
    let promised = Promised::new(claims, &headers);
    let named = promised.algorithms().first().copied();
    if declared && named.is_some_and(|named| named != algorithm) && !service.quirks.ignore_checksums
    {
        return Err(Refusal::InvalidRequest(format!(
            "The upload was created with {}; the part comes with another checksum.",
            algorithm.name()
        )));
    }
    let etag = promised.part_etag();
    let received = service
        .receive(
            input.body.take(),
            promised,
            &[algorithm],
            etag,
            trailing_headers,
        )
        .await?;
    let mut output = dto::UploadPartOutput {
        e_tag: convert::etag(&received.etag),
        ..Default::default()
    };
    // S3 returns a checksum only if the client chose it.
    let returned = named
        .or(declared.then_some(algorithm))
        .and_then(|algorithm| received.sum(algorithm));
    convert::set_sum!(output, returned);
    let (part, blob) = service.part_of(number, received, algorithm);
    service
        .put_part(input.bucket, input.key, input.upload_id, part, blob)
        .await?;
    Ok(S3Response::new(output))
}

pub(super) async fn complete_multipart_upload(
    service: &Service,
    request: S3Request<dto::CompleteMultipartUploadInput>,
) -> Result<S3Response<dto::CompleteMultipartUploadOutput>, Refusal> {
    let mut input = request.input;
    convert::refuse_unsupported!(input; sse_customer_algorithm);
    let conditions = WriteConditions {
        if_match: convert::condition(input.if_match.take()),
        if_none_match: convert::condition(input.if_none_match.take()),
    };
    let asked = completion(&input)?;
    let quirks = service.quirks;
    let mut output = dto::CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        ..Default::default()
    };
    let dto::CompleteMultipartUploadInput {
        bucket: name,
        key,
        upload_id,
        ..
    } = input;
    let decide = move |index: &_| {
        let bucket = bucket(index, &name)?;
        let current = bucket.objects.get(&key);
        if let Some(object) = current
            && completed_before(object, &upload_id, quirks)
        {
            return Ok(Decision::answer(Completed::of(object)));
        }
        let upload = find(bucket, &key, &upload_id)?;
        precondition::may_write(
            current.map(|object| object.etag.as_str()),
            &conditions,
            quirks,
        )?;
        let object = completed(upload, &asked, &upload_id, quirks)?;
        let answer = Completed::of(&object);
        Ok(Decision::change(
            Change::Complete {
                bucket: name,
                key,
                upload_id,
                object,
            },
            None,
            answer,
        ))
    };
    let completed = service.engine.commit(decide).await?;
    output.e_tag = convert::etag(&completed.etag);
    output.checksum_type = completed
        .sum
        .as_ref()
        .map(|_| checksum_type(completed.kind));
    convert::set_sum!(output, &completed.sum);
    Ok(S3Response::new(output))
}

/// AWS answers a repeated Complete as it did the first: the client may not have received it.
fn completed_before(object: &Object, upload_id: &str, quirks: Quirks) -> bool {
    object.upload_id.as_deref() == Some(upload_id) && !quirks.second_complete_is_no_such_upload
}

/// The fields of an object in the answer of Complete.
struct Completed {
    etag: String,
    sum: Option<Sum>,
    kind: Kind,
}

impl Completed {
    fn of(object: &Object) -> Self {
        Self {
            etag: object.etag.clone(),
            sum: object.sum.clone(),
            kind: object.kind,
        }
    }
}

/// The object that the upload becomes.
fn completed(
    upload: &Upload,
    asked: &Completion,
    upload_id: &str,
    quirks: Quirks,
) -> Result<Object, Refusal> {
    let multipart::Assembled {
        parts,
        etag,
        size,
        sum,
    } = multipart::assemble(upload, asked, quirks)?;
    Ok(Object {
        etag,
        size,
        modified: now(),
        attributes: upload.attributes.clone(),
        sum,
        kind: upload.kind,
        parts,
        upload_id: Some(upload_id.to_owned()),
    })
}

fn completion(input: &dto::CompleteMultipartUploadInput) -> Result<Completion, Refusal> {
    let named = |part: &dto::CompletedPart| NamedPart {
        number: part.part_number.unwrap_or_default(),
        etag: part.e_tag.clone().map(dto::ETag::into_value),
        sums: convert::sums!(part),
    };
    let parts = input
        .multipart_upload
        .as_ref()
        .and_then(|upload| upload.parts.as_ref());
    let kind =
        match &input.checksum_type {
            None => None,
            Some(name) => Some(Kind::named(name.as_str()).ok_or_else(|| {
                Refusal::InvalidRequest("The checksum type is unknown here.".into())
            })?),
        };
    Ok(Completion {
        parts: parts
            .map(|parts| parts.iter().map(named).collect())
            .unwrap_or_default(),
        sums: convert::sums!(input),
        kind,
        size: input
            .mpu_object_size
            .and_then(|size| u64::try_from(size).ok()),
    })
}

pub(super) async fn abort_multipart_upload(
    service: &Service,
    request: S3Request<dto::AbortMultipartUploadInput>,
) -> Result<S3Response<dto::AbortMultipartUploadOutput>, Refusal> {
    let dto::AbortMultipartUploadInput {
        bucket: name,
        key,
        upload_id,
        ..
    } = request.input;
    let decide = move |index: &_| {
        find(bucket(index, &name)?, &key, &upload_id)?;
        Ok(Decision::change(
            Change::Abort {
                bucket: name,
                key,
                upload_id,
            },
            None,
            (),
        ))
    };
    service.engine.commit(decide).await?;
    Ok(S3Response::new(dto::AbortMultipartUploadOutput::default()))
}
