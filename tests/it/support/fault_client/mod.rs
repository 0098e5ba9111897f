//! An HTTP client below the SDK that numbers and logs every request, and injects the faults of a test. It is
//! below the checksums and retries of the SDK, and wraps any HTTP client.
//!
//! ```text
//! wire.fault(On::nth(UploadPart, 3).lose_answer());           // executed, the answer is lost
//! wire.fault(On::every(PutObject).key_ends("/session").status(503));
//! let gate = wire.hold(On::nth(UploadPart, 1));               // a race without sleeping
//! wire.end(End::KilledAfter(7));                              // the process dies there
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_smithy_runtime_api::client::http::{
    HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use tokio::sync::{Semaphore, watch};

use self::exchange::Exchange;
use crate::support::interceptor::{self, Handle};

mod bodies;
mod exchange;
mod refusals;
mod request;
mod rules;

pub use self::request::{Operation, Operation::*, Request};
pub use self::rules::{Fault, On, Position, Rule, STRAYED, Then};

/// Holds requests until the test releases them.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Waits until so many more requests stand here.
    pub async fn reached_by(&self, requests: u32) {
        self.arrived.acquire_many(requests).await.unwrap().forget();
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.open.close();
    }

    async fn pass(&self) {
        self.arrived.add_permits(1);
        if let Ok(pass) = self.open.acquire().await {
            pass.forget();
        }
    }
}

/// How the process that uses the wire ends, at the request of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It dies: that request and all later ones are never sent, and no answer is delivered.
    KilledBefore(usize),
    /// The same, but the store carries this one out.
    KilledAfter(usize),
    /// It lives, but is cut off from the store: that request and all later ones fail.
    CutOffBefore(usize),
}

/// See the top of this file. A clone is the same wire.
#[derive(Clone, Debug)]
pub struct FaultClient {
    inner: SharedHttpClient,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    turn: Mutex<Turn>,
    dead: watch::Sender<bool>,
    /// The highest number of a request whose answer was delivered.
    heard: watch::Sender<usize>,
}

/// The state that each request reads and changes.
#[derive(Debug, Default)]
struct Turn {
    log: Vec<Request>,
    rules: Vec<Rule>,
    gates: Vec<(Rule, Gate)>,
    end: Option<End>,
    /// Now, and at most.
    in_flight: BTreeMap<Operation, (usize, usize)>,
}

impl State {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap()
    }
}

impl FaultClient {
    pub fn over(inner: SharedHttpClient) -> Self {
        FaultClient {
            inner,
            state: Arc::default(),
        }
    }

    /// For the SDK.
    pub fn http_client(&self) -> SharedHttpClient {
        interceptor::client(self.inner.clone(), Arc::clone(&self.state))
    }

    pub fn fault(&self, rule: Rule) {
        self.state.turn().rules.push(rule);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.state.turn().rules.clear();
    }

    /// The requests stand at the gate before they reach the store.
    pub fn hold(&self, on: On) -> Gate {
        let gate = Gate {
            arrived: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        };
        let rule = on.with(Fault::Hang);
        self.state.turn().gates.push((rule, gate.clone()));
        gate
    }

    pub fn end(&self, end: End) {
        self.state.turn().end = Some(end);
    }

    /// Waits until the process is dead. The test then has to drop it.
    pub async fn died(&self) {
        let mut dead = self.state.dead.subscribe();
        dead.wait_for(|dead| *dead).await.unwrap();
    }

    pub fn log(&self) -> Vec<Request> {
        self.state.turn().log.clone()
    }

    pub fn count(&self, operation: Operation) -> usize {
        let log = self.log();
        log.iter().filter(|one| one.operation == operation).count()
    }

    /// How many requests of an operation were under way at the same time, at most. One is under way
    /// until the last byte of its answer was taken.
    pub fn most_in_flight(&self, operation: Operation) -> usize {
        let turn = self.state.turn();
        turn.in_flight.get(&operation).map_or(0, |(_, most)| *most)
    }

    /// Forgets the log.
    pub fn reset(&self) {
        let mut turn = self.state.turn();
        turn.log.clear();
        turn.in_flight
            .values_mut()
            .for_each(|(now, most)| *most = *now);
    }
}

impl Handle for Arc<State> {
    fn handle(&self, store: SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
        let exchange = Exchange::begin(self, &request);
        HttpConnectorFuture::new(exchange.carry_out(store, request))
    }
}
