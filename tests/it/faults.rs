//! Each request of each life goes wrong in each way that a retry can mend: the client sees nothing
//! of it, the bytes are right, and nothing is left over. What no retry can mend is an error by
//! name, from which the same client goes on when it is mended.
//!
//! A failure prints its act, fault and request, which are the same in every run. With
//! `S3LAYERS_FAULTS=full` every fault strikes every request of every act. Without, that takes too
//! long: in acts with large layers each request is struck by every third of the faults; and the
//! rare and the lasting ones strike the first request of each sort only.

use std::collections::BTreeSet;
use std::sync::Mutex;

use s3layers::{LayerService as _, S3LayerService, StoreProfile};

use crate::support::bytes::{KIB, MIB};
use crate::support::life::{self, ACTS, Act, Deed, Step, Told};
use crate::support::wire::{
    CompleteMultipartUpload, CreateMultipartUpload, DeleteObjects, Fault, GetObject, HeadObject,
    ListMultipartUploads, ListObjectsV2, ListParts, On, Operation, Place, PutObject, Request, Rule,
    STRAYED, Then, UploadPart, Wire,
};
use crate::support::{bucket, cases, stores};

/// What strikes every request, always.
const COMMON: &[Fault] = &[
    Fault::Status(500),
    Fault::Status(503),
    Fault::LoseAnswer,
    Fault::GarbleAnswer,
    Fault::HalfBody,
    Fault::CutAnswer {
        after: Place::Middle,
        then: Then::Breaks,
    },
    Fault::CutAnswer {
        after: Place::Middle,
        then: Then::Ends,
    },
    Fault::FlipBit(Place::Middle),
    Fault::Hang,
];

const RARE: &[Fault] = &[
    Fault::Status(409),
    Fault::Refuse,
    Fault::Silence,
    Fault::CutAnswer {
        after: Place::Middle,
        then: Then::Stalls,
    },
    Fault::Duplicate,
    Fault::Stray,
    Fault::Late,
    Fault::ErrorIn200 { done: false },
    Fault::ErrorIn200 { done: true },
];

/// What no retry can mend.
const LASTING: &[Fault] = &[Fault::Status(403), Fault::Expire];

fn is_full() -> bool {
    std::env::var("S3LAYERS_FAULTS").is_ok_and(|extent| extent == "full")
}

/// What a request is about: the operation, and the words of its key.
fn sort(request: &Request) -> (Operation, String) {
    let is_word = |word: &&str| word.len() > 2 && !word.contains(|c: char| c.is_ascii_digit());
    let words = request.key.split(['/', '.']).filter(is_word);
    (request.operation, words.collect::<Vec<_>>().join("/"))
}

/// Whether a fault can strike this request, and a retry can mend it.
fn applies(fault: Fault, request: &Request, reads_layer: bool) -> bool {
    let reads = matches!(
        request.operation,
        GetObject | HeadObject | ListObjectsV2 | ListParts | ListMultipartUploads
    );
    match fault {
        Fault::HalfBody => request.sent > 0,
        // Another conditional write is under way.
        Fault::Status(409) => request.operation == PutObject,
        // What only reads takes no effect: it is as if it had not reached the store.
        Fault::LoseAnswer | Fault::GarbleAnswer | Fault::Silence | Fault::Stray => !reads,
        // Nobody knows of the one that was not answered. See "What is known not to hold".
        Fault::Duplicate => !reads && request.operation != CreateMultipartUpload,
        Fault::ErrorIn200 { .. } => {
            matches!(request.operation, CompleteMultipartUpload | DeleteObjects)
        }
        // No HTTP client takes the end of a connection for the end of an answer in XML.
        Fault::CutAnswer {
            then: Then::Ends, ..
        } => request.received > 0 && request.operation == GetObject,
        Fault::CutAnswer { .. } => request.received > 0,
        // Nobody can see one in XML. In a block that is read in several ranges it is seen after the
        // first of them was handed out, so that read fails (`reading.rs`).
        Fault::FlipBit(_) => {
            let is_whole = !reads_layer || request.range.is_none() || request.received < 128 * KIB;
            request.received > 0 && request.operation == GetObject && is_whole
        }
        _ => true,
    }
}

/// An act, and what goes wrong in it.
struct Case {
    act: &'static Act,
    request: Request,
    fault: Fault,
}

