//! Lives of an upload, as tables: played by one process, or by one that goes wrong and another that
//! goes on. Each act is short, so that it can be played once for each of its requests.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use bytes::Bytes;
use s3layers::embedded::EmbeddedStore;
use s3layers::registry::RepositoryService as _;
use s3layers::tarsum::TarSummer;
use s3layers::{
    Algorithm, Digest, Error, LayerId, LayerService as _, LayerUpload, RepositoryName,
    S3LayerService, StoreProfile, TarSum, TarSumVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::bytes::{KIB, MIB, ramp};
use super::image::{self, Deed, Doc};
use super::stores::{self, BUCKET};
use super::wire::Wire;
use crate::tarsum::archive::header;

/// What the client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// With the id declared, or without.
    Begin(Declared),
    /// Up to this offset.
    Write(u64),
    Close,
    /// The handle is dropped, if there is one, and the upload resumed.
    Resume,
    /// As `Resume`, by a client that says which offset it was told.
    GoOn,
    /// Claims a SHA-512 that is wrong, and is refused.
    FinishWrong,
    Finish(Algorithm),
    /// Another handle takes the upload up, and does nothing yet.
    Twin,
    /// That one finishes too, when the first one has: it is refused.
    FinishTwin,
    /// The whole layer, and some of it after a seek.
    Read,
    Cancel,
    /// Of whatever there is.
    Sweep,
    /// What a registry does besides. Goes last in an act, so that it can be done again.
    Do(Deed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    Nothing,
    Sha256,
    Sha512,
    /// The layer is an archive, then.
    TarSum,
}

/// One upload, from its beginning to its end.
#[derive(Debug)]
pub struct Act {
    pub name: &'static str,
    /// In bytes.
    pub size: u64,
    /// The same bytes are a layer of another repository already.
    pub duplicate: bool,
    pub steps: &'static [Step],
}

use Algorithm::{Sha256, Sha512};
use Declared::Nothing;
use Step::*;

/// A part.
const P: u64 = stores::PART;

/// All that an upload can go through.
pub const ACTS: &[Act] = &[
    Act {
        name: "cut in the middle, resumed, finished and read",
        size: 2 * P + 100 * KIB,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha256),
            Write(P + MIB),
            Close,
            Resume,
            Write(2 * P + 100 * KIB),
            Finish(Sha256),
            Read,
        ],
    },
    Act {
        name: "a duplicate",
        size: P + 9 * KIB,
        duplicate: true,
        steps: &[Begin(Nothing), Write(P + 9 * KIB), Finish(Sha256)],
    },
    Act {
        name: "a small duplicate",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Begin(Nothing), Write(9 * KIB), Finish(Sha256), Read],
    },
    Act {
        name: "one PutObject",
        size: 100 * KIB,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha512),
            Write(100 * KIB),
            Close,
            Resume,
            Finish(Sha256),
            Read,
        ],
    },
    Act {
        name: "inline, then a tail, then a tail, then parts",
        size: P + 50 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(KIB),
            Close,
            Resume,
            Write(100 * KIB),
            Close,
            Resume,
            Write(200 * KIB),
            Close,
            Resume,
            Write(P + 50 * KIB),
            Finish(Sha256),
        ],
    },
    Act {
        name: "in many requests to one process",
        size: 2 * P + 60 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Close,
            GoOn,
            Write(KIB),
            Close,
            GoOn,
            Write(100 * KIB),
            Close,
            GoOn,
            Write(200 * KIB),
            Close,
            GoOn,
            Write(P + 50 * KIB),
            Close,
            GoOn,
            Write(2 * P + 60 * KIB),
            Close,
            GoOn,
            Finish(Sha256),
            Read,
        ],
    },
    Act {
        name: "a SHA-512 that only reading back can verify",
        size: P + 70 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(P + 70 * KIB),
            Close,
            Resume,
            FinishWrong,
            Finish(Sha512),
        ],
    },
    Act {
        name: "a duplicate with a SHA-512 that only reading back can verify",
        size: 90 * KIB,
        duplicate: true,
        steps: &[
            Begin(Nothing),
            Write(90 * KIB),
            Close,
            Resume,
            Finish(Sha512),
        ],
    },
    Act {
        name: "a TarSum that only reading back can verify",
        size: P + 70 * KIB,
        duplicate: false,
        steps: &[
            Begin(Declared::TarSum),
            Write(60 * KIB),
            Close,
            Resume,
            Write(P + 70 * KIB),
            FinishWrong,
            Finish(Sha256),
        ],
    },
    Act {
        name: "a duplicate with a TarSum that only reading back can verify",
        size: 80 * KIB,
        duplicate: true,
        steps: &[
            Begin(Declared::TarSum),
            Write(80 * KIB),
            Close,
            Resume,
            Finish(Sha256),
            Read,
        ],
    },
    Act {
        name: "cancelled",
        size: 2 * P,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha256),
            Write(P + 80 * KIB),
            Close,
            Resume,
            Write(P + 90 * KIB),
            Cancel,
        ],
    },
    Act {
        name: "left alone and swept",
        size: 2 * P,
        duplicate: false,
        steps: &[
            Begin(Declared::Sha256),
            Write(100 * KIB),
            Close,
            Resume,
            Write(P + 80 * KIB),
            Close,
            Sweep,
        ],
    },
    Act {
        name: "finished by two handles",
        size: P + 9 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(P + 9 * KIB),
            Close,
            Resume,
            Twin,
            Finish(Sha256),
            FinishTwin,
        ],
    },
    Act {
        name: "mounted",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Do(Deed::Mount), Do(Deed::Layer)],
    },
    Act {
        name: "mounted and taken away",
        size: 9 * KIB,
        duplicate: true,
        steps: &[Do(Deed::Mount), Do(Deed::Unlink)],
    },
    Act {
        name: "an image and its signature",
        size: 3 * KIB,
        duplicate: false,
        steps: &[
            Begin(Nothing),
            Write(3 * KIB),
            Finish(Sha256),
            Do(Deed::Layer),
            Do(Deed::Put(Doc::Image)),
            Do(Deed::Tag(Doc::Image)),
            Do(Deed::Put(Doc::Signature)),
            Do(Deed::Look(Doc::Image)),
            Do(Deed::Referrers),
        ],
    },
    Act {
        name: "a tag that moves and goes, and manifests that go",
        size: 3 * KIB,
        duplicate: false,
        steps: &[
            Do(Deed::Put(Doc::Image)),
            Do(Deed::Put(Doc::Signature)),
            Do(Deed::Tag(Doc::Image)),
            Do(Deed::Tag(Doc::Signature)),
            Do(Deed::Look(Doc::Signature)),
            Do(Deed::Put(Doc::Image)),
            Do(Deed::Untag),
            Do(Deed::Tag(Doc::Signature)),
            Do(Deed::Delete(Doc::Signature)),
            Do(Deed::Delete(Doc::Image)),
        ],
    },
];

