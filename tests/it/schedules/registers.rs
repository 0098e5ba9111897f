//! Several processes write, remove and read one tag, one manifest or one link: some order of their
//! requests explains all answers, and none is older than its question.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use s3layers::{Error, LayerId, LayerService as _, Manifest, RepositoryName, S3LayerService, Tag};
use s3layers_registry::RepositoryService as _;

use crate::support::bytes::sha256;
use crate::support::cases::{self, runtime};
use crate::support::fault_client::FaultClient;
use crate::support::schedule::{Choices, Scheduler, splitmix};
use crate::support::stores::{self, name};

const PROCESSES: usize = 3;
/// What each process asks for, one after the other.
const OPS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Register {
    Tag,
    Manifest,
    Link,
}

const REGISTERS: [Register; 3] = [Register::Tag, Register::Manifest, Register::Link];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Write(u8),
    Remove,
    Read,
}

/// What a process got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Written,
    Removed(bool),
    Value(Option<u8>),
}

/// An operation, and when it began and ended.
#[derive(Clone, Copy, Debug)]
struct Call {
    op: Op,
    answer: Answer,
    began: usize,
    ended: usize,
    /// It may take effect once more before it ends: an attempt without an answer was repeated.
    is_repeat: bool,
}

impl Register {
    /// A tag names different manifests; the others are there or not.
    fn value(self, draw: u64) -> u8 {
        match self {
            Register::Tag => (draw % 3) as u8,
            Register::Manifest | Register::Link => 0,
        }
    }
}

fn other() -> RepositoryName {
    "library/other".parse().unwrap()
}

fn tag() -> Tag {
    "latest".parse().unwrap()
}

fn manifest() -> Manifest {
    Manifest {
        digest: sha256(b"{}"),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        bytes: b"{}"[..].into(),
        subject: None,
        artifact_type: None,
        annotations: Default::default(),
    }
}

fn layer() -> LayerId {
    sha256(b"a layer").into()
}

async fn ask(service: &S3LayerService, register: Register, op: Op) -> Result<Answer, Error> {
    let digest = |value: u8| sha256(&[value]);
    let value_of = |digest: s3layers::Digest| (0..3).find(|value| sha256(&[*value]) == digest);
    let (name, manifest, layer) = (name(), manifest(), layer());
    Ok(match (register, op) {
        (Register::Tag, Op::Write(value)) => {
            service.put_tag(&name, &tag(), &digest(value)).await?;
            Answer::Written
        }
        (Register::Tag, Op::Remove) => Answer::Removed(service.delete_tag(&name, &tag()).await?),
        (Register::Tag, Op::Read) => {
            Answer::Value(service.tag(&name, &tag()).await?.and_then(value_of))
        }
        (Register::Manifest, Op::Write(_)) => {
            service.put_manifest(&name, &manifest).await?;
            Answer::Written
        }
        (Register::Manifest, Op::Remove) => {
            Answer::Removed(service.delete_manifest(&name, &manifest.digest).await?)
        }
        (Register::Manifest, Op::Read) => {
            let found = service.manifest(&name, &manifest.digest).await?;
            Answer::Value(found.map(|_| 0))
        }
        (Register::Link, Op::Write(_)) => {
            assert!(service.mount(&other(), &layer, Some(&name)).await?);
            Answer::Written
        }
        (Register::Link, Op::Remove) => Answer::Removed(service.unlink(&other(), &layer).await?),
        (Register::Link, Op::Read) => match service.layer(&other(), &layer).await {
            Ok(_) => Answer::Value(Some(0)),
            Err(Error::LayerUnknown { .. }) => Answer::Value(None),
            Err(error) => return Err(error),
        },
    })
}

async fn run_process(
    service: S3LayerService,
    register: Register,
    ops: [Op; OPS],
    clock: Arc<AtomicUsize>,
) -> Result<Vec<Call>, Error> {
    let mut calls = Vec::new();
    for op in ops {
        let began = clock.fetch_add(1, Ordering::SeqCst);
        let answer = ask(&service, register, op).await?;
        let ended = clock.fetch_add(1, Ordering::SeqCst);
        calls.push(Call {
            op,
            answer,
            began,
            ended,
            is_repeat: false,
        });
    }
    Ok(calls)
}

