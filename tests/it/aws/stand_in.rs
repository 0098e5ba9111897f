//! The server that stands in for AWS, one thread and one request a connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock, Mutex};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::http_request::HttpRequest;
use crate::support::tcp_proxy::Listener;

/// What becomes of a request.
pub(super) enum Answer {
    /// Status, headers and body.
    Now(u16, String, String),
    /// What the store says, with these lines among its headers.
    Store(&'static str),
    /// Nothing, as long as the client waits.
    Never,
}

impl Answer {
    pub(super) fn text(status: u16, body: &str) -> Self {
        Answer::Now(status, String::new(), body.to_owned())
    }

    pub(super) fn header(self, name: &str, value: &str) -> Self {
        match self {
            Answer::Now(status, head, body) => {
                Answer::Now(status, format!("{head}{name}: {value}\r\n"), body)
            }
            other => other,
        }
    }
}

/// The certificate of every host below, with its key; self-signed.
static CERTIFICATE: LazyLock<(CertificateDer<'static>, PrivateKeyDer<'static>, String)> =
    LazyLock::new(|| {
        let names = [
            "*.s3.eu-west-1.amazonaws.com",
            "sts.eu-west-1.amazonaws.com",
            "portal.sso.eu-west-1.amazonaws.com",
            "127.0.0.1",
        ];
        let made = rcgen::generate_simple_self_signed(names.map(str::to_owned)).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        (made.cert.der().clone(), key, made.cert.pem())
    });

type Respond = dyn Fn(&HttpRequest) -> Answer + Send + Sync;

struct Shared {
    respond: Box<Respond>,
    /// Host and port.
    store: String,
    asked: Mutex<Vec<HttpRequest>>,
}

/// A running server.
pub(super) struct StandIn {
    /// Of plain HTTP.
    pub(super) url: String,
    /// Of TLS.
    pub(super) tls_url: String,
    shared: Arc<Shared>,
    _listeners: [Listener; 2],
}

impl StandIn {
    /// Answers with what `respond` says; the store is the one at this endpoint.
    pub(super) fn start(
        endpoint: &str,
        respond: impl Fn(&HttpRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            respond: Box::new(respond),
            store: endpoint.trim_start_matches("http://").to_owned(),
            asked: Mutex::default(),
        });
        let [plain, tls] = [false, true].map(|is_tls| {
            let shared = Arc::clone(&shared);
            Listener::start(move |client| drop(shared.serve(client, is_tls))).unwrap()
        });
        StandIn {
            url: plain.url(),
            tls_url: format!("https://{}", tls.address),
            shared,
            _listeners: [plain, tls],
        }
    }

    /// The certificate, as a file has it.
    pub(super) fn certificate() -> &'static str {
        &CERTIFICATE.2
    }

    /// Every request so far.
    pub(super) fn asked(&self) -> Vec<HttpRequest> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many requests so far begin so: method and target.
    pub(super) fn count(&self, begins: &str) -> usize {
        let asked = self.asked();
        let lines = asked
            .iter()
            .map(|asked| format!("{} {}", asked.method, asked.target));
        lines.filter(|line| line.starts_with(begins)).count()
    }
}

impl Shared {
    fn serve(&self, client: TcpStream, is_tls: bool) -> io::Result<()> {
        if is_tls {
            self.talk(encrypted(client)?).map(drop)
        } else if let Some(mut client) = self.talk(client)? {
            // A tunnel to any host ends here.
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            self.talk(encrypted(client)?).map(drop)
        } else {
            Ok(())
        }
    }

    /// One request and its answer. The stream, where the request is for a tunnel.
    fn talk<S: Read + Write>(&self, mut stream: S) -> io::Result<Option<S>> {
        let asked = HttpRequest::read(&mut stream)?;
        self.asked.lock().unwrap().push(asked.clone());
        if asked.method == "CONNECT" {
            return Ok(Some(stream));
        }
        match (self.respond)(&asked) {
            Answer::Now(status, headers, body) => {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} So\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let body = if asked.method == "HEAD" { "" } else { &body };
                stream.write_all(format!("{head}{body}").as_bytes())?;
            }
            Answer::Store(headers) => {
                let response = asked.forward(&self.store)?;
                let status_line = response.split_inclusive(|byte| *byte == b'\n').next();
                let (status, rest) = response.split_at(status_line.map_or(0, <[u8]>::len));
                stream.write_all(&[status, headers.as_bytes(), rest].concat())?;
            }
            Answer::Never => {
                let _ = stream.read(&mut [0]);
            }
        }
        stream.flush()?;
        Ok(None)
    }
}

fn encrypted(client: TcpStream) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let (certificate, key, _) = &*CERTIFICATE;
    encrypted_with(client, certificate, key)
}

/// TLS with this certificate and its key.
pub(super) fn encrypted_with(
    client: TcpStream,
    certificate: &CertificateDer<'static>,
    key: &PrivateKeyDer<'static>,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.clone_key())
        .unwrap();
    let connection = ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, client))
}
