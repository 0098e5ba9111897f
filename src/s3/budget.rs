//! The bytes that may wait in memory: two [`Pool`]s, none of which lends to the other, since what
//! waits for a slow store is not released in time. The last 5/16 are for what is not counted here:
//! the buffers of connections, documents that are read or written, and the registry's manifests.
//!
//! Memory is counted in units of 64 KiB. A [`Holder`] is an upload, a reader or a body; it reserves
//! units one grant at a time, and each [`Grant`] is released when it is dropped.
//!
//! 1. A grant goes to the holder of least, then by order of asking. So a new or slow holder never
//!    waits behind one that holds much.
//! 2. While a holder waits and nothing was released for [`PATIENCE`], the holders that have most
//!    *idle* units are asked to release them ([`Holder::reclaim_requested`]), as many as it takes to
//!    serve those that wait; among equals, the one that was silent longest. Units are idle until they are [pinned](Grant::pin): those that are
//!    being sent are released without being asked. The unit of a body that
//!    is [received](Holder::reserve_for_arrival) is not asked for: at most half of the pool is held so.
//! 3. A holder of little is asked only if it was silent for a while, or if nothing is pinned, so
//!    that nothing would be released otherwise.
//! 4. Where a holder that has something is refused more, those that were silent for a while are asked at
//!    once: it waits for nothing, so by rule 2 it would stay as small as they left it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};

/// The grain of a pool, in bytes.
pub(crate) const UNIT: u64 = 64 * 1024;

/// Parts that are streamed at a time.
pub(crate) const STREAMS: usize = 4;

/// Objects and parts with the bytes of layers that are sent at a time. Enough for every link to a
/// store, and few enough that a small request beside them gets its share of a slow one.
const WRITES: usize = 64;

/// Ranges that are read at a time. While bytes arrive, a connection has a buffer of up to 400 KiB, which is
/// not counted; what has arrived waits for its reader without one.
pub(crate) const READS: usize = 32;

/// Readers that keep buffers at a time.
const BUFFERS: usize = 8;

/// How long nothing is released before a holder is asked to release.
const PATIENCE: Duration = Duration::from_millis(50);
/// A holder with fewer idle units is asked only if it was silent for [`SILENCE`].
const LITTLE: u32 = 4;
const SILENCE: Duration = Duration::from_secs(3);
/// How long a holder that was refused more goes before those that hold more than it does.
const REFUSED: Duration = Duration::from_secs(1);

/// The pools of one service.
#[derive(Debug)]
pub(crate) struct Budget {
    /// 7/16 of the budget: parts that are gathered or sent.
    pub(crate) uploads: Pool,
    /// 1/4 of the budget: ranges that are read.
    pub(crate) readers: Pool,
    /// Parts that are read from the store while they are sent. Each needs a few frames of memory,
    /// which is not counted; it has memory of others, so it must not wait for any.
    pub(crate) streams: Semaphore,
    /// Requests that carry bytes of layers. Taken last, so that its holder waits for S3 alone.
    pub(crate) writes: Semaphore,
    /// Requests that read ranges. Taken last too.
    pub(crate) reads: Semaphore,
    /// Readers that keep the buffers of connections. A client that stalls keeps two of 400 KiB, which are not counted.
    pub(crate) buffers: Arc<Semaphore>,
    /// Bodies that may be read at a time, so that each can have two units.
    pub(crate) bodies: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let uploads = Pool::new(bytes / 16 * 7);
        let bodies = usize::try_from(uploads.bytes() / UNIT / 2).unwrap_or(usize::MAX);
        Budget {
            bodies: Arc::new(Semaphore::new(bodies.clamp(1, Semaphore::MAX_PERMITS))),
            streams: Semaphore::new(STREAMS),
            writes: Semaphore::new(WRITES),
            reads: Semaphore::new(READS),
            buffers: Arc::new(Semaphore::new(BUFFERS)),
            uploads,
            readers: Pool::new(bytes / 4),
        }
    }

    /// Requests in flight that carry bytes of layers.
    pub(crate) fn writes_in_flight(&self) -> usize {
        WRITES.saturating_sub(self.writes.available_permits())
    }
}

