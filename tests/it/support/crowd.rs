//! Sixteen clients behind a round-robin balancer: each request goes to the next of several processes over
//! one store. They push, pull and delete images in a few repositories; layers are never deleted. Every
//! answer must be explained by some order of the requests, and every byte that comes back is
//! compared. Also for the servers of `tests/servers`.
//!
//! A request that writes several documents (a manifest and its tag) is taken for several writes, each
//! within the request. Two removals at once may both say that they removed something.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use s3layers::{Algorithm, Digest};

use super::reply::Reply;

const CLIENTS: usize = 16;
/// Pushes, pulls and deletions of each client.
const STEPS: usize = 12;
const REPOSITORIES: usize = 2;
/// Images of each repository. Those of even numbers are pushed to any of two tags, which are moved
/// and removed; each of the others has a tag of its own, and is removed by its digest.
const IMAGES: usize = 6;
const MEDIA_TYPE: (&str, &str) = ("content-type", "application/vnd.oci.image.manifest.v1+json");

/// What one request says of one document: it has this value, or it was given this value, at some
/// instant of the request.
#[derive(Clone, Copy, Debug)]
struct Event {
    from: Duration,
    to: Duration,
    is_write: bool,
    /// `None` where there is no document.
    value: Option<usize>,
}

struct Balancer<'a> {
    addresses: &'a [String],
    root: &'a str,
    next: AtomicUsize,
    begun: Instant,
    /// By document.
    events: Mutex<BTreeMap<String, Vec<Event>>>,
}

/// An answer, and when it was asked for and came.
struct Answer {
    path: String,
    reply: Reply,
    from: Duration,
    to: Duration,
}

impl Balancer<'_> {
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let address = &self.addresses[next % self.addresses.len()];
        let from = self.begun.elapsed();
        let reply = Reply::to(address, method, path, &[MEDIA_TYPE], body)?;
        Ok(Answer {
            path: format!("{method} {path}"),
            reply,
            from,
            to: self.begun.elapsed(),
        })
    }

    fn repository(&self, number: usize) -> String {
        format!("/v2/{}/r{number}", self.root)
    }

    fn note(&self, document: &str, answer: &Answer, is_write: bool, value: Option<usize>) {
        let event = Event {
            from: answer.from,
            to: answer.to,
            is_write,
            value,
        };
        let mut events = self.events.lock().unwrap();
        events.entry(document.to_owned()).or_default().push(event);
    }
}

impl Answer {
    /// Whether it is this status rather than 404. Any other is wrong.
    fn is(&self, status: u16) -> Result<bool, String> {
        match self.reply.status {
            404 => Ok(false),
            found if found == status => Ok(true),
            found => Err(format!("{}: {found}, expected {status}", self.path)),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

/// A layer or config of a repository; images share some of them.
fn blob(repository: usize, number: usize) -> Vec<u8> {
    let line = format!("blob {number} of {repository}\n");
    line.repeat(1 + 40 * number).into_bytes()
}

fn blobs_of(image: usize) -> [usize; 3] {
    [0, 1 + image % 3, 4 + image]
}

fn manifest(repository: usize, image: usize) -> Vec<u8> {
    let described = blobs_of(image).map(|number| {
        let bytes = blob(repository, number);
        let (digest, size) = (digest(&bytes), bytes.len());
        format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":{size}}}"#)
    });
    let [config, layers @ ..] = described;
    let media_type = MEDIA_TYPE.1;
    let layers = layers.join(",");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}]}}"#
    );
    text.into_bytes()
}

fn has_own_tag(image: usize) -> bool {
    image % 2 == 1
}

