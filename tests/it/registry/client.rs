//! A client that sends whole and interrupted requests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Path and query of `Location`.
    #[track_caller]
    pub fn location(&self) -> String {
        let location = self.header("location").unwrap();
        let path = location.find("/v2/").unwrap();
        location[path..].to_owned()
    }

    /// How many bytes an upload has by its `Location`. (`Range` is the same for none and one.)
    #[track_caller]
    pub fn offset(&self) -> u64 {
        let location = self.location();
        let (_, offset) = location.split_once("?at=").unwrap();
        let offset = offset.parse().unwrap();
        let range = format!("0-{}", u64::saturating_sub(offset, 1));
        assert_eq!(self.header("range"), Some(range.as_str()));
        offset
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Path and query of the next page.
    pub fn next(&self) -> Option<String> {
        let link = self.header("link")?;
        let link = link.strip_prefix('<')?;
        link.strip_suffix(">; rel=\"next\"").map(str::to_owned)
    }
}

/// A connection that has a request under way.
pub struct Conversation {
    pub stream: TcpStream,
    head_only: bool,
}

/// How a request is interrupted.
#[derive(Clone, Copy, Debug)]
pub enum Interruption {
    /// The connection ends in the middle of a chunk, where no size was said.
    EndOfStream,
    /// The connection ends before the size that was said.
    ShortBody,
    /// The connection is reset.
    Reset,
}

#[derive(Clone, Copy, Debug)]
pub struct Client(pub SocketAddr);

impl Client {
    /// Sends the head of a request.
    pub async fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Conversation {
        let stream = TcpStream::connect(self.0).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.0);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut conversation = Conversation {
            stream,
            head_only: method == "HEAD",
        };
        conversation.send(head.as_bytes()).await;
        conversation
    }

    /// Sends a request and reads its answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let size = body.len().to_string();
        let mut headers = headers.to_vec();
        headers.push(("content-length", &size));
        headers.push(("connection", "close"));
        let mut conversation = self.begin(method, path, &headers).await;
        // An answer may come before the end of the body.
        let _ = conversation.stream.write_all(body).await;
        conversation.reply().await
    }

    /// What the status says once the server has met what was sent: nothing orders two connections,
    /// so the question may overtake it.
    pub async fn status(self, at: &str, arrived: usize) -> Reply {
        let begun = Instant::now();
        loop {
            let status = self.get(at).await.is(204);
            if status.offset() == arrived as u64 || begun.elapsed() > PATIENCE / 6 {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    pub async fn head(&self, path: &str) -> Reply {
        self.send("HEAD", path, &[], b"").await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], b"").await
    }

    /// Begins an upload. Where it is.
    pub async fn upload(&self, name: &str) -> String {
        let path = format!("/v2/{name}/blobs/uploads/");
        self.send("POST", &path, &[], b"").await.is(202).location()
    }

    /// One whole blob.
    pub async fn push(&self, name: &str, bytes: &[u8], digest: impl std::fmt::Display) {
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        self.send("POST", &path, &[], bytes).await.is(201);
    }

    /// Sends a part of a body, then interrupts the request.
    pub async fn interrupt(&self, method: &str, path: &str, part: &[u8], how: Interruption) {
        let declared = (part.len() + 1000).to_string();
        let size = match how {
            Interruption::EndOfStream => ("transfer-encoding", "chunked"),
            Interruption::ShortBody | Interruption::Reset => ("content-length", declared.as_str()),
        };
        let mut conversation = self.begin(method, path, &[size]).await;
        if let Interruption::EndOfStream = how {
            let head = format!("{:x}\r\n", part.len() + 1000);
            conversation.send(head.as_bytes()).await;
        }
        conversation.send(part).await;
        match how {
            Interruption::EndOfStream | Interruption::ShortBody => {
                conversation.stream.shutdown().await.unwrap()
            }
            Interruption::Reset => {
                // What the server has not read by then the kernel throws away, so it is read first.
                conversation.is_read().await;
                conversation.stream.set_zero_linger().unwrap();
            }
        }
    }
}

impl Conversation {
    pub async fn send(&mut self, bytes: &[u8]) {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        sent.unwrap().unwrap();
    }

    /// Waits until the other side has taken all from its socket, by what Linux says of ours.
    async fn is_read(&self) {
        let (here, there) = (
            self.stream.local_addr().unwrap(),
            self.stream.peer_addr().unwrap(),
        );
        let is_awaited = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let port = |field: Option<&str>| {
                let (_, port) = field?.split_once(':')?;
                u16::from_str_radix(port, 16).ok()
            };
            let ports = (port(fields.next()), port(fields.next()));
            let queues = fields.nth(1).map(str::to_owned);
            (ports == (Some(here.port()), Some(there.port())))
                .then_some((0, queues.clone()))
                .or((ports == (Some(there.port()), Some(here.port()))).then_some((1, queues)))
        };
        for _ in 0..2000 {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let waiting: Vec<_> = table.lines().filter_map(is_awaited).collect();
            let is_empty = waiting.iter().all(|(side, queues)| {
                let queues = queues.as_deref().unwrap_or_default();
                let (sent, received) = queues.split_once(':').unwrap_or_default();
                let waiting = if *side == 0 { sent } else { received };
                u64::from_str_radix(waiting, 16) == Ok(0)
            });
            if waiting.len() == 2 && is_empty {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the server does not read");
    }

    /// The answer. Panics if it is incomplete.
    pub async fn reply(&mut self) -> Reply {
        let reply = timeout(PATIENCE, self.try_reply()).await;
        reply.expect("an answer in time").expect("a whole answer")
    }

    /// The answer, unless the connection breaks first.
    pub async fn try_reply(&mut self) -> Option<Reply> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if self.stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut body = bytes.split_off(end + 4);
        let mut reply = Reply {
            status,
            headers,
            body: Bytes::new(),
        };
        let size = if self.head_only || status == 204 || status == 304 {
            0
        } else {
            reply.header("content-length")?.parse().ok()?
        };
        while body.len() < size {
            if self.stream.read_buf(&mut body).await.ok()? == 0 {
                return None;
            }
        }
        assert_eq!(body.len(), size, "{reply:?}");
        reply.body = body.into();
        Some(reply)
    }
}