/// Plays an act over the wire, and looks at what it leaves.
fn play(act: &Act, fault: Option<(&Request, Fault)>) -> Result<Wire, String> {
    let runtime = cases::runtime();
    runtime.block_on(async {
        let store = life::stage(act).await;
        let wire = Wire::over(store.http_client());
        if let Some((request, fault)) = fault {
            wire.fault(On::request(request.number).with(fault));
        }
        let service = stores::connect(&store, &wire).await;
        life::play(&service, act, &Mutex::new(Told::default())).await?;
        if let Some((_, Fault::Stray)) = fault {
            // It can bring back what was removed in the meantime, which nobody can forbid; but it
            // can take nothing away, nor can a sweep that finds it.
            tokio::time::sleep(STRAYED * 2).await;
            let swept = stores::sweep(&service).await;
            swept.map_err(|error| cases::chain(&error))?;
            life::kept(&store, act).await?;
        } else {
            life::leftovers(&store, act).await?;
        }
        Ok(wire)
    })
}

/// How a case is told.
fn told(
    Case {
        act,
        request,
        fault,
    }: &Case,
) -> String {
    format!("{}: {fault:?} at {request}", act.name)
}

/// Each request of each act with each of the faults that can strike it, as far as `is_tried` says;
/// that is told the act, the request, and the place of the fault among them.
fn cases(faults: &[Fault], mut is_tried: impl FnMut(&Act, &Request, usize) -> bool) -> Vec<Case> {
    let mut cases = Vec::new();
    // Small acts first, since they are cheap.
    let mut acts: Vec<&'static Act> = ACTS.iter().collect();
    acts.sort_by_key(|act| act.size);
    for act in acts {
        let reads = |step: &Step| matches!(step, Step::Read | Step::Do(Deed::Layer));
        let reads_layer = act.steps.iter().any(reads);
        for request in play(act, None).unwrap().log() {
            for (place, &fault) in faults.iter().enumerate() {
                let can = applies(fault, &request, reads_layer);
                if can && (is_full() || is_tried(act, &request, place)) {
                    cases.push(Case {
                        act,
                        request: request.clone(),
                        fault,
                    });
                }
            }
        }
    }
    cases
}

/// The first request of each sort, for each fault.
fn first_of_its_sort() -> impl FnMut(&Act, &Request, usize) -> bool {
    let mut seen = BTreeSet::new();
    move |_, request, place| seen.insert((sort(request), place))
}

#[test]
fn every_request_can_go_wrong_in_every_way_and_nobody_notices() {
    let cases = cases(COMMON, |act, request, place| {
        act.size < MIB || (request.number + place).is_multiple_of(3)
    });
    cases::all("faults", &cases, told, |case| {
        play(case.act, Some((&case.request, case.fault))).map(drop)
    });
}

#[test]
fn rare_faults_go_unnoticed_too() {
    let cases = cases(RARE, first_of_its_sort());
    cases::all("rare faults", &cases, told, |case| {
        play(case.act, Some((&case.request, case.fault))).map(drop)
    });
}

/// From this request on nothing is allowed any more, until it is again; or this one alone was not.
fn refused(case: &Case, on: On) -> Result<(), String> {
    let act = case.act;
    cases::runtime().block_on(async {
        let store = life::stage(act).await;
        let wire = Wire::over(store.http_client());
        wire.fault(on.with(case.fault));
        let service = stores::connect(&store, &wire).await;
        let told = Mutex::new(Told::default());
        match life::try_play(&service, act, &told).await {
            Err((_, error)) if error.is_permission() => {}
            Err((step, error)) => return Err(format!("{step:?}: {}", cases::chain(&error))),
            // It was in what is removed at the end, which a sweep does again.
            Ok(()) => {}
        }
        wire.mend();
        let told = told.into_inner().unwrap();
        let gone_on = life::go_on(&service, act, &told).await;
        gone_on.map_err(|failure| format!("{failure} ({told:?})"))?;
        life::leftovers(&store, act).await
    })
}

#[test]
fn what_no_retry_mends_is_an_error_by_name_and_the_client_goes_on_later() {
    let cases = cases(LASTING, first_of_its_sort());
    cases::all("refused once", &cases, told, |case| {
        refused(case, On::request(case.request.number))
    });
    cases::all("refused from there on", &cases, told, |case| {
        refused(case, On::from(case.request.number))
    });
}

/// The first process that ever meets a store.
fn first_connect(spoil: impl FnOnce(&Wire)) -> Result<Wire, String> {
    cases::runtime().block_on(async {
        let store = stores::in_memory().await;
        let wire = Wire::over(store.http_client());
        spoil(&wire);
        let client = stores::client(&store, wire.http_client());
        let service = S3LayerService::connect(client, stores::config()).await;
        let service = service.map_err(|error| cases::chain(&error))?;
        if *service.profile() != StoreProfile::AWS {
            return Err(format!("misjudged: {:?}", service.profile()));
        }
        let client = stores::client(&store, store.http_client());
        let mut left: Vec<_> = bucket::keys(&client).await.into_iter().collect();
        left.extend(bucket::multiparts(&client).await);
        match left.as_slice() {
            [profile] if profile == "profile" => Ok(wire),
            _ => Err(format!("left over: {left:?}")),
        }
    })
}