/// The bytes of an act's layer and what they are called.
#[derive(Clone, Debug)]
pub struct Content {
    pub bytes: Bytes,
    pub sha256: Digest,
    pub sha512: Digest,
    /// Of an archive.
    pub tar_sum: Option<TarSum>,
}

impl Content {
    fn of(bytes: Bytes, tar_sum: Option<TarSum>) -> Self {
        Content {
            sha256: Digest::of(Sha256, &bytes),
            sha512: Digest::of(Sha512, &bytes),
            bytes,
            tar_sum,
        }
    }

    /// An archive of one file, of as many bytes in all.
    fn archive(size: u64) -> Self {
        let body = ramp(7, size - 512);
        let header = header("layer", b'0', body.len());
        let bytes: Bytes = [&header[..], &body].concat().into();
        let summer = TarSummer::new(TarSumVersion::V1, Sha256);
        let mut summer = summer.unwrap();
        summer.update(&bytes);
        Content::of(bytes, Some(summer.finish().unwrap()))
    }
}

static CONTENTS: LazyLock<Mutex<BTreeMap<(u64, bool), Content>>> = LazyLock::new(Mutex::default);

impl Act {
    pub fn content(&self) -> Content {
        let is_archive = self.steps.contains(&Begin(Declared::TarSum));
        let mut contents = CONTENTS.lock().unwrap();
        let content = contents.entry((self.size, is_archive));
        let content = content.or_insert_with(|| match is_archive {
            true => Content::archive(self.size),
            false => Content::of(ramp(7, self.size), None),
        });
        content.clone()
    }

