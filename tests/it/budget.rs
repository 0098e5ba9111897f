//! The memory of a process: a hundred uploads at once under a small byte budget, a fifth of them
//! stalled. The others finish, and the process stays small. The store and the client are processes of
//! their own, so that the memory of one is measured. How uploads share memory: `spill.rs`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use bytes::Bytes;
use s3layers::{Algorithm, Hasher, LayerService as _, LayerUpload, S3Config, S3LayerService};
use tokio::task::JoinSet;

use crate::support::bytes::{KIB, MIB, ramp};
use crate::support::stores::{self, BUCKET, name};

/// What a child process is to do: `store`, or the address of one.
const ROLE: &str = "S3LAYERS_TEST_BUDGET";
const BUDGET: u64 = 64 * MIB;
/// What the process may need beside the budget.
const BESIDE: u64 = 64 * MIB;
const UPLOADS: u32 = 100;
const STALLED: u32 = 20;
/// Of each upload that finishes.
const SIZE: u64 = 20 * MIB;
/// What a stalled one sent: half a part.
const STALLED_AT: u64 = 8 * MIB;
/// As they come off a socket.
const PIECE: u64 = 64 * KIB;

/// This test program again, to play a role.
fn child(role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["budget::a_child", "--exact", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The rest of the line that begins like this.
fn line_of(child: &mut Child, start: &str) -> String {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    for line in lines {
        let line = line.unwrap();
        if let Some((_, rest)) = line.split_once(start) {
            return rest.to_owned();
        }
    }
    panic!("the child ended without a line that begins with {start}");
}

#[test]
fn hundred_uploads_share_a_small_budget_and_stalled_ones_block_no_other() {
    let mut store = child("store");
    let address = line_of(&mut store, "listening on ");
    let begun = Instant::now();
    let mut client = child(&address);
    let line = line_of(&mut client, "grown by ");
    let grown: u64 = line.parse().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    assert!(client.wait().unwrap().success());
    drop(store.stdin.take());
    store.wait().unwrap();
    println!(
        "{} uploads of 20 MiB beside {STALLED} stalled ones: {seconds:.1} s, {} MiB more memory",
        UPLOADS - STALLED,
        grown / MIB
    );
    assert!(grown <= BUDGET + BESIDE, "it grew by {} MiB", grown / MIB);
}

#[test]
fn a_child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match role.as_str() {
        "store" => runtime.unwrap().block_on(serve()),
        address => runtime.unwrap().block_on(upload(address)),
    }
}

/// Until the parent is gone or has had enough.
async fn serve() {
    let store = stores::in_memory().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, key, secret) = (
        listener.local_addr().unwrap(),
        store.access_key(),
        store.secret_key(),
    );
    println!("listening on {address} {key} {secret}");
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    let closed = async { drop(closed.await) };
    store.serve(listener, closed).await.unwrap();
}

/// To a store as [`serve`] has printed it.
async fn connect(served: &str) -> S3LayerService {
    let [address, key, secret] = served.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{served}");
    };
    let credentials = Credentials::new(key, secret, None, None, "tests");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(format!("http://{address}"))
        .force_path_style(true)
        .credentials_provider(credentials)
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    let config = Client::from_conf(config.build());
    let settings = S3Config::new(BUCKET).memory_budget(BUDGET);
    S3LayerService::connect(config, settings).await.unwrap()
}

/// A line of `/proc/self/status`, in bytes.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * KIB
}

/// Writes `size` bytes, each piece in memory of its own.
async fn write(upload: &mut Box<dyn LayerUpload>, seed: u32, size: u64) -> Hasher {
    let pattern = ramp(seed, PIECE);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for _ in 0..size / PIECE {
        hasher.update(&pattern);
        upload
            .write_bytes(Bytes::copy_from_slice(&pattern))
            .await
            .unwrap();
    }
    hasher
}

async fn upload(address: &str) {
    let service = connect(address).await;
    let mut warm = service.upload(&name(), None).await.unwrap();
    let hasher = write(&mut warm, 1000, PIECE).await;
    warm.finish(PIECE, &hasher.digest()).await.unwrap();
    let before = memory("VmRSS:");

    let mut stalled = Vec::new();
    let mut stalling = JoinSet::new();
    let mut others = JoinSet::new();
    for seed in 0..UPLOADS {
        let service = service.clone();
        if seed < STALLED {
            stalling.spawn(async move {
                let mut upload = service.upload(&name(), None).await.unwrap();
                write(&mut upload, seed, STALLED_AT).await;
                upload
            });
        } else {
            others.spawn(async move {
                let mut upload = service.upload(&name(), None).await.unwrap();
                let hasher = write(&mut upload, seed, SIZE).await;
                upload.finish(SIZE, &hasher.digest()).await.unwrap();
            });
        }
    }
    let all = async {
        while let Some(done) = others.join_next().await {
            done.unwrap();
        }
        while let Some(upload) = stalling.join_next().await {
            stalled.push(upload.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(240), all)
        .await
        .expect("nothing moves any more");
    // The stalled ones are as good as ever.
    for mut upload in stalled {
        upload.close().await.unwrap();
        let resumed = service.resume(&name(), None, upload.uuid()).await.unwrap();
        assert_eq!(resumed.offset(), STALLED_AT);
    }
    let peak = memory("VmHWM:");
    println!("grown by {}", peak.saturating_sub(before));
}
