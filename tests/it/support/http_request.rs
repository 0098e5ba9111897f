//! One HTTP request as a test server reads it. `tests/servers` uses this file too, so it imports no other support
//! module.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than anything here takes: a hang fails.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct HttpRequest {
    pub method: String,
    /// The path and query; of a proxy also scheme and host.
    pub target: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// Reads the only request of a connection, and asks for its body if the client waits for that.
    pub fn read(stream: &mut (impl Read + Write)) -> io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = words
            .next()
            .zip(words.next())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if headers.remove("expect").is_some() {
            reader
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let size = headers
            .get("content-length")
            .map_or(Ok(0), |size| size.parse());
        let mut body = vec![0; size.map_err(io::Error::other)?];
        reader.read_exact(&mut body)?;
        Ok(HttpRequest {
            method,
            target,
            headers,
            body,
        })
    }

    /// As bytes, for a connection that ends after it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in self
            .headers
            .iter()
            .filter(|(name, _)| *name != "connection")
        {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("connection: close\r\n\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// Sends it to `HOST:PORT`, and returns the whole response.
    pub fn forward(&self, server: &str) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(server)?;
        server.set_read_timeout(Some(PATIENCE))?;
        server.write_all(&self.to_bytes())?;
        let mut response = Vec::new();
        server.read_to_end(&mut response)?;
        Ok(response)
    }
}
