//! Whether the storage answers, asked at most once a second for all clients.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::error::{Code, Refusal};
use crate::locks::lock;
use s3layers::{Error, UsageCounter};

/// How long to wait for the storage. A probe has a limit of a few seconds, and is repeated.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is good for.
const LIFETIME: Duration = Duration::from_secs(1);

/// When the storage answered, and what; `None` while it is asked.
type LastAnswer = Option<(Instant, Result<(), Refusal>)>;

/// The last question to the storage.
#[derive(Debug)]
pub(super) struct Readiness(Mutex<watch::Receiver<LastAnswer>>);

impl Default for Readiness {
    fn default() -> Self {
        Readiness(Mutex::new(watch::channel(None).1))
    }
}

impl Readiness {
    /// Asks the storage by `ask`, unless it is being asked or answered within a second.
    ///
    /// # Cancellation
    ///
    /// The question stays: other clients share it.
    pub(super) async fn check(
        &self,
        ask: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> Result<(), Refusal> {
        let mut question = self.current(ask);
        match question.wait_for(Option::is_some).await.as_deref() {
            Ok(Some((_, answer))) => answer.clone(),
            _ => Err(Refusal::new(
                Code::Unavailable,
                "the question to the storage ended early",
            )),
        }
    }

    /// The last question, or a new one.
    fn current(
        &self,
        ask: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> watch::Receiver<LastAnswer> {
        let mut last = lock(&self.0);
        let is_current = match &*last.borrow() {
            Some((answered, _)) => answered.elapsed() < LIFETIME,
            // The task that asks has the sender.
            None => last.has_changed().is_ok(),
        };
        if !is_current {
            let (sender, receiver) = watch::channel(None);
            *last = receiver;
            tokio::spawn(UsageCounter::inherit(async move {
                let answer = answer(ask).await;
                sender.send_replace(Some((Instant::now(), answer)));
            }));
        }
        last.clone()
    }
}

async fn answer(ask: impl Future<Output = Result<(), Error>>) -> Result<(), Refusal> {
    match timeout(TIMEOUT, ask).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Refusal::from(error).with_status(StatusCode::SERVICE_UNAVAILABLE)),
        Err(_) => {
            let seconds = TIMEOUT.as_secs();
            let message = format_args!("no answer from the storage within {seconds} s");
            Err(Refusal::new(Code::Unavailable, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use futures_util::future::join_all;
    use tokio::time::sleep;

    use super::*;

    /// A storage that counts how often it is asked, and takes this long for an answer.
    struct Storage {
        asked: Arc<AtomicU32>,
        delay: Duration,
    }

    impl Storage {
        fn new(delay: Duration) -> Self {
            let asked = Arc::default();
            Storage { asked, delay }
        }

        fn ready(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
            let (asked, delay) = (Arc::clone(&self.asked), self.delay);
            async move {
                asked.fetch_add(1, Relaxed);
                sleep(delay).await;
                Ok(())
            }
        }

        fn asked(&self) -> u32 {
            self.asked.load(Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn storage_is_asked_once_a_second() {
        let (readiness, storage) = (Readiness::default(), Storage::new(Duration::ZERO));
        for (wait, asked) in [(0, 1), (500, 1), (600, 2), (999, 2), (1, 3)] {
            sleep(Duration::from_millis(wait)).await;
            readiness.check(storage.ready()).await.unwrap();
            assert_eq!(storage.asked(), asked, "{wait}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_answer_is_shared_and_lasts_from_its_arrival() {
        let storage = Storage::new(Duration::from_millis(1500));
        let readiness = Readiness::default();
        let began = Instant::now();
        for answer in join_all((0..20).map(|_| readiness.check(storage.ready()))).await {
            answer.unwrap();
        }
        assert_eq!(began.elapsed().as_millis(), 1500);
        sleep(Duration::from_millis(900)).await;
        readiness.check(storage.ready()).await.unwrap();
        assert_eq!(storage.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_leaves_cancels_nothing() {
        let storage = Storage::new(Duration::from_millis(1500));
        let readiness = Readiness::default();
        let patience = Duration::from_secs(1);
        assert!(
            timeout(patience, readiness.check(storage.ready()))
                .await
                .is_err()
        );
        readiness.check(storage.ready()).await.unwrap();
        assert_eq!(storage.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_storage_is_unavailable() {
        let storage = Storage::new(Duration::from_secs(60));
        let refusal = Readiness::default().check(storage.ready()).await;
        let status = refusal.unwrap_err().status();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
