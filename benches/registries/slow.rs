//! Clients that send slowly, beside what is measured.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use super::client::Client;

const SENDERS: usize = 64;
/// Of each, in bytes a second.
const RATE: usize = 35 * 1024;
/// Between two pieces.
const PAUSE: Duration = Duration::from_millis(100);

/// They send until this is dropped.
pub struct SlowSenders {
    stop: Arc<AtomicBool>,
    sending: Option<JoinHandle<io::Result<()>>>,
}

impl SlowSenders {
    pub fn start(client: &Client) -> io::Result<Self> {
        let begun = (0..SENDERS).map(|_| client.begin());
        let connections: Vec<TcpStream> = begun.collect::<io::Result<_>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sending = spawn(move || send(connections, &stopped));
        Ok(SlowSenders {
            stop,
            sending: Some(sending),
        })
    }
}

fn send(mut connections: Vec<TcpStream>, stopped: &AtomicBool) -> io::Result<()> {
    let piece = vec![7; RATE / 10];
    while !stopped.load(Ordering::Relaxed) {
        for connection in &mut connections {
            connection.write_all(&piece)?;
        }
        sleep(PAUSE);
    }
    Ok(())
}

impl Drop for SlowSenders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sending.take().map(JoinHandle::join);
        // A bench whose slow senders were refused measures nothing.
        assert!(matches!(sent, Some(Ok(Ok(())))), "{sent:?}");
    }
}
