//! The protocol of the collector as a model that is explored exhaustively: one layer, one manifest that names it, two
//! repositories. Every request to S3 is a step, and the actors of a mix take their steps in every order.
//!
//! [`state`] is what is stored. [`collectors`], [`push`] and [`others`] are the actors, an arm for each request. [`explore`] visits
//! all states of a mix and has the promises that none may break. [`mixes`] lists who runs at once, and [`mutants`] the mechanism
//! with one piece broken, which must be caught. Time is not modelled but for the wait W, see [`state::State`];
//! [`promise`] has the ages of links, [`tombstones`] how tombstones are removed where DELETE knows no condition.
//!
//! A broken promise prints the shortest way to it: the number of the actor in its mix, and the request. To look for one with another
//! protocol, change an arm and run `cargo test --test it collector_protocol`.

mod actor;
mod collectors;
mod explore;
mod mixes;
mod mutants;
mod others;
mod promise;
mod push;
mod state;
mod tombstones;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use actor::Rules;
use explore::{Mix, explore};
use mutants::{CAUGHT, Mutant};

/// Explores all mixes, on all cores, and returns the number of states.
fn explore_all(rules: Rules) -> usize {
    let mixes = mixes::mixes();
    let (turn, states) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(mix) = mixes.get(turn.fetch_add(1, Ordering::Relaxed)) {
            let outcome = explore(mix, rules);
            println!("{}: {outcome}", mix.name);
            assert!(outcome.broken.is_none(), "{}: {outcome}", mix.name);
            states.fetch_add(outcome.states, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    states.into_inner()
}

fn mix_of_name(name: &str) -> Mix {
    mixes::mixes()
        .into_iter()
        .find(|mix| mix.name == name)
        .unwrap()
}

#[test]
fn no_state_breaks_a_promise() {
    let started = Instant::now();
    let states = explore_all(Rules::default());
    let seconds = started.elapsed().as_secs_f64();
    println!("collector_protocol: {states} cases in {seconds:.1} s, 0 failed");
    assert!(states >= 1_000_000, "only {states} states");
}

#[test]
fn record_and_link_may_be_written_at_once() {
    explore_all(Rules {
        link_beside_record: true,
        ..Rules::default()
    });
}

#[test]
fn every_mutant_is_caught() {
    for (mutant, name, broken) in CAUGHT {
        let link_beside_record = mutant == Mutant::CancelByRecordAlone;
        let outcome = explore(
            &mix_of_name(name),
            Rules {
                mutant: Some(mutant),
                link_beside_record,
            },
        );
        println!("{mutant:?} in {name}: {outcome}");
        assert_eq!(
            outcome.broken.map(|(broken, _)| broken),
            Some(broken),
            "{mutant:?} in {name}"
        );
    }
}
