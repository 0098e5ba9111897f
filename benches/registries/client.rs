//! A registry's client: one request at a time, each on a connection of its own.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

const NAME: &str = "library/bench";

/// An answer's status and `Location`.
struct Answer {
    status: u16,
    location: Option<String>,
    length: u64,
    body: BufReader<TcpStream>,
}

/// A client of the registry at this address.
pub struct Client {
    pub address: String,
}

impl Client {
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        let (host, size) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/octet-stream\r\ncontent-length: {size}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Answer {
            status: 0,
            location: None,
            length: 0,
            body: BufReader::with_capacity(256 * 1024, stream),
        };
        let mut line = String::new();
        answer.body.read_line(&mut line)?;
        answer.status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        loop {
            line.clear();
            answer.body.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                None => return Ok(answer),
                Some((name, value)) if name.eq_ignore_ascii_case("location") => {
                    answer.location = value.find("/v2/").map(|at| value[at..].to_owned());
                }
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    answer.length = value.parse().unwrap_or(0);
                }
                Some(_) => {}
            }
        }
    }

    fn expect(&self, status: u16, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let answer = self.ask(method, path, body)?;
        match answer.status == status {
            true => Ok(answer),
            false => Err(io::Error::other(format!(
                "{method} {path}: {}",
                answer.status
            ))),
        }
    }

    /// As docker pushes a layer: is it there, begin, send, end, is it there. `pieces` is how many
    /// requests send it.
    pub fn push(&self, layer: &[u8], digest: &str, piece: usize) -> io::Result<()> {
        self.head(digest, 404)?;
        let end = self.send(layer, digest, piece)?;
        self.end(&end)?;
        self.head(digest, 200)
    }

    /// Everything but the request that ends the push, which is given back.
    pub fn send(&self, layer: &[u8], digest: &str, piece: usize) -> io::Result<String> {
        let location = |answer: Answer| answer.location.ok_or(io::ErrorKind::InvalidData);
        let mut at =
            location(self.expect(202, "POST", &format!("/v2/{NAME}/blobs/uploads/"), &[])?)?;
        for body in layer.chunks(piece) {
            at = location(self.expect(202, "PATCH", &at, body)?)?;
        }
        let joint = if at.contains('?') { '&' } else { '?' };
        Ok(format!("{at}{joint}digest={digest}"))
    }

    /// Begins an upload and a request for its bytes, which it leaves to the caller.
    pub fn begin(&self) -> io::Result<TcpStream> {
        let begun = self.expect(202, "POST", &format!("/v2/{NAME}/blobs/uploads/"), &[])?;
        let at = begun.location.ok_or(io::ErrorKind::InvalidData)?;
        let mut stream = TcpStream::connect(&self.address)?;
        let head = format!(
            "PATCH {at} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            1 << 30
        );
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }

    pub fn end(&self, end: &str) -> io::Result<()> {
        self.expect(201, "PUT", end, &[]).map(drop)
    }

    pub fn head(&self, digest: &str, status: u16) -> io::Result<()> {
        self.expect(status, "HEAD", &format!("/v2/{NAME}/blobs/{digest}"), &[])
            .map(drop)
    }

    /// Reads the layer, and compares it.
    pub fn pull(&self, layer: &[u8], digest: &str) -> io::Result<()> {
        let path = format!("/v2/{NAME}/blobs/{digest}");
        let mut answer = self.expect(200, "GET", &path, &[])?;
        let mut piece = vec![0; 256 * 1024];
        let mut at = 0;
        while at < layer.len() {
            let read = answer.body.read(&mut piece)?;
            let expected = layer.get(at..at + read);
            if read == 0 || expected != Some(&piece[..read]) {
                return Err(io::Error::other(format!(
                    "other bytes came back, after {at}"
                )));
            }
            at += read;
        }
        Ok(())
    }
}
