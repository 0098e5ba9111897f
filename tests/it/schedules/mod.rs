//! Several processes use one upload or one layer: for any order in which S3 gets their requests,
//! at most one of two that exclude each other wins, the bytes published are those of their digest,
//! the loser gets an error, and a sweep leaves nothing over. In two of three random orders the answers of
//! some requests are lost, or some come late; in one of three, processes are killed as well. [`registers`] does
//! the same with what has no upload.
//!
//! A failure prints the line that repeats it. `S3LAYERS_SCHEDULES=full` plays every schedule of the
//! short scripts and 10,000 of each long one.

use bytes::Bytes;
use s3layers::{Error, LayerService as _, S3LayerService};
use uuid::Uuid;

use self::judge::judge;
use crate::support::bytes::{KIB, ramp, sha256};
use crate::support::cases::{self, runtime};
use crate::support::fault_client::FaultClient;
use crate::support::schedule::{Choices, Scheduler};
use crate::support::stores::{self, PART, name};

mod judge;
mod registers;

/// What one process does, from the beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Resumes, appends bytes of its own, and closes.
    Append(u32),
    /// The same, and finishes instead.
    AppendFinish(u32),
    /// Resumes and finishes what is there.
    Finish,
    Cancel,
    /// Sweeps every upload of any age.
    Sweep,
    /// An upload of its own, with the bytes that the shared one has at the start.
    Push,
    /// The same, and says first what it is going to be.
    PushDeclared,
}

use Role::*;

struct Script {
    name: &'static str,
    /// What the shared upload holds at the start, in bytes.
    start: u64,
    /// What an `Append` adds, in bytes.
    more: u64,
    roles: &'static [Role],
}

/// Few enough requests that all schedules can be played.
const SHORT: &[Script] = &[
    Script {
        name: "two writers",
        start: 20 * KIB,
        more: 20 * KIB,
        roles: &[Append(1), Append(2)],
    },
    Script {
        name: "two writers, inline",
        start: KIB,
        more: KIB,
        roles: &[Append(1), Append(2)],
    },
    Script {
        name: "writer and canceller",
        start: 20 * KIB,
        more: 20 * KIB,
        roles: &[Append(1), Cancel],
    },
    Script {
        name: "writer and sweeper",
        start: KIB,
        more: 20 * KIB,
        roles: &[Append(1), Sweep],
    },
    Script {
        name: "finisher and canceller",
        start: 20 * KIB,
        more: 0,
        roles: &[Finish, Cancel],
    },
    Script {
        name: "two cancellers",
        start: 20 * KIB,
        more: 0,
        roles: &[Cancel, Cancel],
    },
];

const LONG: &[Script] = &[
    Script {
        name: "writer and finisher",
        start: KIB,
        more: KIB,
        roles: &[Append(1), Finish],
    },
    Script {
        name: "two finishers",
        start: 20 * KIB,
        more: 0,
        roles: &[Finish, Finish],
    },
    Script {
        name: "finisher and sweeper",
        start: 20 * KIB,
        more: 0,
        roles: &[Finish, Sweep],
    },
    Script {
        name: "two who append and finish",
        start: KIB,
        more: 20 * KIB,
        roles: &[AppendFinish(1), AppendFinish(2)],
    },
    Script {
        name: "a duplicate at the same time",
        start: 20 * KIB,
        more: 0,
        roles: &[Finish, Push],
    },
    Script {
        name: "two declare the same layer",
        start: KIB,
        more: 0,
        roles: &[PushDeclared, PushDeclared],
    },
    Script {
        name: "a push and a sweeper",
        start: 20 * KIB,
        more: 0,
        roles: &[Push, Sweep],
    },
    Script {
        name: "all at once",
        start: 20 * KIB,
        more: KIB,
        roles: &[Append(1), AppendFinish(2), Finish, Cancel, Sweep, Push],
    },
    Script {
        name: "parts: two who append and finish",
        start: PART + KIB,
        more: PART,
        roles: &[AppendFinish(1), AppendFinish(2)],
    },
    Script {
        name: "parts: finisher, duplicate and sweeper",
        start: PART + KIB,
        more: 0,
        roles: &[Finish, Push, Sweep],
    },
];

