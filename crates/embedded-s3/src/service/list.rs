//! Listings: objects, uploads, parts.

use s3s::dto;

use super::Service;
use super::convert;
use crate::checksum::Sum;
use crate::listing::{self, Marker, Page, Query};
use crate::model::{Object, Part, Upload};
use crate::quirks::Quirks;
use crate::refusal::Refusal;
use crate::tables::{Snapshot, Tables as _};

/// The longest page.
const MAX_PAGE: i32 = 1000;

/// The length of a page, as requested and as S3 returns it.
fn page_limit(requested: Option<i32>) -> Result<i32, Refusal> {
    let requested = requested.unwrap_or(MAX_PAGE);
    if requested < 0 {
        return Err(Refusal::InvalidArgument(
            "The number of entries of a page must not be negative.".into(),
        ));
    }
    Ok(requested.min(MAX_PAGE))
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

    fn objects(self, objects: Vec<(Marker, Object)>) -> Option<dto::ObjectList> {
        let describe = |(place, object): (Marker, Object)| {
            let sum = object.sum.as_ref();
            dto::Object {
                key: self.text(place.name),
                e_tag: convert::etag(&object.etag),
                size: convert::size(object.size),
                last_modified: Some(convert::timestamp(object.modified)),
                storage_class: Some(dto::ObjectStorageClass::from_static(
                    dto::ObjectStorageClass::STANDARD,
                )),
                checksum_algorithm: sum.map(|sum| vec![convert::algorithm_name(sum.algorithm)]),
                checksum_type: sum.map(|_| convert::checksum_type(object.kind)),
                ..Default::default()
            }
        };
        Some(objects.into_iter().map(describe).collect())
    }
}

impl Service {
    async fn objects_page(&self, bucket: &str, query: &Query) -> Result<Page<Object>, Refusal> {
        let (bucket, mut query) = (bucket.to_owned(), query.clone());
        query.limit = self.quirks.page_limit(query.limit);
        let page = move |store: &Snapshot| {
            store.bucket(&bucket)?;
            listing::page(|from| store.objects(&bucket, from), &query)
        };
        self.engine.read(page).await
    }
}

/// The part of a listing's input that all listings have.
macro_rules! query {
    ($input:expr, $after:expr, $limit:expr) => {
        Query {
            prefix: $input.prefix.clone().unwrap_or_default(),
            delimiter: $input.delimiter.clone().filter(|text| !text.is_empty()),
            after: $after,
            limit: usize::try_from($limit).unwrap_or_default(),
        }
    };
}

pub(super) async fn list_objects_v2(
    service: &Service,
    input: dto::ListObjectsV2Input,
) -> Result<dto::ListObjectsV2Output, Refusal> {
    let max_keys = page_limit(input.max_keys)?;
    let after = match &input.continuation_token {
        Some(token) => convert::from_token(token)?,
        None => input.start_after.clone().unwrap_or_default(),
    };
    let query = query!(input, Marker::of_name(after), max_keys);
    let page = service.objects_page(&input.bucket, &query).await?;
    let encoder = Encoder::new(input.encoding_type.as_ref());
    let count = page.items.len() + page.groups.len();
    Ok(dto::ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: encoder.text(query.prefix),
        delimiter: query.delimiter.and_then(|text| encoder.text(text)),
        start_after: input.start_after.and_then(|name| encoder.text(name)),
        max_keys: Some(max_keys),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|next| convert::token(&next.name)),
        contents: encoder.objects(page.items),
        common_prefixes: encoder.prefixes(page.groups),
        encoding_type: input.encoding_type,
        ..Default::default()
    })
}

pub(super) async fn list_objects(
    service: &Service,
    input: dto::ListObjectsInput,
) -> Result<dto::ListObjectsOutput, Refusal> {
    let max_keys = page_limit(input.max_keys)?;
    let marker = input.marker.clone().unwrap_or_default();
    let query = query!(input, Marker::of_name(marker), max_keys);
    let page = service.objects_page(&input.bucket, &query).await?;
    let encoder = Encoder::new(input.encoding_type.as_ref());
    Ok(dto::ListObjectsOutput {
        name: Some(input.bucket),
        prefix: encoder.text(query.prefix),
        delimiter: query.delimiter.and_then(|text| encoder.text(text)),
        marker: encoder.text(input.marker.unwrap_or_default()),
        max_keys: Some(max_keys),
        is_truncated: Some(page.next.is_some()),
        next_marker: page.next.and_then(|next| encoder.text(next.name)),
        contents: encoder.objects(page.items),
        common_prefixes: encoder.prefixes(page.groups),
        encoding_type: input.encoding_type,
        ..Default::default()
    })
}

