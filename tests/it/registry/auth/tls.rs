//! TLS: certificates that change under load, certificates of clients, and files that are wrong.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use s3layers_registry::{Limits, Policy, Tls, TlsFiles, Users, serve_tls};
use tokio::io::AsyncBufReadExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fixture::Site;

/// A CA that no client trusts.
pub(super) struct Ca {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// A certificate and its key, as PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        Ca { issuer, pem }
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(super) fn server(&self) -> Pair {
        self.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth)
    }
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles {
        certificate: folder.join("server.crt"),
        key: folder.join("server.key"),
        client_ca: Some(folder.join("ca.crt")),
    }
}

fn write(folder: &Path, pair: &Pair) {
    fs::write(folder.join("server.crt"), &pair.certificate).unwrap();
    fs::write(folder.join("server.key"), &pair.key).unwrap();
}

/// A connection that stays open.
struct Connection(BufReader<TlsStream<TcpStream>>);

impl Connection {
    async fn open(address: std::net::SocketAddr, ca: &Ca, proof: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match proof {
            Some(pair) => {
                let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(vec![certificate.unwrap()], key)
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .unwrap();
        Connection(BufReader::new(stream))
    }

    /// The certificate of the server.
    fn server(&self) -> CertificateDer<'static> {
        let (_, connection) = self.0.get_ref().get_ref();
        connection.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }

    async fn send(&mut self, method: &str, path: &str) -> u16 {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: registry\r\ncontent-length: 0\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).await.unwrap();
        let (mut line, mut size, mut status) = (String::new(), 0, 0);
        loop {
            line.clear();
            assert!(
                self.0.read_line(&mut line).await.unwrap() > 0,
                "the connection ended"
            );
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(length) = line.to_lowercase().strip_prefix("content-length: ") {
                size = length.trim().parse().unwrap();
            } else if line == "\r\n" {
                break;
            }
        }
        self.0.read_exact(&mut vec![0; size]).await.unwrap();
        status
    }
}

/// A registry over TLS.
async fn serving(folder: &Path, policy: &str) -> (Arc<Tls>, std::net::SocketAddr) {
    let tls = Arc::new(Tls::load(files(folder)).unwrap());
    let site = Site::new(Users::default(), Policy::parse(policy, "policy").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = serve_tls(
        listener,
        tls.clone(),
        site.registry,
        Limits::default(),
        std::future::pending(),
    );
    tokio::spawn(served);
    (tls, address)
}

const PULL: &str =
    "[[rules]]\nsubjects = [\"everyone\"]\nrepositories = [\"a\"]\nactions = [\"pull\"]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_changes_under_load_without_a_failed_request() {
    const REQUESTS: usize = 10_000;
    const CLIENTS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let ca = Arc::new(Ca::new());
    write(folder.path(), &ca.server());
    fs::write(folder.path().join("ca.crt"), &ca.pem).unwrap();
    let (tls, address) = serving(folder.path(), PULL).await;
    let done = Arc::new(AtomicUsize::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let (ca, done) = (ca.clone(), done.clone());
        tokio::spawn(async move {
            let mut connection = Connection::open(address, &ca, None).await;
            let mut seen = vec![connection.server()];
            for request in 0..REQUESTS / CLIENTS {
                // Half of the clients stay on one connection.
                if number % 2 == 0 && request % 50 == 49 {
                    connection = Connection::open(address, &ca, None).await;
                    seen.push(connection.server());
                }
                assert_eq!(connection.send("GET", "/v2/a/tags/list").await, 404);
                done.fetch_add(1, SeqCst);
            }
            seen.dedup();
            seen.len()
        })
    });
    let clients: Vec<_> = clients.collect();
    for change in 1..=5 {
        while done.load(SeqCst) < change * REQUESTS / 6 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        write(folder.path(), &ca.server());
        assert!(tls.reload().unwrap());
        assert!(!tls.reload().unwrap());
    }
    let mut certificates = 0;
    for client in clients {
        certificates = certificates.max(client.await.unwrap());
    }
    assert_eq!(done.load(SeqCst), REQUESTS);
    assert_eq!(certificates, 6);
}

#[tokio::test]
async fn certificate_of_a_client_is_its_subject() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, stranger) = (Ca::new(), Ca::new());
    write(folder.path(), &ca.server());
    fs::write(folder.path().join("ca.crt"), &ca.pem).unwrap();
    let policy = "[[rules]]\nsubjects = [\"certificate:*.build.example.com\"]\n\
                  repositories = [\"a\"]\nactions = [\"push\"]\n";
    let (_, address) = serving(folder.path(), policy).await;
    let client = |ca: &Ca, name| ca.issue(name, ExtendedKeyUsagePurpose::ClientAuth);
    for (pair, base, push) in [
        (Some(client(&ca, "x.build.example.com")), 200, 202),
        (Some(client(&ca, "x.example.com")), 200, 403),
        (None, 401, 401),
    ] {
        let mut connection = Connection::open(address, &ca, pair.as_ref()).await;
        assert_eq!(connection.send("GET", "/v2/").await, base);
        let got = connection.send("POST", "/v2/a/blobs/uploads/").await;
        assert_eq!(got, push);
    }
    // One of another CA does not connect at all.
    let pair = client(&stranger, "x.build.example.com");
    let refused = tokio::spawn(async move {
        let mut connection = Connection::open(address, &ca, Some(&pair)).await;
        connection.send("GET", "/v2/").await
    });
    assert!(refused.await.is_err());
}

#[test]
fn wrong_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (right, other) = (ca.server(), ca.server());
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGb\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    for (file, text, words) in [
        ("server.crt", None, "No such file"),
        ("server.key", None, "No such file"),
        ("ca.crt", None, "No such file"),
        ("server.crt", Some(""), "no certificate"),
        ("server.crt", Some(&*right.key), "no certificate"),
        ("server.crt", Some(broken), ""),
        ("server.key", Some(""), "no private key"),
        ("server.key", Some(&*right.certificate), "no private key"),
        ("server.key", Some(encrypted), "no private key"),
        ("server.key", Some(&*other.key), "not that of"),
        ("ca.crt", Some("nothing"), "no certificate"),
        ("ca.crt", Some(broken), "not the certificate of a CA"),
    ] {
        write(folder.path(), &right);
        fs::write(folder.path().join("ca.crt"), &ca.pem).unwrap();
        let tls = Tls::load(files(folder.path())).unwrap();
        match text {
            Some(text) => fs::write(folder.path().join(file), text).unwrap(),
            None => fs::remove_file(folder.path().join(file)).unwrap(),
        }
        for error in [tls.reload().err(), Tls::load(files(folder.path())).err()] {
            let error = error.unwrap().to_string();
            assert!(
                error.contains(file) && error.contains(words),
                "{file} {text:?}: {error}"
            );
            assert!(!error.contains("BEGIN"), "{error}");
        }
    }
}
