//! A scheduler that decides which S3 request of several processes is executed next: one at a time, and
//! only when all processes wait. So a run is repeated by its choices.
//!
//! Needs [`cases::runtime`](super::cases::runtime): its clock stands still while any task can run, so
//! the end of a pause shows that all wait.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector as _, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::interceptor::{self, Handle};

/// Shorter than any pause of the adapter.
const MOMENT: Duration = Duration::from_millis(1);
/// No script waits for longer than this.
const MOMENTS: usize = 200_000;
/// A run spoils at most as many requests: fewer than one request is tried.
const SPOILT: usize = 3;
/// One request of this many is spoilt, in a run that spoils any.
const SPOILT_OF: u64 = 12;
/// A choice is this many times the number of the fate, plus the number of the request.
const FATE: usize = 1_000;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It is executed, and the process gets no answer.
    Lost,
    /// The process gets no answer, and it waits on, to be executed later.
    Late,
    /// It is executed, and the process is killed.
    Last,
    /// The process is killed.
    Killed,
}

/// By their numbers.
const FATES: [Fate; 5] = [
    Fate::Answered,
    Fate::Lost,
    Fate::Late,
    Fate::Last,
    Fate::Killed,
];

/// The order in which waiting requests are executed.
#[derive(Clone, Debug)]
pub struct Choices {
    /// The first choices. Then the first request is chosen, or a random one if there is a seed.
    prefix: Vec<usize>,
    seed: Option<u64>,
    /// How many requests may still be spoilt at random, and how.
    spoils: usize,
    spoilt_by: &'static [Fate],
    /// The choices made, each with the number of waiting requests.
    taken: Vec<(usize, usize)>,
}

impl Choices {
    /// Begins with these choices, and continues with the first request.
    pub fn of(prefix: Vec<usize>) -> Self {
        Choices {
            prefix,
            seed: None,
            spoils: 0,
            spoilt_by: &[],
            taken: Vec::new(),
        }
    }

    pub fn random(seed: u64) -> Self {
        Choices {
            seed: Some(seed),
            ..Choices::of(Vec::new())
        }
    }

    /// The same, and the answers of some requests are lost.
    pub fn random_lossy(seed: u64) -> Self {
        Choices {
            spoils: SPOILT,
            spoilt_by: &[Fate::Lost],
            ..Choices::random(seed)
        }
    }

    /// The same, and the answers of some requests are lost, or they come late.
    pub fn random_spoilt(seed: u64) -> Self {
        Choices {
            spoilt_by: &[Fate::Lost, Fate::Late],
            ..Choices::random_lossy(seed)
        }
    }

    /// Whether the answer of a request was lost.
    pub fn lost_any(&self) -> bool {
        self.has_fate_from(Fate::Lost)
    }

    /// Whether a request was carried out late, or a process was killed.
    pub fn delayed_any(&self) -> bool {
        self.has_fate_from(Fate::Late)
    }

    fn has_fate_from(&self, first: Fate) -> bool {
        let mut taken = self.taken.iter();
        taken.any(|(chosen, _)| *chosen >= first as usize * FATE)
    }

    /// The same, and processes are killed.
    pub fn random_deadly(seed: u64) -> Self {
        Choices {
            spoilt_by: &[Fate::Lost, Fate::Late, Fate::Last, Fate::Killed],
            ..Choices::random_lossy(seed)
        }
    }