/// Memory that is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolLoad {
    /// All of it, in bytes.
    pub total: u64,
    /// What is in use, in bytes.
    pub held: u64,
    /// Requests for memory that wait.
    pub waiting: usize,
}

/// A number of units that holders share.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: u32,
    /// When units were last released, or a holder was last asked.
    moved_at: Instant,
    /// By order of creation.
    accounts: BTreeMap<u64, Account>,
    /// By order of asking.
    requests: BTreeMap<u64, Request>,
    next_number: u64,
    /// The task that asks holders runs.
    is_pressing: bool,
}

/// What a holder has.
#[derive(Debug)]
struct Account {
    held: u32,
    idle: u32,
    arriving: u32,
    active_at: Instant,
    /// Asked to release its idle units, and has not begun to.
    is_asked: bool,
    asked: Arc<Notify>,
    /// When it last asked for more than it was given, without waiting.
    refused_at: Option<Instant>,
}

/// A request for units that were not there at once.
#[derive(Debug)]
struct Request {
    account: u64,
    units: u32,
    used: Use,
    is_granted: bool,
    waker: Option<Waker>,
}

impl State {
    /// Grants what can be granted, to the holder of least first.
    fn grant(&mut self) {
        let held = |state: &State, account| state.accounts.get(&account).map(|a| a.held);
        let waiting = self.waiting().map(|(number, request)| {
            Reverse((held(self, request.account), *number, request.account))
        });
        let mut waiting: BinaryHeap<_> = waiting.collect();
        while let Some(Reverse((had, number, account))) = waiting.pop() {
            let has = held(self, account);
            if has != had {
                // It was granted another request.
                waiting.push(Reverse((has, number, account)));
                continue;
            }
            let free = self.free;
            let request = self.requests.get_mut(&number);
            let Some(request) = request.filter(|request| request.units <= free) else {
                return;
            };
            request.is_granted = true;
            let (account, units, used) = (request.account, request.units, request.used);
            let waker = request.waker.take();
            self.take(account, units, used);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn take(&mut self, account: u64, units: u32, used: Use) {
        self.free -= units;
        if let Some(account) = self.accounts.get_mut(&account) {
            account.held += units;
            if let Some(counted) = account.units(used) {
                *counted += units;
            }
        }
    }

    fn release(&mut self, account: u64, units: u32, used: Use) {
        self.free += units;
        self.moved_at = Instant::now();
        if let Some(account) = self.accounts.get_mut(&account) {
            account.held -= units;
            if let Some(counted) = account.units(used) {
                *counted -= units;
            }
            account.is_asked &= used != Use::Idle && account.idle > 0;
        }
        self.grant();
    }

    /// What a holder may grow by without waiting, in units.
    fn available_to(&self, id: u64) -> u32 {
        let held = self.accounts.get(&id).map_or(0, |account| account.held);
        let goes_first = |account: &Account| {
            let was_refused = account.refused_at.is_some_and(|at| at.elapsed() < REFUSED);
            was_refused && account.held < held
        };
        if self.is_contended() || self.accounts.values().any(goes_first) {
            return 0;
        }
        self.free
    }

    fn is_contended(&self) -> bool {
        self.waiting().next().is_some()
    }

    /// By order of asking.
    fn waiting(&self) -> impl Iterator<Item = (&u64, &Request)> {
        let requests = self.requests.iter();
        requests.filter(|(_, request)| !request.is_granted)
    }

    /// Asks one holder more, and as many as it takes to release what is waited for.
    fn ask_holders(&mut self, now: Instant) {
        let waiting: u32 = self.waiting().map(|(_, request)| request.units).sum();
        let mut expected = self.asked_units();
        while let Some(account) = self.choose(now) {
            account.ask();
            expected += account.idle;
            if expected >= waiting {
                return;
            }
        }
    }

    /// What holders were asked for, and have not released.
    fn asked_units(&self) -> u32 {
        let asked = self.accounts.values().filter(|account| account.is_asked);
        asked.map(|account| account.idle).sum()
    }

    /// Asks those that were silent for a while, as many as it takes for a holder that has something to get so
    /// many units.
    fn ask_silent(&mut self, id: u64, units: u32, now: Instant) {
        if self
            .accounts
            .get(&id)
            .is_none_or(|account| account.held == 0)
        {
            return;
        }
        let mut expected = self.free + self.asked_units();
        for (other, account) in &mut self.accounts {
            if expected >= units {
                return;
            }
            let is_silent = now.duration_since(account.active_at) >= SILENCE;
            if *other != id && account.idle > 0 && !account.is_asked && is_silent {
                account.ask();
                expected += account.idle;
            }
        }
    }

    /// The holder to ask for its idle units. One that waits alone is not asked while others will
    /// release theirs.
    fn choose(&mut self, now: Instant) -> Option<&mut Account> {
        let is_stuck = |a: &Account| a.held == a.idle + a.arriving;
        let is_stuck = self.accounts.values().all(is_stuck);
        let requests = &self.requests;
        let waits_beside = |id: u64| {
            let mut waiting = requests.values().filter(|request| !request.is_granted);
            waiting.any(|request| request.account != id)
        };
        let candidates = self.accounts.iter_mut().filter(|(id, account)| {
            let is_silent = now.duration_since(account.active_at) >= SILENCE;
            let is_worth_it = account.idle >= LITTLE || is_silent || is_stuck;
            let is_free = account.idle > 0 && !account.is_asked;
            is_free && is_worth_it && (is_stuck || waits_beside(**id))
        });
        let most = candidates.max_by_key(|(_, account)| (account.idle, now - account.active_at));
        Some(most?.1)
    }
}

impl Pool {
    fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Pool(Arc::new(Shared {
            total,
            state: Mutex::new(State {
                free: total,
                moved_at: Instant::now(),
                accounts: BTreeMap::new(),
                requests: BTreeMap::new(),
                next_number: 0,
                is_pressing: false,
            }),
        }))
    }

    /// Of the whole pool.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.0.total) * UNIT
    }

