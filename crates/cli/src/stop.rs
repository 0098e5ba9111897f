//! Stops the program on SIGINT (Ctrl-C) or SIGTERM.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;
use super::output::Output;

/// Limits the printing of the last words: stdout may be a pipe without a reader.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Resolves at the first signal. The second one ends the process at once, after the
/// [last words](Self::last_words).
#[derive(Clone, Debug)]
pub(super) struct Stop {
    requested: watch::Receiver<bool>,
    last_words: Arc<LastWords>,
}

impl Stop {
    /// Handles signals from now on.
    pub(super) fn listen(output: Output) -> Result<Self, Failure> {
        let (request, requested) = watch::channel(false);
        let last_words = Arc::<LastWords>::default();
        let all = Arc::clone(&last_words);
        let mut signals = signals()?;
        tokio::spawn(async move {
            signals.next().await;
            let _ = request.send(true);
            signals.next().await;
            let hints = all.lines();
            if !hints.is_empty() {
                let failure = Failure::new("interrupted twice; ended at once").hints(hints);
                let say = tokio::task::spawn_blocking(move || output.fail(&failure));
                let _ = tokio::time::timeout(LAST_WORDS, say).await;
            }
            std::process::exit(1);
        });
        Ok(Stop {
            requested,
            last_words,
        })
    }

    /// Whether a signal has come.
    pub(super) fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Resolves when a signal has come, now or earlier.
    pub(super) async fn requested(&mut self) {
        // The sender lives in a task that ends only with the process.
        if self
            .requested
            .wait_for(|requested| *requested)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Prints these lines if a second signal ends the process before the guard is dropped.
    pub(super) fn last_words(&self, lines: Vec<String>) -> LastWordsGuard {
        let mut state = self.last_words.lock();
        let id = state.next;
        state.next += 1;
        state.lines.insert(id, lines);
        drop(state);
        LastWordsGuard {
            id,
            last_words: Arc::clone(&self.last_words),
        }
    }
}

/// The lines to print for each piece of work that a second signal aborts.
#[derive(Debug, Default)]
struct LastWords(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    lines: BTreeMap<u64, Vec<String>>,
}

impl LastWords {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<String> {
        self.lock().lines.values().flatten().cloned().collect()
    }
}

/// Keeps the last words until it is dropped.
#[derive(Debug)]
pub(super) struct LastWordsGuard {
    id: u64,
    last_words: Arc<LastWords>,
}

impl Drop for LastWordsGuard {
    fn drop(&mut self) {
        self.last_words.lock().lines.remove(&self.id);
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
