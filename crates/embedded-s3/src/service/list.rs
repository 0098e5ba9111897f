//! Listings: objects, uploads, parts.

use std::ops::Bound;
use std::sync::Arc;

use s3s::dto;
use s3s::{S3Request, S3Response};

use super::Service;
use super::convert;
use super::object::checksum_type;
use crate::checksum::Sum;
use crate::index::{Bucket, Object, Upload};
use crate::listing::{self, After, Page, Query};
use crate::quirks::Quirks;
use crate::refusal::Refusal;

/// The longest page.
const MAX_PAGE: i32 = 1000;

/// The length of a page, as requested and as S3 returns it.
fn page_limit(asked: Option<i32>) -> Result<i32, Refusal> {
    match asked {
        None => Ok(MAX_PAGE),
        Some(asked) if asked < 0 => Err(Refusal::InvalidArgument(
            "A page cannot have less than no entries.".into(),
        )),
        Some(asked) => Ok(asked.min(MAX_PAGE)),
    }
}

/// How names are written in an answer.
#[derive(Clone, Copy)]
struct Encoder(bool);

impl Encoder {
    fn new(encoding: Option<&dto::EncodingType>) -> Self {
        Self(encoding.is_some_and(|encoding| encoding.as_str() == dto::EncodingType::URL))
    }

    fn text(self, text: String) -> Option<String> {
        Some(if self.0 {
            listing::url_encode(&text)
        } else {
            text
        })
    }

    fn prefixes(self, groups: Vec<String>) -> Option<dto::CommonPrefixList> {
        let groups = groups.into_iter().map(|group| dto::CommonPrefix {
            prefix: self.text(group),
        });
        Some(groups.collect())
    }
}

fn objects_page(bucket: &Bucket, query: &Query) -> Page<(String, Arc<Object>)> {
    let objects = bucket
        .objects
        .range::<str, _>((query.start(), Bound::Unbounded));
    listing::page(
        objects.map(|(key, object)| (key.as_str(), (key.clone(), object.clone()))),
        query,
    )
}

fn describe((key, object): (String, Arc<Object>), encoder: Encoder) -> dto::Object {
    let sum = object.sum.as_ref();
    dto::Object {
        key: encoder.text(key),
        e_tag: convert::etag(&object.etag),
        size: convert::size(object.size),
        last_modified: Some(convert::timestamp(object.modified)),
        storage_class: Some(dto::ObjectStorageClass::from_static(
            dto::ObjectStorageClass::STANDARD,
        )),
        checksum_algorithm: sum.map(|sum| vec![algorithm_name(sum)]),
        checksum_type: sum.map(|_| checksum_type(object.kind)),
        ..Default::default()
    }
}

fn algorithm_name(sum: &Sum) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(sum.algorithm.name())
}

