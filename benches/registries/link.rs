//! The way to a distant store: a proxy that counts requests and bytes, holds each request back for
//! as long as a round trip takes, and lets a connection carry so much a second each way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// How far away the store is.
#[derive(Clone, Copy)]
pub struct Distance {
    pub round_trip: Duration,
    /// Of one connection, each way, in bytes a second.
    pub rate: f64,
}

/// What went over the link since it was begun.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    pub requests: u64,
    /// Bytes to the store, heads included.
    pub up: u64,
    /// Bytes from the store, heads included.
    pub down: u64,
}

impl Traffic {
    pub fn since(self, before: Traffic) -> Traffic {
        Traffic {
            requests: self.requests - before.requests,
            up: self.up - before.up,
            down: self.down - before.down,
        }
    }
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// A link to one store, for one client.
pub struct Link {
    address: SocketAddr,
    counts: Arc<Counts>,
}

impl Link {
    pub async fn to(store: SocketAddr, distance: Distance) -> io::Result<Link> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // The two ends report a connection that breaks.
                tokio::spawn(carry(client, store, distance, Arc::clone(&shared)));
            }
        });
        Ok(Link { address, counts })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn traffic(&self) -> Traffic {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            requests: load(&self.counts.requests),
            up: load(&self.counts.up),
            down: load(&self.counts.down),
        }
    }
}

async fn carry(
    client: TcpStream,
    store: SocketAddr,
    distance: Distance,
    counts: Arc<Counts>,
) -> io::Result<()> {
    let server = TcpStream::connect(store).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (Arc::clone(&counts), counts);
    let there = pump(from_client, to_server, distance, {
        let mut requests = Requests::default();
        move |bytes| {
            up.up.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let begun = requests.begun_in(bytes);
            up.requests.fetch_add(begun, Ordering::Relaxed);
            begun > 0
        }
    });
    let back = pump(from_server, to_client, distance, move |bytes| {
        down.down.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        false
    });
    tokio::try_join!(there, back).map(drop)
}

/// Carries bytes as fast as the link is. `seen` says whether a request begins in them.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    distance: Distance,
    mut seen: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    /// What a timer may oversleep, and the link makes up for.
    const SLACK: Duration = Duration::from_millis(4);
    let mut buffer = vec![0; 64 * 1024];
    let mut free_at = Instant::now();
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        free_at = free_at.max(Instant::now() - SLACK);
        if seen(&buffer[..read]) {
            free_at += distance.round_trip;
        }
        free_at += Duration::from_secs_f64(read as f64 / distance.rate);
        tokio::time::sleep_until(free_at).await;
        to.write_all(&buffer[..read]).await?;
    }
}

/// Finds the requests in what a client of S3 sends on one connection.
#[derive(Default)]
struct Requests {
    head: Vec<u8>,
    /// Of the body under way, in bytes.
    left: u64,
}

impl Requests {
    /// How many begin in these bytes, which follow on those before.
    fn begun_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = bytes
                    .len()
                    .min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            begun += u64::from(self.head.is_empty());
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                break;
            };
            bytes = &bytes[end + 4 - before..];
            let head = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
            self.left = body_of(&head);
            self.head.clear();
        }
        begun
    }
}

/// The length that a head announces, in bytes.
fn body_of(head: &str) -> u64 {
    let value = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| (key == name).then_some(value.trim()))
    };
    assert_ne!(
        value("transfer-encoding"),
        Some("chunked"),
        "S3 takes no body of unknown length"
    );
    value("content-length").map_or(0, |length| length.parse().unwrap())
}
