//! Objects: PUT, GET, HEAD.

use std::ops::Range;

use s3s::{S3Request, dto};

use super::Service;
use super::convert::{self, DeclaredSums};
use crate::blob::NewBlob;
use crate::checksum::{Algorithm, Kind};
use crate::engine::PinnedPart;
use crate::model::{Attributes, Object, now};
use crate::precondition::{self, ReadConditions, WriteConditions};
use crate::quirks::Quirks;
use crate::receive::{EtagSource, ReceivedBody, receive};
use crate::refusal::Refusal;
use crate::send::OutgoingBody;
use crate::tables::{Tables as _, Transaction};

pub(super) async fn put_object(
    service: &Service,
    request: S3Request<dto::PutObjectInput>,
) -> Result<dto::PutObjectOutput, Refusal> {
    let mut input = request.input;
    convert::refuse_unsupported!(input; sse_customer_algorithm, tagging, object_lock_mode, write_offset_bytes);
    service.engine.bucket(&input.bucket).await?;
    let expected = convert::expected_digests!(input);
    let declared = DeclaredSums::new(expected, &request.headers)?;
    let named = convert::algorithm(input.checksum_algorithm.as_ref())?;
    // The algorithm of the client, else S3's own.
    let algorithm = declared.algorithms().first().copied().or(named);
    let algorithm = algorithm.unwrap_or(Algorithm::Crc64Nvme);
    let (body, trailers) = (input.body.take(), request.trailing_headers);
    let received = service
        .receive(body, declared, algorithm, EtagSource::Md5, trailers)
        .await?;
    let conditions = WriteConditions {
        if_match: input.if_match.take(),
        if_none_match: input.if_none_match.take(),
    };
    let attributes = convert::attributes!(input);
    let (object, blob) = plain_object(received, attributes, algorithm, service.quirks);
    let mut output = dto::PutObjectOutput {
        e_tag: convert::etag(&object.etag),
        ..Default::default()
    };
    convert::set_object_sum!(output, object);
    service
        .put(input.bucket, input.key, object, blob, conditions)
        .await?;
    Ok(output)
}

/// An object of one body.
pub(super) fn plain_object(
    received: ReceivedBody,
    attributes: Attributes,
    algorithm: Algorithm,
    quirks: Quirks,
) -> (Object, Option<NewBlob>) {
    let sum = received.sum(algorithm).cloned();
    let object = Object {
        etag: received.etag,
        size: received.size,
        modified: now(),
        attributes,
        sum: sum.filter(|_| !quirks.ignore_checksums),
        kind: Kind::FullObject,
        blob: received.blob.as_ref().map(|blob| blob.id),
        upload_id: None,
    };
    (object, received.blob)
}

/// The object that a write would replace, if the conditions allow it.
pub(super) fn check_conditions(
    store: &Transaction,
    bucket: &str,
    key: &str,
    conditions: &WriteConditions,
    quirks: Quirks,
) -> Result<(), Refusal> {
    let current = store.object(bucket, key)?;
    let etag = current.as_ref().map(|object| object.etag.as_str());
    precondition::may_write(etag, conditions, quirks)
}

impl Service {
    /// Receives a body and checks it against the declared checksums. `algorithm` is computed in any case.
    pub(super) async fn receive(
        &self,
        body: Option<dto::StreamingBlob>,
        declared: DeclaredSums,
        algorithm: Algorithm,
        mut etag: EtagSource,
        trailers: Option<s3s::TrailingHeaders>,
    ) -> Result<ReceivedBody, Refusal> {
        let mut algorithms = declared.algorithms();
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
        if self.quirks.ignore_checksums {
            algorithms.clear();
            etag = EtagSource::Md5;
        }
        let mut received = receive(&self.engine, convert::body(body), &algorithms, etag).await?;
        let mut expected = declared.with_trailers(trailers.as_ref())?;
        if self.quirks.ignore_checksums {
            expected.sums.clear();
        }
        received.check(&expected)?;
        received.etag = self.quirks.etag(received.etag);
        Ok(received)
    }