    fn declared(&self) -> Option<LayerId> {
        let content = self.content();
        self.steps.iter().find_map(|step| match step {
            Begin(Declared::Sha256) => Some(content.sha256.clone().into()),
            Begin(Declared::Sha512) => Some(content.sha512.clone().into()),
            Begin(Declared::TarSum) => content.tar_sum.clone().map(LayerId::from),
            _ => None,
        })
    }

    /// Every id that the layer is published under in the end; none where it is not.
    fn ids(&self) -> Vec<LayerId> {
        let content = self.content();
        let mut ids = Vec::new();
        let publishes = |step: &Step| matches!(step, Finish(_) | Do(Deed::Mount));
        if self.steps.iter().any(publishes) {
            ids.push(content.sha256.into());
        }
        let names_sha512 = |step: &Step| matches!(step, Begin(Declared::Sha512) | Finish(Sha512));
        if self.steps.iter().any(names_sha512) {
            ids.push(content.sha512.into());
        }
        ids.extend(content.tar_sum.map(LayerId::from));
        ids
    }

    /// The algorithm that the client names at the end.
    fn algorithm(&self) -> Option<Algorithm> {
        self.steps.iter().find_map(|step| match step {
            Finish(algorithm) => Some(*algorithm),
            _ => None,
        })
    }
}

pub fn name() -> RepositoryName {
    "library/demo".parse().unwrap()
}

/// What the client of a first process was told before that process ended.
#[derive(Debug, Default)]
pub struct Told {
    uuid: Option<Uuid>,
    /// Bytes that a close said are stored.
    stored: u64,
    /// It asked for the end, and has no answer perhaps.
    ending: bool,
}

/// A store with its bucket, and what an act finds there.
pub async fn stage(act: &Act) -> EmbeddedStore {
    let store = stores::in_memory().await;
    if act.duplicate {
        let service = connect(&store, &Wire::over(store.http_client())).await;
        let first: RepositoryName = "library/first".parse().unwrap();
        let content = act.content();
        let mut upload = service.upload(&first, None).await.unwrap();
        upload.write_bytes(content.bytes).await.unwrap();
        upload.finish(act.size, &content.sha256).await.unwrap();
    }
    store
}

/// A process that reaches the store over this wire. It needs no request to begin.
pub async fn connect(store: &EmbeddedStore, wire: &Wire) -> S3LayerService {
    let client = stores::client(store, wire.http_client());
    let config = stores::config().profile(StoreProfile::AWS);
    S3LayerService::connect(client, config).await.unwrap()
}

/// An error and all its causes, on a line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Plays an act from its beginning. What the client is told is noted as it goes.
pub async fn play(service: &S3LayerService, act: &Act, told: &Mutex<Told>) -> Result<(), String> {
    let failed = |(step, error): (Step, Error)| format!("{step:?}: {}", chain(&error));
    try_play(service, act, told).await.map_err(failed)
}

