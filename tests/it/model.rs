//! Any sequence of operations on a few uploads has the same result over S3 as in the model: each answer, each offset, and every
//! layer in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use embedded_s3::EmbeddedStore;
use proptest::prelude::*;
use s3layers::{
    Digest, Error, Layer, LayerId, LayerService, LayerUpload, MemoryLayerService, S3LayerService,
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use uuid::Uuid;

use crate::support::bucket;
use crate::support::bytes::{KIB, MIB, ramp, sha256};
use crate::support::cases::{self, runtime};
use crate::support::fault_client::{End, Fault, FaultClient, On, Position, Then};
use crate::support::stores::{self, INLINE_LIMIT, PART, name};

/// The number of distinct uploads. The last two have the same bytes.
const SLOTS: usize = 3;

/// No request is repeated for longer than this.
const GIVEN_UP: Duration = Duration::from_secs(100);

/// What a client does next. Numbers are taken modulo what there is, so that any run is valid.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// Declares the digest of what the slot would have at this offset, or nothing.
    Begin {
        slot: usize,
        declared: Option<u64>,
    },
    Write {
        slot: usize,
        bytes: u64,
    },
    Close {
        slot: usize,
    },
    /// Without a close; and then taken up again.
    Cut {
        slot: usize,
    },
    Resume {
        slot: usize,
    },
    Finish {
        slot: usize,
        wrong: Option<bool>,
    },
    Cancel {
        slot: usize,
    },
    Read {
        nth: usize,
        at: u64,
    },
    /// Sweeps everything, by another process, while no handle is open.
    Sweep,
    /// The request that comes so many after the next one fails. A retry can repair it.
    Fault {
        after: usize,
        kind: usize,
    },
    /// The process dies with all its handles, and another one starts.
    Crash,
}

/// What a caller must not notice.
const MENDED: [Fault; 5] = [
    Fault::Status(503),
    Fault::LoseAnswer,
    Fault::GarbleAnswer,
    Fault::HalfBody,
    Fault::CutAnswer {
        after: Position::Middle,
        then: Then::Breaks,
    },
];

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let slot = 0..SLOTS;
    let length = prop_oneof![
        0..5 * KIB,
        60 * KIB..70 * KIB,
        MIB..3 * MIB,
        Just(PART),
        PART - 1..PART + 2
    ];
    let declared = prop::option::weighted(0.3, prop_oneof![Just(PART), Just(100)]);
    let op = prop_oneof![
        3 => (slot.clone(), declared).prop_map(|(slot, declared)| Op::Begin { slot, declared }),
        6 => (slot.clone(), length).prop_map(|(slot, bytes)| Op::Write { slot, bytes }),
        2 => slot.clone().prop_map(|slot| Op::Close { slot }),
        1 => slot.clone().prop_map(|slot| Op::Cut { slot }),
        2 => slot.clone().prop_map(|slot| Op::Resume { slot }),
        3 => (slot.clone(), prop::option::weighted(0.3, any::<bool>()))
            .prop_map(|(slot, wrong)| Op::Finish { slot, wrong }),
        1 => slot.prop_map(|slot| Op::Cancel { slot }),
        2 => (0..9usize, 0..12 * MIB).prop_map(|(nth, at)| Op::Read { nth, at }),
        1 => Just(Op::Sweep),
        3 => (0..12usize, 0..MENDED.len()).prop_map(|(after, kind)| Op::Fault { after, kind }),
        1 => Just(Op::Crash),
    ];
    prop::collection::vec(op, 1..30)
}

/// The same upload on both sides.
#[derive(Default)]
struct Slot {
    uuids: Option<(Uuid, Uuid)>,
    handles: Option<(Box<dyn LayerUpload>, Box<dyn LayerUpload>)>,
}

struct Both {
    model: MemoryLayerService,
    store: EmbeddedStore,
    wire: FaultClient,
    s3: S3LayerService,
    slots: [Slot; SLOTS],
    /// Of every layer that was ever asked to be finished.
    digests: Vec<(Digest, u64)>,
}

/// An error by its name.
fn kind<T>(outcome: &Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "well".to_owned(),
        Err(error) => {
            let debug = format!("{error:?}");
            debug.split([' ', '{', '(']).next().unwrap().to_owned()
        }
    }
}

/// Both said the same.
#[track_caller]
fn agree<T, U>(model: Result<T, Error>, s3: Result<U, Error>, op: Op) -> Option<(T, U)> {
    if kind(&model) != kind(&s3) {
        let error = s3.as_ref().err().map(|error| cases::chain(error));
        panic!(
            "{op:?}: {} in the model, {} on S3 ({error:?})",
            kind(&model),
            kind(&s3)
        );
    }
    model.ok().zip(s3.ok())
}

/// What a slot brings, from the beginning.
fn content(slot: usize, length: u64) -> bytes::Bytes {
    ramp(slot.min(1) as u32, length)
}

