//! Multipart uploads, from Create to Complete or Abort.

use s3s::{S3Request, dto};
use uuid::Uuid;

use super::Service;
use super::convert::{self, DeclaredSums};
use super::object::check_conditions;
use crate::blob::NewBlob;
use crate::checksum::{Algorithm, Kind};
use crate::model::{Object, Part, Upload, now};
use crate::multipart::{self, Completion, NamedPart};
use crate::precondition::WriteConditions;
use crate::receive::ReceivedBody;
use crate::refusal::Refusal;
use crate::tables::{ALL, Snapshot, Tables as _, Transaction};

pub(super) async fn create_multipart_upload(
    service: &Service,
    mut input: dto::CreateMultipartUploadInput,
) -> Result<dto::CreateMultipartUploadOutput, Refusal> {
    convert::refuse_unsupported!(input; sse_customer_algorithm, tagging, object_lock_mode);
    let named = convert::algorithm(input.checksum_algorithm.as_ref())?
        .filter(|_| !service.quirks.ignore_checksums);
    let (algorithm, kind) = checksum_of(named, input.checksum_type.as_ref())?;
    let upload = Upload {
        initiated: now(),
        attributes: convert::attributes!(input),
        algorithm,
        kind,
        declared: named.is_some(),
    };
    let upload_id = new_upload_id(&upload);
    let output = dto::CreateMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(upload_id.clone()),
        checksum_type: named.is_some().then(|| convert::checksum_type(kind)),
        checksum_algorithm: named.map(convert::algorithm_name),
        ..Default::default()
    };
    let create = move |store: &mut Transaction| {
        store.create_upload(&input.bucket, &input.key, &upload_id, &upload)
    };
    service.engine.commit(create).await?;
    Ok(output)
}