/// The same; at what step it ended and by what error.
pub async fn try_play(
    service: &S3LayerService,
    act: &Act,
    told: &Mutex<Told>,
) -> Result<(), (Step, Error)> {
    let mut handles = Handles::default();
    for step in act.steps {
        let played = play_step(service, act, *step, &mut handles, told).await;
        played.map_err(|error| (*step, error))?;
    }
    Ok(())
}

/// What the client of an act holds.
#[derive(Default)]
struct Handles {
    upload: Option<Box<dyn LayerUpload>>,
    twin: Option<Box<dyn LayerUpload>>,
}

async fn play_step(
    service: &S3LayerService,
    act: &Act,
    step: Step,
    handles: &mut Handles,
    told: &Mutex<Told>,
) -> Result<(), Error> {
    let content = act.content();
    if matches!(step, Finish(_) | Cancel | Sweep) {
        told.lock().unwrap().ending = true;
    }
    let uuid = told.lock().unwrap().uuid;
    match (step, handles.upload.as_mut()) {
        (Begin(_), _) => {
            let begun = service.upload(&name(), act.declared().as_ref()).await?;
            told.lock().unwrap().uuid = Some(begun.uuid());
            handles.upload = Some(begun);
        }
        (Resume, _) => {
            handles.upload = None;
            let resumed = service.resume(&name(), None, uuid.unwrap()).await?;
            let stored = told.lock().unwrap().stored;
            assert_eq!(resumed.offset(), stored, "the offset of a closed upload");
            handles.upload = Some(resumed);
        }
        (Twin, _) => {
            let twin = service.resume(&name(), None, uuid.unwrap()).await?;
            handles.twin = Some(twin);
        }
        (GoOn, _) => {
            handles.upload = None;
            let stored = told.lock().unwrap().stored;
            let resumed = service.resume_at(&name(), uuid.unwrap(), stored).await?;
            assert_eq!(resumed.offset(), stored, "the offset that was told");
            handles.upload = Some(resumed);
        }
        (Write(to), Some(upload)) => write(upload, &content, to).await?,
        (Close, Some(upload)) => {
            upload.close().await?;
            told.lock().unwrap().stored = upload.offset();
        }
        (FinishWrong, Some(upload)) => {
            let wrong = Digest::of(Sha512, b"something else");
            match upload.finish(act.size, &wrong).await.map(drop) {
                Err(Error::InvalidChecksum { .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => panic!("a wrong digest was published"),
            }
        }
        (Finish(algorithm), Some(upload)) => finish(upload, act, algorithm).await?,
        (FinishTwin, _) => {
            let twin = handles.twin.as_mut().unwrap();
            match finish(twin, act, Sha256).await {
                Err(Error::UploadUnknown { .. } | Error::UploadConflict { .. }) => {}
                other => return other,
            }
        }
        (Cancel, Some(upload)) => upload.cancel().await?,
        (Read, _) => read(service, act).await?,
        (Sweep, _) => sweep(service).await?,
        (Do(deed), _) => image::play(service, act, deed).await?,
        (step, None) => panic!("{step:?} without an upload"),
    }
    Ok(())
}

async fn write(upload: &mut Box<dyn LayerUpload>, content: &Content, to: u64) -> Result<(), Error> {
    const PIECE: u64 = 300 * KIB;
    while upload.offset() < to {
        let from = upload.offset();
        let end = to.min(from + PIECE);
        let piece = content.bytes.slice(from as usize..end as usize);
        upload.write_bytes(piece).await?;
    }
    Ok(())
}

async fn finish(
    upload: &mut Box<dyn LayerUpload>,
    act: &Act,
    algorithm: Algorithm,
) -> Result<(), Error> {
    let content = act.content();
    let digest = match algorithm {
        Sha512 => content.sha512,
        _ => content.sha256.clone(),
    };
    let layer = upload.finish(act.size, &digest).await?;
    assert_eq!(
        *layer.digest(),
        content.sha256,
        "the digest of a finished layer"
    );
    assert_eq!(layer.size(), act.size, "the size of a finished layer");
    assert_eq!(layer.tar_sum(), content.tar_sum.as_ref());
    Ok(())
}

/// Reads the layer by each of its ids, whole and after a seek.
async fn read(service: &S3LayerService, act: &Act) -> Result<(), Error> {
    let want = act.content().bytes;
    for id in act.ids() {
        let mut layer = service.fetch(&id).await?;
        let mut got = Vec::new();
        layer.read_to_end(&mut got).await.map_err(Error::from_io)?;
        assert!(got == want, "{id} has other bytes");
        let middle = act.size / 2;
        let mut some = [0; 1000];
        let seek = layer.seek(SeekFrom::Start(middle)).await;
        seek.map_err(Error::from_io)?;
        layer.read_exact(&mut some).await.map_err(Error::from_io)?;
        assert!(some == want[middle as usize..][..1000], "{id} after a seek");
    }
    Ok(())
}

/// Of everything, however young.
pub async fn sweep(service: &S3LayerService) -> Result<(), Error> {
    for swept in service.sweep(Duration::ZERO, false).await? {
        swept.outcome?;
    }
    Ok(())
}

/// Another process brings to its end what the first one left in the middle.
pub async fn go_on(service: &S3LayerService, act: &Act, told: &Told) -> Result<(), String> {
    let outcome = go_on_with(service, act, told).await;
    outcome.map_err(|error| format!("going on elsewhere: {}", chain(&error)))
}

async fn go_on_with(service: &S3LayerService, act: &Act, told: &Told) -> Result<(), Error> {
    let resumed = match told.uuid {
        None => None,
        Some(uuid) => match service.resume(&name(), None, uuid).await {
            Ok(upload) => Some(upload),
            // It was finished or cancelled: the reading below, or the leftovers, tell which.
            Err(Error::UploadUnknown { .. }) if told.ending => None,
            Err(error) => return Err(error),
        },
    };
    if let Some(upload) = &resumed {
        let offset = upload.offset();
        let stored = told.stored;
        assert!(
            offset >= stored,
            "{stored} bytes were stored, {offset} are left"
        );
    }
    let is_over = resumed.is_none() && told.ending;
    match act.algorithm() {
        Some(_) if is_over => {}
        Some(algorithm) => {
            let mut upload = match resumed {
                Some(upload) => upload,
                None => begin_again(service, act).await?,
            };
            write(&mut upload, &act.content(), act.size).await?;
            finish(&mut upload, act, algorithm).await?;
        }
        None => {
            if let Some(mut upload) = resumed {
                upload.cancel().await?;
            }
        }
    }
    for step in act.steps {
        if let Do(deed) = step {
            image::play(service, act, *deed).await?;
        }
    }
    sweep(service).await
}

/// As a client does that was never told a UUID.
async fn begin_again(service: &S3LayerService, act: &Act) -> Result<Box<dyn LayerUpload>, Error> {
    match service.upload(&name(), act.declared().as_ref()).await {
        Err(Error::UploadInProgress { uuid, .. }) => service.resume(&name(), None, uuid).await,
        begun => begun,
    }
}

/// That what should be in the bucket is, whatever else is there.
pub async fn kept(store: &EmbeddedStore, act: &Act) -> Result<(), String> {
    let service = connect(store, &Wire::over(store.http_client())).await;
    let read = read(&service, act).await;
    read.map_err(|error| format!("lost: {}", chain(&error)))?;
    let client = stores::client(store, store.http_client());
    let found = keys(&client).await;
    let (wanted, _) = wanted(act);
    let mut lost = wanted.difference(&found);
    lost.next().map_or(Ok(()), |key| Err(format!("no {key}")))
}

/// The keys that an act leaves, but for data; and the layers of it.
fn wanted(act: &Act) -> (BTreeSet<String>, usize) {
    let mut wanted = image::keys(act);
    let mut layers = 0;
    let mut link = |name: &str, id: &LayerId, linked: bool| {
        let id = id.to_string().replace("tarsum.v1+", "tarsum/v1/");
        let (algorithm, hex) = id.split_once(':').unwrap();
        wanted.insert(format!("layers/{algorithm}/{}/{hex}", &hex[..2]));
        if linked {
            wanted.insert(format!("repositories/{name}/_layers/{algorithm}/{hex}"));
        }
    };
    if act.duplicate {
        link("library/first", &act.content().sha256.into(), true);
        layers = 1;
    }
    for id in act.ids() {
        link("library/demo", &id, image::is_linked(act) != Some(false));
        layers = 1;
    }
    (wanted, layers)
}

/// What is in the bucket that should not be, and what should be and is not. The bytes too.
pub async fn leftovers(store: &EmbeddedStore, act: &Act) -> Result<(), String> {
    let client = stores::client(store, store.http_client());
    let (wanted, layers) = wanted(act);
    let (data, mut found): (BTreeSet<_>, BTreeSet<_>) = keys(&client)
        .await
        .into_iter()
        .partition(|key| key.starts_with("data/"));
    let mut wrong: Vec<_> = found.difference(&wanted).cloned().collect();
    found.retain(|key| wanted.contains(key));
    wrong.extend(wanted.difference(&found).map(|key| format!("no {key}")));
    if data.len() != layers {
        wrong.push(format!("{data:?} for {layers} layers"));
    }
    for key in &data {
        if get(&client, key).await != act.content().bytes {
            wrong.push(format!("other bytes in {key}"));
        }
    }
    wrong.extend(multiparts(&client).await);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("left over: {}", wrong.join(", "))),
    }
}

