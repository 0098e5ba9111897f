//! The TCP proxy of all tests and benches. It forwards bytes between a client and a server, counts them and the
//! requests, pauses or disconnects on demand, and can be as slow as a network link. `tests/servers` and the
//! benches use this file too, so it imports no other support module.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any test waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// Calls a function for each connection, in a thread of its own. Dropping it stops listening.
pub struct Listener {
    pub address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

impl Listener {
    /// On a free port of 127.0.0.1.
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (serve, is_stopped) = (Arc::new(serve), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&is_stopped);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(client));
            }
        });
        Ok(Listener {
            address,
            is_stopped,
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// The direction of bytes.
#[derive(Clone, Copy)]
pub enum Direction {
    /// To the server.
    Up = 0,
    /// To the client.
    Down = 1,
}

/// A network between client and server.
#[derive(Clone, Copy)]
pub struct Link {
    /// Each request is delayed by this.
    pub round_trip: Duration,
    /// Of one connection, in each direction.
    pub bytes_per_second: f64,
}

/// What the proxy has forwarded.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    pub requests: u64,
    /// By [`Direction`], heads included.
    pub bytes: [u64; 2],
}

#[derive(Default)]
struct State {
    traffic: Traffic,
    /// Bytes beyond this number are held, by direction.
    limits: [Option<u64>; 2],
    /// Whether bytes are held, by direction.
    is_paused: [bool; 2],
    is_disconnected: bool,
}

struct Shared {
    server: SocketAddr,
    link: Option<Link>,
    state: Mutex<State>,
    changed: Condvar,
}

/// A running proxy.
pub struct TcpProxy {
    /// Where clients connect, as `http://HOST:PORT`.
    pub url: String,
    shared: Arc<Shared>,
    _listener: Listener,
}

impl TcpProxy {
    /// To the server at `http://HOST:PORT`, as fast as it is.
    pub fn to(url: &str) -> Self {
        Self::over(url, None)
    }

    /// To the server at `http://HOST:PORT`, over this link.
    pub fn over(url: &str, link: Option<Link>) -> Self {
        let shared = Arc::new(Shared {
            server: url.strip_prefix("http://").unwrap().parse().unwrap(),
            link,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        // Client and server notice a connection that fails.
        let listener = Listener::start(move |client| drop(serve(&serving, client))).unwrap();
        TcpProxy {
            url: listener.url(),
            shared,
            _listener: listener,
        }
    }

    /// Forwards only so many bytes more in this direction.
    pub fn pause_after(&self, way: Direction, bytes: u64) {
        let mut state = self.shared.state.lock().unwrap();
        state.limits[way as usize] = Some(state.traffic.bytes[way as usize] + bytes);
        state.is_paused[way as usize] = false;
    }

    /// Raises the limit by so many bytes.
    pub fn allow(&self, way: Direction, bytes: u64) {
        if let Some(limit) = &mut self.shared.state.lock().unwrap().limits[way as usize] {
            *limit += bytes;
        }
        self.shared.changed.notify_all();
    }

    /// Waits until bytes are held.
    pub fn wait_until_paused(&self, way: Direction) {
        let is_running = |state: &mut State| !state.is_paused[way as usize];
        let state = self.shared.state.lock().unwrap();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, is_running);
        assert!(!waited.unwrap().1.timed_out(), "no bytes arrive");
    }

    /// Forwards everything again.
    pub fn resume(&self) {
        self.shared.state.lock().unwrap().limits = [None; 2];
        self.shared.changed.notify_all();
    }

    /// Closes all connections, and each new one.
    pub fn disconnect(&self) {
        self.shared.state.lock().unwrap().is_disconnected = true;
        self.shared.changed.notify_all();
    }

    /// Accepts connections again.
    pub fn reconnect(&self) {
        *self.shared.state.lock().unwrap() = State::default();
    }

    pub fn traffic(&self) -> Traffic {
        self.shared.state.lock().unwrap().traffic
    }

    /// The number of bytes forwarded in this direction.
    pub fn forwarded(&self, way: Direction) -> u64 {
        self.traffic().bytes[way as usize]
    }
}

/// Forwards one connection until both directions have ended.
fn serve(shared: &Shared, client: TcpStream) -> io::Result<()> {
    if shared.state.lock().unwrap().is_disconnected {
        return Ok(());
    }
    let server = TcpStream::connect(shared.server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let up = (client.try_clone()?, server.try_clone()?);
    thread::scope(|threads| {
        threads.spawn(|| forward(shared, Direction::Up, up));
        forward(shared, Direction::Down, (server, client));
    });
    Ok(())
}

/// Forwards one direction of a connection until its end, and then closes it.
fn forward(shared: &Shared, way: Direction, (mut from, mut to): (TcpStream, TcpStream)) {
    /// What a timer may oversleep, and the link makes up for.
    const SLACK: Duration = Duration::from_millis(4);
    let mut requests = RequestCounter::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut free_at = Instant::now();
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..read];
        let begun = match way {
            Direction::Up => requests.begun_in(bytes),
            Direction::Down => 0,
        };
        if !shared.admit(way, bytes.len() as u64, begun) {
            break;
        }
        if let Some(link) = shared.link {
            let now = Instant::now();
            free_at = free_at.max(now.checked_sub(SLACK).unwrap_or(now));
            if begun > 0 {
                free_at += link.round_trip;
            }
            free_at += Duration::from_secs_f64(read as f64 / link.bytes_per_second);
            thread::sleep(free_at.saturating_duration_since(Instant::now()));
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

impl Shared {
    /// Waits until these bytes may pass, and counts them. `false` if the connection has to be closed.
    fn admit(&self, way: Direction, bytes: u64, requests: u64) -> bool {
        let way = way as usize;
        let mut state = self.state.lock().unwrap();
        while state.limits[way].is_some_and(|limit| state.traffic.bytes[way] >= limit)
            && !state.is_disconnected
        {
            // The other threads that wait here wake up too.
            if !std::mem::replace(&mut state.is_paused[way], true) {
                self.changed.notify_all();
            }
            state = self.changed.wait(state).unwrap();
        }
        state.traffic.bytes[way] += bytes;
        state.traffic.requests += requests;
        !state.is_disconnected
    }
}

/// Finds the requests in the bytes that a client sends on one connection. Each has a `Content-Length` or no body,
/// as S3 requires.
#[derive(Default)]
struct RequestCounter {
    head: Vec<u8>,
    /// Of the current body, in bytes.
    left: usize,
}

impl RequestCounter {
    /// How many requests begin in these bytes, which follow the bytes before.
    fn begun_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            if skipped > 0 {
                self.left -= skipped;
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
            self.left = body_size(&String::from_utf8_lossy(&self.head[..end]));
            self.head.clear();
        }
        begun
    }
}

/// The `Content-Length` of this head, in bytes.
fn body_size(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut sizes = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    sizes
        .find_map(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
