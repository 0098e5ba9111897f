//! A client for one request over HTTP or HTTPS: for the keys of issuers, and webhooks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::chain;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest body of a response, in bytes.
const LARGEST: usize = 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Sends a request to the URL that it names, and reads the whole response. Redirects are not followed.
///
/// # Errors
///
/// Why there is no response, without the URL.
pub(crate) async fn send(
    request: Request<Full<Bytes>>,
    tls: &Arc<ClientConfig>,
) -> Result<Response<Bytes>, String> {
    match timeout(TIMEOUT, connect_and_send(request, tls)).await {
        Ok(response) => response.map_err(|error| chain(&*error)),
        Err(_) => Err(format!("no response within {} s", TIMEOUT.as_secs())),
    }
}

/// The body of a response with status 200 to a GET over HTTPS. Redirects are not followed.
///
/// # Errors
///
/// Why there is none, with the URL.
pub(crate) async fn fetch(url: &str, ca: Option<&Path>) -> Result<Bytes, String> {
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

/// Trusts the CAs of the system, and those in the file `ca`.
///
/// # Errors
///
/// Why the file is wrong.
pub(crate) fn tls_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read leaves the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read(file).map_err(|error| named(&error))?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| named(&error))?;
            roots.add(certificate).map_err(|error| named(&error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

async fn connect_and_send(
    request: Request<Full<Bytes>>,
    tls: &Arc<ClientConfig>,
) -> Result<Response<Bytes>, BoxError> {
    let uri = request.uri();
    let is_tls = uri.scheme_str() != Some("http");
    let host = uri.host().ok_or("the URL has no host")?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let tcp = TcpStream::connect((&*host, port)).await?;
    if !is_tls {
        return exchange(tcp, request).await;
    }
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(ServerName::try_from(host)?, tcp).await?;
    exchange(stream, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, BoxError> {
    let authority = request.uri().authority().ok_or("the URL has no host")?;
    let host = HeaderValue::from_str(authority.as_str())?;
    request.headers_mut().insert(HOST, host);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        response = &mut exchange => response,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}