#[test]
fn a_store_is_probed_right_whatever_request_goes_wrong() {
    let clean = first_connect(|_| {}).unwrap().log();
    println!("a first connect: {} requests", clean.len());
    let all = clean.iter().flat_map(|request| {
        let kinds = COMMON
            .iter()
            .chain(RARE)
            .filter(|fault| applies(**fault, request, false));
        kinds.map(move |fault| (request, *fault))
    });
    cases::all(
        "first connect",
        &all.collect::<Vec<_>>(),
        |(request, fault)| format!("{fault:?} at {request}"),
        |(request, fault)| {
            let rule = On::request(request.number).with(*fault);
            first_connect(|wire| wire.fault(rule)).map(drop)
        },
    );
}

/// An answer that was begun is worth as many attempts as one that was not, and as much patience.
#[test]
fn a_document_that_comes_with_the_last_attempt_is_read() {
    type Spoil = fn(On, Place) -> Rule;
    let rules: [(&str, usize, Spoil); 3] = [
        ("it broke", 7, On::cut_answer),
        ("it ended early", 7, On::shorten_answer),
        ("it stalled", 3, On::stall_answer),
    ];
    for (case, times, rule) in rules {
        cases::runtime().block_on(async {
            let store = life::stage(&ACTS[0]).await;
            let wire = Wire::over(store.http_client());
            let service = stores::connect(&store, &wire).await;
            let mut upload = service.upload(&stores::name(), None).await.unwrap();
            upload.write_bytes("a layer".into()).await.unwrap();
            upload.close().await.unwrap();
            wire.reset();
            for nth in 1..=times {
                let session = On::nth(GetObject, nth).key_ends("/session");
                wire.fault(rule(session, Place::Middle));
            }
            let uuid = upload.uuid();
            let resumed = service.resume(&stores::name(), None, uuid).await;
            assert_eq!(resumed.expect(case).offset(), 7, "{case}");
            assert_eq!(wire.count(GetObject), times + 1, "{case}");
        });
    }
}

/// What stays broken for longer than any retry lasts is told as such; and what was acknowledged
/// before, or arrived, is there when the store is well again.
#[test]
fn a_store_that_stays_broken_is_an_error_that_loses_nothing() {
    let sessions = || On::every(PutObject).key_ends("/session");
    type Spoil = fn(On) -> Rule;
    let rules: [(&str, Spoil, bool); 6] = [
        ("throttled", |on| on.status(503), false),
        ("failing", |on| on.status(500), false),
        ("lost answers", On::lose_answer, true),
        ("garbled answers", On::garble_answer, true),
        ("half bodies", On::half_body, false),
        ("never answered", On::hang, false),
    ];
    let act = &ACTS[0];
    for (case, rule, takes_effect) in rules {
        for (what, on) in [("parts", On::every(UploadPart)), ("sessions", sessions())] {
            cases::runtime().block_on(async {
                let case = format!("{what}: {case}");
                let store = life::stage(act).await;
                let wire = Wire::over(store.http_client());
                let service = stores::connect(&store, &wire).await;
                let bytes = act.content().bytes;
                let mut upload = service.upload(&stores::name(), None).await.unwrap();
                upload.write_bytes(bytes.slice(..100)).await.unwrap();
                upload.close().await.unwrap();
                let uuid = upload.uuid();
                let resumed = service.resume(&stores::name(), None, uuid).await;
                let mut upload = resumed.unwrap();
                wire.fault(rule(on));
                let closed = match upload.write_bytes(bytes.slice(100..)).await {
                    Ok(()) => upload.close().await,
                    Err(error) => Err(error),
                };
                // A conditional write whose answer is lost is found by reading.
                let is_found = what == "sessions" && takes_effect;
                assert_eq!(closed.is_ok(), is_found, "{case}: {closed:?}");
                if let Err(error) = &closed {
                    assert!(error.is_retryable(), "{case}: {error}");
                }
                wire.mend();

                let resumed = service.resume(&stores::name(), None, uuid).await;
                let mut upload = resumed.unwrap();
                let offset = upload.offset() as usize;
                assert!(closed.is_err() || offset == bytes.len(), "{case}: {offset}");
                assert!(offset >= 100, "{case}: {offset}");
                upload.write_bytes(bytes.slice(offset..)).await.unwrap();
                let digest = act.content().sha256;
                upload.finish(act.size, &digest).await.unwrap();
                life::leftovers(&store, act).await.expect(&case);
            });
        }
    }
}
