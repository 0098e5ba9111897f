//! Compares the bucket after a scenario with the keys that the scenario should leave.

use std::collections::BTreeSet;

use embedded_s3::EmbeddedStore;
use s3layers::LayerId;

use super::registry_call;
use super::run::read;
use super::table::Scenario;
use crate::support::bucket::{get, keys, multiparts, stored_layers};
use crate::support::cases::chain;
use crate::support::fault_client::FaultClient;
use crate::support::stores;

/// Checks that every expected key and layer is there. Other keys are ignored.
pub async fn check_nothing_lost(store: &EmbeddedStore, scenario: &Scenario) -> Result<(), String> {
    let service = stores::connect(store, &FaultClient::over(store.http_client())).await;
    let read = read(&service, scenario).await;
    read.map_err(|error| format!("lost: {}", chain(&error)))?;
    let client = stores::sdk_client(store);
    let found = keys(&client).await;
    let (expected, _) = expected(scenario);
    let mut lost = expected.difference(&found);
    lost.next().map_or(Ok(()), |key| Err(format!("no {key}")))
}

/// The expected keys except data objects, and the number of layers.
fn expected(scenario: &Scenario) -> (BTreeSet<String>, usize) {
    let mut expected = registry_call::keys(scenario);
    let mut layers = 0;
    let mut link = |name: &str, id: &LayerId, linked: bool| {
        let id = id.to_string().replace("tarsum.v1+", "tarsum/v1/");
        let (algorithm, hex) = id.split_once(':').unwrap();
        expected.insert(format!("layers/{algorithm}/{}/{hex}", &hex[..2]));
        if linked {
            expected.insert(format!("repositories/{name}/_layers/{algorithm}/{hex}"));
        }
    };
    if scenario.duplicate {
        link("library/first", &scenario.content().sha256.into(), true);
        layers = 1;
    }
    for id in scenario.ids() {
        link(
            "library/demo",
            &id,
            registry_call::is_linked(scenario) != Some(false),
        );
        layers = 1;
    }
    for name in ["library/first", "library/demo"] {
        let below = format!("repositories/{name}/");
        if expected.iter().any(|key| key.starts_with(&below)) {
            expected.insert(format!("names/{}", name.replace('/', ".")));
        }
    }
    (expected, layers)
}

/// Checks that the bucket holds the expected keys and bytes, and nothing else.
pub async fn leftovers(store: &EmbeddedStore, scenario: &Scenario) -> Result<(), String> {
    let client = stores::sdk_client(store);
    let (expected, layers) = expected(scenario);
    let (data, mut found): (BTreeSet<_>, BTreeSet<_>) = keys(&client)
        .await
        .into_iter()
        .partition(|key| key.starts_with("data/"));
    // Markers are never removed.
    let left = found.difference(&expected);
    let is_kept = |key: &&String| key.starts_with("names/") || key.starts_with("gc/trash/");
    let left = left.filter(|key| !is_kept(key));
    let mut wrong: Vec<_> = left.cloned().collect();
    found.retain(|key| expected.contains(key));
    wrong.extend(expected.difference(&found).map(|key| format!("no {key}")));
    let stored = stored_layers(&client).await;
    if stored.len() != layers {
        wrong.push(format!("{} records for {layers} layers", stored.len()));
    }
    for layer in &stored {
        let mut bytes = layer.inline.clone();
        for key in &layer.objects {
            if data.contains(key) {
                bytes.extend_from_slice(&get(&client, key).await);
            } else {
                wrong.push(format!("no {key}"));
            }
        }
        if bytes != scenario.content().bytes {
            wrong.push(format!("other bytes in {:?}", layer.objects));
        }
    }
    let named = |key: &&String| stored.iter().any(|layer| layer.objects.contains(key));
    wrong.extend(data.iter().filter(|key| !named(key)).cloned());
    wrong.extend(multiparts(&client).await);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("left over: {}", wrong.join(", ")))
}