/// The CRC-64/NVME of the document, as `src/s3/document.rs` seals it.
pub fn sealed(document: &str) -> String {
    let body = document.split_once(",\"seal\"").unwrap().0;
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, body.as_bytes());
    format!("{body},\"seal\":\"crc64nvme:{sum:016x}\"}}")
}

/// An object, as it is.
pub async fn get(client: &Client, key: &str) -> Bytes {
    let got = client.get_object().bucket(BUCKET).key(key).send().await;
    got.unwrap().body.collect().await.unwrap().into_bytes()
}

/// Every key in the bucket.
pub async fn keys(client: &Client) -> BTreeSet<String> {
    let mut pages = client
        .list_objects_v2()
        .bucket(BUCKET)
        .into_paginator()
        .send();
    let mut keys = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        keys.extend(
            page.contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    keys
}

/// Every multipart upload under way.
pub async fn multiparts(client: &Client) -> Vec<String> {
    let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
    let listed = listed.unwrap();
    let told = |upload: &aws_sdk_s3::types::MultipartUpload| {
        format!("a multipart upload at {}", upload.key().unwrap())
    };
    listed.uploads().iter().map(told).collect()
}

/// One thread, and a clock that jumps over every wait.
pub fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Runs cases on a few threads, and fails with the line of each that failed.
pub fn all<C: Sync>(
    what: &str,
    cases: &[C],
    describe: impl Fn(&C) -> String + Sync,
    run: impl Fn(&C) -> Result<(), String> + Sync,
) {
    let begun = std::time::Instant::now();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().min(4));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(case)));
                    let failure = match outcome {
                        Ok(Ok(())) => continue,
                        Ok(Err(failure)) => failure,
                        Err(panicked) => match panicked.downcast::<String>() {
                            Ok(text) => *text,
                            Err(_) => "it panicked".to_owned(),
                        },
                    };
                    let line = format!("{}: {failure}", describe(case));
                    failures.lock().unwrap().push(line);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let (ran, seconds) = (cases.len(), begun.elapsed().as_secs_f64());
    println!(
        "{what}: {ran} cases in {seconds:.1} s, {} failed",
        failures.len()
    );
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}
