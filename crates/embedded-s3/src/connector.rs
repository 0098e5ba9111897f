//! The entry inside the process: an HTTP client for the AWS SDK whose requests never see a socket.
//!
//! A request is turned into one of s3s, body and all as a stream, and goes through the very service
//! that [`serve`](crate::EmbeddedStore::serve) offers to the network: it is signed and verified like
//! any other. What an HTTP server adds to an answer or takes from it is done here.

pub(crate) use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http::header::{self, CONTENT_LENGTH, DATE, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use jiff::Timestamp;

use crate::service::{HttpService, SERVER};

/// A client whose requests go to the service.
pub(crate) fn in_process(service: HttpService) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(InProcess(service));
    http_client_fn(move |_, _| connector.clone())
}

/// Hands requests of the SDK to the service.
#[derive(Debug)]
struct InProcess(HttpService);

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let service = self.0.clone();
        HttpConnectorFuture::new(async move {
            let user = |error| ConnectorError::user(error);
            let request = request
                .try_into_http1x()
                .map_err(|error| user(error.into()))?;
            let request = incoming(request).map_err(|error| user(error.into()))?;
            let method = request.method().clone();
            let answer = service
                .call(request)
                .await
                // Over a socket the connection would end here.
                .map_err(|error| ConnectorError::io(s3s::StdError::from(error)))?;
            HttpResponse::try_from(outgoing(answer, &method)).map_err(|error| user(error.into()))
        })
    }
}

/// The request as it would come off a socket.
fn incoming(
    request: http::Request<SdkBody>,
) -> Result<s3s::HttpRequest, http::header::InvalidHeaderValue> {
    let (mut parts, body) = request.into_parts();
    if !parts.headers.contains_key(HOST)
        && let Some(authority) = parts.uri.authority()
    {
        // The signature covers it, and it is the HTTP client that writes it.
        parts
            .headers
            .insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    Ok(http::Request::from_parts(parts, s3s::Body::http_body(body)))
}

/// The answer as a server sends it.
fn outgoing(answer: s3s::HttpResponse, method: &Method) -> http::Response<SdkBody> {
    let (mut parts, body) = answer.into_parts();
    if let Ok(now) = HeaderValue::try_from(http_date(Timestamp::now())) {
        parts.headers.entry(DATE).or_insert(now);
    }
    let named = HeaderValue::from_static(SERVER);
    parts.headers.entry(header::SERVER).or_insert(named);
    let length = body.size_hint().exact();
    if let Some(length) = length
        && has_length(parts.status)
        && !parts.headers.contains_key(TRANSFER_ENCODING)
    {
        parts.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    let body = if method == Method::HEAD || !has_length(parts.status) {
        SdkBody::empty()
    } else {
        SdkBody::from_body_1_x(body)
    };
    http::Response::from_parts(parts, body)
}

/// Whether an answer with this status can have a body.
fn has_length(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_of_http() {
        let time = Timestamp::from_second(784_111_777).map(http_date);
        assert_eq!(time.ok().as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }
}
