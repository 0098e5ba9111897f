//! A way to a store that lets through as many bytes as a test wants, and then waits or breaks.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// No test waits nearly as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which way bytes go.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// To the store.
    Up = 0,
    /// From it.
    Down = 1,
}

#[derive(Default)]
struct State {
    /// Bytes let through, by way.
    passed: [u64; 2],
    /// Beyond so many, bytes wait.
    limits: [Option<u64>; 2],
    /// Whether bytes wait there.
    waiting: [bool; 2],
    is_cut: bool,
}

/// What stands between the program and a store.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    /// A way to the store at this endpoint, which lets everything through.
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
                // A store that has ended is one that does not answer.
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

    /// From now on only so many bytes more go this way.
    pub(crate) fn hold_after(&self, way: Way, bytes: u64) {
        let mut state = self.shared.0.lock().unwrap();
        state.limits[way as usize] = Some(state.passed[way as usize] + bytes);
        state.waiting[way as usize] = false;
    }

    /// So many bytes more go this way than were to.
    pub(crate) fn let_through(&self, way: Way, bytes: u64) {
        if let Some(limit) = &mut self.shared.0.lock().unwrap().limits[way as usize] {
            *limit += bytes;
        }
        self.shared.1.notify_all();
    }

    /// Waits until bytes wait.
    pub(crate) fn holds(&self, way: Way) {
        let (lock, changed) = &*self.shared;
        let waits = |state: &mut State| !state.waiting[way as usize];
        let (_state, time) = changed
            .wait_timeout_while(lock.lock().unwrap(), PATIENCE, waits)
            .unwrap();
        assert!(!time.timed_out(), "nothing comes");
    }

    /// Lets everything through again.
    pub(crate) fn release(&self) {
        self.shared.0.lock().unwrap().limits = [None; 2];
        self.shared.1.notify_all();
    }

    /// Breaks all connections, and takes no more.
    pub(crate) fn cut(&self) {
        self.shared.0.lock().unwrap().is_cut = true;
        self.shared.1.notify_all();
    }

    /// Takes connections again.
    pub(crate) fn mend(&self) {
        *self.shared.0.lock().unwrap() = State::default();
    }

    /// How many bytes went this way.
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
