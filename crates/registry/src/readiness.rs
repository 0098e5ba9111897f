//! Whether the storage answers, asked at most once a second for all clients.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::error::{Code, Refusal};
use s3layers::RepositoryService;

/// How long to wait for the storage. A probe has a limit of a few seconds, and is repeated.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is good for.
const LIFETIME: Duration = Duration::from_secs(1);

/// The last answer of the storage.
#[derive(Debug, Default)]
pub(super) struct Readiness(Mutex<Option<(Instant, Result<(), Refusal>)>>);

impl Readiness {
    /// Asks the storage, unless another client did within a second.
    pub(super) async fn check(&self, service: &dyn RepositoryService) -> Result<(), Refusal> {
        let mut last = self.0.lock().await;
        if let Some((asked, answer)) = &*last
            && asked.elapsed() < LIFETIME
        {
            return answer.clone();
        }
        let asked = Instant::now();
        let answer = ask(service).await;
        *last = Some((asked, answer.clone()));
        answer
    }
}

async fn ask(service: &dyn RepositoryService) -> Result<(), Refusal> {
    let refusal = match timeout(TIMEOUT, service.ready()).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => Refusal::from(error),
        Err(_) => {
            let seconds = TIMEOUT.as_secs();
            let message = format_args!("no answer from the storage within {seconds} s");
            Refusal::new(Code::Unavailable, message)
        }
    };
    Err(refusal.with_status(StatusCode::SERVICE_UNAVAILABLE))
}
