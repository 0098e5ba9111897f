//! Objects: PUT, GET, HEAD.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use s3s::dto;
use s3s::{S3Request, S3Response};

use super::Service;
use super::convert::{self, Promised};
use crate::blob::NewBlob;
use crate::checksum::{Algorithm, Kind, Sum};
use crate::engine::{Decision, bucket};
use crate::index::{Attributes, Change, Object, Part};
use crate::precondition::{self, ReadConditions, WriteConditions};
use crate::quirks::Quirks;
use crate::receive::{Claims, EtagSource, Received, receive};
use crate::refusal::Refusal;
use crate::send::Outgoing;

pub(super) async fn put_object(
    service: &Service,
    request: S3Request<dto::PutObjectInput>,
) -> Result<S3Response<dto::PutObjectOutput>, Refusal> {
    let S3Request {
        mut input,
        headers,
        trailing_headers,
        ..
    } = request;
    convert::refuse_unsupported!(input; sse_customer_algorithm, tagging, object_lock_mode, write_offset_bytes);
    service.engine.read_bucket(&input.bucket, |_| ())?;
    let claims = Claims {
        size: convert::content_length(input.content_length)?,
        md5: input.content_md5.take(),
        sums: convert::sums!(input),
    };
    let promised = Promised::new(claims, &headers);
    let algorithm = stored_algorithm(&input, &promised);
    let received = service
        .receive(
            input.body.take(),
            promised,
            &[algorithm],
            EtagSource::Md5,
            trailing_headers,
        )
        .await?;
    let conditions = WriteConditions {
        if_match: convert::condition(input.if_match.take()),
        if_none_match: convert::condition(input.if_none_match.take()),
    };
    let attributes = convert::attributes!(input);
    let (object, blob) = plain_object(received, attributes, algorithm, service.quirks);
    let mut output = dto::PutObjectOutput {
        e_tag: convert::etag(&object.etag),
        ..Default::default()
    };
    convert::set_sum!(output, &object.sum);
    output.checksum_type = object.sum.as_ref().map(|_| checksum_type(object.kind));
    service
        .put(input.bucket, input.key, object, blob, conditions)
        .await?;
    Ok(S3Response::new(output))
}

/// The algorithm whose checksum stays with the object: the client's, else S3's own.
fn stored_algorithm(input: &dto::PutObjectInput, promised: &Promised) -> Algorithm {
    let named = input
        .checksum_algorithm
        .as_ref()
        .and_then(|name| Algorithm::named(name.as_str()));
    promised
        .algorithms()
        .first()
        .copied()
        .or(named)
        .unwrap_or(Algorithm::Crc64Nvme)
}

pub(super) fn checksum_type(kind: Kind) -> dto::ChecksumType {
    dto::ChecksumType::from_static(kind.name())
}

/// An object of one part.
pub(super) fn plain_object(
    received: Received,
    attributes: Attributes,
    algorithm: Algorithm,
    quirks: Quirks,
) -> (Object, Option<NewBlob>) {
    let sum = received
        .sum(algorithm)
        .filter(|_| !quirks.ignore_checksums)
        .cloned();
    let Received {
        size, etag, blob, ..
    } = received;
    let modified = now();
    let part = Part {
        number: 1,
        size,
        etag: etag.clone(),
        modified,
        sum: None,
        blob: blob.as_ref().map(|blob| blob.id),
    };
    let object = Object {
        etag,
        size,
        modified,
        attributes,
        sum,
        kind: Kind::FullObject,
        parts: vec![part],
        upload_id: None,
    };
    (object, blob)
}

/// The store's clock, in milliseconds, as in S3.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

impl Service {
    /// Receives a body and checks what was promised about it. `algorithms` are hashed besides.
    pub(super) async fn receive(
        &self,
        body: Option<dto::StreamingBlob>,
        promised: Promised,
        algorithms: &[Algorithm],
        mut etag: EtagSource,
        trailers: Option<s3s::TrailingHeaders>,
    ) -> Result<Received, Refusal> {
        let mut all = promised.algorithms();
        all.extend(
            algorithms
                .iter()
                .filter(|algorithm| !promised.algorithms().contains(algorithm)),
        );
        if self.quirks.ignore_checksums {
            all.clear();
            etag = EtagSource::Md5;
        }
        let mut received = receive(&self.engine, convert::body(body), &all, etag).await?;
        let mut claims = promised.settled(trailers.as_ref())?;
        if self.quirks.ignore_checksums {
            claims.sums.clear();
        }
        received.check(&claims)?;
        received.etag = self.quirks.etag(received.etag);
        Ok(received)
    }

    /// Puts an object in its place, if the conditions hold at that moment.
    pub(super) async fn put(
        &self,
        name: String,
        key: String,
        object: Object,
        blob: Option<NewBlob>,
        conditions: WriteConditions,
    ) -> Result<(), Refusal> {
        let quirks = self.quirks;
        let decide = move |index: &_| {
            let current = bucket(index, &name)?.objects.get(&key);
            precondition::may_write(
                current.map(|object| object.etag.as_str()),
                &conditions,
                quirks,
            )?;
            Ok(Decision::change(
                Change::PutObject {
                    bucket: name,
                    key,
                    object,
                },
                blob,
                (),
            ))
        };
        self.engine.commit(decide).await
    }
}