impl Script {
    fn base(&self) -> Bytes {
        ramp(0, self.start)
    }

    /// The base and what this process appends.
    fn appended(&self, seed: u32) -> Bytes {
        [self.base(), ramp(seed, self.more)].concat().into()
    }

    /// What a process publishes, if it does.
    fn layer(&self, role: Role) -> Option<Bytes> {
        match role {
            AppendFinish(seed) => Some(self.appended(seed)),
            Finish | Push | PushDeclared => Some(self.base()),
            Append(_) | Cancel | Sweep => None,
        }
    }
}

/// A process from its beginning to its end, removals in the background included.
async fn run_process(
    service: S3LayerService,
    role: Role,
    uuid: Uuid,
    base: Bytes,
    layer: Bytes,
) -> Result<(), Error> {
    let played = run_role(&service, role, uuid, base, layer).await;
    service.wait_for_background().await;
    played
}

async fn run_role(
    service: &S3LayerService,
    role: Role,
    uuid: Uuid,
    base: Bytes,
    layer: Bytes,
) -> Result<(), Error> {
    let size = layer.len() as u64;
    let begun = base.len();
    match role {
        Append(_) | AppendFinish(_) => {
            let mut upload = service.resume(&name(), None, uuid).await?;
            let offset = upload.offset();
            if offset != begun as u64 {
                let (claimed, received) = (begun as u64, offset);
                return Err(Error::InvalidLength { claimed, received });
            }
            upload.write_bytes(layer.slice(begun..)).await?;
            match role {
                Append(_) => upload.close().await,
                _ => upload.finish(size, &sha256(&layer)).await.map(drop),
            }
        }
        Finish => {
            let mut upload = service.resume(&name(), None, uuid).await?;
            upload.finish(size, &sha256(&layer)).await.map(drop)
        }
        Cancel => {
            let mut upload = service.resume(&name(), None, uuid).await?;
            upload.cancel().await
        }
        Sweep => stores::sweep(service).await,
        Push | PushDeclared => {
            let id = sha256(&layer).into();
            let declared = (role == PushDeclared).then_some(&id);
            let mut upload = service.upload(&name(), declared).await?;
            upload.write_bytes(layer.clone()).await?;
            upload.finish(size, &sha256(&layer)).await.map(drop)
        }
    }
}

async fn run(script: &Script, choices: &mut Choices) -> Result<(), String> {
    let store = stores::in_memory().await;
    let apart = stores::connect(&store, &FaultClient::over(store.http_client())).await;
    let base = script.base();
    let uuid = begin(&apart, &base).await.unwrap();
    let scheduler = Scheduler::default();
    let mut tasks = Vec::new();
    for (process, &role) in script.roles.iter().enumerate() {
        let wire = FaultClient::over(scheduler.http_client(process, store.http_client()));
        let service = stores::connect(&store, &wire).await;
        let layer = match role {
            Append(seed) => script.appended(seed),
            _ => script.layer(role).unwrap_or_default(),
        };
        tasks.push(tokio::spawn(run_process(
            service,
            role,
            uuid,
            base.clone(),
            layer,
        )));
    }
    scheduler.run(&tasks, choices).await;
    let mut outcomes = Vec::new();
    for (task, &role) in tasks.into_iter().zip(script.roles) {
        let outcome = match task.await {
            Ok(outcome) => outcome,
            // It was killed: its client gets no answer.
            Err(error) if error.is_cancelled() => Err(Error::UploadUnknown { uuid }),
            Err(error) => return Err(error.to_string()),
        };
        outcomes.push((role, outcome));
    }
    let unknown_uploads = scheduler.unknown_uploads();
    judge(
        script,
        &store,
        &apart,
        uuid,
        &outcomes,
        choices,
        unknown_uploads,
    )
    .await
    .map_err(|wrong| format!("{wrong}, after {outcomes:?}"))
}

async fn begin(service: &S3LayerService, base: &Bytes) -> Result<Uuid, Error> {
    let mut upload = service.upload(&name(), None).await?;
    upload.write_bytes(base.clone()).await?;
    upload.close().await?;
    Ok(upload.uuid())
}

