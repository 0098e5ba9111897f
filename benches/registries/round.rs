//! What one contender does in a round, and what each thing of it cost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use bytes::Bytes;
use s3layers::{Algorithm, Digest};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::client::Client;
use super::registry::{Contender, Registry};
use super::slow::SlowSenders;
use super::tcp_proxy::{Link, TcpProxy, Traffic};
use super::{DISTANT, NARROW, Store, floor, rclone};

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;
/// The layer that is pushed and pulled, in bytes.
pub const LARGE: usize = 512 * MIB;

/// The layer that is pushed and pulled without a link, in bytes.
pub const NEAR: usize = 1024 * MIB;
/// Of the layers on the narrow link, in bytes.
const SHARED: usize = 32 * MIB;
/// Clients that push such a layer again and again, beside a pull.
const PUSHING: usize = 16;

/// How long slow senders, or those that push, have sent before what is measured begins.
const WARM_UP: Duration = Duration::from_secs(10);

/// A layer's bytes, and its digest.
pub type Layer = (Bytes, String);

/// What one thing cost.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub seconds: f64,
    pub traffic: Traffic,
    /// Seconds of the registry's processor time.
    pub cpu: f64,
}

/// What a registry did in a round.
pub struct Round {
    /// Of 3 KiB.
    pub small: Cost,
    /// Of [`LARGE`].
    pub push: Cost,
    /// Of 64 MiB, a MiB a request.
    pub patches: Cost,
    /// The request that ends a push of 16 and one of 256 MiB.
    pub ends: [Cost; 2],
    /// Of 128 MiB, alone and beside slow senders.
    pub beside: [Cost; 2],
    /// By a process that has seen nothing yet, and again.
    pub head: [Cost; 2],
    /// The same, of the small layer.
    pub get: [Cost; 2],
    /// Of [`LARGE`].
    pub pull: Cost,
    /// Of [`NEAR`], pushed and pulled without a link.
    pub near: [Cost; 2],
    /// A pull of 32 MiB over a narrow link, alone and beside pushes.
    pub shared: [Cost; 2],
    /// The most memory of the process that took the pushes, and of the one that served, in MiB.
    pub memory: [f64; 2],
}

/// A layer like no other.
pub fn layer(size: usize) -> Layer {
    let mut state = Uuid::new_v4().as_u64_pair().0 | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    let digest = Digest::of(Algorithm::Sha256, &bytes).to_string();
    (bytes.into(), digest)
}

fn since(before: Traffic, after: Traffic) -> Traffic {
    Traffic {
        requests: after.requests - before.requests,
        bytes: [0, 1].map(|direction| after.bytes[direction] - before.bytes[direction]),
    }
}

/// One registry after the other over one root, as processes that begin with nothing in memory.
struct Stage<'a> {
    contender: &'a Contender,
    store: &'a Store,
    /// To the store, unless it is near.
    proxy: Option<TcpProxy>,
    root: String,
}

impl<'a> Stage<'a> {
    fn new(store: &'a Store, contender: &'a Contender, link: Option<Link>) -> Self {
        Stage {
            contender,
            store,
            proxy: link.map(|link| TcpProxy::over(&store.url, Some(link))),
            root: format!("bench/{}", Uuid::new_v4()),
        }
    }

    fn traffic(&self) -> Traffic {
        let proxy = self.proxy.as_ref();
        proxy.map(TcpProxy::traffic).unwrap_or_default()
    }

    /// A bench leaves nothing on the disk.
    fn clear(self, runtime: &Runtime) {
        let client = floor::client(self.store, &self.store.url);
        let removed = floor::remove(&client, &self.store.bucket, &self.root);
        runtime.block_on(removed).unwrap();
    }

    fn start(&self) -> (Registry, Client) {
        let proxy = self.proxy.as_ref();
        let url = proxy.map_or(&self.store.url, |proxy| &proxy.url);
        let started = self.contender.start(self.store, url, &self.root);
        let registry = started.unwrap();
        let address = registry.address.clone();
        (registry, Client { address })
    }

    fn cost(&self, registry: &Registry, work: impl FnOnce()) -> Cost {
        let (traffic, cpu, begun) = (self.traffic(), registry.cpu(), Instant::now());
        work();
        Cost {
            seconds: begun.elapsed().as_secs_f64(),
            traffic: since(traffic, self.traffic()),
            cpu: registry.cpu() - cpu,
        }
    }

    fn push(&self, on: &(Registry, Client), layer: &Layer, piece: usize) -> Cost {
        let (registry, client) = on;
        self.cost(registry, || client.push(&layer.0, &layer.1, piece).unwrap())
    }

    fn end(&self, (registry, client): &(Registry, Client), size: usize) -> Cost {
        let layer = layer(size);
        let end = client.send(&layer.0, &layer.1, size).unwrap();
        self.cost(registry, || client.end(&end).unwrap())
    }