pub(super) async fn list_multipart_uploads(
    service: &Service,
    input: dto::ListMultipartUploadsInput,
) -> Result<dto::ListMultipartUploadsOutput, Refusal> {
    let max_uploads = page_limit(input.max_uploads)?;
    let id = input.upload_id_marker.clone().filter(|id| !id.is_empty());
    let after = Marker {
        name: input.key_marker.clone().unwrap_or_default(),
        // A key without an id is behind all its uploads.
        id: id.unwrap_or_else(|| listing::behind("")),
    };
    let query = query!(input, after, max_uploads);
    let (bucket, quirks, asked) = (input.bucket.clone(), service.quirks, query.clone());
    let page = move |store: &Snapshot| {
        store.bucket(&bucket)?;
        let is_listed = |key: &str| !quirks.list_uploads_by_exact_key || key == asked.prefix;
        let uploads = |from: &str| {
            let rows = store.uploads(&bucket, from)?;
            Ok(rows.filter(|row| {
                row.as_ref()
                    .map_or(true, |(place, _)| is_listed(&place.name))
            }))
        };
        listing::page(uploads, &asked)
    };
    let page = service.engine.read(page).await?;
    let encoder = Encoder::new(input.encoding_type.as_ref());
    let describe = |(place, upload): (Marker, Upload)| dto::MultipartUpload {
        key: encoder.text(place.name),
        upload_id: Some(place.id),
        ..describe_upload(&upload)
    };
    let is_truncated = page.next.is_some();
    let (next_key, next_id) = page.next.map(|next| (next.name, next.id)).unzip();
    Ok(dto::ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: encoder.text(query.prefix),
        delimiter: query.delimiter.and_then(|text| encoder.text(text)),
        key_marker: encoder.text(input.key_marker.unwrap_or_default()),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        max_uploads: Some(max_uploads),
        is_truncated: Some(is_truncated),
        next_key_marker: next_key.and_then(|key| encoder.text(key)),
        next_upload_id_marker: next_id.filter(|id| !id.is_empty()),
        uploads: Some(page.items.into_iter().map(describe).collect()),
        common_prefixes: encoder.prefixes(page.groups),
        encoding_type: input.encoding_type,
        ..Default::default()
    })
}

/// An upload without its name.
fn describe_upload(upload: &Upload) -> dto::MultipartUpload {
    let is_declared = upload.declared;
    dto::MultipartUpload {
        initiated: Some(convert::timestamp(upload.initiated)),
        storage_class: Some(dto::StorageClass::from_static(dto::StorageClass::STANDARD)),
        checksum_algorithm: is_declared.then(|| convert::algorithm_name(upload.algorithm)),
        checksum_type: is_declared.then(|| convert::checksum_type(upload.kind)),
        ..Default::default()
    }
}

pub(super) async fn list_parts(
    service: &Service,
    input: dto::ListPartsInput,
) -> Result<dto::ListPartsOutput, Refusal> {
    let max_parts = page_limit(input.max_parts)?;
    let quirks = service.quirks;
    let limit = quirks.page_limit(usize::try_from(max_parts).unwrap_or_default());
    let marker = input.part_number_marker.unwrap_or(0);
    let first = u16::try_from(marker).unwrap_or(u16::MAX).saturating_add(1);
    let (bucket, key, id) = (
        input.bucket.clone(),
        input.key.clone(),
        input.upload_id.clone(),
    );
    let look = move |store: &Snapshot| {
        let upload = store.upload(&bucket, &key, &id)?;
        Ok((upload, store.parts(&id, first..=u16::MAX, limit + 1)?))
    };
    let (upload, mut parts) = service.engine.read(look).await?;
    let has_more = limit > 0 && parts.len() > limit;
    parts.truncate(limit);
    let last = parts.last().map(|part| i32::from(part.number));
    if quirks.small_unsorted_pages {
        parts.reverse();
    }
    let parts = parts
        .into_iter()
        .map(|part| describe_part(part, &upload, quirks));
    let upload_info = describe_upload(&upload);
    Ok(dto::ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(marker),
        max_parts: Some(max_parts),
        is_truncated: Some(has_more),
        next_part_number_marker: last.filter(|_| has_more),
        parts: Some(parts.collect()),
        storage_class: upload_info.storage_class,
        checksum_algorithm: upload_info.checksum_algorithm,
        checksum_type: upload_info.checksum_type,
        ..Default::default()
    })
}

fn describe_part(part: Part, upload: &Upload, quirks: Quirks) -> dto::Part {
    let mut item = dto::Part {
        part_number: Some(part.number.into()),
        e_tag: convert::etag(&part.etag),
        size: convert::size(part.size),
        last_modified: Some(convert::timestamp(part.modified)),
        ..Default::default()
    };
    // S3 returns a checksum only if the client chose it.
    let value = part
        .sum
        .filter(|_| upload.declared && !quirks.ignore_checksums);
    let sum = value.map(|value| Sum {
        algorithm: upload.algorithm,
        value,
    });
    convert::set_sum!(item, sum);
    item
}
