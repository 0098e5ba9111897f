//! An HTTP client of a registry: one request over the network, and its answer. `tests/servers` uses it too.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use super::cli_fixture::PATIENCE;

/// An answer of the registry.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn to(
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, String> {
        let failed = |error: io::Error| format!("{method} {path}: {error}");
        Reply::ask(address, method, path, headers, body).map_err(failed)
    }

    fn ask(
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
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
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = bytes.split_off(end + 4);
        let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Reply { status, head, body })
    }

    pub fn is(self, status: u16) -> Result<Self, String> {
        if self.status == status {
            return Ok(self);
        }
        Err(format!("expected {status}, got: {}", self.head))
    }

    /// Path and query of the `Location`.
    pub fn location(&self) -> Result<String, String> {
        let lines = self.head.lines().find(|line| line.starts_with("location:"));
        let path = lines.and_then(|line| Some(line[line.find("/v2/")?..].to_owned()));
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
