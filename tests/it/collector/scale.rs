//! How many requests, how much time and how much memory a collection, a check and a sweep of a large bucket take. Its
//! documents are written directly: small layers, each linked in three repositories. `S3LAYERS_COLLECTION_LAYERS=100000`
//! has so many, with a tenth as many uploads, and `S3LAYERS_COLLECTION_ENDPOINT=http://127.0.0.1:9000` names another store than one in memory: a new one with the keys of
//! [`User`], `s3layers` and `s3layers-secret`.

use std::fs;
use std::io::Read as _;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use futures_util::{StreamExt as _, stream};
use s3layers::{LayerService as _, RepositoryService as _, S3Config, S3LayerService};
use serde_json::Value;

use super::site::{Image, push_layer};
use crate::support::bucket::{self, get, sealed};
use crate::support::bytes::sha256;
use crate::support::program::{Served, User, client_at, events};
use crate::support::stores::BUCKET;

const REPOSITORIES: usize = 100;
/// Layers of an image.
const LAYERS: usize = 10;
/// Nothing waits.
const NO_TIMES: &str =
    r#""collection":{"record_age":0,"link_age":0,"wait":0,"kept":0,"look":5,"testing":true}"#;

async fn put(client: &Client, key: String, text: String) {
    let put = client.put_object().bucket(BUCKET).key(key);
    put.body(sealed(&text).into_bytes().into())
        .send()
        .await
        .unwrap();
}

