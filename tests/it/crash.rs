//! A process dies before and after each request of each scenario. Another process resumes at the last
//! acknowledged offset or later. The layer is right, and a sweep leaves nothing over.
//!
//! With `S3LAYERS_FAULTS=full` each end strikes every request. Without, that takes too long: in scenarios with
//! large layers each end strikes every third request, each at another one.

use std::sync::Mutex;

use crate::support::bytes::MIB;
use crate::support::fault_client::{End, FaultClient};
use crate::support::scenario::{self, ClientState, SCENARIOS, Scenario};
use crate::support::{cases, stores};

struct Case {
    scenario: &'static Scenario,
    end: End,
}

/// The number of requests of a scenario without faults.
fn requests(scenario: &Scenario) -> usize {
    cases::runtime().block_on(async {
        let store = scenario::prepare(scenario).await;
        let (wire, service) = stores::over_wire(&store).await;
        scenario::run(&service, scenario, &Mutex::default())
            .await
            .unwrap();
        wire.log().len()
    })
}

/// Runs one process until it ends, and recovers in another.
fn run(case: &Case) -> Result<(), String> {
    let scenario = case.scenario;
    let state = Mutex::new(ClientState::default());
    let first = cases::runtime();
    let store = first.block_on(async {
        let store = scenario::prepare(scenario).await;
        let wire = FaultClient::over(store.http_client());
        wire.end(case.end);
        let service = stores::connect(&store, &wire).await;
        tokio::select! {
            biased;
            () = wire.died() => {}
            // A process that was cut off fails; how is not of interest.
            _ = scenario::run(&service, scenario, &state) => {}
        }
        store
    });
    // Ends every task of the process.
    drop(first);
    let state = state.into_inner().unwrap();
    cases::runtime().block_on(async {
        let (_, service) = stores::over_wire(&store).await;
        scenario::recover(&service, scenario, &state)
            .await
            .map_err(|failure| format!("{failure} ({state:?})"))?;
        scenario::leftovers(&store, scenario).await
    })
}

fn all(what: &str, ends: &[fn(usize) -> End]) {
    let mut cases = Vec::new();
    for scenario in SCENARIOS {
        let stride = if cases::is_full() || scenario.size < MIB {
            1
        } else {
            3
        };
        for number in 1..=requests(scenario) {
            let all = ends.iter().enumerate();
            let ends = all.filter(|(place, _)| (number + place).is_multiple_of(stride));
            cases.extend(ends.map(|(_, end)| Case {
                scenario,
                end: end(number),
            }));
        }
    }
    cases::all(
        what,
        &cases,
        |Case { scenario, end }| format!("{}: {end:?}", scenario.name),
        run,
    );
}

#[test]
fn process_killed_at_any_request_is_recovered() {
    all("crashes", &[End::KilledBefore, End::KilledAfter]);
}

#[test]
fn process_cut_off_at_any_request_is_recovered() {
    all("cut off", &[End::CutOffBefore]);
}