    fn next(&mut self, waiting: usize) -> (usize, Fate) {
        let nth = self.taken.len();
        let chosen = match (self.prefix.get(nth), &mut self.seed) {
            (Some(&chosen), _) => chosen,
            (None, Some(state)) => {
                let chosen = (splitmix(state) % waiting as u64) as usize;
                let fate = match (self.spoils, splitmix(state) % SPOILT_OF) {
                    (0, _) => None,
                    (_, one) => self.spoilt_by.get(one as usize),
                };
                fate.map_or(0, |fate| *fate as usize * FATE) + chosen
            }
            (None, None) => 0,
        };
        let fate = FATES[chosen / FATE];
        if fate != Fate::Answered {
            self.spoils = self.spoils.saturating_sub(1);
        }
        let index = (chosen % FATE).min(waiting - 1);
        self.taken.push((fate as usize * FATE + index, waiting));
        (index, fate)
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
pub fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[derive(Debug)]
struct Waiting {
    process: usize,
    go: oneshot::Sender<Fate>,
}

#[derive(Debug, Default)]
struct Requests {
    waiting: Vec<Waiting>,
    /// Those of killed processes: no answer ever comes.
    dead: Vec<Waiting>,
    killed: BTreeSet<usize>,
    /// Spoilt requests that begin a multipart upload.
    spoilt_begins: usize,
}

/// See the top of this file. A clone is the same scheduler.
#[derive(Clone, Debug, Default)]
pub struct Scheduler(Arc<Mutex<Requests>>);

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
            let mut requests = self.0.lock().unwrap();
            for &process in &requests.killed {
                tasks[process].abort();
            }
            let requests = &mut *requests;
            let waiting = &mut requests.waiting;
            waiting.retain(|one| !one.go.is_closed());
            if waiting.is_empty() {
                if tasks.iter().all(JoinHandle::is_finished) {
                    return;
                }
                continue;
            }
            // In an order that does not depend on who came first.
            waiting.sort_by_key(|one| one.process);
            let (chosen, fate) = choices.next(waiting.len());
            let chosen = waiting.remove(chosen);
            if matches!(fate, Fate::Last | Fate::Killed) {
                let process = chosen.process;
                requests.killed.insert(process);
                let dead = waiting.extract_if(.., |one| one.process == process);
                requests.dead.extend(dead);
            }
            if fate == Fate::Killed {
                requests.dead.push(chosen);
            } else {
                let _ = chosen.go.send(fate);
            }
        }
        panic!("the processes come to no end");
    }

    /// How many multipart uploads there may be that no process knows: those that were begun by a spoilt request, and the last one
    /// of a killed process.
    pub fn unknown_uploads(&self) -> usize {
        let requests = self.0.lock().unwrap();
        requests.spoilt_begins + requests.killed.len()
    }

    fn arrive(&self, process: usize) -> oneshot::Receiver<Fate> {
        let (go, gone) = oneshot::channel();
        let mut requests = self.0.lock().unwrap();
        let to = if requests.killed.contains(&process) {
            &mut requests.dead
        } else {
            &mut requests.waiting
        };
        to.push(Waiting { process, go });
        gone
    }
}

/// The requests of one process.
#[derive(Clone, Debug)]
struct Scheduled {
    scheduler: Scheduler,
    process: usize,
}

impl Scheduled {
    async fn handled(
        self,
        turn: oneshot::Receiver<Fate>,
        store: SharedHttpConnector,
        request: HttpRequest,
    ) -> Result<HttpResponse, ConnectorError> {
        let stopped = |_| ConnectorError::io("the schedule has ended".into());
        let lost = || ConnectorError::io("the answer is lost".into());
        let fate = turn.await.map_err(stopped)?;
        if fate != Fate::Answered
            && request.method() == "POST"
            && request.uri().contains("?uploads")
        {
            self.scheduler.0.lock().unwrap().spoilt_begins += 1;
        }
        match fate {
            Fate::Answered => store.call(request).await,
            Fate::Lost => {
                let _ = store.call(request).await;
                Err(lost())
            }
            Fate::Last => {
                let last = async move { store.call(request).await.map(drop) };
                // It outlives the process.
                let _ = tokio::spawn(last).await;
                std::future::pending().await
            }
            Fate::Killed => std::future::pending().await,
            Fate::Late => {
                let turn = self.scheduler.arrive(self.process);
                tokio::spawn(async move {
                    if turn.await.is_ok() {
                        let _ = store.call(request).await;
                    }
                });
                Err(lost())
            }
        }
    }
}

impl Handle for Scheduled {
    fn handle(&self, store: SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
        let turn = self.scheduler.arrive(self.process);
        HttpConnectorFuture::new(self.clone().handled(turn, store, request))
    }
}
