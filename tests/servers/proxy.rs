//! A proxy between the program and a server, which spoils one request. It forwards whole requests,
//! each on a connection of its own, so that a request goes wrong and not a connection of many.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How one request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// 500 instead of doing it.
    Refused,
    /// 503 SlowDown instead of doing it.
    SlowDown,
    /// Done, and the connection ends without an answer.
    LostAnswer,
    /// Done, and 500 is answered.
    LostAs500,
    /// The server gets half of it, and the connection ends.
    HalfRequest,
    /// Done, and the connection ends in the middle of the answer.
    HalfAnswer,
    /// Done twice; the first answer counts.
    Twice,
}

impl Spoil {
    pub const ALL: [Spoil; 7] = [
        Spoil::Refused,
        Spoil::SlowDown,
        Spoil::LostAnswer,
        Spoil::LostAs500,
        Spoil::HalfRequest,
        Spoil::HalfAnswer,
        Spoil::Twice,
    ];
}

/// What the proxy knows: requests so far, and which one it spoils.
struct State {
    upstream: SocketAddr,
    spoilt: Option<(usize, Spoil)>,
    /// First lines, in the order of arrival.
    log: Mutex<Vec<String>>,
    ended: AtomicBool,
}

/// A running proxy; dropping ends it.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    /// In front of `http://HOST:PORT`. The request with this number, from 1, goes wrong.
    pub fn before(url: &str, spoilt: Option<(usize, Spoil)>) -> io::Result<Self> {
        let upstream = url.strip_prefix("http://").and_then(|at| at.parse().ok());
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            upstream: upstream.ok_or(io::ErrorKind::InvalidInput)?,
            spoilt,
            log: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, Ok(stream)) = (Arc::clone(&shared), stream) else {
                    continue;
                };
                std::thread::spawn(move || {
                    // What breaks here the client notices, and the test with it.
                    let _ = shared.converse(stream);
                });
            }
        });
        Ok(Proxy { address, state })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// First lines of the requests, in the order of arrival.
    pub fn log(&self) -> Vec<String> {
        let log = self.state.log.lock();
        log.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        // So that it notices.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn number(&self, head: &str) -> usize {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(head.lines().next().unwrap_or_default().to_owned());
        log.len()
    }

    /// Serves one request, whose answer ends the connection.
    fn converse(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        let (head, already) = read_head(&mut client)?;
        let fields = head.to_ascii_lowercase();
        let field = |name: &str| {
            let mut lines = fields.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        if field("expect:").is_some() {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let size = field("content-length:").map_or(Ok(0), |size| size.parse());
        let size = size.map_err(io::Error::other)?;
        let mut body = already;
        let rest = body.len();
        body.resize(size, 0);
        client.read_exact(&mut body[rest..])?;

        let number = self.number(&head);
        let request = [closing(&head).as_bytes(), &body].concat();
        let spoil = self.spoilt.filter(|(spoilt, _)| *spoilt == number);
        match spoil.map(|(_, spoil)| spoil) {
            None => client.write_all(&self.forward(&request)?),
            Some(Spoil::Refused) => client.write_all(&refusal(&head, 500)),
            Some(Spoil::SlowDown) => client.write_all(&refusal(&head, 503)),
            Some(Spoil::LostAnswer) => self.forward(&request).map(drop),
            Some(Spoil::LostAs500) => {
                self.forward(&request)?;
                client.write_all(&refusal(&head, 500))
            }
            Some(Spoil::HalfRequest) => {
                let mut upstream = TcpStream::connect(self.upstream)?;
                upstream.write_all(&request[..request.len() / 2])?;
                upstream.shutdown(Shutdown::Both)
            }
            Some(Spoil::HalfAnswer) => {
                let answer = self.forward(&request)?;
                client.write_all(&answer[..answer.len() / 2])
            }
            Some(Spoil::Twice) => {
                let answer = self.forward(&request)?;
                self.forward(&request)?;
                client.write_all(&answer)
            }
        }
    }

    /// The whole answer of the server.
    fn forward(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(self.upstream)?;
        upstream.set_read_timeout(Some(PATIENCE))?;
        upstream.write_all(request)?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// The head with the empty line after it, and what of the body came with it.
fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
        match client.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

/// The head of a request that is the only one of its connection, and whose body comes unasked.
fn closing(head: &str) -> String {
    let is_kept = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("expect")
    };
    let lines: Vec<&str> = head.trim_end().lines().filter(is_kept).collect();
    format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n"))
}

fn refusal(head: &str, status: u16) -> Vec<u8> {
    let (reason, code) = match status {
        503 => ("Service Unavailable", "SlowDown"),
        _ => ("Internal Server Error", "InternalError"),
    };
    let body = if head.starts_with("HEAD ") {
        String::new()
    } else {
        format!("<Error><Code>{code}</Code><Message>spoilt</Message></Error>")
    };
    let size = body.len();
    let head = format!("HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Length: {size}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}