/// Whether some order of the calls, in which none comes before one that had ended when it began, gives the
/// answers that were given.
fn is_explained(calls: &[Call]) -> bool {
    fn continues(
        calls: &[Call],
        done: u64,
        value: Option<u8>,
        seen: &mut HashSet<(u64, Option<u8>)>,
    ) -> bool {
        let open = |at: &usize| done & (1 << at) == 0;
        let required = |at: &usize| open(at) && !calls[*at].is_repeat;
        let Some(first_end) = (0..calls.len())
            .filter(required)
            .map(|at| calls[at].ended)
            .min()
        else {
            return true;
        };
        if !seen.insert((done, value)) {
            return false;
        }
        (0..calls.len()).filter(open).any(|at| {
            let call = &calls[at];
            let is_over = || (0..calls.len()).any(|at| !open(&at) && calls[at].began > call.ended);
            let next = match (call.op, call.answer) {
                _ if call.began > first_end || (call.is_repeat && is_over()) => return false,
                (Op::Write(written), Answer::Written) => Some(written),
                // Of two removals at once, both may say that they removed it.
                (Op::Remove, Answer::Removed(true)) => None,
                (Op::Remove, Answer::Removed(false)) if value.is_none() => None,
                (Op::Read, Answer::Value(read)) if read == value => value,
                _ => return false,
            };
            continues(calls, done | (1 << at), next, seen)
        })
    }
    continues(calls, 0, None, &mut HashSet::new())
}

async fn run(register: Register, seed: u64, choices: &mut Choices) -> Result<(), String> {
    let store = stores::in_memory().await;
    let apart = stores::connect(&store, &FaultClient::over(store.http_client())).await;
    let mut upload = apart.upload(&name(), None).await.unwrap();
    upload.write_bytes(b"a layer"[..].into()).await.unwrap();
    upload.finish(7, &sha256(b"a layer")).await.unwrap();
    apart.wait_for_background().await;
    let (scheduler, clock) = (Scheduler::default(), Arc::new(AtomicUsize::new(0)));
    let (mut tasks, mut draws) = (Vec::new(), seed);
    for process in 0..PROCESSES {
        let wire = FaultClient::over(scheduler.http_client(process, store.http_client()));
        let service = stores::connect(&store, &wire).await;
        let ops = std::array::from_fn(|_| match splitmix(&mut draws) % 4 {
            0 | 1 => Op::Write(register.value(splitmix(&mut draws))),
            2 => Op::Remove,
            _ => Op::Read,
        });
        let clock = Arc::clone(&clock);
        tasks.push(tokio::spawn(run_process(service, register, ops, clock)));
    }
    scheduler.run(&tasks, choices).await;
    let mut calls = Vec::new();
    for task in tasks {
        let answer = task.await.map_err(|error| error.to_string())?;
        calls.extend(answer.map_err(|error| cases::chain(&error))?);
    }
    let at_last = clock.fetch_add(1, Ordering::SeqCst);
    calls.push(Call {
        op: Op::Read,
        answer: ask(&apart, register, Op::Read).await.unwrap(),
        began: at_last,
        ended: at_last + 1,
        is_repeat: false,
    });
    if choices.lost_any() {
        let writes = calls.iter().filter(|call| matches!(call.op, Op::Write(_)));
        let repeats: Vec<Call> = writes
            .map(|call| Call {
                is_repeat: true,
                ..*call
            })
            .collect();
        calls.extend(repeats);
    }
    if is_explained(&calls) {
        return Ok(());
    }
    calls.sort_by_key(|call| call.began);
    Err(format!("no order explains {calls:#?}"))
}

#[test]
fn some_order_explains_all_answers() {
    let is_full = std::env::var("S3LAYERS_SCHEDULES").is_ok_and(|extent| extent == "full");
    let seeds = if is_full { 3_000 } else { 40 };
    cases::all(
        "registers",
        &REGISTERS,
        |register| format!("{register:?}"),
        |register| {
            for seed in 0..seeds {
                let new = [Choices::random, Choices::random_lossy][(seed % 2) as usize];
                let mut choices = new(seed);
                let ran = runtime().block_on(run(*register, seed, &mut choices));
                ran.map_err(|wrong| format!("seed {seed}, {choices}: {wrong}"))?;
            }
            println!("{register:?}: {seeds} random schedules");
            Ok(())
        },
    );
}

/// A removal that lost its answer was repeated, and found the bytes that it had removed before: a write that had lost its
/// answer, too, had stored them again, and others relied on them.
#[test]
fn a_repeated_removal_leaves_what_a_repeated_write_has_stored() {
    let (seed, mut choices) = (1303, Choices::random_lossy(1303));
    let ran = runtime().block_on(run(Register::Link, seed, &mut choices));
    ran.unwrap();
}

/// The check itself.
#[test]
fn answer_older_than_its_question_is_found() {
    let call = |op, answer, began, ended| Call {
        op,
        answer,
        began,
        ended,
        is_repeat: false,
    };
    let written = call(Op::Write(1), Answer::Written, 0, 1);
    let stale = call(Op::Read, Answer::Value(None), 2, 3);
    assert!(!is_explained(&[written, stale]));
    let beside = call(Op::Read, Answer::Value(None), 0, 3);
    assert!(is_explained(&[written, beside]));
    let lost = call(Op::Remove, Answer::Removed(false), 2, 3);
    assert!(!is_explained(&[written, lost]));
}
