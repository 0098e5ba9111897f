//! Blobs: whole or in part, here or by a redirect, and the end of their link.

use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    IF_RANGE, LOCATION, RANGE, REFERRER_POLICY,
};
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncSeekExt as _, SeekFrom};

use super::body::ResponseBody;
use super::error::{Code, Refusal};
use super::multipart::Multipart;
use super::range::{self, PARTS, RequestedBytes};
use super::{Answer, CONTENT_DIGEST, Head, Shared, bare, with};
use s3layers::{Digest, Error, Layer, LayerId, RepositoryName, clock};

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`
pub(super) async fn read(
    shared: &Shared,
    head: &Head,
    name: &RepositoryName,
    digest: Digest,
) -> Answer {
    let id = LayerId::from(digest.clone());
    if head.parts.method == Method::HEAD {
        return described_only(shared, head, name, id, &digest).await;
    }
    let layer = shared.service.layer(name, &id).await?;
    let is_known = range::is_known(head.header(IF_NONE_MATCH), &digest);
    // What is sent from here asks the storage by itself.
    let is_sent = !is_known && shared.options.redirect.is_none();
    if !is_sent && !layer.is_stored().await? {
        return Err(Error::LayerUnknown { id }.into());
    }
    if is_known {
        return Ok(described(bare(StatusCode::NOT_MODIFIED), &digest));
    }
    let size = layer.size();
    if let Some(lifetime) = shared.options.redirect
        && let Some(url) = layer.presigned_url(lifetime).await?
    {
        let response = bare(StatusCode::TEMPORARY_REDIRECT);
        let response = with(response, LOCATION, &url);
        // The URL is a credential.
        let response = with(response, CACHE_CONTROL, "no-store");
        let response = with(response, REFERRER_POLICY, "no-referrer");
        return Ok(described(response, &digest));
    }
    let asked = if range::may_be_partial(head.header(IF_RANGE), &digest) {
        head.header(RANGE)
    } else {
        None
    };
    let blob = (name, &digest);
    match range::requested(asked, size) {
        RequestedBytes::Whole => sent(shared, blob, layer, 0..size, StatusCode::OK).await,
        RequestedBytes::Parts(parts) => match &*parts {
            [part] => {
                let shown = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                let status = StatusCode::PARTIAL_CONTENT;
                let response = sent(shared, blob, layer, part.clone(), status).await?;
                Ok(with(response, CONTENT_RANGE, &shown))
            }
            _ => several(shared, blob, layer, parts).await,
        },
        // Podman asks for half as many after 400, and fails after 416. Without the header it would
        // get the whole layer.
        RequestedBytes::TooMany => {
            let message = format_args!("more than {PARTS} ranges that do not touch");
            let refusal = Refusal::new(Code::Unsupported, message);
            Err(refusal.with_status(StatusCode::BAD_REQUEST))
        }
        RequestedBytes::Nothing => {
            let refusal = Refusal::new(
                Code::SizeInvalid,
                format_args!("the blob has {size} bytes, and none of these"),
            );
            Err(refusal
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with(CONTENT_RANGE, &format!("bytes */{size}")))
        }
    }
}

/// The answer to HEAD. A client does not upload a blob that the answer says is here.
async fn described_only(
    shared: &Shared,
    head: &Head,
    name: &RepositoryName,
    id: LayerId,
    digest: &Digest,
) -> Answer {
    let Some(layer) = shared.service.confirm_layer(name, &id).await? else {
        return Err(Error::LayerUnknown { id }.into());
    };
    if range::is_known(head.header(IF_NONE_MATCH), digest) {
        return Ok(described(bare(StatusCode::NOT_MODIFIED), digest));
    }
    let response = typed(described(bare(StatusCode::OK), digest));
    Ok(with(response, CONTENT_LENGTH, &layer.size().to_string()))
}

/// `DELETE /v2/<name>/blobs/<digest>`
pub(super) async fn delete(shared: &Shared, name: &RepositoryName, digest: Digest) -> Answer {
    let protection = &shared.options.write_protection;
    protection.check_content_removal(name, "blobs")?;
    let id = LayerId::from(digest);
    if shared.service.unlink(name, &id).await? {
        Ok(bare(StatusCode::ACCEPTED))
    } else {
        Err(Error::LayerUnknown { id }.into())
    }
}

/// The answer with these bytes.
async fn sent(
    shared: &Shared,
    blob: (&RepositoryName, &Digest),
    mut layer: Box<dyn Layer>,
    part: Range<u64>,
    status: StatusCode,
) -> Answer {
    if part.start > 0 {
        let sought = layer.seek(SeekFrom::Start(part.start)).await;
        sought.map_err(Error::from_io)?;
    }
    let bytes = begun(shared, blob, layer.into_stream_to(part.end)).await?;
    let body = ResponseBody::stream(bytes, part.end - part.start);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    Ok(typed(described(response, blob.1)))
}

/// Several parts in one answer.
async fn several(
    shared: &Shared,
    blob: (&RepositoryName, &Digest),
    layer: Box<dyn Layer>,
    parts: Vec<Range<u64>>,
) -> Answer {
    let multipart = Multipart::new(clock::new_nonce(), &parts, layer.size());
    let (size, content_type) = (multipart.size(), multipart.content_type());
    let bytes = begun(shared, blob, layer.into_stream_of(parts)).await?;
    let mut response = Response::new(ResponseBody::stream(multipart.frame(bytes), size));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let response = with(response, CONTENT_TYPE, &content_type);
    Ok(described(response, blob.1))
}

/// The same stream once its first bytes are here. No status is sent before, so that a layer whose
/// bytes are gone is unknown, and is not a body that breaks off.
async fn begun(
    shared: &Shared,
    (name, digest): (&RepositoryName, &Digest),
    mut bytes: BoxStream<'static, Result<Bytes, Error>>,
) -> Result<BoxStream<'static, Result<Bytes, Error>>, Refusal> {
    let first = match bytes.next().await {
        Some(Err(error @ Error::Damaged { .. })) => {
            return Err(match shared.blob_size(name, digest).await? {
                Some(_) => error,
                None => Error::LayerUnknown {
                    id: digest.clone().into(),
                },
            }
            .into());
        }
        Some(first) => Some(Ok(first?)),
        None => None,
    };
    Ok(stream::iter(first).chain(bytes).boxed())
}

fn described(response: Response<ResponseBody>, digest: &Digest) -> Response<ResponseBody> {
    let response = with(response, ETAG, &range::entity_tag(digest));
    let response = with(response, ACCEPT_RANGES, "bytes");
    with(response, CONTENT_DIGEST, &digest.to_string())
}

fn typed(response: Response<ResponseBody>) -> Response<ResponseBody> {
    with(response, CONTENT_TYPE, "application/octet-stream")
}
