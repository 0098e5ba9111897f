//! What a docker push and pull cost: by this registry, by docker's own (distribution), and by a plain
//! copy of the same bytes, over the same MinIO, which a link makes distant. All in one run and in
//! turn, since machines are noisy: medians, and ratios of them.
//!
//! `.ci/bench` builds distribution and calls `cargo bench --bench registries`, which takes the server
//! from `S3LAYERS_TEST_ENDPOINTS` and the peer's program from `DISTRIBUTION`.

#![allow(clippy::unwrap_used, reason = "a panic names the line")]
#![allow(clippy::disallowed_methods, reason = "a bench lives in real time")]

use std::time::Duration;

use registry::Contender;
use round::{Cost, LARGE, MIB, NEAR, Round};
use tcp_proxy::{Direction, Link};
use tokio::runtime::Runtime;

mod client;
mod floor;
mod rclone;
mod registry;
#[path = "../../tests/it/support/reply.rs"]
#[allow(dead_code, reason = "only the tests need all of it")]
mod reply;
mod round;
mod slow;
#[path = "../../tests/it/support/tcp_proxy.rs"]
#[allow(dead_code, reason = "only the tests need all of it")]
mod tcp_proxy;

const ROUNDS: usize = 3;

const DISTANT: Link = Link {
    round_trip: Duration::from_millis(10),
    bytes_per_second: 25e6,
};

/// A link that a few clients fill without filling the processors.
const NARROW: Link = Link {
    round_trip: Duration::from_millis(10),
    bytes_per_second: 2e6,
};

/// Where all of them store.
pub struct Store {
    /// `http://HOST:PORT`.
    url: String,
    access_key: String,
    secret_key: String,
    bucket: String,
}

impl Store {
    /// `minio=http://KEY:SECRET@HOST:PORT/BUCKET`, among others.
    fn from_env() -> Option<Store> {
        let endpoints = std::env::var("S3LAYERS_TEST_ENDPOINTS").ok()?;
        let mut named = endpoints
            .split(',')
            .filter_map(|one| one.strip_prefix("minio=http://"));
        let (keys, rest) = named.next()?.split_once('@')?;
        let (access_key, secret_key) = keys.split_once(':')?;
        let (address, bucket) = rest.split_once('/')?;
        Some(Store {
            url: format!("http://{address}"),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            bucket: bucket.to_owned(),
        })
    }
}

fn main() {
    let Some(store) = Store::from_env() else {
        println!(
            "registries: skipped, S3LAYERS_TEST_ENDPOINTS names no MinIO; .ci/bench starts one"
        );
        return;
    };
    let runtime = Runtime::new().unwrap();
    let mut contenders = vec![Contender::Ours];
    match std::env::var("DISTRIBUTION") {
        Ok(program) => contenders.push(Contender::Distribution(program)),
        Err(_) => println!("distribution is left out: DISTRIBUTION names no program"),
    }
    let mut copies = Vec::new();
    let mut rounds: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for nth in 1..=ROUNDS {
        let large = round::layer(LARGE);
        let huge = round::layer(NEAR);
        copies.push(round::copies(&runtime, &store, &large));
        for (contender, rounds) in contenders.iter().zip(&mut rounds) {
            rounds.push(round::measure(&runtime, &store, contender, &large, &huge));
        }
        eprintln!("round {nth} of {ROUNDS}");
    }
    print(&copies, &rounds);
}

/// The one in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

type Measure = (&'static str, fn(&Round) -> f64);

/// Of a registry.
const MEASURES: [Measure; 25] = [
    ("push of 3 KiB, requests", |round| requests(round.small)),
    ("push of 512 MiB, requests", |round| requests(round.push)),
    ("  seconds", |round| round.push.seconds),
    ("  CPU seconds", |round| round.push.cpu),
    ("  MiB to the store", |round| {
        mebi(round.push, Direction::Up)
    }),
    ("  MiB from the store", |round| {
        mebi(round.push, Direction::Down)
    }),
    ("  MiB of memory", |round| round.memory[0]),
    ("PUT that ends 256 MiB over 16 MiB", |round| {
        round.ends[1].seconds / round.ends[0].seconds
    }),
    ("128 MiB beside 64 slow ones, x alone", |round| {
        round.beside[1].seconds / round.beside[0].seconds
    }),
    ("32 MiB pulled beside pushes, x alone", |round| {
        round.shared[1].seconds / round.shared[0].seconds
    }),
    ("push of 1 GiB, near: seconds", |round| {
        round.near[0].seconds
    }),
    ("  CPU seconds", |round| round.near[0].cpu),
    ("pull of 1 GiB, near: seconds", |round| {
        round.near[1].seconds
    }),
    ("  CPU seconds", |round| round.near[1].cpu),
    ("64 MiB in 1 MiB PATCHes, requests", |round| {
        requests(round.patches)
    }),
    ("  MiB to the store", |round| {
        mebi(round.patches, Direction::Up)
    }),
    ("  MiB from the store", |round| {
        mebi(round.patches, Direction::Down)
    }),
    ("HEAD, requests", |round| requests(round.head[0])),
    ("  again", |round| requests(round.head[1])),
    ("GET, requests", |round| requests(round.get[0])),
    ("  again", |round| requests(round.get[1])),
    ("pull of 512 MiB, requests", |round| requests(round.pull)),
    ("  seconds", |round| round.pull.seconds),
    ("  CPU seconds", |round| round.pull.cpu),
    ("  MiB of memory", |round| round.memory[1]),
];

fn requests(cost: Cost) -> f64 {
    cost.traffic.requests as f64
}

fn mebi(cost: Cost, direction: Direction) -> f64 {
    cost.traffic.bytes[direction as usize] as f64 / MIB as f64
}

fn print(copies: &[Vec<[Cost; 2]>], rounds: &[Vec<Round>]) {
    println!("{:<38}{:>10}{:>14}", "", "s3layers", "distribution");
    for (what, measure) in MEASURES {
        let values = rounds
            .iter()
            .map(|rounds| median(rounds.iter().map(measure)));
        let cells: Vec<String> = values.map(|value| format!("{value:>12.2}")).collect();
        println!("{what:<36}{}", cells.join("  "));
    }
    type Way = (&'static str, fn(&Round) -> Cost);
    let ways: [Way; 2] = [("push", |round| round.push), ("pull", |round| round.pull)];
    for (way, (what, cost)) in ways.into_iter().enumerate() {
        let floor = median(copies.iter().map(|copies| copies[0][way].seconds));
        println!(
            "a plain copy, {what}: {floor:.2} s, {} requests",
            copies[0][0][way].traffic.requests
        );
        let ratio = |name: &str, seconds: &dyn Fn(usize) -> f64| {
            let ratios = copies.iter().enumerate();
            let ratios = ratios.map(|(nth, copies)| seconds(nth) / copies[0][way].seconds);
            println!("  {name}: {:.2} times that", median(ratios));
        };
        for (name, rounds) in ["s3layers", "distribution"].iter().zip(rounds) {
            ratio(name, &|nth| cost(&rounds[nth]).seconds);
        }
        if copies[0].len() > 1 {
            ratio("rclone", &|nth| copies[nth][1][way].seconds);
        }
    }
}
