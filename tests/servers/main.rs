//! The contract suite on S3 servers that run elsewhere: on each that the variable
//! `S3LAYERS_TEST_ENDPOINTS` names, as `NAME=http://KEY:SECRET@HOST:PORT/BUCKET`, separated by
//! commas. `.ci/servers start` starts LocalStack and MinIO and writes the variable down.
//!
//! `S3LAYERS_TEST_SINGLE_WRITER` names those of them, separated by commas, that have no conditional
//! writes: one process uses them, as a single writer.
//!
//! A server that is named and does not answer is a failure. LocalStack and MinIO are reported as
//! ignored if they are not named.

#![allow(clippy::disallowed_methods, reason = "a test lives in real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::Builder;
use cli_fixture::CliFixture;
use killed::Kill;
use libtest_mimic::{Arguments, Failed, Trial};
use s3layers::doctor::{Answer, ProfileChange, Severity, examine};
use s3layers::{S3Config, S3LayerService};
use s3layers_conformance::{NamedCase, Subject, repositories};
use tokio::runtime::Runtime;
use uuid::Uuid;

#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#[path = "../it/support/cli_fixture.rs"]
mod cli_fixture;
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#[path = "../it/support/crowd.rs"]
mod crowd;
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod fault_proxy;
#[path = "../it/support/http_request.rs"]
mod http_request;
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#[path = "../it/support/killed.rs"]
mod killed;
mod listing;
#[path = "../it/support/reply.rs"]
mod reply;
mod spoilt;
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#[allow(dead_code, reason = "only the tests and benches need all of it")]
#[path = "../it/support/tcp_proxy.rs"]
mod tcp_proxy;

type Life = fn(&CliFixture, Option<Kill>) -> Result<Duration, String>;

const VARIABLE: &str = "S3LAYERS_TEST_ENDPOINTS";
const SINGLE_WRITER: &str = "S3LAYERS_TEST_SINGLE_WRITER";

/// The servers that every full run has.
const EXPECTED: [&str; 2] = ["localstack", "minio"];

/// The smallest part that S3 takes, in bytes.
const PART: u64 = 5 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq)]
struct Endpoint {
    name: String,
    url: String,
    access_key: String,
    secret_key: String,
    bucket: String,
}