    pub(crate) fn load(&self) -> PoolLoad {
        let state = self.lock();
        PoolLoad {
            total: self.bytes(),
            held: u64::from(self.0.total - state.free) * UNIT,
            waiting: state.waiting().count(),
        }
    }

    /// One that holds nothing yet.
    pub(crate) fn holder(&self) -> Holder {
        let mut state = self.lock();
        let id = state.next_number;
        state.next_number += 1;
        let asked = Arc::new(Notify::new());
        let account = Account {
            held: 0,
            idle: 0,
            arriving: 0,
            active_at: Instant::now(),
            is_asked: false,
            asked: Arc::clone(&asked),
            refused_at: None,
        };
        state.accounts.insert(id, account);
        let pool = self.clone();
        Holder(Arc::new(Holding { pool, id, asked }))
    }

    /// No step under the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked for, at most everything.
    fn units_of(&self, bytes: u64) -> u32 {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        units.min(self.0.total)
    }

    /// Begins to ask holders, where that is not done already.
    fn press(&self, state: &mut State) {
        if !std::mem::replace(&mut state.is_pressing, true) {
            tokio::spawn(press(self.clone()));
        }
    }
}

/// Asks holders to release, as long as others wait.
async fn press(pool: Pool) {
    let mut pressing = Pressing(Some(pool.clone()));
    let mut next = Instant::now() + PATIENCE;
    loop {
        sleep_until(next).await;
        let mut state = pool.lock();
        if !state.is_contended() {
            state.is_pressing = false;
            pressing.0 = None;
            return;
        }
        let now = Instant::now();
        if now.duration_since(state.moved_at) >= PATIENCE {
            state.moved_at = now;
            state.ask_holders(now);
        }
        next = state.moved_at + PATIENCE;
    }
}

/// Says so when the runtime of a [`press`] ends before its work does.
struct Pressing(Option<Pool>);

