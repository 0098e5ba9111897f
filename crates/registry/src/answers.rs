//! Answers without a subject of their own.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};

use super::body::ResponseBody;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const API_VERSION: HeaderName =
    HeaderName::from_static("docker-distribution-api-version");

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) fn base() -> Response<ResponseBody> {
    json("{}".into(), "application/json")
}

pub(super) fn text(text: &'static str) -> Response<ResponseBody> {
    json(Bytes::from_static(text.as_bytes()), "text/plain")
}

/// 200 with this body.
pub(super) fn json(text: Bytes, content_type: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(text));
    let content_type = HeaderValue::from_static(content_type);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, content_type);
    response
}