pub(super) async fn list_objects_v2(
    service: &Service,
    request: S3Request<dto::ListObjectsV2Input>,
) -> Result<S3Response<dto::ListObjectsV2Output>, Refusal> {
    let input = request.input;
    let max_keys = page_limit(input.max_keys)?;
    let after = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => Some(convert::from_token(token)?),
        (None, Some(name)) => Some(After::Name(name.clone())),
        (None, None) => None,
    };
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input
            .delimiter
            .clone()
            .filter(|delimiter| !delimiter.is_empty()),
        after,
        limit: service
            .quirks
            .page_limit(usize::try_from(max_keys).unwrap_or_default()),
    };
    let page = service
        .engine
        .read_bucket(&input.bucket, |bucket| objects_page(bucket, &query))?;
    let encoder = Encoder::new(input.encoding_type.as_ref());
    let count = page.items.len() + page.groups.len();
    Ok(S3Response::new(dto::ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: encoder.text(query.prefix),
        delimiter: query
            .delimiter
            .and_then(|delimiter| encoder.text(delimiter)),
        start_after: input.start_after.and_then(|name| encoder.text(name)),
        max_keys: Some(max_keys),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.as_ref().map(convert::token),
        contents: Some(
            page.items
                .into_iter()
                .map(|item| describe(item, encoder))
                .collect(),
        ),
        common_prefixes: encoder.prefixes(page.groups),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

pub(super) async fn list_objects(
    service: &Service,
    request: S3Request<dto::ListObjectsInput>,
) -> Result<S3Response<dto::ListObjectsOutput>, Refusal> {
    let input = request.input;
    let max_keys = page_limit(input.max_keys)?;
    let delimiter = input
        .delimiter
        .clone()
        .filter(|delimiter| !delimiter.is_empty());
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        after: input
            .marker
            .clone()
            .map(|marker| marker_of(marker, delimiter.as_deref())),
        delimiter,
        limit: service
            .quirks
            .page_limit(usize::try_from(max_keys).unwrap_or_default()),
    };
    let page = service
        .engine
        .read_bucket(&input.bucket, |bucket| objects_page(bucket, &query))?;
    let encoder = Encoder::new(input.encoding_type.as_ref());
    let next = page
        .next
        .map(|(After::Name(text) | After::Group(text))| text);
    Ok(S3Response::new(dto::ListObjectsOutput {
        name: Some(input.bucket),
        prefix: encoder.text(query.prefix),
        delimiter: query
            .delimiter
            .and_then(|delimiter| encoder.text(delimiter)),
        marker: encoder.text(input.marker.unwrap_or_default()),
        max_keys: Some(max_keys),
        is_truncated: Some(next.is_some()),
        next_marker: next.and_then(|next| encoder.text(next)),
        contents: Some(
            page.items
                .into_iter()
                .map(|item| describe(item, encoder))
                .collect(),
        ),
        common_prefixes: encoder.prefixes(page.groups),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

/// A marker does not say what it is; one that ends like a group is taken for one.
fn marker_of(marker: String, delimiter: Option<&str>) -> After {
    match delimiter {
        Some(delimiter) if marker.ends_with(delimiter) => After::Group(marker),
        _ => After::Name(marker),
    }
}

pub(super) async fn list_multipart_uploads(
    service: &Service,
    request: S3Request<dto::ListMultipartUploadsInput>,
) -> Result<S3Response<dto::ListMultipartUploadsOutput>, Refusal> {
    let input = request.input;
    let max_uploads = page_limit(input.max_uploads)?;
    let delimiter = input
        .delimiter
        .clone()
        .filter(|delimiter| !delimiter.is_empty());
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter,
        // The marker is a key and an upload id; it is applied to the entries, not to their names.
        after: None,
        limit: usize::try_from(max_uploads).unwrap_or_default(),
    };
    let marker = input.key_marker.clone().filter(|key| !key.is_empty());
    let id_marker = input.upload_id_marker.clone().filter(|_| marker.is_some());
    let page = service.engine.read_bucket(&input.bucket, |bucket| {
        uploads_page(
            bucket,
            &query,
            marker.as_deref(),
            id_marker.as_deref(),
            service.quirks,
        )
    })?;
    let encoder = Encoder::new(input.encoding_type.as_ref());
    let (next_key_marker, next_upload_id_marker) = match &page.next {
        None => (None, None),
        Some(After::Group(group)) => (encoder.text(group.clone()), None),
        Some(After::Name(key)) => (
            encoder.text(key.clone()),
            page.items
                .last()
                .and_then(|upload| upload.upload_id.clone()),
        ),
    };
    let encoded = |upload: dto::MultipartUpload| dto::MultipartUpload {
        key: upload.key.and_then(|key| encoder.text(key)),
        ..upload
    };
    Ok(S3Response::new(dto::ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: encoder.text(query.prefix),
        delimiter: query
            .delimiter
            .and_then(|delimiter| encoder.text(delimiter)),
        key_marker: encoder.text(input.key_marker.unwrap_or_default()),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        max_uploads: Some(max_uploads),
        is_truncated: Some(page.next.is_some()),
        next_key_marker,
        next_upload_id_marker,
        uploads: Some(page.items.into_iter().map(encoded).collect()),
        common_prefixes: encoder.prefixes(page.groups),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

fn uploads_page(
    bucket: &Bucket,
    query: &Query,
    key_marker: Option<&str>,
    id_marker: Option<&str>,
    quirks: Quirks,
) -> Page<dto::MultipartUpload> {
    let from = (query.prefix.clone(), String::new());
    let behind_marker = |key: &str, id: &str| match (key_marker, id_marker) {
        (None, _) => true,
        (Some(marker), Some(id_marker)) => (key, id) > (marker, id_marker),
        (Some(marker), None) => {
            key > marker
                && !query.delimiter.as_deref().is_some_and(|delimiter| {
                    // The marker is a group: no name in it is returned again.
                    marker.ends_with(delimiter) && key.starts_with(marker)
                })
        }
    };
    let uploads = bucket
        .uploads
        .range(from..)
        .filter(|((key, id), _)| behind_marker(key, id))
        .filter(|((key, _), _)| !quirks.list_uploads_by_exact_key || *key == query.prefix)
        .map(|((key, id), upload)| (key.as_str(), describe_upload(key, id, upload)));
    listing::page(uploads, query)
}

fn describe_upload(key: &str, upload_id: &str, upload: &Upload) -> dto::MultipartUpload {
    dto::MultipartUpload {
        key: Some(key.to_owned()),
        upload_id: Some(upload_id.to_owned()),
        initiated: Some(convert::timestamp(upload.initiated)),
        storage_class: Some(dto::StorageClass::from_static(dto::StorageClass::STANDARD)),
        checksum_algorithm: upload
            .declared
            .then(|| dto::ChecksumAlgorithm::from_static(upload.algorithm.name())),
        checksum_type: upload.declared.then(|| checksum_type(upload.kind)),
        ..Default::default()
    }
}

pub(super) async fn list_parts(
    service: &Service,
    request: S3Request<dto::ListPartsInput>,
) -> Result<S3Response<dto::ListPartsOutput>, Refusal> {
    let input = request.input;
    let max_parts = page_limit(input.max_parts)?;
    let quirks = service.quirks;
    let limit = quirks.page_limit(usize::try_from(max_parts).unwrap_or_default());
    let marker = u16::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(u16::MAX);
    let name = (input.key.clone(), input.upload_id.clone());
    let (upload, mut parts, more) = service.engine.read_bucket(&input.bucket, |bucket| {
        let upload = bucket.uploads.get(&name).ok_or(Refusal::NoSuchUpload)?;
        let mut rest = upload
            .parts
            .range((Bound::Excluded(marker), Bound::Unbounded));
        let parts: Vec<dto::Part> = rest
            .by_ref()
            .take(limit)
            .map(|(_, part)| describe_part(part, upload, service.quirks))
            .collect();
        let about = describe_upload(&name.0, &name.1, upload);
        Ok::<_, Refusal>((about, parts, limit > 0 && rest.next().is_some()))
    })??;
    let last = parts.last().and_then(|part| part.part_number);
    if quirks.small_unsorted_pages {
        parts.reverse();
    }
    Ok(S3Response::new(dto::ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(input.part_number_marker.unwrap_or(0)),
        max_parts: Some(max_parts),
        is_truncated: Some(more),
        next_part_number_marker: last.filter(|_| more),
        parts: Some(parts),
        storage_class: upload.storage_class,
        checksum_algorithm: upload.checksum_algorithm,
        checksum_type: upload.checksum_type,
        ..Default::default()
    }))
}

fn describe_part(part: &crate::index::Part, upload: &Upload, quirks: Quirks) -> dto::Part {
    let mut described = dto::Part {
        part_number: Some(part.number.into()),
        e_tag: convert::etag(&part.etag),
        size: convert::size(part.size),
        last_modified: Some(convert::timestamp(part.modified)),
        ..Default::default()
    };
    // S3 returns a checksum only if the client chose it.
    let returned = part
        .sum
        .clone()
        .filter(|_| upload.declared && !quirks.ignore_checksums);
    convert::set_sum!(
        described,
        returned.map(|value| Sum {
            algorithm: upload.algorithm,
            value
        })
    );
    described
}
