//! Limits the concurrent requests of one client: an address, or an IPv6 network of 64 bits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::locks::lock;
use crate::proxies::network;

/// How much each client has.
#[derive(Clone, Debug)]
pub(super) struct ClientPermits {
    limit: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A permit of a client, until it is dropped.
#[derive(Debug)]
pub(super) struct ClientPermit {
    client: IpAddr,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl ClientPermits {
    pub(super) fn new(limit: usize) -> Self {
        ClientPermits {
            limit,
            held: Arc::default(),
        }
    }

    /// `None` where the client has all that it may have.
    pub(super) fn acquire(&self, client: IpAddr) -> Option<ClientPermit> {
        let client = network(client);
        let mut held = lock(&self.held);
        let count = held.entry(client).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(ClientPermit {
            client,
            held: Arc::clone(&self.held),
        })
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_limit() {
        let permits = ClientPermits::new(2);
        let client = |last| IpAddr::from([192, 0, 2, last]);
        let first = permits.acquire(client(1)).unwrap();
        let _second = permits.acquire(client(1)).unwrap();
        assert!(permits.acquire(client(1)).is_none());
        assert!(permits.acquire(client(2)).is_some());
        drop(first);
        assert!(permits.acquire(client(1)).is_some());
        assert_eq!(permits.held.lock().unwrap().len(), 1);
        let of_network = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let _held = [1, 2].map(|last| permits.acquire(of_network(last)).unwrap());
        assert!(permits.acquire(of_network(3)).is_none());
        assert!(
            permits
                .acquire(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, 1]))
                .is_some()
        );
    }
}
