//! The server that stands in for AWS, one thread and one request a connection.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    /// The path and query; of a proxy also scheme and host.
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    head: String,
}

impl Asked {
    pub(super) fn host(&self) -> &str {
        &self.headers["host"]
    }
}

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

type Respond = dyn Fn(&Asked) -> Answer + Send + Sync;

struct Shared {
    respond: Box<Respond>,
    /// Host and port.
    store: String,
    asked: Mutex<Vec<Asked>>,
}

/// A running server.
pub(super) struct StandIn {
    /// Of plain HTTP.
    pub(super) url: String,
    /// Of TLS.
    pub(super) tls_url: String,
    shared: Arc<Shared>,
}

impl StandIn {
    /// Answers with what `respond` says; the store is the one at this endpoint.
    pub(super) fn start(
        endpoint: &str,
        respond: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            respond: Box::new(respond),
            store: endpoint.trim_start_matches("http://").to_owned(),
            asked: Mutex::default(),
        });
        let [plain, tls] = [false, true].map(|is_tls| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let shared = Arc::clone(&shared);
            // It ends with the process of the tests.
            thread::spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.serve(client, is_tls));
                }
            });
            address
        });
        StandIn {
            url: format!("http://{plain}"),
            tls_url: format!("https://{tls}"),
            shared,
        }
    }

    /// The certificate, as a file has it.
    pub(super) fn certificate() -> &'static str {
        &CERTIFICATE.2
    }

    /// Every request so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
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
        let asked = read(&mut stream)?;
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
                let mut store = TcpStream::connect(&self.store)?;
                store.write_all(format!("{}connection: close\r\n\r\n", asked.head).as_bytes())?;
                store.write_all(&asked.body)?;
                let (mut answer, mut status) = (BufReader::new(store), String::new());
                answer.read_line(&mut status)?;
                stream.write_all(format!("{status}{headers}").as_bytes())?;
                io::copy(&mut answer, &mut stream)?;
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

fn read(stream: &mut impl Read) -> io::Result<Asked> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line)? > 2 {
        head.push_str(&line);
        line.clear();
    }
    let mut lines = head.lines();
    let mut words = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned);
    let (method, target) = (words.next(), words.next());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let (method, target) = method.zip(target).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Asked {
        method,
        target,
        headers,
        body,
        head,
    })
}
