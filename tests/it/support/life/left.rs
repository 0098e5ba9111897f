//! What a life leaves in the bucket: all that it should, and nothing else.

use std::collections::BTreeSet;

use embedded_s3::EmbeddedStore;
use s3layers::LayerId;

use super::acts::Act;
use super::deeds;
use super::play::read;
use crate::support::bucket::{get, keys, multiparts, stored_layers};
use crate::support::cases::chain;
use crate::support::stores;
use crate::support::wire::Wire;

/// That what should be in the bucket is, whatever else is there.
pub async fn kept(store: &EmbeddedStore, act: &Act) -> Result<(), String> {
    let service = stores::connect(store, &Wire::over(store.http_client())).await;
    let read = read(&service, act).await;
    read.map_err(|error| format!("lost: {}", chain(&error)))?;
    let client = stores::client(store, store.http_client());
    let found = keys(&client).await;
    let (wanted, _) = wanted(act);
    let mut lost = wanted.difference(&found);
    lost.next().map_or(Ok(()), |key| Err(format!("no {key}")))
}

/// The keys that an act leaves, but for data; and the layers of it.
fn wanted(act: &Act) -> (BTreeSet<String>, usize) {
    let mut wanted = deeds::keys(act);
    let mut layers = 0;
    let mut link = |name: &str, id: &LayerId, linked: bool| {
        let id = id.to_string().replace("tarsum.v1+", "tarsum/v1/");
        let (algorithm, hex) = id.split_once(':').unwrap();
        wanted.insert(format!("layers/{algorithm}/{}/{hex}", &hex[..2]));
        if linked {
            wanted.insert(format!("repositories/{name}/_layers/{algorithm}/{hex}"));
        }
    };
    if act.duplicate {
        link("library/first", &act.content().sha256.into(), true);
        layers = 1;
    }
    for id in act.ids() {
        link("library/demo", &id, deeds::is_linked(act) != Some(false));
        layers = 1;
    }
    for name in ["library/first", "library/demo"] {
        let below = format!("repositories/{name}/");
        if wanted.iter().any(|key| key.starts_with(&below)) {
            wanted.insert(format!("names/{}", name.replace('/', ".")));
        }
    }
    (wanted, layers)
}

/// What is in the bucket that should not be, and what should be and is not. The bytes too.
pub async fn leftovers(store: &EmbeddedStore, act: &Act) -> Result<(), String> {
    let client = stores::client(store, store.http_client());
    let (wanted, layers) = wanted(act);
    let (data, mut found): (BTreeSet<_>, BTreeSet<_>) = keys(&client)
        .await
        .into_iter()
        .partition(|key| key.starts_with("data/"));
    // Markers stay, whatever is removed.
    let left = found.difference(&wanted);
    let left = left.filter(|key| !key.starts_with("names/"));
    let mut wrong: Vec<_> = left.cloned().collect();
    found.retain(|key| wanted.contains(key));
    wrong.extend(wanted.difference(&found).map(|key| format!("no {key}")));
    let stored = stored_layers(&client).await;
    if stored.len() != layers {
        wrong.push(format!("{} records for {layers} layers", stored.len()));
    }
    for layer in &stored {
        let mut bytes = layer.inline.clone();
        for key in &layer.objects {
            match data.contains(key) {
                true => bytes.extend(get(&client, key).await),
                false => wrong.push(format!("no {key}")),
            }
        }
        if bytes != act.content().bytes {
            wrong.push(format!("other bytes in {:?}", layer.objects));
        }
    }
    let named = |key: &&String| stored.iter().any(|layer| layer.objects.contains(key));
    wrong.extend(data.iter().filter(|key| !named(key)).cloned());
    wrong.extend(multiparts(&client).await);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("left over: {}", wrong.join(", "))),
    }
}