/// What Create names, with S3's defaults.
fn checksum_of(
    named: Option<Algorithm>,
    kind: Option<&dto::ChecksumType>,
) -> Result<(Algorithm, Kind), Refusal> {
    let algorithm = named.unwrap_or(Algorithm::Crc64Nvme);
    let kind = convert::kind(kind)?.unwrap_or_else(|| algorithm.usual_kind());
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

impl Service {
    /// An upload as it is now.
    pub(super) async fn upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<Upload, Refusal> {
        let (bucket, key, id) = (bucket.to_owned(), key.to_owned(), upload_id.to_owned());
        let look = move |store: &Snapshot| store.upload(&bucket, &key, &id);
        self.engine.read(look).await
    }

    /// Adds a received part to its upload, if that still exists.
    pub(super) async fn put_part(
        &self,
        bucket: String,
        key: String,
        upload_id: String,
        part: Part,
        blob: Option<NewBlob>,
    ) -> Result<(), Refusal> {
        let put = move |store: &mut Transaction| {
            store.upload(&bucket, &key, &upload_id)?;
            store.put_part(&upload_id, &part, blob)
        };
        self.engine.commit(put).await
    }
}

/// The part that a received body becomes.
pub(super) fn part_of(
    number: u16,
    received: ReceivedBody,
    algorithm: Algorithm,
) -> (Part, Option<NewBlob>) {
    let sum = received.sum(algorithm).map(|sum| sum.value.clone());
    let part = Part {
        number,
        size: received.size,
        etag: received.etag,
        modified: now(),
        sum,
        blob: received.blob.as_ref().map(|blob| blob.id),
    };
    (part, received.blob)
}

pub(super) async fn upload_part(
    service: &Service,
    request: S3Request<dto::UploadPartInput>,
) -> Result<dto::UploadPartOutput, Refusal> {
    let mut input = request.input;
    convert::refuse_unsupported!(input; sse_customer_algorithm);
    convert::algorithm(input.checksum_algorithm.as_ref())?;
    let number = multipart::part_number(input.part_number)?;
    let upload = service
        .upload(&input.bucket, &input.key, &input.upload_id)
        .await?;
    let algorithm = upload.algorithm;
    let declared = DeclaredSums::new(convert::expected_digests!(input), &request.headers)?;
    let named = declared.algorithms().first().copied();
    if upload.declared
        && named.is_some_and(|named| named != algorithm)
        && !service.quirks.ignore_checksums
    {
        return Err(Refusal::InvalidRequest(format!(
            "The upload was created with {}; the part comes with another checksum.",
            algorithm.name()
        )));
    }
    let etag = declared.part_etag();
    let (body, trailers) = (input.body.take(), request.trailing_headers);
    let received = service
        .receive(body, declared, algorithm, etag, trailers)
        .await?;
    let mut output = dto::UploadPartOutput {
        e_tag: convert::etag(&received.etag),
        ..Default::default()
    };
    // S3 returns a checksum only if the client chose it.
    let returned = named
        .or(upload.declared.then_some(algorithm))
        .and_then(|algorithm| received.sum(algorithm));
    convert::set_sum!(output, returned);
    let (part, blob) = part_of(number, received, algorithm);
    service
        .put_part(input.bucket, input.key, input.upload_id, part, blob)
        .await?;
    Ok(output)
}

pub(super) async fn complete_multipart_upload(
    service: &Service,
    mut input: dto::CompleteMultipartUploadInput,
) -> Result<dto::CompleteMultipartUploadOutput, Refusal> {
    convert::refuse_unsupported!(input; sse_customer_algorithm);
    let conditions = WriteConditions {
        if_match: input.if_match.take(),
        if_none_match: input.if_none_match.take(),
    };
    let named = completion(&input)?;
    let quirks = service.quirks;
    let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id);
    let complete = move |store: &mut Transaction| {
        // AWS answers a repeated Complete as it did the first: the client may not have received it.
        if let Some(object) = store.object(&bucket, &key)?
            && object.upload_id.as_ref() == Some(&id)
            && !quirks.second_complete_is_no_such_upload
        {
            return Ok(object);
        }
        let upload = store.upload(&bucket, &key, &id)?;
        check_conditions(store, &bucket, &key, &conditions, quirks)?;
        let parts = store.parts(&id, ALL, usize::MAX)?;
        let assembled = multipart::assemble(&upload, parts, &named, quirks)?;
        let object = Object {
            etag: assembled.etag,
            size: assembled.size,
            modified: now(),
            attributes: upload.attributes,
            sum: assembled.sum,
            kind: upload.kind,
            blob: None,
            upload_id: Some(id.clone()),
        };
        store.complete_upload(&bucket, &key, &id, &object, &assembled.parts)?;
        Ok(object)
    };
    let object = service.engine.commit(complete).await?;
    let mut output = dto::CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: convert::etag(&object.etag),
        ..Default::default()
    };
    convert::set_object_sum!(output, object);
    Ok(output)
}

fn completion(input: &dto::CompleteMultipartUploadInput) -> Result<Completion, Refusal> {
    let named = |part: &dto::CompletedPart| NamedPart {
        number: part.part_number.unwrap_or_default(),
        etag: part.e_tag.clone().map(dto::ETag::into_value),
        sums: convert::sums!(part),
    };
    let parts = input.multipart_upload.as_ref();
    let parts = parts.and_then(|upload| upload.parts.as_deref());
    Ok(Completion {
        parts: parts.unwrap_or_default().iter().map(named).collect(),
        sums: convert::sums!(input),
        kind: convert::kind(input.checksum_type.as_ref())?,
        size: input
            .mpu_object_size
            .and_then(|size| u64::try_from(size).ok()),
    })
}

pub(super) async fn abort_multipart_upload(
    service: &Service,
    input: dto::AbortMultipartUploadInput,
) -> Result<dto::AbortMultipartUploadOutput, Refusal> {
    let abort = move |store: &mut Transaction| {
        store.abort_upload(&input.bucket, &input.key, &input.upload_id)
    };
    service.engine.commit(abort).await?;
    Ok(dto::AbortMultipartUploadOutput::default())
}
