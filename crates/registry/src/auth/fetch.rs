//! A GET over HTTPS, for the keys of issuers.

use std::path::Path;

use bytes::Bytes;
use http::{Request, StatusCode};

use crate::http_client::{send, tls_config};

/// The body of a response with status 200. Redirects are not followed.
pub(super) async fn fetch(url: &str, ca: Option<&Path>) -> Result<Bytes, String> {
    let fetched = get(url, ca).await;
    fetched.map_err(|error| format!("{url}: {error}"))
}

async fn get(url: &str, ca: Option<&Path>) -> Result<Bytes, String> {
    let request = Request::get(url).body(Default::default());
    let request = request.map_err(|error| error.to_string())?;
    if request.uri().scheme_str() != Some("https") {
        return Err("expected a URL with https://".to_owned());
    }
    let response = send(request, &tls_config(ca)?).await?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => Err(format!("status {}, expected 200", status.as_u16())),
    }
}