impl Drop for Pressing {
    fn drop(&mut self) {
        if let Some(pool) = &self.0 {
            pool.lock().is_pressing = false;
        }
    }
}

/// An upload, a reader or a body, in its pool. A clone is the same holder.
#[derive(Clone, Debug)]
pub(crate) struct Holder(Arc<Holding>);

#[derive(Debug)]
struct Holding {
    pool: Pool,
    id: u64,
    asked: Arc<Notify>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.pool.lock().accounts.remove(&self.id);
    }
}

impl Holder {
    /// Waits for units for so many bytes, at most the whole pool, in the order of the pool.
    ///
    /// Cancelling takes the request back.
    pub(crate) async fn reserve(&self, bytes: u64) -> Grant {
        self.reserve_for(bytes, Use::Idle).await
    }

    /// As [`reserve`](Self::reserve), one unit, for the bytes that are read from a socket. It is never asked for, not even
    /// before the task that waits has seen it: another task of this holder would be asked, and has nothing to release.
    pub(crate) async fn reserve_for_arrival(&self) -> Grant {
        self.reserve_for(UNIT, Use::Arriving).await
    }

    async fn reserve_for(&self, bytes: u64, used: Use) -> Grant {
        if let Some(grant) = self.try_reserve(bytes, used) {
            return grant;
        }
        let units = self.0.pool.units_of(bytes);
        let mut waiting = Waiting::begin(self, units, used);
        poll_fn(|context| waiting.poll(context)).await
    }

    /// Never waits, and takes nothing while others wait.
    fn try_reserve(&self, bytes: u64, used: Use) -> Option<Grant> {
        let units = self.0.pool.units_of(bytes);
        let mut state = self.0.pool.lock();
        if state.is_contended() || state.free < units {
            return None;
        }
        state.take(self.0.id, units, used);
        Some(self.grant(units, used))
    }

    /// As `try_reserve`, and takes nothing while a holder of less was refused a moment ago.
    pub(crate) fn try_grow(&self, bytes: u64) -> Option<Grant> {
        let units = self.0.pool.units_of(bytes);
        let mut state = self.0.pool.lock();
        let is_refused = state.available_to(self.0.id) < units;
        if let Some(account) = state.accounts.get_mut(&self.0.id) {
            account.refused_at = is_refused.then(Instant::now);
        }
        if is_refused {
            state.ask_silent(self.0.id, units, Instant::now());
            return None;
        }
        state.take(self.0.id, units, Use::Idle);
        drop(state);
        Some(self.grant(units, Use::Idle))
    }

    /// What this holds, in bytes.
    pub(crate) fn held(&self) -> u64 {
        let state = self.0.pool.lock();
        let account = state.accounts.get(&self.0.id);
        account.map_or(0, |account| u64::from(account.held) * UNIT)
    }

    /// What `try_grow` would give, in bytes.
    pub(crate) fn available(&self) -> u64 {
        u64::from(self.0.pool.lock().available_to(self.0.id)) * UNIT
    }

    /// Bytes arrived, or were read: the holder is not silent.
    pub(crate) fn touch(&self) {
        if let Some(account) = self.0.pool.lock().accounts.get_mut(&self.0.id) {
            account.active_at = Instant::now();
        }
    }

    /// Resolves when this holder shall release its idle units, because others wait.
    pub(crate) async fn reclaim_requested(&self) {
        loop {
            let asked = self.0.asked.notified();
            tokio::pin!(asked);
            asked.as_mut().enable();
            let account = |state: &State| state.accounts.get(&self.0.id).map(|a| a.is_asked);
            if account(&self.0.pool.lock()) == Some(true) {
                return;
            }
            asked.await;
        }
    }

    fn grant(&self, units: u32, used: Use) -> Grant {
        Grant {
            holder: self.clone(),
            units,
            used,
        }
    }
}

/// A request for units, until its future is dropped.
struct Waiting<'a> {
    holder: &'a Holder,
    number: u64,
    units: u32,
    used: Use,
}

