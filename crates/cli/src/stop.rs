//! Stops the program on SIGINT (Ctrl-C) or SIGTERM.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
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
    last_words: LastWords,
}

/// The lines to print for each piece of work that a second signal aborts, while that keeps them.
type LastWords = Arc<Mutex<Vec<Weak<Vec<String>>>>>;

impl Stop {
    /// Handles signals from now on.
    pub(super) fn listen(output: Output) -> Result<Self, Failure> {
        let (request, requested) = watch::channel(false);
        let last_words = LastWords::default();
        let all = Arc::clone(&last_words);
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::of(&error).context("cannot listen for signals"))
        };
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut next_signal = async move || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        tokio::spawn(async move {
            next_signal().await;
            let _ = request.send(true);
            next_signal().await;
            let kept: Vec<_> = lock(&all).iter().filter_map(Weak::upgrade).collect();
            let hints: Vec<_> = kept
                .iter()
                .flat_map(|lines| lines.iter().cloned())
                .collect();
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

    /// Waits for `work`, unless a signal comes before its end.
    pub(super) async fn unless_requested<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.requested() => None,
        }
    }

    /// Prints these lines if a second signal ends the process before they are dropped.
    pub(super) fn last_words(&self, lines: Vec<String>) -> Arc<Vec<String>> {
        let lines = Arc::new(lines);
        let mut all = lock(&self.last_words);
        all.retain(|lines| lines.strong_count() > 0);
        all.push(Arc::downgrade(&lines));
        lines
    }
}

fn lock(last_words: &LastWords) -> MutexGuard<'_, Vec<Weak<Vec<String>>>> {
    last_words.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The failure of a command that a signal has ended.
pub(super) fn interrupted() -> Failure {
    Failure::new("interrupted")
}
