//! TLS towards clients: certificate, key and client CAs from files, which can be read again while
//! connections are open.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use webpki::EndEntityCert;

use super::proxies::ClientCertificate;
use crate::locks::lock;

/// Where the certificate of a server is. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those of its issuers but the root.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1, without a password.
    pub key: PathBuf,
    /// The CAs of clients' certificates. `None`: clients are not asked for one. A client may have none
    /// in any case; what it may do is up to the [`Authorizer`](super::Authorizer).
    pub client_ca: Option<PathBuf>,
}

/// What is wrong with a file of a certificate or key. It does not repeat its content.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct TlsError {
    file: PathBuf,
    what: String,
}

/// A server's certificate and key.
pub struct Tls {
    files: TlsFiles,
    current: Mutex<(Content, Arc<ServerConfig>)>,
}

/// What stood in the files.
#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Which file is wrong, and why.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let content = Content::read(&files)?;
        let config = Arc::new(content.config(&files)?);
        Ok(Tls {
            files,
            current: Mutex::new((content, config)),
        })
    }

    /// Reads the files again. `false` where they did not change. New connections use what was read,
    /// open ones stay.
    ///
    /// # Errors
    ///
    /// Which file is wrong, and why. What was read before stays in use then.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let content = Content::read(&self.files)?;
        if lock(&self.current).0 == content {
            return Ok(false);
        }
        let config = Arc::new(content.config(&self.files)?);
        *lock(&self.current) = (content, config);
        Ok(true)
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&lock(&self.current).1);
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// The name in the certificate of the client, where it has one.
pub(super) fn client_certificate(stream: &TlsStream<TcpStream>) -> Option<ClientCertificate> {
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates()?.first()?;
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let name = certificate.valid_dns_names().next();
    let name = name.or_else(|| certificate.valid_uri_names().next())?;
    Some(ClientCertificate::new(name))
}

impl Content {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| wrong(path, error));
        Ok(Content {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_ref().map(read).transpose()?,
        })
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => wrong(
                &files.key,
                "there is no private key in it; expected PEM without a password",
            ),
            error => wrong(&files.key, error),
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&files.certificate, error))?;
        let builder = match files.client_ca.as_deref().zip(self.client_ca.as_deref()) {
            Some((file, text)) => {
                builder.with_client_cert_verifier(verifier(file, text, provider)?)
            }
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong(
                &files.key,
                format_args!("the key is not that of {}", files.certificate.display()),
            ),
            rustls::Error::General(what) => wrong(&files.key, what),
            error => wrong(&files.certificate, error),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(file: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| wrong(file, error))?;
    if all.is_empty() {
        return Err(wrong(file, "there is no certificate in it; expected PEM"));
    }
    Ok(all)
}

fn verifier(
    file: &Path,
    text: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, text)? {
        let added = roots.add(certificate);
        added.map_err(|error| wrong(file, format_args!("not the certificate of a CA: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = builder.allow_unauthenticated().build();
    verifier.map_err(|error| wrong(file, error))
}

fn wrong(file: &Path, what: impl fmt::Display) -> TlsError {
    TlsError {
        file: file.to_owned(),
        what: what.to_string(),
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