/// Waits until everything that was written is at least a second old by the store's clock, which has
/// whole seconds.
async fn let_a_second_pass(client: &Client) {
    let time = || async {
        let (put, head) = (client.put_object(), client.head_object());
        put.bucket(BUCKET).key("clock").send().await.unwrap();
        let head = head.bucket(BUCKET).key("clock");
        head.send().await.unwrap().last_modified.unwrap()
    };
    let begun = time().await;
    while time().await == begun {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The hex digits of the digest of a layer that nothing but its documents has.
fn hex(layer: usize) -> String {
    sha256(&layer.to_be_bytes()).hex().to_owned()
}

fn repository(number: usize) -> String {
    format!("scale/r{:02}", number % REPOSITORIES)
}

async fn fill(client: &Client, layers: usize) {
    let config = S3Config::new(BUCKET);
    let service = S3LayerService::connect(client.clone(), config)
        .await
        .unwrap();
    let (name, image) = (repository(0).parse().unwrap(), Image::new(1, 100));
    push_layer(&service, &name, &image).await;
    service.put_manifest(&name, &image.manifest).await.unwrap();
    let own = image.id().to_string().split_once(':').unwrap().1.to_owned();
    let text = async |key: String| String::from_utf8(get(client, &key).await.to_vec()).unwrap();
    let record = text(format!("layers/sha256/{}/{own}", &own[..2])).await;
    let link = text(format!(
        "repositories/{}/_layers/sha256/{own}",
        repository(0)
    ))
    .await;
    let documents = (0..layers).flat_map(|layer| {
        let hex = hex(layer);
        let record = (
            format!("layers/sha256/{}/{hex}", &hex[..2]),
            record.replace(&own, &hex),
        );
        let link = link.replace(&own, &hex);
        // An image has neighbours, and each layer is in three repositories.
        let links = (0..3).map(move |nth| {
            let name = repository(layer / LAYERS + nth * 7);
            let key = format!("repositories/{name}/_layers/sha256/{hex}");
            (key, link.replace(&repository(0), &name))
        });
        std::iter::once(record).chain(links).collect::<Vec<_>>()
    });
    let puts = stream::iter(documents).map(|(key, text)| put(client, key, text));
    puts.buffer_unordered(32).collect::<()>().await;
    for image in 0..layers / LAYERS {
        let digests = (0..LAYERS).map(|nth| hex(image * LAYERS + nth));
        let layers = digests.map(|hex| format!(r#"{{"digest":"sha256:{hex}","size":100}}"#));
        let layers: Vec<String> = layers.collect();
        let text = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(","));
        let manifest = s3layers::Manifest {
            digest: sha256(text.as_bytes()),
            bytes: text.into(),
            ..image_manifest()
        };
        for nth in 0..3 {
            let name = repository(image + nth * 7).parse().unwrap();
            service.put_manifest(&name, &manifest).await.unwrap();
        }
    }
}

fn image_manifest() -> s3layers::Manifest {
    Image::new(0, 0).manifest
}

/// Runs the program. Its last event, how long it took, and the most memory that it had, in KiB.
fn run(user: &User, arguments: &[&str]) -> (Value, Duration, u64) {
    let begun = Instant::now();
    let mut command = user.command(&["--json"]);
    command.args(arguments).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A pipe that is full would stop it.
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        stdout.read_to_end(&mut said).unwrap();
        said
    });
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let size = line.and_then(|line| line.split_whitespace().next());
        peak = size.map_or(peak, |size| size.parse().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    let elapsed = begun.elapsed();
    let mut said = events(&reader.join().unwrap());
    // A guard fails the command after its report.
    let error = said.pop_if(|event| event["event"] == "error");
    assert_eq!(child.wait().unwrap().success(), error.is_none());
    let last = said.pop().unwrap();
    (last, elapsed, peak)
}

/// A store that is large enough.
struct Large {
    layers: usize,
    _store: Option<Served>,
    user: User,
    client: Client,
}

impl Large {
    fn new() -> Self {
        let layers = std::env::var("S3LAYERS_COLLECTION_LAYERS");
        let layers = layers.map_or(500, |layers| layers.parse().unwrap());
        let endpoint = std::env::var("S3LAYERS_COLLECTION_ENDPOINT").ok();
        let store = endpoint.is_none().then(|| Served::start(&[]));
        let endpoint = endpoint.or_else(|| Some(store.as_ref()?.endpoint.clone()));
        let endpoint = endpoint.unwrap();
        Large {
            layers,
            _store: store,
            user: User::at(&endpoint),
            client: client_at(&endpoint),
        }
    }

    /// The last event of this command, which makes at most so many requests.
    fn measure(&self, arguments: &[&str], most: u64) -> Value {
        let (event, elapsed, peak) = run(&self.user, arguments);
        let layers = self.layers;
        println!("{layers} layers, {arguments:?}: {elapsed:.1?}, {peak} KiB, {event}");
        let requests = event["requests"].as_u64().unwrap();
        assert!(requests <= most, "{arguments:?}: {requests} requests");
        assert!(peak < 64 * 1024, "{arguments:?}: {peak} KiB");
        event
    }
}

#[test]
fn many_uploads_are_swept_with_few_requests_and_little_memory() {
    let large = Large::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let create = large.client.create_bucket().bucket(BUCKET).send();
    drop(runtime.block_on(create));
    let uploads = large.layers / 10;
    runtime.block_on(async {
        let config = S3Config::new(BUCKET);
        let service = S3LayerService::connect(large.client.clone(), config);
        let (service, name) = (service.await.unwrap(), "scale/uploads".parse().unwrap());
        let (service, name) = (&service, &name);
        // Every other one has bytes.
        let begin = async |nth: usize| {
            let mut upload = service.upload(name, None).await.unwrap();
            let bytes = vec![1; 30_000 * (nth % 2)];
            upload.write_bytes(bytes.into()).await.unwrap();
            if nth % 2 == 1 {
                upload.close().await.unwrap();
            }
        };
        let begun = stream::iter(0..uploads).map(begin);
        begun.buffer_unordered(32).collect::<()>().await;
    });
    let sweep = ["sweep", "--older-than", "0s"];
    let swept = large.measure(&sweep, 40 + 6 * uploads as u64);
    assert_eq!(
        (&swept["uploads"], &swept["failed"]),
        (&uploads.into(), &0.into())
    );
}

#[test]
fn large_bucket_takes_few_requests_and_little_memory() {
    let large = Large::new();
    let (layers, user, client) = (large.layers, &large.user, &large.client);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // One in memory has it.
    let create = client.create_bucket().bucket(BUCKET).send();
    drop(runtime.block_on(create));
    user.ok(&["doctor"]);
    runtime.block_on(fill(client, layers));
    let pages = (layers * 4 + layers / LAYERS * 3).div_ceil(1000) as u64;
    let manifests = (layers / LAYERS * 3) as u64;
    // Each manifest is read once; then a pass is its listings, and a list for each repository.
    let few = 40 + 2 * pages + 3 * REPOSITORIES as u64;
    let measure = |arguments: &[&str], most: u64| large.measure(arguments, most);
    measure(&["gc"], few + manifests);
    measure(&["gc"], few);
    // No document is an hour old.
    let check = ["check", "--min-age", "0s"];
    let checked = measure(&check, few + manifests + layers as u64);
    assert_eq!(checked["too_young"], 0);
    // Two repositories lose their manifests, and everything is old.
    let emptied = [14, 15].map(|number| format!("repositories/{}/", repository(number)));
    let links = runtime.block_on(async {
        bucket::set_collection_times(client, NO_TIMES).await;
        let keys = bucket::keys(client).await;
        let keys = keys
            .iter()
            .filter(|key| emptied.iter().any(|one| key.starts_with(one)));
        let (manifests, links): (Vec<&String>, Vec<_>) =
            keys.partition(|key| key.contains("/_manifests/"));
        for key in manifests {
            let delete = client.delete_object().bucket(BUCKET).key(key);
            delete.send().await.unwrap();
        }
        let_a_second_pass(client).await;
        links.len() as u64
    });
    // How many it would condemn is read from the links.
    let guarded = measure(&["gc"], few + links);
    assert_eq!(guarded["links_condemned"], 0);
    // A link and its record are read and written, then it is read twice and removed.
    let all = ["gc", "--max-share", "100"];
    assert_eq!(measure(&all, few + 4 * links)["links_condemned"], links);
    let removed = measure(&["gc"], few + pages + 3 * links);
    assert_eq!(removed["links_removed"], links);
}
