//! An HTTP client of a registry: one request over the network, and its answer. `tests/servers` and the benches
//! use it too.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any answer takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer of the registry, whose body is read or still on its way.
#[derive(Debug)]
pub struct Reply<B = Vec<u8>> {
    pub status: u16,
    head: String,
    pub body: B,
}

impl Reply {
    /// Sends a request and reads the whole answer.
    pub fn to(
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, String> {
        let read = || {
            let mut answer = Reply::open(address, method, path, headers, body)?;
            let mut body = Vec::new();
            answer.body.read_to_end(&mut body)?;
            Ok(Reply {
                status: answer.status,
                head: answer.head,
                body,
            })
        };
        read().map_err(|error: io::Error| format!("{method} {path}: {error}"))
    }
}

impl Reply<BufReader<TcpStream>> {
    /// Sends a request and reads the head of the answer.
    pub fn open(
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let size = body.len();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {size}\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body)?;
        let mut body = BufReader::with_capacity(256 * 1024, stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if body.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Reply { status, head, body })
    }
}

impl<B> Reply<B> {
    pub fn is(self, status: u16) -> Result<Self, String> {
        if self.status == status {
            return Ok(self);
        }
        Err(format!("expected {status}, got: {}", self.head))
    }

    /// Path and query of the `Location`.
    pub fn location(&self) -> Result<String, String> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut locations = fields.filter(|(name, _)| name.eq_ignore_ascii_case("location"));
        let path = locations.find_map(|(_, value)| Some(value[value.find("/v2/")?..].to_owned()));
        path.ok_or_else(|| format!("no Location: {}", self.head))
    }

    /// How many bytes the registry has. (`Range` is the same for none and for one.)
    pub fn offset(&self) -> Result<u64, String> {
        let location = self.location()?;
        let offset = location.split_once("at=").map(|(_, offset)| offset.parse());
        match offset {
            Some(Ok(offset)) => Ok(offset),
            _ => Err(format!("no offset in {location}")),
        }
    }
}
