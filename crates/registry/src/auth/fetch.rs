//! A GET over HTTPS, for the keys of issuers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::chain;

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response with status 200. Redirects are not followed.
pub(super) async fn fetch(url: &str, ca: Option<&Path>) -> Result<Vec<u8>, String> {
    let fetched = match timeout(PATIENCE, get(url, ca)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("no response within {} s", PATIENCE.as_secs()).into()),
    };
    fetched.map_err(|error| format!("{url}: {}", chain(&*error)))
}

async fn get(url: &str, ca: Option<&Path>) -> Result<Vec<u8>, BoxError> {
    let uri: Uri = url.parse()?;
    if uri.scheme_str() != Some("https") {
        return Err("expected a URL with https://".into());
    }
    let host = uri.host().ok_or("the URL has no host")?;
    let port = uri.port_u16().unwrap_or(443);
    let name = host.trim_matches(['[', ']']);
    let tcp = TcpStream::connect((name, port)).await?;
    let server = ServerName::try_from(name.to_owned())?;
    let tls = TlsConnector::from(Arc::new(config(ca)?));
    let stream = TokioIo::new(tls.connect(server, tcp).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let authority = uri.authority().ok_or("the URL has no host")?.as_str();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("status {}, expected 200", response.status().as_u16()).into());
        }
        let body = Limited::new(response.into_body(), LARGEST)
            .collect()
            .await?;
        Ok(body.to_bytes().to_vec())
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        fetched = &mut exchange => fetched,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}

fn config(ca: Option<&Path>) -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read leaves the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read(file).map_err(|error| named(&error))?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            roots.add(certificate.map_err(|error| named(&error))?)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