impl Balancer<'_> {
    /// As docker does: asks for each layer, uploads those that are absent, then puts the manifest.
    fn push(&self, repository: usize, image: usize, tag: &str) -> Result<(), String> {
        let name = self.repository(repository);
        for number in blobs_of(image) {
            let bytes = blob(repository, number);
            let digest = digest(&bytes);
            let path = format!("{name}/blobs/{digest}");
            let looked = self.ask("HEAD", &path, b"")?;
            let is_here = looked.is(200)?;
            self.note(&path, &looked, false, is_here.then_some(0));
            if is_here {
                continue;
            }
            let at = self.ask("POST", &format!("{name}/blobs/uploads/"), b"")?;
            let at = at.reply.is(202)?.location()?;
            let at = self.ask("PATCH", &at, &bytes)?;
            let at = at.reply.is(202)?.location()?;
            let put = self.ask("PUT", &format!("{at}&digest={digest}"), b"")?;
            self.note(&path, &put, true, Some(0));
            put.reply.is(201)?;
        }
        let bytes = manifest(repository, image);
        let path = format!("{name}/manifests/{tag}");
        let put = self.ask("PUT", &path, &bytes)?;
        self.note(&path, &put, true, Some(image));
        let by_digest = format!("{name}/manifests/{}", digest(&bytes));
        self.note(&by_digest, &put, true, Some(image));
        put.reply.is(201)?;
        Ok(())
    }

    fn pull(&self, repository: usize, reference: &str) -> Result<(), String> {
        let path = format!("{}/manifests/{reference}", self.repository(repository));
        let got = self.ask("GET", &path, b"")?;
        if !got.is(200)? {
            // A tag of its own leads nowhere while its manifest is being removed.
            if !reference.starts_with("own") {
                self.note(&path, &got, false, None);
            }
            return Ok(());
        }
        let is_it = |image: &usize| manifest(repository, *image) == got.reply.body;
        let image = (0..IMAGES).find(is_it);
        let image = image.ok_or_else(|| format!("{path}: other bytes came back"))?;
        self.note(&path, &got, false, Some(image));
        let by_digest = digest(&got.reply.body);
        if by_digest != reference {
            let path = format!("{}/manifests/{by_digest}", self.repository(repository));
            self.note(&path, &got, false, Some(image));
        }
        for number in blobs_of(image) {
            let want = blob(repository, number);
            let path = format!("{}/blobs/{}", self.repository(repository), digest(&want));
            let got = self.ask("GET", &path, b"")?.reply.is(200)?;
            if got.body != want {
                return Err(format!("{path}: other bytes came back"));
            }
        }
        Ok(())
    }

    fn delete(&self, repository: usize, reference: &str, own: Option<&str>) -> Result<(), String> {
        let path = format!("{}/manifests/{reference}", self.repository(repository));
        let deleted = self.ask("DELETE", &path, b"")?;
        let is_deleted = deleted.is(202)?;
        self.note(&path, &deleted, is_deleted, None);
        if let Some(own) = own.filter(|_| is_deleted) {
            let tag = format!("{}/manifests/{own}", self.repository(repository));
            self.note(&tag, &deleted, true, None);
        }
        Ok(())
    }

    fn client(&self, seed: u64) -> Result<(), String> {
        let mut random = seed;
        let mut below = |bound: usize| {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (random >> 33) as usize % bound
        };
        for _ in 0..STEPS {
            let (repository, image) = (below(REPOSITORIES), below(IMAGES));
            let moved = format!("moved{}", below(2));
            let own = format!("own{image}");
            let by_digest = digest(&manifest(repository, image));
            match (below(8), has_own_tag(image)) {
                (0..=2, true) => self.push(repository, image, &own)?,
                (0..=2, false) => self.push(repository, image, &moved)?,
                (3..=4, true) => self.pull(repository, &own)?,
                (3..=4, false) => self.pull(repository, &moved)?,
                (5, _) => self.pull(repository, &by_digest)?,
                (_, true) => self.delete(repository, &by_digest, Some(&own))?,
                (_, false) => self.delete(repository, &moved, None)?,
            }
        }
        Ok(())
    }

    /// Every image, through every process.
    fn pull_all(&self) -> Result<(), String> {
        for repository in 0..REPOSITORIES {
            for image in 0..IMAGES {
                let by_digest = digest(&manifest(repository, image));
                for reference in [&by_digest, &format!("own{image}"), "moved0", "moved1"] {
                    for _ in self.addresses {
                        self.pull(repository, reference)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Runs the clients over processes at these addresses, in repositories below `root` that no other test
/// uses. How many requests they have sent.
///
/// # Errors
///
/// An answer that is wrong.
pub fn run(addresses: &[String], root: &str) -> Result<usize, String> {
    let balancer = Balancer {
        addresses,
        root,
        next: AtomicUsize::new(0),
        begun: Instant::now(),
        events: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seed| (seed, &balancer))
            .map(|(seed, balancer)| scope.spawn(move || balancer.client(seed as u64 + 1)))
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().unwrap())
    })?;
    balancer.pull_all()?;
    for (document, events) in balancer.events.lock().unwrap().iter() {
        if !is_explained(events) {
            return Err(format!(
                "no order explains the answers of {document}: {events:#?}"
            ));
        }
    }
    Ok(balancer.next.load(Ordering::Relaxed))
}

/// Whether the events of one document have an order in which each read sees the last write before it,
/// and which no two requests contradict that came one after the other. The document is absent at first.
fn is_explained(events: &[Event]) -> bool {
    let mut seen = HashSet::new();
    let mut states = vec![(vec![false; events.len()], None)];
    while let Some((mut done, value)) = states.pop() {
        // A read that fits takes its place at once: no later place is better.
        while let Some(fitting) = next_of(events, &done)
            .into_iter()
            .find(|&event| !events[event].is_write && events[event].value == value)
        {
            done[fitting] = true;
        }
        if done.iter().all(|done| *done) {
            return true;
        }
        let writes = next_of(events, &done).into_iter();
        for event in writes.filter(|&event| events[event].is_write) {
            let mut done = done.clone();
            done[event] = true;
            let state = (done, events[event].value);
            if seen.insert(state.clone()) {
                states.push(state);
            }
        }
    }
    false
}

/// The events that may be next: no other one ended before they began.
fn next_of(events: &[Event], done: &[bool]) -> Vec<usize> {
    let left: Vec<_> = (0..events.len()).filter(|&event| !done[event]).collect();
    let first_end = left.iter().map(|&event| events[event].to).min();
    let may_be_next = |&event: &usize| first_end.is_some_and(|end| events[event].from <= end);
    left.into_iter().filter(may_be_next).collect()
}

#[test]
fn stale_answer_has_no_order() {
    let event = |from, to, is_write, value| Event {
        from: Duration::from_secs(from),
        to: Duration::from_secs(to),
        is_write,
        value,
    };
    let written = event(1, 2, true, Some(1));
    for (events, explained) in [
        (vec![written, event(3, 4, false, Some(1))], true),
        (vec![written, event(3, 4, false, None)], false),
        (vec![written, event(1, 4, false, None)], true),
        (
            vec![
                written,
                event(3, 6, true, None),
                event(4, 5, false, Some(1)),
            ],
            true,
        ),
        (
            vec![
                written,
                event(3, 9, true, None),
                event(4, 5, false, None),
                event(6, 7, false, Some(1)),
            ],
            false,
        ),
    ] {
        assert_eq!(is_explained(&events), explained, "{events:?}");
    }
}