/// How many schedules of each script are played here.
struct Extent {
    short: usize,
    random: usize,
    random_with_parts: usize,
}

fn extent() -> Extent {
    match std::env::var("S3LAYERS_SCHEDULES").as_deref() {
        Ok("full") => Extent {
            short: usize::MAX,
            random: 10_000,
            random_with_parts: 10_000,
        },
        _ => Extent {
            short: 60,
            random: 20,
            random_with_parts: 5,
        },
    }
}

fn describe(script: &Script, choices: &Choices, wrong: &str) -> String {
    let name = script.name;
    format!("{name}: {wrong}\n  repeat it by S3LAYERS_SCHEDULE='{name}:{choices}'")
}

/// The one schedule that the environment asks for, if this is its script.
fn asked_for(script: &Script) -> Option<Choices> {
    let asked = std::env::var("S3LAYERS_SCHEDULE").ok()?;
    let (name, choices) = asked.rsplit_once(':')?;
    let choices = choices.split(',').map(|one| one.parse().unwrap());
    Some(Choices::of(if name == script.name {
        choices.collect()
    } else {
        return None;
    }))
}

fn run_once(script: &Script, choices: &mut Choices) -> Result<(), String> {
    let outcome = runtime().block_on(run(script, choices));
    outcome.map_err(|wrong| describe(script, choices, &wrong))
}

/// Every schedule, or as many as there is time for.
fn run_all(script: &Script, most: usize) -> Result<(), String> {
    let mut choices = asked_for(script).unwrap_or_else(|| Choices::of(Vec::new()));
    let mut played = 0;
    loop {
        run_once(script, &mut choices)?;
        played += 1;
        match choices.following().filter(|_| played < most) {
            Some(following) => choices = following,
            None => break,
        }
    }
    let all = if choices.following().is_none() {
        ", which are all"
    } else {
        ""
    };
    println!("{}: {played} schedules{all}", script.name);
    Ok(())
}

fn run_random(script: &Script, most: usize) -> Result<(), String> {
    if let Some(mut choices) = asked_for(script) {
        return run_once(script, &mut choices);
    }
    for seed in 0..most as u64 {
        // With answers that are lost, requests that come late, and processes that are killed.
        let new = [
            Choices::random,
            Choices::random_spoilt,
            Choices::random_deadly,
        ];
        let new = new[(seed % 3) as usize];
        run_once(script, &mut new(seed))?;
    }
    println!("{}: {most} random schedules", script.name);
    Ok(())
}

/// Orders that once ended badly.
const REMEMBERED: &[(&str, &[usize])] = &[
    // A multipart upload was begun after the seal of the other one had looked for such.
    (
        "two who append and finish",
        &[0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    ),
    // A commit was recorded, without an answer; another process published it and removed the session; the first one
    // found none, and removed the bytes that it had stored last.
    (
        "all at once",
        &[
            3, 5, 0, 1, 0, 3, 1002, 4, 2004, 0, 3, 2000, 0, 0, 1, 2, 2, 0, 0, 1, 0, 1, 2, 1, 0, 1,
            1, 0,
        ],
    ),
];

#[test]
fn orders_that_once_ended_badly_end_well() {
    cases::all(
        "remembered orders",
        REMEMBERED,
        |(name, order)| format!("{name} {order:?}"),
        |(name, order)| {
            let script = SHORT.iter().chain(LONG).find(|one| one.name == *name);
            run_once(script.unwrap(), &mut Choices::of(order.to_vec()))
        },
    );
}

#[test]
fn any_order_of_requests_of_a_short_script_ends_well() {
    let most = extent().short;
    cases::all(
        "short scripts",
        SHORT,
        |script| script.name.to_owned(),
        |script| run_all(script, most),
    );
}

#[test]
fn random_orders_of_requests_of_long_scripts_end_well() {
    let extent = extent();
    cases::all(
        "long scripts",
        LONG,
        |script| script.name.to_owned(),
        |script| {
            if script.start < PART {
                run_random(script, extent.random)
            } else {
                run_random(script, extent.random_with_parts)
            }
        },
    );
}