impl Both {
    async fn step(&mut self, op: Op) {
        match op {
            Op::Begin { slot, declared } => {
                let id: Option<LayerId> =
                    declared.map(|length| sha256(&content(slot, length)).into());
                let model = self.model.upload(&name(), id.as_ref()).await;
                let s3 = self.s3.upload(&name(), id.as_ref()).await;
                if let Some((model, s3)) = agree(model, s3, op) {
                    let slot = &mut self.slots[slot];
                    slot.uuids = Some((model.uuid(), s3.uuid()));
                    slot.handles = Some((model, s3));
                }
            }
            Op::Write { slot, bytes } => {
                let Some((model, s3)) = &mut self.slots[slot].handles else {
                    return;
                };
                let from = model.offset();
                let bytes = content(slot, from + bytes).slice(from as usize..);
                let model_wrote = model.write_bytes(bytes.clone()).await;
                agree(model_wrote, s3.write_bytes(bytes).await, op);
                assert_eq!(model.offset(), s3.offset(), "{op:?}");
            }
            Op::Close { slot } => {
                if let Some((mut model, mut s3)) = self.slots[slot].handles.take() {
                    agree(model.close().await, s3.close().await, op);
                }
            }
            Op::Cut { slot } => self.cut(slot, op).await,
            Op::Resume { slot } => {
                // Nothing is lost by dropping a handle that was closed.
                if let Some((mut model, mut s3)) = self.slots[slot].handles.take() {
                    agree(model.close().await, s3.close().await, op);
                }
                let Some((model, s3)) = self.slots[slot].uuids else {
                    return;
                };
                let model = self.model.resume(&name(), None, model).await;
                let s3 = self.s3.resume(&name(), None, s3).await;
                let handles = agree(model, s3, op);
                if let Some((model, s3)) = &handles {
                    assert_eq!(model.offset(), s3.offset(), "{op:?}");
                }
                self.slots[slot].handles = handles;
            }
            Op::Finish { slot, wrong } => self.finish(slot, wrong, op).await,
            Op::Cancel { slot } => {
                if let Some((mut model, mut s3)) = self.slots[slot].handles.take() {
                    agree(model.cancel().await, s3.cancel().await, op);
                }
            }
            Op::Read { nth, at } => {
                if let Some((digest, _)) = self.digests.get(nth % self.digests.len().max(1)) {
                    let id = digest.clone().into();
                    let model = self.model.fetch(&id).await;
                    let s3 = self.s3.fetch(&id).await;
                    if let Some((model, s3)) = agree(model, s3, op) {
                        assert!(from(model, at).await == from(s3, at).await, "{op:?}");
                    }
                }
            }
            Op::Sweep => self.sweep(op).await,
            Op::Fault { after, kind } => {
                let number = self.wire.log().len() + 1 + after;
                self.wire.fault(On::request(number).with(MENDED[kind]));
            }
            Op::Crash => self.crash(op).await,
        }
    }

    /// Another process takes up what was being written.
    async fn crash(&mut self, op: Op) {
        let next = self.wire.log().len() + 1;
        self.wire.end(End::KilledBefore(next));
        self.wire = FaultClient::over(self.store.http_client());
        self.s3 = stores::connect(&self.store, &self.wire).await;
        for slot in 0..SLOTS {
            self.cut(slot, op).await;
        }
    }

    /// A handle for what cannot be done without one.
    async fn get_ready(&mut self, slot: usize) {
        let steps = [
            Op::Resume { slot },
            Op::Begin {
                slot,
                declared: None,
            },
        ];
        for step in steps {
            if self.slots[slot].handles.is_none() {
                self.step(step).await;
            }
        }
    }

    /// S3 may have kept more of what was not closed than the model, which keeps nothing of it.
    async fn cut(&mut self, slot: usize, op: Op) {
        let Some((model, s3)) = self.slots[slot].handles.take() else {
            return;
        };
        let most = s3.offset();
        drop((model, s3));
        let (model, s3) = self.slots[slot].uuids.unwrap();
        let model = self.model.resume(&name(), None, model).await;
        let s3 = self.s3.resume(&name(), None, s3).await;
        let Some((mut model, s3)) = agree(model, s3, op) else {
            return;
        };
        let (closed, kept) = (model.offset(), s3.offset());
        assert!(
            (closed..=most).contains(&kept),
            "{op:?}: {closed} <= {kept} <= {most}"
        );
        let more = content(slot, kept).slice(closed as usize..);
        model.write_bytes(more).await.unwrap();
        self.slots[slot].handles = Some((model, s3));
    }

    async fn finish(&mut self, slot: usize, wrong: Option<bool>, op: Op) {
        let Some((model, s3)) = &mut self.slots[slot].handles else {
            return;
        };
        let size = model.offset();
        let digest = sha256(&content(slot, size));
        let (claimed, digest) = match wrong {
            None => (size, digest),
            Some(true) => (size + 1, digest),
            Some(false) => (size, sha256(b"something else")),
        };
        let finished = model.finish(claimed, &digest).await;
        let finished = agree(finished, s3.finish(claimed, &digest).await, op);
        if let Some((model, s3)) = finished {
            self.s3.wait_for_background().await;
            let identity = |layer: &dyn Layer| (layer.digest().clone(), layer.size());
            assert_eq!(identity(&*model), identity(&*s3), "{op:?}");
            self.digests.push(identity(&*s3));
            self.slots[slot].handles = None;
        }
    }

