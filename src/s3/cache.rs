//! What was read or written a moment ago, for a while: bounded in bytes and in time, and never
//! older than the last write that this process made.
//!
//! A fetched value may be older than a write that overtook it, so it is kept only under a
//! [`Ticket`] drawn before it was asked for, and only if no write of the same key came between.
//! Time is tokio's, so that tests can pause it. As all entries live equally long, the oldest is
//! the first to go, and a queue will do.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::keys::Key;

/// What an entry costs besides its value, in bytes: this bounds how many there are.
const OVERHEAD: u64 = 512;

/// Keys share so many counters of writes. A collision costs a value that is not kept.
const SLOTS: usize = 64;

/// A value that knows its size.
pub(crate) trait Weigh {
    /// In bytes, roughly.
    fn weight(&self) -> u64;
}

/// Values by the key that they are stored under.
pub(crate) struct Cache<V> {
    lifetime: Duration,
    /// In bytes.
    capacity: u64,
    inner: Mutex<Inner<V>>,
}

struct Inner<V> {
    entries: HashMap<Key, Entry<V>>,
    /// In the order of their ends. An entry that was replaced stands there twice.
    queue: VecDeque<(Instant, Key)>,
    bytes: u64,
    writes: [u64; SLOTS],
}

struct Entry<V> {
    value: V,
    weight: u64,
    until: Instant,
}

/// Tells whether a key was written since this was drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    slot: usize,
    writes: u64,
}

impl<V: Clone + Weigh> Cache<V> {
    /// Values live for `lifetime`, and weigh `capacity` bytes together at most.
    pub(crate) fn new(lifetime: Duration, capacity: u64) -> Self {
        Cache {
            lifetime,
            capacity,
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                queue: VecDeque::new(),
                bytes: 0,
                writes: [0; SLOTS],
            }),
        }
    }

    /// No step under the lock can panic half way.
    fn inner(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be drawn before the store is asked for the value of `key`, or to change it.
    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        let slot = slot(key);
        let writes = self.inner().writes[slot];
        Ticket { slot, writes }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<V> {
        let inner = self.inner();
        let entry = inner.entries.get(key)?;
        (entry.until > Instant::now()).then(|| entry.value.clone())
    }

    /// As [`get`](Self::get), and removes it.
    pub(crate) fn take(&self, key: &Key) -> Option<V> {
        let mut inner = self.inner();
        let entry = inner.remove(key)?;
        (entry.until > Instant::now()).then_some(entry.value)
    }

    /// Keeps what was read.
    pub(crate) fn read(&self, ticket: Ticket, key: &Key, value: V) {
        let mut inner = self.inner();
        if inner.writes[ticket.slot] == ticket.writes {
            self.keep(&mut inner, key, value);
        }
    }

    /// Keeps what was written; what others have read before is not kept any more.
    pub(crate) fn wrote(&self, ticket: Ticket, key: &Key, value: V) {
        let mut inner = self.inner();
        let is_last = inner.writes[ticket.slot] == ticket.writes;
        inner.writes[ticket.slot] += 1;
        match is_last {
            true => self.keep(&mut inner, key, value),
            // Of two writes at once, either may be the last at the store.
            false => drop(inner.remove(key)),
        }
    }

    /// Forgets what was changed or removed.
    pub(crate) fn forget(&self, key: &Key) {
        let mut inner = self.inner();
        inner.writes[slot(key)] += 1;
        inner.remove(key);
    }

    fn keep(&self, inner: &mut Inner<V>, key: &Key, value: V) {
        inner.remove(key);
        let weight = OVERHEAD + value.weight();
        if weight > self.capacity {
            return;
        }
        let now = Instant::now();
        while let Some((until, _)) = inner.queue.front()
            && (*until <= now || inner.bytes + weight > self.capacity)
        {
            inner.drop_oldest();
        }
        let until = now + self.lifetime;
        inner.queue.push_back((until, key.clone()));
        inner.bytes += weight;
        let entry = Entry {
            value,
            weight,
            until,
        };
        inner.entries.insert(key.clone(), entry);
    }
}

impl<V> Inner<V> {
    fn remove(&mut self, key: &Key) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.weight;
        Some(entry)
    }

    fn drop_oldest(&mut self) {
        if let Some((until, key)) = self.queue.pop_front()
            && self.entries.get(&key).is_some_and(|e| e.until == until)
        {
            self.remove(&key);
        }
    }
}

fn slot(key: &Key) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as usize % SLOTS
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("lifetime", &self.lifetime)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for u64 {
        fn weight(&self) -> u64 {
            *self
        }
    }

    const LIFETIME: Duration = Duration::from_secs(3);

    fn key(text: &str) -> Key {
        Key::from_listing(text)
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_lives_for_its_time_and_not_longer() {
        let (cache, a) = (Cache::new(LIFETIME, 10_000), key("a"));
        cache.read(cache.ticket(&a), &a, 1);
        tokio::time::advance(LIFETIME / 2).await;
        assert_eq!(cache.get(&a), Some(1));
        cache.read(cache.ticket(&a), &a, 2);
        tokio::time::advance(LIFETIME * 2 / 3).await;
        assert_eq!(cache.get(&a), Some(2), "it was renewed");
        tokio::time::advance(LIFETIME / 3).await;
        assert_eq!(cache.get(&a), None);
        assert_eq!(cache.take(&a), None);
    }

    #[tokio::test]
    async fn what_was_read_before_a_write_is_not_kept_after_it() {
        let (cache, a) = (Cache::new(LIFETIME, 10_000), key("a"));
        let (reader, writer) = (cache.ticket(&a), cache.ticket(&a));
        cache.wrote(writer, &a, 2);
        cache.read(reader, &a, 1);
        assert_eq!(cache.get(&a), Some(2));

        let reader = cache.ticket(&a);
        cache.forget(&a);
        cache.read(reader, &a, 1);
        assert_eq!(cache.get(&a), None);

        let (one, other) = (cache.ticket(&a), cache.ticket(&a));
        cache.wrote(one, &a, 1);
        cache.wrote(other, &a, 2);
        assert_eq!(cache.get(&a), None, "either may be the last");
    }

    #[tokio::test]
    async fn the_oldest_make_room_and_nothing_outweighs_the_whole() {
        let cache = Cache::new(LIFETIME, 3 * (OVERHEAD + 100));
        let keys: Vec<Key> = (0..5).map(|n| key(&n.to_string())).collect();
        for key in &keys {
            cache.read(cache.ticket(key), key, 100);
        }
        let kept = keys.iter().map(|key| cache.get(key).is_some());
        assert_eq!(
            kept.collect::<Vec<_>>(),
            [false, false, true, true, true],
            "the oldest went"
        );
        cache.read(cache.ticket(&keys[0]), &keys[0], 10_000);
        assert_eq!(cache.get(&keys[0]), None);
        assert_eq!(cache.take(&keys[4]), Some(100));
        assert_eq!(cache.get(&keys[4]), None, "it was taken");
        assert_eq!(cache.inner().bytes, 2 * (OVERHEAD + 100));
    }
}
