//! Being told to stop, by SIGINT (Ctrl-C) or SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;

/// Hears the first signal. The second one ends the process on the spot.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// From here on signals do not end the process by themselves.
    pub(super) fn listen() -> Result<Self, Failure> {
        let (told, stop) = watch::channel(false);
        let mut signals = signals()?;
        tokio::spawn(async move {
            signals.next().await;
            let _ = told.send(true);
            signals.next().await;
            std::process::exit(1);
        });
        Ok(Stop(stop))
    }

    /// Whether a signal has come.
    pub(super) fn is_told(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when a signal has come, now or earlier.
    pub(super) async fn told(&mut self) {
        // The sender lives in a task that ends only with the process.
        if self.0.wait_for(|told| *told).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

fn signals() -> Result<Signals, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::of(&error).context("cannot listen for signals"))
    };
    Ok(Signals {
        interrupt: listen(SignalKind::interrupt())?,
        terminate: listen(SignalKind::terminate())?,
    })
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
