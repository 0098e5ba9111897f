//! A TCP proxy to a store that forwards as many bytes as a test permits, and then pauses or disconnects.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// No test waits nearly as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The direction of bytes.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// To the store.
    Up = 0,
    /// From it.
    Down = 1,
}

#[derive(Default)]
struct State {
    /// Bytes forwarded, by direction.
    passed: [u64; 2],
    /// Bytes beyond this number are held.
    limits: [Option<u64>; 2],
    /// Whether bytes are held.
    waiting: [bool; 2],
    is_cut: bool,
}

/// A proxy between the program and a store.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    /// A proxy to the store at this endpoint, which forwards everything.
    pub(crate) fn to(endpoint: &str) -> Self {
        let store = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        let proxy = Proxy {
            endpoint,
            shared: Arc::clone(&shared),
        };
        // It ends with the process of the tests.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.0.lock().unwrap().is_cut {
                    continue;
                }
                // The store may have ended.
                let Ok(server) = TcpStream::connect(&store) else {
                    continue;
                };
                for (way, from, to) in [(Way::Up, &client, &server), (Way::Down, &server, &client)]
                {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || pump(&shared, way, from, to));
                }
            }
        });
        proxy
    }

    /// Forwards only so many bytes more in this direction.
    pub(crate) fn hold_after(&self, way: Way, bytes: u64) {
        let mut state = self.shared.0.lock().unwrap();
        state.limits[way as usize] = Some(state.passed[way as usize] + bytes);
        state.waiting[way as usize] = false;
    }

    /// Raises the limit by so many bytes.
    pub(crate) fn let_through(&self, way: Way, bytes: u64) {
        if let Some(limit) = &mut self.shared.0.lock().unwrap().limits[way as usize] {
            *limit += bytes;
        }
        self.shared.1.notify_all();
    }

    /// Waits until bytes are held.
    pub(crate) fn holds(&self, way: Way) {
        let (lock, changed) = &*self.shared;
        let waits = |state: &mut State| !state.waiting[way as usize];
        let (_state, time) = changed
            .wait_timeout_while(lock.lock().unwrap(), PATIENCE, waits)
            .unwrap();
        assert!(!time.timed_out(), "nothing comes");
    }

    /// Forwards everything again.
    pub(crate) fn release(&self) {
        self.shared.0.lock().unwrap().limits = [None; 2];
        self.shared.1.notify_all();
    }

    /// Closes all connections, and accepts no more.
    pub(crate) fn cut(&self) {
        self.shared.0.lock().unwrap().is_cut = true;
        self.shared.1.notify_all();
    }

    /// Accepts connections again.
    pub(crate) fn reconnect(&self) {
        *self.shared.0.lock().unwrap() = State::default();
    }

    /// The number of bytes forwarded in this direction.
    pub(crate) fn passed(&self, way: Way) -> u64 {
        self.shared.0.lock().unwrap().passed[way as usize]
    }
}

fn pump(shared: &(Mutex<State>, Condvar), way: Way, mut from: TcpStream, mut to: TcpStream) {
    let (lock, changed) = shared;
    let way = way as usize;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut state = lock.lock().unwrap();
        let waits =
            |state: &State| state.limits[way].is_some_and(|limit| state.passed[way] >= limit);
        while waits(&state) && !state.is_cut {
            // Others that wait here are woken by this too.
            if !std::mem::replace(&mut state.waiting[way], true) {
                changed.notify_all();
            }
            state = changed.wait(state).unwrap();
        }
        if state.is_cut {
            break;
        }
        state.passed[way] += read as u64;
        drop(state);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}