impl Endpoint {
    /// Whether one process has it for itself.
    fn is_single_writer(&self) -> bool {
        let named = std::env::var(SINGLE_WRITER).unwrap_or_default();
        named.split(',').any(|name| name.trim() == self.name)
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let asked_for = std::env::var(VARIABLE).unwrap_or_default();
    let endpoints = match parse(&asked_for) {
        Ok(endpoints) => endpoints,
        Err(entry) => {
            eprintln!("{VARIABLE}: {entry:?} is not NAME=http://KEY:SECRET@HOST:PORT/BUCKET");
            std::process::exit(2);
        }
    };
    let mut trials = vec![Trial::test("endpoints_are_parsed", endpoints_are_parsed)];
    for endpoint in &endpoints {
        let layers = s3layers_conformance::cases().into_iter();
        trials.extend(layers.map(|case| trial(endpoint.clone(), case, subject)));
        let registry = repositories::cases().into_iter();
        trials.extend(registry.map(|case| trial(endpoint.clone(), case, registry_subject)));
        trials.push(examination(endpoint));
        trials.push(listing::trial(endpoint));
        if endpoint.is_single_writer() {
            continue;
        }
        trials.push(kills(endpoint, "push", killed::push));
        trials.push(kills(endpoint, "serve", killed::serve));
        trials.extend([2, 3].map(|count| balanced(endpoint, count)));
        let title = format!("{}::spoilt::no_fault_reaches_the_client", endpoint.name);
        let endpoint = endpoint.clone();
        trials.push(Trial::test(title, move || Ok(spoilt::pushes(&endpoint)?)));
    }
    for name in EXPECTED
        .iter()
        .filter(|name| endpoints.iter().all(|e| e.name != **name))
    {
        let title = format!("{name}::the_contract_suite (not named in {VARIABLE})");
        trials.push(Trial::test(title, || Ok(())).with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial<S: Send + 'static, Made: Future<Output = Result<S, Failed>>>(
    endpoint: Endpoint,
    case: NamedCase<S>,
    subject: impl FnOnce(Endpoint) -> Made + Send + 'static,
) -> Trial {
    Trial::test(format!("{}::{}", endpoint.name, case.name), move || {
        let runtime = Runtime::new().map_err(|error| Failed::from(error.to_string()))?;
        runtime.block_on(async {
            let subject = subject(endpoint).await?;
            (case.run)(subject).await;
            Ok(())
        })
    })
}

/// What a known store is found to do otherwise than Amazon S3, and that it does all else.
fn examination(endpoint: &Endpoint) -> Trial {
    let endpoint = endpoint.clone();
    Trial::test(format!("{}::examination", endpoint.name), move || {
        let runtime = Runtime::new().map_err(|error| Failed::from(error.to_string()))?;
        runtime.block_on(async {
            let root = format!("suite/{}", Uuid::new_v4());
            let config = S3Config::new(&endpoint.bucket)
                .root(root)
                .single_writer(endpoint.is_single_writer());
            let examined = examine(client(&endpoint), config, std::future::pending()).await;
            let examined = examined.map_err(|error| Failed::from(format!("{error:?}")))?;
            let examination = examined.ok_or("it was not stopped")?;
            let (store, otherwise): (_, &[&str]) = match endpoint.name.as_str() {
                "localstack" => ("LocalStack", &["conditional_delete", "uploads_cleaned"]),
                "minio" => ("MinIO", &["conditional_delete"]),
                // Nothing is known of it but that the contract suite has to pass.
                _ => {
                    let broken = examination.of(Severity::Breaks);
                    let broken: Vec<_> = broken.map(|finding| finding.check.id).collect();
                    return same(broken, Vec::new());
                }
            };
            let unlike = |answer: Answer| answer != Answer::Yes;
            let findings = examination.findings.iter();
            let found = findings.filter(|finding| unlike(finding.answer));
            let found: Vec<_> = found.map(|finding| finding.check.id).collect();
            same(examination.store, Some(store))?;
            same(found.as_slice(), otherwise)?;
            same(examination.differences, Vec::new())?;
            same(examination.left_behind, None)?;
            same(examination.profile_change, ProfileChange::Created)
        })
    })
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), Failed> {
    if found == expected {
        return Ok(());
    }
    Err(format!("expected {expected:?}, found {found:?}").into())
}

/// The program is killed a few times, each below a root of its own; `S3LAYERS_KILLS` says how often.
fn kills(endpoint: &Endpoint, what: &'static str, live: Life) -> Trial {
    let endpoint = endpoint.clone();
    Trial::test(format!("{}::kills_of_{what}", endpoint.name), move || {
        let kills = std::env::var("S3LAYERS_KILLS").unwrap_or_default();
        let kills = kills.parse().unwrap_or(3);
        let begun = Instant::now();
        let fixture = || fixture_on(&endpoint, "kills");
        let span = live(&fixture(), None)?;
        for seed in 0..kills {
            let fixture = fixture();
            let Err(failure) = live(&fixture, Some(Kill { seed, span })) else {
                continue;
            };
            // Where the connection breaks at the wrong moment, LocalStack leaves an object empty that
            // is overwritten, and MinIO has thrown away what it needs of the parts to complete. No
            // other store does, and no process can resume from that.
            match fixture.lost_by(&endpoint.name) {
                Some(lost) => println!("kill {seed} of {what}: {lost}"),
                None => return Err(format!("kill {seed} of {what}: {failure}").into()),
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!("kills of {what}: {kills} cases in {seconds:.1} s, 0 failed");
        Ok(())
    })
}

/// Sixteen clients behind a balancer get no wrong answer of so many processes.
fn balanced(endpoint: &Endpoint, count: usize) -> Trial {
    let endpoint = endpoint.clone();
    let name = format!("{}::balanced_over_{count}_processes", endpoint.name);
    Trial::test(name, move || {
        let fixture = fixture_on(&endpoint, "balanced");
        // What the store can do is asked once.
        drop(fixture.serve()?);
        let servers: Result<Vec<_>, _> = (0..count).map(|_| fixture.serve()).collect();
        let (_running, addresses): (Vec<_>, Vec<_>) = servers?.into_iter().unzip();
        let requests = crowd::run(&addresses, "crowd")?;
        println!("{count} processes: {requests} requests, 0 wrong");
        Ok(())
    })
}

/// The program over an empty root of this server.
fn fixture_on(endpoint: &Endpoint, what: &str) -> CliFixture {
    let root = format!("{what}/{}", Uuid::new_v4());
    let keys = [&*endpoint.access_key, &*endpoint.secret_key];
    let program = env!("CARGO_BIN_EXE_s3layers");
    CliFixture::on_server(program, &endpoint.url, &endpoint.bucket, &root, keys)
}

/// Two services as two processes would have them, below a root of their own.
async fn services(endpoint: &Endpoint) -> Result<[Arc<S3LayerService>; 2], Failed> {
    let root = format!("suite/{}", Uuid::new_v4());
    let here = service(endpoint, &root).await?;
    let elsewhere = if endpoint.is_single_writer() {
        here.clone()
    } else {
        service(endpoint, &root).await?
    };
    Ok([Arc::new(here), Arc::new(elsewhere)])
}

async fn subject(endpoint: Endpoint) -> Result<Subject, Failed> {
    let [here, elsewhere] = services(&endpoint).await?;
    Ok(Subject {
        here,
        elsewhere,
        part_size: PART,
    })
}

async fn registry_subject(endpoint: Endpoint) -> Result<repositories::Subject, Failed> {
    let [here, elsewhere] = services(&endpoint).await?;
    Ok(repositories::Subject { here, elsewhere })
}

fn client(endpoint: &Endpoint) -> Client {
    let keys = Credentials::new(
        &endpoint.access_key,
        &endpoint.secret_key,
        None,
        None,
        "tests",
    );
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(&endpoint.url)
        .force_path_style(true)
        .credentials_provider(keys)
        .http_client(Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

async fn service(endpoint: &Endpoint, root: &str) -> Result<S3LayerService, Failed> {
    let settings = S3Config::new(&endpoint.bucket)
        .root(root)
        .part_size(PART)
        .single_writer(endpoint.is_single_writer())
        .memory_budget(16 * PART);
    let connected = S3LayerService::connect(client(endpoint), settings).await;
    connected.map_err(|error| Failed::from(format!("{} cannot be used: {error:?}", endpoint.url)))
}

fn parse(variable: &str) -> Result<Vec<Endpoint>, String> {
    let entries = variable
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    entries
        .map(|entry| parse_entry(entry).ok_or_else(|| entry.to_owned()))
        .collect()
}

fn parse_entry(entry: &str) -> Option<Endpoint> {
    let (name, url) = entry.split_once('=')?;
    let (keys, rest) = url.strip_prefix("http://")?.split_once('@')?;
    let (access_key, secret_key) = keys.split_once(':')?;
    let (host, bucket) = rest.split_once('/')?;
    let parts = [name, access_key, secret_key, host, bucket];
    if parts.iter().any(|part| part.is_empty()) || bucket.contains('/') {
        return None;
    }
    Some(Endpoint {
        name: name.to_owned(),
        url: format!("http://{host}"),
        access_key: access_key.to_owned(),
        secret_key: secret_key.to_owned(),
        bucket: bucket.to_owned(),
    })
}

fn endpoints_are_parsed() -> Result<(), Failed> {
    let one = parse("minio=http://key:secret@127.0.0.1:9000/bucket, ").map_err(Failed::from)?;
    let want = Endpoint {
        name: "minio".to_owned(),
        url: "http://127.0.0.1:9000".to_owned(),
        access_key: "key".to_owned(),
        secret_key: "secret".to_owned(),
        bucket: "bucket".to_owned(),
    };
    assert_eq!(one, [want]);
    for wrong in [
        "minio",
        "m=ftp://k:s@h/b",
        "m=http://h/b",
        "m=http://k:s@h",
        "m=http://k:s@h/",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    Ok(())
}
