//! From outside: sixteen clients push, pull and delete over two `serve` processes, with short times and a
//! collection every few seconds. `S3LAYERS_COLLECTION=full` runs for 10 minutes (`.ci/collection`).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::bucket;
use crate::support::program::{Running, Served, User, digest};
use crate::support::reply::Reply;

const CLIENTS: usize = 16;
/// Layers that all clients share.
const LAYERS: usize = 24;
const MEDIA_TYPE: (&str, &str) = ("content-type", "application/vnd.oci.image.manifest.v1+json");
/// In seconds: `wait` is longer than two looks, and a push takes less than `wait`.
const TIMES: &str =
    r#""collection":{"record_age":5,"link_age":20,"wait":15,"kept":5,"look":5,"testing":true}"#;
/// Longer than a layer takes to be freed.
const STEP: Duration = Duration::from_secs(22);

/// Every third one fits the documents.
fn layer(number: usize) -> Vec<u8> {
    let size = if number.is_multiple_of(3) {
        100
    } else {
        20_000 + number
    };
    format!("layer {number}\n")
        .repeat(1 + size / 10)
        .into_bytes()
}

struct Site {
    addresses: Vec<String>,
    next: AtomicUsize,
}

impl Site {
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply, String> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let address = &self.addresses[next % self.addresses.len()];
        Reply::to(address, method, path, &[MEDIA_TYPE], body)
    }

    /// The status, which must be one of these.
    fn expect(&self, method: &str, path: &str, body: &[u8], all: &[u16]) -> Result<u16, String> {
        let reply = self.ask(method, path, body)?;
        if all.contains(&reply.status) {
            return Ok(reply.status);
        }
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        Err(format!("{method} {path}: {} {text}", reply.status))
    }

    /// Stores an image of these layers under a tag of its own. Its digest.
    fn push(&self, client: usize, round: usize, layers: &[usize]) -> Result<String, String> {
        let repository = format!("/v2/r{}", client % 3);
        let mut described = Vec::new();
        for number in layers {
            let bytes = layer(*number);
            let digest = digest(&bytes);
            let blob = format!("{repository}/blobs/{digest}");
            if self.expect("HEAD", &blob, b"", &[200, 404])? == 404 {
                let upload = format!("{repository}/blobs/uploads/?digest={digest}");
                self.expect("POST", &upload, &bytes, &[201])?;
            }
            let size = bytes.len();
            described.push(format!(r#"{{"digest":"{digest}","size":{size}}}"#));
        }
        let media_type = MEDIA_TYPE.1;
        let (config, layers) = (&described[0], described[1..].join(","));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}],"annotations":{{"by":"{client}-{round}"}}}}"#
        );
        let path = format!("{repository}/manifests/t{client}-{round}");
        self.expect("PUT", &path, manifest.as_bytes(), &[201])?;
        Ok(digest(manifest.as_bytes()))
    }

    fn pull(&self, client: usize, manifest: &str, layers: &[usize]) -> Result<(), String> {
        let repository = format!("/v2/r{}", client % 3);
        let path = format!("{repository}/manifests/{manifest}");
        self.expect("GET", &path, b"", &[200])?;
        for number in layers {
            let bytes = layer(*number);
            let path = format!("{repository}/blobs/{}", digest(&bytes));
            let reply = self.ask("GET", &path, b"")?;
            if reply.status != 200 || reply.body != bytes {
                return Err(format!("{path}: {} or other bytes", reply.status));
            }
        }
        Ok(())
    }

    fn delete(&self, client: usize, manifest: &str) -> Result<(), String> {
        let path = format!("/v2/r{}/manifests/{manifest}", client % 3);
        self.expect("DELETE", &path, b"", &[202]).map(drop)
    }
}

/// Pushes, pulls and deletes until it is time. The images that it has not deleted.
fn work(site: &Site, client: usize, until: Instant) -> Result<HashMap<String, Vec<usize>>, String> {
    let mut images = HashMap::new();
    let mut state = client as u64 + 1;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for round in 0.. {
        if Instant::now() >= until {
            break;
        }
        let layers: BTreeSet<usize> = (0..4).map(|_| draw(LAYERS)).collect();
        let layers: Vec<usize> = layers.into_iter().collect();
        let manifest = site.push(client, round, &layers)?;
        images.insert(manifest, layers);
        let all: Vec<_> = images.keys().cloned().collect();
        let one = &all[draw(all.len())];
        site.pull(client, one, &images[one])?;
        if images.len() > 1 + draw(3) {
            site.delete(client, one)?;
            images.remove(one);
        }
        thread::sleep(Duration::from_millis(100 + draw(400) as u64));
    }
    Ok(images)
}

fn collected(user: &User) -> Value {
    let events = user.events(&["gc", "--max-share", "100"]);
    events.last().unwrap().clone()
}

#[test]
fn images_survive_collections_and_the_rest_is_freed() {
    let is_full = std::env::var("S3LAYERS_COLLECTION").is_ok_and(|extent| extent == "full");
    let length = Duration::from_secs(if is_full { 600 } else { 20 });
    let store = Served::start(&[]);
    let user = User::of(&store);
    user.ok(&["ls"]);
    let client = store.client();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(bucket::set_collection_times(&client, TIMES));
    let serve = ["serve", "--listen", "127.0.0.1:0", "--gc-every", "3s"];
    let mut serving = [(); 2].map(|()| Running::start(&user, &serve));
    let addresses = serving.each_mut().map(|process| {
        let address = process.next_event("listening")["address"].clone();
        address.as_str().unwrap().to_owned()
    });
    let site = Site {
        addresses: addresses.to_vec(),
        next: AtomicUsize::new(0),
    };
    let (until, is_over) = (Instant::now() + length, AtomicBool::new(false));
    let kept: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let site = &site;
                    move || work(site, client, until)
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                collected(&user);
                thread::sleep(Duration::from_secs(2));
            }
        });
        let kept = clients.into_iter().map(|one| one.join().unwrap());
        let kept: Vec<_> = kept.collect();
        is_over.store(true, Ordering::Relaxed);
        kept
    });
    let kept: Vec<_> = kept.into_iter().map(Result::unwrap).collect();
    let mut freed = 0;
    for _ in 0..3 {
        thread::sleep(STEP);
        freed += collected(&user)["layers_freed"].as_u64().unwrap();
    }
    let mut links = BTreeSet::new();
    for (client, images) in kept.iter().enumerate() {
        for (manifest, layers) in images {
            site.pull(client, manifest, layers).unwrap();
            links.extend(layers.iter().map(|number| (client % 3, *number)));
        }
    }
    // What is left is what they need.
    let layers: BTreeSet<usize> = links.iter().map(|(_, number)| *number).collect();
    let objects = layers
        .iter()
        .filter(|number| layer(**number).len() > 16 * 1024);
    let keys = runtime.block_on(bucket::keys(&client));
    let count = |what: &str| keys.iter().filter(|key| key.contains(what)).count();
    assert_eq!(count("/_layers/"), links.len(), "links, {freed} freed");
    assert_eq!(count("data/"), objects.count(), "{keys:?}");
    let images: usize = kept.iter().map(HashMap::len).sum();
    println!("{images} images kept, {freed} layers freed at the end");
}
