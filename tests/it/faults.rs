//! Each request of each life goes wrong in each way that a retry can mend: the client sees nothing
//! of it, the bytes are right, and nothing is left over.

use std::sync::Mutex;

use s3layers::{LayerService as _, S3LayerService, StoreProfile};

use crate::support::bytes::KIB;
use crate::support::fault::{
    Fault, GetObject, HeadObject, ListMultipartUploads, ListObjectsV2, ListParts, On, Place,
    PutObject, Request, Rule, UploadPart, Wire,
};
use crate::support::life::{self, ACTS, Act, Step, Told};
use crate::support::stores;

const KINDS: &[Fault] = &[
    Fault::Status(500),
    Fault::Status(503),
    Fault::LoseAnswer,
    Fault::GarbleAnswer,
    Fault::HalfBody,
    Fault::CutAnswer {
        after: Place::Middle,
        told: true,
    },
    Fault::CutAnswer {
        after: Place::Middle,
        told: false,
    },
    Fault::FlipBit(Place::Middle),
    Fault::Hang,
];

/// Whether a fault can strike this request, and a retry can mend it.
fn applies(fault: Fault, request: &Request, reads_layer: bool) -> bool {
    let reads = matches!(
        request.operation,
        GetObject | HeadObject | ListObjectsV2 | ListParts | ListMultipartUploads
    );
    match fault {
        Fault::HalfBody => request.sent > 0,
        // What only reads takes no effect: it is as if it had not reached the store.
        Fault::LoseAnswer | Fault::GarbleAnswer => !reads,
        // No HTTP client takes the end of a connection for the end of an answer in XML.
        Fault::CutAnswer { told: false, .. } => {
            request.received > 0 && request.operation == GetObject
        }
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
fn play(act: &Act, spoil: impl FnOnce(&Wire)) -> Result<Wire, String> {
    let runtime = life::runtime();
    runtime.block_on(async {
        let store = life::stage(act).await;
        let wire = Wire::over(store.http_client());
        spoil(&wire);
        let service = life::connect(&store, &wire).await;
        life::play(&service, act, &Mutex::new(Told::default())).await?;
        life::leftovers(&store, act).await?;
        Ok(wire)
    })
}

#[test]
fn every_request_can_go_wrong_in_every_way_and_nobody_notices() {
    let mut cases = Vec::new();
    for act in ACTS {
        let clean = play(act, |_| {}).unwrap().log();
        println!("{}: {} requests", act.name, clean.len());
        for request in clean {
            let kinds = KINDS
                .iter()
                .filter(|fault| applies(**fault, &request, act.steps.contains(&Step::Read)));
            cases.extend(kinds.map(|&fault| Case {
                act,
                request: request.clone(),
                fault,
            }));
        }
    }
    life::all(
        "faults",
        &cases,
        |Case {
             act,
             request,
             fault,
         }| format!("{}: {fault:?} at {request}", act.name),
        |Case {
             act,
             request,
             fault,
         }| {
            let rule = On::request(request.number).with(*fault);
            play(act, |wire| wire.fault(rule)).map(drop)
        },
    );
}

/// The first process that ever meets a store.
fn first_connect(spoil: impl FnOnce(&Wire)) -> Result<Wire, String> {
    life::runtime().block_on(async {
        let store = stores::in_memory().await;
        let wire = Wire::over(store.http_client());
        spoil(&wire);
        let client = stores::client(&store, wire.http_client());
        let service = S3LayerService::connect(client, stores::config()).await;
        let service = service.map_err(|error| life::chain(&error))?;
        if *service.profile() != StoreProfile::AWS {
            return Err(format!("misjudged: {:?}", service.profile()));
        }
        let client = stores::client(&store, store.http_client());
        let mut left: Vec<_> = life::keys(&client).await.into_iter().collect();
        left.extend(life::multiparts(&client).await);
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
        let kinds = KINDS
            .iter()
            .filter(|fault| applies(**fault, request, false));
        kinds.map(move |fault| (request, *fault))
    });
    life::all(
        "first connect",
        &all.collect::<Vec<_>>(),
        |(request, fault)| format!("{fault:?} at {request}"),
        |(request, fault)| {
            let rule = On::request(request.number).with(*fault);
            first_connect(|wire| wire.fault(rule)).map(drop)
        },
    );
}

/// What stays broken for longer than any retry lasts is told as such; and what was acknowledged
/// before, or arrived, is there when the store is well again.
#[test]
fn a_store_that_stays_broken_is_an_error_that_loses_nothing() {
    let sessions = || On::every(PutObject).key_ends("/session");
    type Spoil = fn(On) -> Rule;
    let rules: [(&str, Spoil); 6] = [
        ("throttled", |on| on.status(503)),
        ("failing", |on| on.status(500)),
        ("lost answers", On::lose_answer),
        ("garbled answers", On::garble_answer),
        ("half bodies", On::half_body),
        ("never answered", On::hang),
    ];
    let act = &ACTS[0];
    for (case, rule) in rules {
        for (what, on) in [("parts", On::every(UploadPart)), ("sessions", sessions())] {
            life::runtime().block_on(async {
                let case = format!("{what}: {case}");
                let store = life::stage(act).await;
                let wire = Wire::over(store.http_client());
                let service = life::connect(&store, &wire).await;
                let bytes = act.content().bytes;
                let mut upload = service.upload(&life::name(), None).await.unwrap();
                upload.write_bytes(bytes.slice(..100)).await.unwrap();
                upload.close().await.unwrap();
                let uuid = upload.uuid();
                let resumed = service.resume(&life::name(), None, uuid).await;
                let mut upload = resumed.unwrap();
                wire.fault(rule(on));
                let closed = match upload.write_bytes(bytes.slice(100..)).await {
                    Ok(()) => upload.close().await,
                    Err(error) => Err(error),
                };
                let error = closed.expect_err(&case);
                assert!(error.is_retryable(), "{case}: {error}");
                wire.mend();

                let resumed = service.resume(&life::name(), None, uuid).await;
                let mut upload = resumed.unwrap();
                let offset = upload.offset() as usize;
                assert!(offset >= 100, "{case}: {offset}");
                upload.write_bytes(bytes.slice(offset..)).await.unwrap();
                let digest = act.content().sha256;
                upload.finish(act.size, &digest).await.unwrap();
                life::leftovers(&store, act).await.expect(&case);
            });
        }
    }
}