    /// Puts an object at its key, if the conditions hold at that moment.
    pub(super) async fn put(
        &self,
        bucket: String,
        key: String,
        object: Object,
        blob: Option<NewBlob>,
        conditions: WriteConditions,
    ) -> Result<(), Refusal> {
        let quirks = self.quirks;
        let put = move |store: &mut Transaction| {
            check_conditions(store, &bucket, &key, &conditions, quirks)?;
            store.put_object(&bucket, &key, &object, blob)
        };
        self.engine.commit(put).await
    }
}

/// The bytes of an object that GET or HEAD selects.
struct Selection {
    range: Range<u64>,
    /// The value of Content-Range, if it is not the whole object.
    content_range: Option<String>,
}

/// Resolves a range or a part number.
fn select(
    size: u64,
    parts: &[PinnedPart],
    range: Option<dto::Range>,
    part_number: Option<i32>,
) -> Result<Selection, Refusal> {
    let range = match (range, part_number) {
        (None, None) => {
            return Ok(Selection {
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
        (None, Some(number)) => part_range(parts, number)?,
    };
    // An empty part has no range that HTTP could name.
    let content_range =
        (!range.is_empty()).then(|| format!("bytes {}-{}/{size}", range.start, range.end - 1));
    Ok(Selection {
        range,
        content_range,
    })
}

fn part_range(parts: &[PinnedPart], number: i32) -> Result<Range<u64>, Refusal> {
    let mut start = 0;
    for PinnedPart { part, .. } in parts {
        if i32::from(part.number) == number {
            return Ok(start..start + part.size);
        }
        start += part.size;
    }
    Err(Refusal::InvalidPartNumber)
}

/// Fills what GET and HEAD have in common. S3 returns the number of parts only to a request by part number,
/// and only of a multipart object; a checksum only if it was requested, and not of a range.
macro_rules! describe {
    ($output:expr, $input:expr, $object:expr, $parts:expr, $selection:expr) => {{
        $output.accept_ranges = Some("bytes".to_owned());
        $output.content_length = convert::size($selection.range.end - $selection.range.start);
        $output.e_tag = convert::etag(&$object.etag);
        $output.last_modified = Some(convert::timestamp($object.modified));
        let by_part = $input.part_number.and($object.upload_id.as_ref());
        $output.parts_count = by_part.and_then(|_| i32::try_from($parts).ok());
        let mode = $input.checksum_mode.as_ref().map(|mode| mode.as_str());
        if mode == Some(dto::ChecksumMode::ENABLED) && $selection.content_range.is_none() {
            convert::set_object_sum!($output, $object);
        }
        $output.content_range = $selection.content_range;
        convert::set_attributes!($output, $object.attributes);
    }};
}

/// Finds what a GET or HEAD selects: the object, its parts, and which bytes of them.
macro_rules! find {
    ($service:expr, $input:expr) => {{
        convert::refuse_unsupported!($input; sse_customer_algorithm, version_id);
        let (object, parts) = $service.engine.pinned(&$input.bucket, &$input.key).await?;
        let conditions = ReadConditions {
            if_match: $input.if_match.take(),
            if_none_match: $input.if_none_match.take(),
            if_modified_since: convert::seconds($input.if_modified_since.take()),
            if_unmodified_since: convert::seconds($input.if_unmodified_since.take()),
        };
        precondition::may_read(&object.etag, object.modified.as_second(), &conditions)?;
        let selection = select(object.size, &parts, $input.range, $input.part_number)?;
        (object, parts, selection)
    }};
}

pub(super) async fn get_object(
    service: &Service,
    mut input: dto::GetObjectInput,
) -> Result<dto::GetObjectOutput, Refusal> {
    let (object, parts, selection) = find!(service, input);
    let count = parts.len();
    let mut output = dto::GetObjectOutput {
        body: Some(convert::blob(OutgoingBody::new(
            parts,
            selection.range.clone(),
        )?)),
        ..Default::default()
    };
    describe!(output, input, object, count, selection);
    Ok(output)
}

pub(super) async fn head_object(
    service: &Service,
    mut input: dto::HeadObjectInput,
) -> Result<dto::HeadObjectOutput, Refusal> {
    let (object, parts, selection) = find!(service, input);
    let mut output = dto::HeadObjectOutput::default();
    describe!(output, input, object, parts.len(), selection);
    Ok(output)
}
