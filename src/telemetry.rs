//! Everything that is counted, in one table: the S3 requests by operation, and the bytes moved.
//!
//! A request is counted when it is sent, repeated attempts included, so the figures are what a
//! store would bill. When it is over it is a line of the log, at the level debug, under the target
//! [`TARGET`]: as many lines as requests, with the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::Either;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::pace::Pace;

/// What the log calls the origin of the lines about requests.
const TARGET: &str = "s3layers::s3";

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// An S3 operation that this crate uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation { $($name),* }

        impl Operation {
            const ALL: &'static [Operation] = &[$(Operation::$name),*];

            /// The name that S3 gives it.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),* }
            }
        }
    };
}

operations! {
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    DeleteObjects,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    ListObjectsV2,
    GetBucketLifecycleConfiguration,
    GetBucketVersioning,
}

/// What a service did that an operator should know of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// An upload stored what it had in memory early, since others waited for memory.
    EarlyStore,
    /// A block was not as its checksum says, and was read again.
    BlockReadAgain,
    /// The bytes of a layer were found in another object than the one that its link names.
    ObjectMoved,
    /// A record was written again, since its layer's objects changed.
    RecordRepaired,
    /// A link that a collection had condemned was written back.
    LinkRescued,
}

impl Event {
    const ALL: [Event; 5] = [
        Event::EarlyStore,
        Event::BlockReadAgain,
        Event::ObjectMoved,
        Event::RecordRepaired,
        Event::LinkRescued,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Event::EarlyStore => "early_store",
            Event::BlockReadAgain => "block_read_again",
            Event::ObjectMoved => "object_moved",
            Event::RecordRepaired => "record_repaired",
            Event::LinkRescued => "link_rescued",
        }
    }
}

tokio::task_local! {
    /// Whose work a task does.
    static COUNTER: Arc<UsageCounter>;
}

/// Counts the requests to stores that some work makes, the tasks that it starts included.
///
/// ```
/// # use std::sync::Arc;
/// # use s3layers::UsageCounter;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let all_pulls = Arc::new(UsageCounter::default());
/// let pull = Arc::new(UsageCounter::within(all_pulls));
/// pull.count(async { /* uses an S3LayerService */ }).await;
/// assert_eq!(pull.usage().requests(), 0);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct UsageCounter {
    requests: [AtomicU64; Operation::ALL.len()],
    sent: AtomicU64,
    received: AtomicU64,
    outcomes: Mutex<BTreeMap<Cow<'static, str>, u64>>,
    parent: Option<Arc<UsageCounter>>,
    pace: Option<Pace>,
}

/// Does `work` with at most so many requests a second, those of tasks that it starts included.
pub(crate) async fn at_rate<T>(rate: Option<u32>, work: impl Future<Output = T>) -> T {
    let Some(rate) = rate.and_then(NonZeroU32::new) else {
        return work.await;
    };
    let counter = UsageCounter {
        parent: COUNTER.try_with(Arc::clone).ok(),
        pace: Some(Pace::new(rate)),
        ..UsageCounter::default()
    };
    Arc::new(counter).count(work).await
}

/// Waits for the turn of the next request of this task, where its work has a rate.
pub(crate) async fn turn() {
    let counter = COUNTER.try_with(Arc::clone).ok();
    let mut next = counter.as_deref();
    while let Some(counter) = next {
        if let Some(pace) = &counter.pace {
            pace.wait().await;
        }
        next = counter.parent.as_deref();
    }
}

impl UsageCounter {
    /// One whose requests count for `parent`, too.
    pub fn within(parent: Arc<UsageCounter>) -> Self {
        UsageCounter {
            parent: Some(parent),
            ..UsageCounter::default()
        }
    }

    /// Counts the requests of `work`.
    ///
    /// # Cancellation
    ///
    /// That of `work`.
    pub fn count<F: Future>(self: &Arc<Self>, work: F) -> impl Future<Output = F::Output> + use<F> {
        // No `async fn`: one that hands its argument on holds it twice.
        COUNTER.scope(Arc::clone(self), work)
    }

    /// Counts the requests of a function: of one poll of a stream, for example.
    pub fn count_call<T>(self: &Arc<Self>, call: impl FnOnce() -> T) -> T {
        COUNTER.sync_scope(Arc::clone(self), call)
    }

    /// `work` for a task of its own, within the current span. Its requests count for whom this task
    /// works.
    pub fn inherit<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
        let counted = match COUNTER.try_with(Arc::clone) {
            Ok(counter) => Either::Left(counter.count(work)),
            Err(_) => Either::Right(work),
        };
        counted.in_current_span()
    }

    /// The same for a function that is called in another task.
    pub(crate) fn inherit_call<T>(call: impl Fn() -> T) -> impl Fn() -> T {
        let counter = COUNTER.try_with(Arc::clone).ok();
        move || match &counter {
            Some(counter) => counter.count_call(&call),
            None => call(),
        }
    }

    /// What was counted so far.
    pub fn usage(&self) -> Usage {
        let requests = Operation::ALL.iter().map(|&operation| {
            let count = self.requests[operation as usize].load(Relaxed);
            (operation.as_str(), count)
        });
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        Usage {
            requests_by_operation: requests.filter(|&(_, count)| count > 0).collect(),
            bytes_sent: self.sent.load(Relaxed),
            bytes_received: self.received.load(Relaxed),
            outcomes: outcomes.clone(),
        }
    }
}