    async fn sweep(&mut self, op: Op) {
        for slot in 0..SLOTS {
            if let Some((mut model, mut s3)) = self.slots[slot].handles.take() {
                agree(model.close().await, s3.close().await, op);
            }
            // The slot may have begun another upload since: those are swept on S3 alone, and hold
            // claims in the model. So each upload is followed until it ends.
            if let Some((model, _)) = self.slots[slot].uuids
                && let Ok(mut upload) = self.model.resume(&name(), None, model).await
            {
                upload.cancel().await.unwrap();
            }
        }
        // What a dropped handle still sends, a sweep takes for a sign of life.
        tokio::time::sleep(GIVEN_UP).await;
        stores::sweep(&self.s3).await.unwrap();
    }
}

/// A few bytes from there on.
async fn from(mut layer: Box<dyn Layer>, at: u64) -> Vec<u8> {
    layer.seek(SeekFrom::Start(at)).await.unwrap();
    let mut got = Vec::new();
    layer.take(10_000).read_to_end(&mut got).await.unwrap();
    got
}

async fn run(ops: &[Op]) {
    let (store, wire) = stores::with_wire().await;
    let mut both = Both {
        model: MemoryLayerService::new(),
        s3: stores::connect(&store, &wire).await,
        store: store.clone(),
        wire,
        slots: Default::default(),
        digests: Vec::new(),
    };
    for &op in ops {
        // One upload of a slot after the other: the one before is cancelled, so that no claim of it
        // is left on one side only.
        match op {
            Op::Begin { slot, .. } => {
                both.step(Op::Resume { slot }).await;
                both.step(Op::Cancel { slot }).await;
            }
            Op::Write { slot, .. } | Op::Finish { slot, .. } | Op::Cancel { slot } => {
                both.get_ready(slot).await;
            }
            _ => {}
        }
        both.step(op).await;
    }
    both.sweep(Op::Sweep).await;
    for (digest, size) in &both.digests {
        let id = digest.clone().into();
        let mut layer = both.s3.fetch(&id).await.unwrap();
        let mut got = Vec::new();
        layer.read_to_end(&mut got).await.unwrap();
        assert_eq!((sha256(&got), got.len() as u64), (digest.clone(), *size));
    }
    let client = stores::sdk_client(&store);
    let left = bucket::keys(&client).await;
    let mut named = BTreeSet::new();
    for (digest, size) in &both.digests {
        let objects = both
            .s3
            .stat(&digest.clone().into())
            .await
            .unwrap()
            .info
            .objects;
        assert_eq!(objects.is_empty(), *size <= INLINE_LIMIT, "{objects:?}");
        named.extend(objects.into_iter().map(|object| object.key));
    }
    let data = left.iter().filter(|key| key.starts_with("data/"));
    assert_eq!(
        data.cloned().collect::<BTreeSet<_>>(),
        named,
        "data objects"
    );
    let over = |key: &&String| key.starts_with("uploads/") || key.contains("_claims/");
    assert_eq!(left.iter().find(over), None, "left over");
    assert_eq!(bucket::multiparts(&client).await, [""; 0]);
}

/// As the environment says, for a long run.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_life_is_as_in_the_model(ops in ops()) {
        runtime().block_on(run(&ops));
    }
}

/// Runs that once ended otherwise than in the model.
#[test]
fn lives_that_once_differed() {
    let slot = 0;
    let runs: [(&str, &[Op]); 4] = [
        (
            "a dropped owner was still recording its multipart upload: the cancel lost to it",
            &[
                Op::Write { slot, bytes: PART },
                Op::Cut { slot },
                Op::Cancel { slot },
            ],
        ),
        (
            "a dropped owner was still beginning its multipart upload: the sweep spared it",
            &[
                Op::Begin {
                    slot,
                    declared: None,
                },
                Op::Fault { after: 1, kind: 2 },
                Op::Write { slot, bytes: PART },
                Op::Cut { slot },
                Op::Fault { after: 3, kind: 0 },
            ],
        ),
        (
            "a replaced owner that had repeated the begin of its multipart upload ended that of the newer owner",
            &[
                Op::Write { slot, bytes: PART },
                Op::Fault { after: 1, kind: 0 },
                Op::Cut { slot },
                Op::Write { slot, bytes: PART },
                Op::Fault { after: 0, kind: 0 },
                Op::Finish {
                    slot: 1,
                    wrong: None,
                },
                Op::Finish { slot, wrong: None },
            ],
        ),
        (
            "a finish without a byte of its own left the multipart upload of the previous owner",
            &[
                Op::Write { slot, bytes: PART },
                Op::Crash,
                Op::Finish { slot, wrong: None },
            ],
        ),
    ];
    for (why, ops) in runs {
        println!("{why}");
        runtime().block_on(run(ops));
    }
}