impl<'a> Waiting<'a> {
    fn begin(holder: &'a Holder, units: u32, used: Use) -> Self {
        let pool = &holder.0.pool;
        let mut state = pool.lock();
        let number = state.next_number;
        state.next_number += 1;
        let request = Request {
            account: holder.0.id,
            units,
            used,
            is_granted: false,
            waker: None,
        };
        state.requests.insert(number, request);
        state.grant();
        pool.press(&mut state);
        Waiting {
            holder,
            number,
            units,
            used,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Grant> {
        let mut state = self.holder.0.pool.lock();
        match state.requests.get_mut(&self.number) {
            Some(request) if !request.is_granted => {
                request.waker = Some(context.waker().clone());
                Poll::Pending
            }
            _ => {
                state.requests.remove(&self.number);
                Poll::Ready(self.holder.grant(self.units, self.used))
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.holder.0.pool.lock();
        let Some(request) = state.requests.remove(&self.number) else {
            return;
        };
        if request.is_granted {
            state.release(self.holder.0.id, self.units, self.used);
        } else {
            // It may have been the first, and have asked for more than the next one.
            state.grant();
        }
    }
}

/// Units that their holder may use until this is dropped.
#[derive(Debug)]
pub(crate) struct Grant {
    holder: Holder,
    units: u32,
    used: Use,
}

/// What units are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Bytes that can be stored or dropped when others wait.
    Idle,
    /// The bytes that are read from a socket.
    Arriving,
    /// Bytes that are being moved.
    Pinned,
}

impl Account {
    /// Asks for the idle units.
    fn ask(&mut self) {
        self.is_asked = true;
        self.asked.notify_waiters();
    }

    /// The units of a use that are counted apart.
    fn units(&mut self, used: Use) -> Option<&mut u32> {
        match used {
            Use::Idle => Some(&mut self.idle),
            Use::Arriving => Some(&mut self.arriving),
            Use::Pinned => None,
        }
    }
}

impl Grant {
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Adds another grant of the same holder, which becomes as this one is.
    pub(crate) fn merge(&mut self, mut other: Grant) {
        other.set_use(self.used);
        self.units += std::mem::take(&mut other.units);
    }

    fn set_use(&mut self, used: Use) {
        let before = std::mem::replace(&mut self.used, used);
        let mut state = self.holder.0.pool.lock();
        let Some(account) = state.accounts.get_mut(&self.holder.0.id) else {
            return;
        };
        if let Some(units) = account.units(before) {
            *units -= self.units;
        }
        if let Some(units) = account.units(used) {
            *units += self.units;
        }
        // One that has nothing to give is not asked: its task would look for what to give, again and again.
        account.is_asked &= used != Use::Pinned && account.idle > 0;
    }

    /// The bytes are being sent, or moved otherwise: the units are released without being asked for.
    pub(crate) fn pin(&mut self) {
        self.set_use(Use::Pinned);
    }

    /// The bytes wait for their reader: the units are released when that is asked for.
    pub(crate) fn unpin(&mut self) {
        self.set_use(Use::Idle);
        self.holder.touch();
    }

    /// Resolves when the holder shall release its idle units.
    pub(crate) async fn reclaim_requested(&self) {
        self.holder.reclaim_requested().await;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.units > 0 {
            let mut state = self.holder.0.pool.lock();
            state.release(self.holder.0.id, self.units, self.used);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    fn pool(units: u64) -> Pool {
        Pool::new(units * UNIT)
    }

    #[test]
    fn budget_is_divided() {
        let budget = Budget::new(256 << 20);
        let pools = [&budget.uploads, &budget.readers];
        assert_eq!(pools.map(|pool| pool.bytes() >> 20), [112, 64]);
        assert_eq!(Budget::new(0).readers.bytes(), UNIT);
    }

    #[tokio::test(start_paused = true)]
    async fn holder_that_was_refused_more_gets_what_silent_ones_hold() {
        let pool = pool(6);
        let (reading, silent, active) = (pool.holder(), pool.holder(), pool.holder());
        let idle = silent.try_grow(2 * UNIT).unwrap();
        let others = active.try_grow(3 * UNIT).unwrap();
        let _one = reading.try_grow(UNIT).unwrap();
        let is_asked = |grant: &Grant| grant.reclaim_requested().now_or_never().is_some();
        assert!(reading.try_grow(UNIT).is_none());
        assert!(!is_asked(&idle), "it may be about to read on");
        tokio::time::sleep(SILENCE).await;
        active.touch();
        assert!(reading.try_grow(UNIT).is_none());
        assert!(is_asked(&idle) && !is_asked(&others));
        drop(idle);
        assert!(reading.try_grow(2 * UNIT).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn holder_of_less_grows_first() {
        let pool = pool(4);
        let (large, small) = (pool.holder(), pool.holder());
        let two = large.try_grow(2 * UNIT).unwrap();
        let one = large.try_grow(UNIT).unwrap();
        let _one = small.try_grow(UNIT).unwrap();
        assert!(small.try_grow(UNIT).is_none(), "nothing is free");
        drop(one);
        assert_eq!((large.available(), small.available()), (0, UNIT));
        assert!(large.try_grow(UNIT).is_none(), "the other one holds less");
        let _two = small.try_grow(UNIT).unwrap();

        assert!(small.try_grow(UNIT).is_none());
        tokio::time::sleep(REFUSED).await;
        drop(two);
        assert!(large.try_grow(2 * UNIT).is_some(), "that was long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn holder_of_least_is_first() {
        let pool = pool(4);
        let (large, small) = (pool.holder(), pool.holder());
        let mut held = large.reserve(3 * UNIT).await;
        let one = small.reserve(UNIT).await;
        let mut first = Box::pin(large.reserve(UNIT));
        let mut second = Box::pin(small.reserve(UNIT));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(pool.holder().try_grow(1).is_none(), "others wait");

        held.units -= 1;
        drop(large.grant(1, Use::Idle));
        assert!(first.as_mut().now_or_never().is_none());
        let two = second.await;
        drop((one, two));
        assert_eq!(first.await.bytes(), UNIT);
    }

    #[tokio::test(start_paused = true)]
    async fn equal_holders_are_in_order_of_asking() {
        let pool = pool(2);
        let holders = [pool.holder(), pool.holder(), pool.holder()];
        let all = holders[0].reserve(2 * UNIT).await;
        let mut late = Box::pin(holders[2].reserve(2 * UNIT));
        assert!(late.as_mut().now_or_never().is_none());
        let mut later = Box::pin(holders[1].reserve(UNIT));
        assert!(later.as_mut().now_or_never().is_none());
        drop(all);
        assert!(later.as_mut().now_or_never().is_none());
        drop(late.await);
        later.await;
    }

    #[tokio::test(start_paused = true)]
    async fn most_idle_is_asked_while_another_waits() {
        let pool = pool(24);
        let [large, small, fast, waiter] = [(); 4].map(|()| pool.holder());
        let most = large.reserve(10 * UNIT).await;
        let _less = small.reserve(5 * UNIT).await;
        let mut sent = fast.reserve(9 * UNIT).await;
        let idle = timeout(Duration::from_secs(60), large.reclaim_requested()).await;
        assert!(idle.is_err(), "no upload waits");
        let mut waiting = Box::pin(waiter.reserve(UNIT));
        assert!(waiting.as_mut().now_or_never().is_none());
        sent.pin();
        timeout(2 * PATIENCE, large.reclaim_requested())
            .await
            .unwrap();
        assert!(small.reclaim_requested().now_or_never().is_none());
        drop(most);
        waiting.await;
        assert!(large.reclaim_requested().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_asked_as_it_takes() {
        let pool = pool(30);
        let holders: Vec<Holder> = (0..5).map(|_| pool.holder()).collect();
        let mut held = Vec::new();
        for holder in &holders {
            held.push(holder.reserve(6 * UNIT).await);
        }
        let waiters: Vec<Holder> = (0..16).map(|_| pool.holder()).collect();
        let mut waiting: Vec<_> = waiters.iter().map(|w| Box::pin(w.reserve(UNIT))).collect();
        for request in &mut waiting {
            assert!(request.as_mut().now_or_never().is_none());
        }
        tokio::time::sleep(PATIENCE + PATIENCE / 2).await;
        let is_asked = |holder: &&Holder| holder.reclaim_requested().now_or_never().is_some();
        assert_eq!(holders.iter().filter(is_asked).count(), 3);
    }

    /// Also not before its task has seen what it was given.
    #[tokio::test(start_paused = true)]
    async fn holder_whose_units_arrive_is_not_asked_for_them() {
        let pool = pool(2);
        let [other, late, waiter] = [(); 3].map(|()| pool.holder());
        let mut pinned = other.reserve(UNIT).await;
        pinned.pin();
        let idle = other.reserve(UNIT).await;
        let mut arrival = Box::pin(late.reserve_for_arrival());
        assert!(arrival.as_mut().now_or_never().is_none());
        let mut waiting = Box::pin(waiter.reserve(UNIT));
        assert!(waiting.as_mut().now_or_never().is_none());
        tokio::time::sleep(SILENCE).await;
        drop(idle);
        tokio::time::sleep(2 * PATIENCE).await;
        assert!(late.reclaim_requested().now_or_never().is_none());
        let _arriving = arrival.await;
        assert!(late.reclaim_requested().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn holder_of_little_is_asked_when_it_was_silent() {
        let pool = pool(4);
        let [little, fast, waiter] = [(); 3].map(|()| pool.holder());
        let _held = little.reserve(UNIT).await;
        let mut sent = fast.reserve(3 * UNIT).await;
        sent.pin();
        let mut waiting = Box::pin(waiter.reserve(UNIT));
        assert!(waiting.as_mut().now_or_never().is_none());
        let early = timeout(SILENCE / 2, little.reclaim_requested()).await;
        assert!(early.is_err(), "it was not silent for long");
        little.touch();
        let early = timeout(SILENCE - PATIENCE, little.reclaim_requested()).await;
        assert!(early.is_err(), "bytes arrived");
        timeout(2 * PATIENCE, little.reclaim_requested())
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn holder_that_waits_alone_is_asked_only_if_nothing_is_sent() {
        let pool = pool(8);
        let [alone, fast] = [(); 2].map(|()| pool.holder());
        let _held = alone.reserve(5 * UNIT).await;
        let mut sent = fast.reserve(3 * UNIT).await;
        sent.pin();
        let mut waiting = Box::pin(alone.reserve(UNIT));
        assert!(waiting.as_mut().now_or_never().is_none());
        let asked = timeout(Duration::from_secs(60), alone.reclaim_requested()).await;
        assert!(asked.is_err(), "something is being sent");
        drop(sent);
        waiting.await;

        let rest = fast.reserve(3 * UNIT).await;
        let mut waiting = Box::pin(alone.reserve(UNIT));
        assert!(waiting.as_mut().now_or_never().is_none());
        timeout(2 * PATIENCE, alone.reclaim_requested())
            .await
            .unwrap();
        drop(rest);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_everything_is_everything() {
        let pool = pool(4);
        let (first, second) = (pool.holder(), pool.holder());
        let all = first.reserve(100 * UNIT).await;
        assert_eq!(all.bytes(), pool.bytes());
        assert!(second.try_grow(1).is_none());
        drop(all);
        assert!(second.try_grow(1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_requests_leave_nothing() {
        let pool = pool(2);
        let (first, second) = (pool.holder(), pool.holder());
        let held = first.reserve(UNIT).await;
        let mut large = Box::pin(second.reserve(2 * UNIT));
        assert!(large.as_mut().now_or_never().is_none());
        drop(large);
        let mut granted = Box::pin(second.reserve(2 * UNIT));
        assert!(granted.as_mut().now_or_never().is_none());
        drop(held);
        drop(granted);
        let mut all = first.try_grow(2 * UNIT).unwrap();
        all.pin();
        drop(all);
        let mut merged = first.reserve(UNIT).await;
        merged.merge(first.try_grow(UNIT).unwrap());
        assert_eq!(merged.bytes(), 2 * UNIT);
    }
}