    /// The same question to a new process, twice.
    fn twice(&self, ask: impl Fn(&Client)) -> [Cost; 2] {
        let (registry, client) = self.start();
        [(); 2].map(|()| self.cost(&registry, || ask(&client)))
    }
}

pub fn measure(
    runtime: &Runtime,
    store: &Store,
    contender: &Contender,
    large: &Layer,
    huge: &Layer,
) -> Round {
    let stage = Stage::new(store, contender, Some(DISTANT));
    let taking = stage.start();
    // The first connection to a root probes the store.
    stage.push(&taking, &layer(KIB), KIB);
    let few = layer(3 * KIB);
    let small = stage.push(&taking, &few, 3 * KIB);
    let push = stage.push(&taking, large, LARGE);
    let pushing = taking.0.peak_memory();
    let patches = stage.push(&taking, &layer(64 * MIB), MIB);
    let ends = [16 * MIB, 256 * MIB].map(|size| stage.end(&taking, size));
    let alone = stage.push(&taking, &layer(128 * MIB), 128 * MIB);
    let slow = SlowSenders::start(&taking.1).unwrap();
    sleep(WARM_UP);
    let beside = stage.push(&taking, &layer(128 * MIB), 128 * MIB);
    drop(slow);
    drop(taking);
    let head = stage.twice(|client| client.head(&few.1, 200).unwrap());
    let get = stage.twice(|client| client.pull(&few.0, &few.1).unwrap());
    let (registry, client) = stage.start();
    let pull = stage.cost(&registry, || client.pull(&large.0, &large.1).unwrap());
    let memory = [pushing, registry.peak_memory()];
    drop(registry);
    stage.clear(runtime);
    Round {
        small,
        push,
        patches,
        ends,
        beside: [alone, beside],
        head,
        get,
        pull,
        near: near(runtime, store, contender, huge),
        shared: shared(runtime, store, contender),
        memory,
    }
}

/// Each by a process of its own.
fn near(runtime: &Runtime, store: &Store, contender: &Contender, huge: &Layer) -> [Cost; 2] {
    let stage = Stage::new(store, contender, None);
    let taking = stage.start();
    stage.push(&taking, &layer(KIB), KIB);
    let push = stage.push(&taking, huge, NEAR);
    drop(taking);
    let (registry, client) = stage.start();
    let pull = stage.cost(&registry, || client.pull(&huge.0, &huge.1).unwrap());
    drop(registry);
    stage.clear(runtime);
    [push, pull]
}

/// The link and not the processors are what the pushes saturate.
fn shared(runtime: &Runtime, store: &Store, contender: &Contender) -> [Cost; 2] {
    let stage = Stage::new(store, contender, Some(NARROW));
    let on = stage.start();
    let read = layer(SHARED);
    stage.push(&on, &read, SHARED);
    let (registry, client) = &on;
    let pull = || stage.cost(registry, || client.pull(&read.0, &read.1).unwrap());
    let alone = pull();
    let is_over = AtomicBool::new(false);
    let beside = scope(|threads| {
        for _ in 0..PUSHING {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let (bytes, digest) = layer(SHARED);
                    client.push(&bytes, &digest, SHARED).unwrap();
                }
            });
        }
        sleep(WARM_UP);
        let beside = pull();
        is_over.store(true, Ordering::Relaxed);
        beside
    });
    drop(on);
    stage.clear(runtime);
    [alone, beside]
}

/// The same bytes up and down by a plain copy, and by rclone where there is one.
pub fn copies(runtime: &Runtime, store: &Store, large: &Layer) -> Vec<[Cost; 2]> {
    let proxy = TcpProxy::over(&store.url, Some(DISTANT));
    let client = floor::client(store, &proxy.url);
    let (bucket, key) = (&store.bucket, format!("bench/{}", Uuid::new_v4()));
    let cost = |work: &dyn Fn()| {
        let (traffic, begun) = (proxy.traffic(), Instant::now());
        work();
        Cost {
            seconds: begun.elapsed().as_secs_f64(),
            traffic: since(traffic, proxy.traffic()),
            cpu: 0.0,
        }
    };
    let upload = || runtime.block_on(floor::upload(&client, bucket, &key, &large.0));
    let download = || runtime.block_on(floor::download(&client, bucket, &key, large.0.len()));
    let mut copies = vec![[cost(&|| upload().unwrap()), cost(&|| download().unwrap())]];
    if let Ok(program) = std::env::var("RCLONE") {
        let rclone = rclone::Rclone::new(program, store, &proxy.url, &large.0).unwrap();
        copies.push([
            cost(&|| rclone.upload(&key).unwrap()),
            cost(&|| rclone.download(&key).unwrap()),
        ]);
    }
    runtime
        .block_on(floor::remove(&client, bucket, &key))
        .unwrap();
    copies
}
