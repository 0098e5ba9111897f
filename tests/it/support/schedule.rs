//! A scheduler that decides which S3 request of several processes is executed next: one at a time, and
//! only when all processes wait. So a run is repeated by its choices.
//!
//! Needs [`cases::runtime`](super::cases::runtime): its clock stands still while any task can run, so
//! the end of a pause shows that all wait.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector as _, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::interceptor::{self, Handle};

/// Shorter than any pause of the adapter.
const MOMENT: Duration = Duration::from_millis(1);
/// No script waits for longer than this.
const MOMENTS: usize = 200_000;

/// The order in which waiting requests are executed.
#[derive(Clone, Debug)]
pub struct Choices {
    /// The first choices. Then the first request is chosen, or a random one if there is a seed.
    prefix: Vec<usize>,
    seed: Option<u64>,
    /// The choices made, each with the number of waiting requests.
    taken: Vec<(usize, usize)>,
}

impl Choices {
    /// Begins with these choices, and continues with the first request.
    pub fn of(prefix: Vec<usize>) -> Self {
        Choices {
            prefix,
            seed: None,
            taken: Vec::new(),
        }
    }

    pub fn random(seed: u64) -> Self {
        Choices {
            seed: Some(seed),
            ..Choices::of(Vec::new())
        }
    }

    fn next(&mut self, waiting: usize) -> usize {
        let nth = self.taken.len();
        let chosen = match (self.prefix.get(nth), &mut self.seed) {
            (Some(&chosen), _) => chosen.min(waiting - 1),
            (None, Some(state)) => (splitmix(state) % waiting as u64) as usize,
            (None, None) => 0,
        };
        self.taken.push((chosen, waiting));
        chosen
    }

    /// The choices of the next run, where every run before was like this one: the last choice that
    /// can be another one is. `None` after the last run.
    pub fn following(&self) -> Option<Self> {
        let last = self
            .taken
            .iter()
            .rposition(|(chosen, of)| chosen + 1 < *of)?;
        let mut prefix: Vec<usize> = self.taken[..=last]
            .iter()
            .map(|(chosen, _)| *chosen)
            .collect();
        prefix[last] += 1;
        Some(Choices::of(prefix))
    }
}

/// In the form that a test can repeat.
impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken: Vec<String> = self
            .taken
            .iter()
            .map(|(chosen, _)| chosen.to_string())
            .collect();
        f.write_str(&taken.join(","))
    }
}

/// A small generator whose every state is a seed.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[derive(Debug)]
struct Waiting {
    process: usize,
    go: oneshot::Sender<()>,
}

/// See the top of this file. A clone is the same scheduler.
#[derive(Clone, Debug, Default)]
pub struct Scheduler(Arc<Mutex<Vec<Waiting>>>);

impl Scheduler {
    /// The requests of one process.
    pub fn http_client(&self, process: usize, inner: SharedHttpClient) -> SharedHttpClient {
        let scheduler = self.clone();
        interceptor::client(inner, Scheduled { scheduler, process })
    }

    /// Lets one request go after the other until all tasks are done.
    pub async fn run<T>(&self, tasks: &[JoinHandle<T>], choices: &mut Choices) {
        for _ in 0..MOMENTS {
            tokio::time::sleep(MOMENT).await;
            let mut waiting = self.0.lock().unwrap();
            waiting.retain(|one| !one.go.is_closed());
            if waiting.is_empty() {
                if tasks.iter().all(JoinHandle::is_finished) {
                    return;
                }
                continue;
            }
            // In an order that does not depend on who came first.
            waiting.sort_by_key(|one| one.process);
            let chosen = choices.next(waiting.len());
            let _ = waiting.remove(chosen).go.send(());
        }
        panic!("the processes come to no end");
    }

    fn arrive(&self, process: usize) -> oneshot::Receiver<()> {
        let (go, gone) = oneshot::channel();
        self.0.lock().unwrap().push(Waiting { process, go });
        gone
    }
}

/// The requests of one process.
#[derive(Clone, Debug)]
struct Scheduled {
    scheduler: Scheduler,
    process: usize,
}

impl Handle for Scheduled {
    fn handle(&self, store: SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
        let gone = self.scheduler.arrive(self.process);
        HttpConnectorFuture::new(async move {
            let stopped = |_| ConnectorError::io("the schedule has ended".into());
            gone.await.map_err(stopped)?;
            store.call(request).await
        })
    }
}