/// The counters of one service.
#[derive(Debug)]
pub(crate) struct Telemetry {
    all: Arc<UsageCounter>,
    /// The requests that no other counter has.
    background: Arc<UsageCounter>,
    events: [AtomicU64; Event::ALL.len()],
}

impl Default for Telemetry {
    fn default() -> Self {
        let all = Arc::<UsageCounter>::default();
        Telemetry {
            background: Arc::new(UsageCounter::within(Arc::clone(&all))),
            all,
            events: Default::default(),
        }
    }
}

impl Telemetry {
    pub(crate) fn usage(&self) -> Usage {
        self.all.usage()
    }

    pub(crate) fn background(&self) -> Usage {
        self.background.usage()
    }

    pub(crate) fn note(&self, event: Event) {
        self.events[event as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn events(&self) -> BTreeMap<&'static str, u64> {
        let count = |event| self.events[event as usize].load(Relaxed);
        Event::ALL
            .map(|event| (event.as_str(), count(event)))
            .into()
    }

    /// The counters of a request that this task makes.
    fn counters(&self) -> [Option<Arc<UsageCounter>>; 2] {
        match COUNTER.try_with(Arc::clone) {
            Ok(caller) => [Some(Arc::clone(&self.all)), Some(caller)],
            Err(_) => [Some(Arc::clone(&self.background)), None],
        }
    }
}

/// One request, from when it is sent until it is over: answered, given up, or all of its answer
/// read. Dropping it reports it.
#[derive(Debug)]
pub(crate) struct Request {
    /// Of the service, and of whom it works for.
    counters: [Option<Arc<UsageCounter>>; 2],
    operation: Operation,
    key: String,
    attempt: u32,
    begun: Instant,
    sent: u64,
    received: u64,
    status: Option<u16>,
    outcome: Cow<'static, str>,
}

impl Request {
    /// Counts a request that is about to be sent with a body of so many bytes; the `attempt` is
    /// counted from 1.
    pub(crate) fn sent(
        telemetry: &Telemetry,
        operation: Operation,
        key: &str,
        attempt: u32,
        body: u64,
    ) -> Self {
        let request = Request {
            counters: telemetry.counters(),
            operation,
            key: key.to_owned(),
            attempt,
            begun: Instant::now(),
            sent: body,
            received: 0,
            status: None,
            outcome: Cow::Borrowed("Abandoned"),
        };
        request.add(|counter| {
            counter.requests[operation as usize].fetch_add(1, Relaxed);
            counter.sent.fetch_add(body, Relaxed);
        });
        request
    }

    fn add(&self, add: impl Fn(&UsageCounter)) {
        for counter in self.counters.iter().flatten() {
            let mut next = Some(&**counter);
            while let Some(counter) = next {
                add(counter);
                next = counter.parent.as_deref();
            }
        }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What came back: a status, if anything, and what that means.
    pub(crate) fn ended(&mut self, status: Option<u16>, outcome: impl Into<Cow<'static, str>>) {
        self.status = status;
        self.outcome = outcome.into();
    }

    /// The answer began well, and its body did not end.
    pub(crate) fn broke_off(&mut self) {
        self.outcome = Cow::Borrowed("BrokenBody");
    }

    /// Counts bytes of an object.
    pub(crate) fn received(&mut self, bytes: u64) {
        self.add(|counter| {
            counter.received.fetch_add(bytes, Relaxed);
        });
        self.received += bytes;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.add(|counter| {
            let mut outcomes = counter
                .outcomes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *outcomes.entry(self.outcome.clone()).or_default() += 1;
        });
        tracing::debug!(
            target: TARGET,
            operation = self.operation.as_str(),
            key = self.key,
            attempt = self.attempt,
            status = self.status,
            outcome = &*self.outcome,
            bytes_sent = self.sent,
            bytes_received = self.received,
            ms = self.begun.elapsed().as_millis() as u64,
            "S3 request"
        );
    }
}

/// What a service has asked of its store so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Requests sent, repeated attempts included, by S3 operation. Operations not used are absent.
    pub requests_by_operation: BTreeMap<&'static str, u64>,
    /// Bytes of request bodies, repeated attempts included.
    pub bytes_sent: u64,
    /// Bytes of object bodies received.
    pub bytes_received: u64,
    /// How the requests ended: `Ok`, `NoSuchKey`, `Throttled`, for example.
    pub outcomes: BTreeMap<Cow<'static, str>, u64>,
}

impl Usage {
    /// All requests together.
    pub fn requests(&self) -> u64 {
        self.requests_by_operation.values().sum()
    }

    /// What has been added since `earlier`.
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            requests_by_operation: difference(
                &self.requests_by_operation,
                &earlier.requests_by_operation,
            ),
            bytes_sent: self.bytes_sent.saturating_sub(earlier.bytes_sent),
            bytes_received: self.bytes_received.saturating_sub(earlier.bytes_received),
            outcomes: difference(&self.outcomes, &earlier.outcomes),
        }
    }
}

fn difference<K: Clone + Ord>(
    now: &BTreeMap<K, u64>,
    before: &BTreeMap<K, u64>,
) -> BTreeMap<K, u64> {
    let added = now.iter().map(|(name, count)| {
        let before = before.get(name).copied().unwrap_or(0);
        (name.clone(), count.saturating_sub(before))
    });
    added.filter(|&(_, count)| count > 0).collect()
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.requests())?;
        let mut separator = " (";
        for (name, count) in &self.requests_by_operation {
            write!(f, "{separator}{name} {count}")?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str(")")?;
        }
        write!(
            f,
            ", {} bytes up, {} bytes down",
            self.bytes_sent, self.bytes_received
        )
    }
}
