//! A memory of this process, bounded in bytes and in time.
//!
//! A fetched value may be older than what was learned since it was asked for, so it is kept only
//! under a [`Ticket`] drawn before, and only if its key was not forgotten in between.
//! Time is tokio's, so that tests can pause it. As all entries live equally long, the oldest is
//! the first to go.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::locks::lock;
use crate::s3::format::keys::Key;

/// What an entry costs besides its value, in bytes: this bounds how many there are.
const OVERHEAD: u64 = 512;

/// Keys share so many counters of forgotten values. A collision costs a value that is not kept.
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
    /// The end of each entry, by its number: the oldest comes first.
    ends: BTreeMap<u64, (Instant, Key)>,
    /// How many entries there have been.
    count: u64,
    bytes: u64,
    forgotten: [u64; SLOTS],
}

struct Entry<V> {
    value: V,
    weight: u64,
    until: Instant,
    number: u64,
}

/// Detects that a key was forgotten since this was drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    slot: usize,
    forgotten: u64,
}

impl<V: Weigh> Cache<V> {
    /// Values live for `lifetime`, and weigh `capacity` bytes together at most.
    pub(crate) fn new(lifetime: Duration, capacity: u64) -> Self {
        Cache {
            lifetime,
            capacity,
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                ends: BTreeMap::new(),
                count: 0,
                bytes: 0,
                forgotten: [0; SLOTS],
            }),
        }
    }

    /// No step under the lock can panic half way.
    fn inner(&self) -> MutexGuard<'_, Inner<V>> {
        lock(&self.inner)
    }

    /// To be drawn before the store is asked for the value of `key`.
    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        let slot = slot(key);
        let forgotten = self.inner().forgotten[slot];
        Ticket { slot, forgotten }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<V>
    where
        V: Clone,
    {
        let inner = self.inner();
        let entry = inner.entries.get(key)?;
        (entry.until > Instant::now()).then(|| entry.value.clone())
    }

    /// Keeps a value, unless the key was forgotten since the ticket was drawn.
    pub(crate) fn insert(&self, ticket: Ticket, key: &Key, value: V) {
        let mut inner = self.inner();
        if inner.forgotten[ticket.slot] == ticket.forgotten {
            self.keep(&mut inner, key, value);
        }
    }

    /// Removes the value, and invalidates the tickets that were drawn for its key.
    pub(crate) fn forget(&self, key: &Key) {
        let mut inner = self.inner();
        inner.forgotten[slot(key)] += 1;
        inner.remove(key);
    }

    /// Takes the value out, if it is the right one.
    pub(crate) fn take_if(&self, key: &Key, is_right: impl Fn(&V) -> bool) -> Option<V> {
        let mut inner = self.inner();
        let entry = inner.entries.get(key)?;
        if entry.until <= Instant::now() || !is_right(&entry.value) {
            return None;
        }
        inner.remove(key).map(|entry| entry.value)
    }

    fn keep(&self, inner: &mut Inner<V>, key: &Key, value: V) {
        inner.remove(key);
        let weight = OVERHEAD + value.weight();
        if weight > self.capacity {
            return;
        }
        let now = Instant::now();
        while let Some((_, (until, oldest))) = inner.ends.first_key_value()
            && (*until <= now || inner.bytes + weight > self.capacity)
        {
            let oldest = oldest.clone();
            inner.remove(&oldest);
        }
        let until = now + self.lifetime;
        inner.count += 1;
        let number = inner.count;
        inner.ends.insert(number, (until, key.clone()));
        inner.bytes += weight;
        let entry = Entry {
            value,
            weight,
            until,
            number,
        };
        inner.entries.insert(key.clone(), entry);
    }
}

impl<V> Inner<V> {
    fn remove(&mut self, key: &Key) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        self.ends.remove(&entry.number);
        self.bytes -= entry.weight;
        Some(entry)
    }
}

fn slot(key: &Key) -> usize {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(key) as usize % SLOTS
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
        cache.insert(cache.ticket(&a), &a, 1);
        tokio::time::advance(LIFETIME / 2).await;
        assert_eq!(cache.get(&a), Some(1));
        cache.insert(cache.ticket(&a), &a, 2);
        tokio::time::advance(LIFETIME * 2 / 3).await;
        assert_eq!(cache.get(&a), Some(2), "it was renewed");
        tokio::time::advance(LIFETIME / 3).await;
        assert_eq!(cache.get(&a), None);
    }

    #[tokio::test]
    async fn value_asked_for_before_a_forget_is_not_kept() {
        let (cache, a) = (Cache::new(LIFETIME, 10_000), key("a"));
        let ticket = cache.ticket(&a);
        cache.forget(&a);
        cache.insert(ticket, &a, 1);
        assert_eq!(cache.get(&a), None);
        cache.insert(cache.ticket(&a), &a, 2);
        assert_eq!(cache.get(&a), Some(2));
    }

    #[tokio::test]
    async fn oldest_entries_are_evicted_and_a_too_large_one_is_not_kept() {
        let cache = Cache::new(LIFETIME, 3 * (OVERHEAD + 100));
        let keys: Vec<Key> = (0..5).map(|n| key(&n.to_string())).collect();
        for key in &keys {
            cache.insert(cache.ticket(key), key, 100);
        }
        let kept = keys.iter().map(|key| cache.get(key).is_some());
        assert_eq!(
            kept.collect::<Vec<_>>(),
            [false, false, true, true, true],
            "the oldest went"
        );
        cache.insert(cache.ticket(&keys[0]), &keys[0], 10_000);
        assert_eq!(cache.get(&keys[0]), None);
        cache.forget(&keys[4]);
        assert_eq!(cache.get(&keys[4]), None, "it was forgotten");
        assert_eq!(cache.inner().bytes, 2 * (OVERHEAD + 100));
    }

    /// An upload that a client appends to is kept and taken out by each request.
    #[tokio::test]
    async fn entry_that_is_taken_out_again_and_again_leaves_nothing() {
        let (cache, a) = (Cache::new(LIFETIME, 10_000), key("a"));
        for value in 0..1_000 {
            cache.insert(cache.ticket(&a), &a, value);
            assert_eq!(cache.take_if(&a, |_| true), Some(value));
        }
        let inner = cache.inner();
        let left = (inner.entries.len(), inner.ends.len(), inner.bytes);
        assert_eq!(left, (0, 0, 0));
    }
}