/// Which bytes of an object are asked for.
struct Wanted {
    range: Range<u64>,
    /// The value of Content-Range, if it is not the whole.
    content_range: Option<String>,
}

/// Ranges and part numbers, resolved.
fn wanted(
    object: &Object,
    range: Option<dto::Range>,
    part_number: Option<i32>,
) -> Result<Wanted, Refusal> {
    let size = object.size;
    let range = match (range, part_number) {
        (None, None) => {
            return Ok(Wanted {
                range: 0..size,
                content_range: None,
            });
        }
        (Some(_), Some(_)) => {
            return Err(Refusal::InvalidRequest(
                "Range and partNumber exclude each other.".into(),
            ));
        }
        (Some(_), None) if size == 0 => return Err(Refusal::InvalidRange),
        (Some(range), None) => range.check(size).map_err(|_| Refusal::InvalidRange)?,
        (None, Some(number)) => part_range(object, number)?,
    };
    // An empty part has no range that HTTP could name.
    let content_range =
        (!range.is_empty()).then(|| format!("bytes {}-{}/{size}", range.start, range.end - 1));
    Ok(Wanted {
        range,
        content_range,
    })
}

fn part_range(object: &Object, number: i32) -> Result<Range<u64>, Refusal> {
    let mut start = 0;
    for part in &object.parts {
        if i32::from(part.number) == number {
            return Ok(start..start + part.size);
        }
        start += part.size;
    }
    Err(Refusal::InvalidPartNumber)
}

/// The number of parts, which S3 returns only to a request by part number, and only of a multipart object.
fn parts_count(object: &Object, part_number: Option<i32>) -> Option<i32> {
    part_number
        .and(object.upload_id.as_ref())
        .and_then(|_| i32::try_from(object.parts.len()).ok())
}

/// The checksum, if it was requested and the whole object is returned: of a range it would be wrong.
fn returned_sum<'a>(
    object: &'a Object,
    mode: Option<&dto::ChecksumMode>,
    wanted: &Wanted,
) -> Option<&'a Sum> {
    let asked = mode.is_some_and(|mode| mode.as_str() == dto::ChecksumMode::ENABLED);
    object
        .sum
        .as_ref()
        .filter(|_| asked && wanted.content_range.is_none())
}

/// Fills what GET and HEAD have in common.
macro_rules! describe {
    ($output:expr, $input:expr, $object:expr, $wanted:expr) => {{
        $output.accept_ranges = Some("bytes".to_owned());
        $output.content_length = convert::size($wanted.range.end - $wanted.range.start);
        $output.content_range = $wanted.content_range.clone();
        $output.e_tag = convert::etag(&$object.etag);
        $output.last_modified = Some(convert::timestamp($object.modified));
        $output.parts_count = parts_count(&$object, $input.part_number);
        convert::set_attributes!($output, $object.attributes.clone());
        let sum = returned_sum(&$object, $input.checksum_mode.as_ref(), &$wanted);
        convert::set_sum!($output, sum);
        $output.checksum_type = sum.map(|_| checksum_type($object.kind));
    }};
}

/// Takes the conditions out of a GET or HEAD.
macro_rules! read_conditions {
    ($input:expr) => {
        ReadConditions {
            if_match: convert::condition($input.if_match.take()),
            if_none_match: convert::condition($input.if_none_match.take()),
            if_modified_since: convert::seconds($input.if_modified_since.take()),
            if_unmodified_since: convert::seconds($input.if_unmodified_since.take()),
        }
    };
}

pub(super) async fn get_object(
    service: &Service,
    request: S3Request<dto::GetObjectInput>,
) -> Result<S3Response<dto::GetObjectOutput>, Refusal> {
    let mut input = request.input;
    convert::refuse_unsupported!(input; sse_customer_algorithm, version_id);
    let (object, parts) = service.engine.pinned(&input.bucket, &input.key)?;
    precondition::may_read(
        &object.etag,
        object.modified.as_second(),
        &read_conditions!(input),
    )?;
    let wanted = wanted(&object, input.range, input.part_number)?;
    let body = convert::blob(Outgoing::new(parts, wanted.range.clone())?);
    let mut output = dto::GetObjectOutput {
        body: Some(body),
        ..Default::default()
    };
    describe!(output, input, object, wanted);
    Ok(S3Response::new(output))
}

pub(super) async fn head_object(
    service: &Service,
    request: S3Request<dto::HeadObjectInput>,
) -> Result<S3Response<dto::HeadObjectOutput>, Refusal> {
    let mut input = request.input;
    convert::refuse_unsupported!(input; sse_customer_algorithm, version_id);
    let object: Arc<Object> = service.engine.object(&input.bucket, &input.key)?;
    precondition::may_read(
        &object.etag,
        object.modified.as_second(),
        &read_conditions!(input),
    )?;
    let wanted = wanted(&object, input.range, input.part_number)?;
    let mut output = dto::HeadObjectOutput::default();
    describe!(output, input, object, wanted);
    Ok(S3Response::new(output))
}
