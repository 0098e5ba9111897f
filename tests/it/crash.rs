//! The process dies before and after each request of each life. Another one goes on where the last
//! close was, or later; the layer is right, and after a sweep nothing is left over.

use std::sync::Mutex;

use crate::support::life::{self, ACTS, Act, Told};
use crate::support::wire::{End, Wire};
use crate::support::{cases, stores};

struct Case {
    act: &'static Act,
    end: End,
}

/// How many requests an act makes when nothing goes wrong.
fn requests(act: &Act) -> usize {
    cases::runtime().block_on(async {
        let store = life::stage(act).await;
        let wire = Wire::over(store.http_client());
        let service = stores::connect(&store, &wire).await;
        life::play(&service, act, &Mutex::default()).await.unwrap();
        wire.log().len()
    })
}

/// One process that ends, and another that goes on.
fn run(case: &Case) -> Result<(), String> {
    let act = case.act;
    let told = Mutex::new(Told::default());
    let first = cases::runtime();
    let store = first.block_on(async {
        let store = life::stage(act).await;
        let wire = Wire::over(store.http_client());
        wire.end(case.end);
        let service = stores::connect(&store, &wire).await;
        tokio::select! {
            biased;
            () = wire.died() => {}
            // A process that was cut off fails, and that is all that is asked of it.
            _ = life::play(&service, act, &told) => {}
        }
        store
    });
    // Nothing of the process is left: not one task of it goes on.
    drop(first);
    let told = told.into_inner().unwrap();
    cases::runtime().block_on(async {
        let wire = Wire::over(store.http_client());
        let service = stores::connect(&store, &wire).await;
        life::go_on(&service, act, &told)
            .await
            .map_err(|failure| format!("{failure} ({told:?})"))?;
        life::leftovers(&store, act).await
    })
}

fn all(what: &str, ends: &[fn(usize) -> End]) {
    let mut cases = Vec::new();
    for act in ACTS {
        for number in 1..=requests(act) {
            cases.extend(ends.iter().map(|end| Case {
                act,
                end: end(number),
            }));
        }
    }
    cases::all(
        what,
        &cases,
        |Case { act, end }| format!("{}: {end:?}", act.name),
        run,
    );
}

#[test]
fn a_process_can_die_before_and_after_every_request() {
    all("crashes", &[End::KilledBefore, End::KilledAfter]);
}

#[test]
fn a_process_can_be_cut_off_at_every_request() {
    all("cut off", &[End::CutOffBefore]);
}
