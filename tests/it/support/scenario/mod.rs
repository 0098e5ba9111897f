//! Scenarios: each is a table of the steps that a client takes with one upload. One process runs it,
//! or one that fails and a second one that recovers. Scenarios are short, so that a suite can run
//! each once per request that it makes. `tests/README.md` has a worked example.

use embedded_s3::EmbeddedStore;
use s3layers::{LayerService as _, RepositoryName};

use super::fault_client::FaultClient;
use super::stores;

mod content;
mod leftovers;
mod registry_call;
mod run;
mod table;

pub use self::leftovers::{check_nothing_lost, leftovers};
pub use self::registry_call::RegistryCall;
pub use self::run::{ClientState, recover, run, try_run};
pub use self::table::{SCENARIOS, Scenario, Step};

/// A store with its bucket, and what the scenario needs there.
pub async fn prepare(scenario: &Scenario) -> EmbeddedStore {
    let store = stores::in_memory().await;
    if scenario.duplicate {
        let service = stores::connect(&store, &FaultClient::over(store.http_client())).await;
        let first: RepositoryName = "library/first".parse().unwrap();
        let content = scenario.content();
        let mut upload = service.upload(&first, None).await.unwrap();
        upload.write_bytes(content.bytes).await.unwrap();
        upload.finish(scenario.size, &content.sha256).await.unwrap();
    }
    store
}
