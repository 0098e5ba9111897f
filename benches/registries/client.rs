//! A registry's client: one request at a time, each on a connection of its own.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use super::reply::Reply;

const NAME: &str = "library/bench";

/// A client of the registry at this address.
pub struct Client {
    pub address: String,
}

impl Client {
    fn expect(
        &self,
        status: u16,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> io::Result<Reply<BufReader<TcpStream>>> {
        let headers = [("content-type", "application/octet-stream")];
        let reply = Reply::open(&self.address, method, path, &headers, body)?;
        let reply = reply.is(status);
        reply.map_err(|error| io::Error::other(format!("{method} {path}: {error}")))
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
        let mut at = self.begin_upload()?;
        for body in layer.chunks(piece) {
            let reply = self.expect(202, "PATCH", &at, body)?;
            at = reply.location().map_err(io::Error::other)?;
        }
        let joint = if at.contains('?') { '&' } else { '?' };
        Ok(format!("{at}{joint}digest={digest}"))
    }

    fn begin_upload(&self) -> io::Result<String> {
        let begun = self.expect(202, "POST", &format!("/v2/{NAME}/blobs/uploads/"), &[])?;
        begun.location().map_err(io::Error::other)
    }

    /// Begins an upload and a request for its bytes, which it leaves to the caller.
    pub fn begin(&self) -> io::Result<TcpStream> {
        let at = self.begin_upload()?;
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
