//! A collection may be about to remove a layer. Who makes it visible in a repository writes its condemned record back to live
//! first, and never links a layer whose record is dead.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use bytes::Bytes;
use s3layers::{LayerId, LayerService as _, LayerServiceExt as _, RepositoryName, S3LayerService};
use s3layers_registry::RepositoryService as _;
use serde_json::Value;
use uuid::Uuid;

use crate::support::bucket;
use crate::support::bytes::{ramp, sha256};
use crate::support::fault_client::{FaultClient, HeadObject, On, PutObject};
use crate::support::stores::{self, BUCKET, PART, name};

const SIZE: u64 = 100_000;
const NONCE: &str = "0123456789abcdef0123456789abcdef";

fn other() -> RepositoryName {
    "library/other".parse().unwrap()
}

fn record_key(id: &LayerId) -> String {
    let hex = id.as_digest().unwrap().hex();
    format!("layers/sha256/{}/{hex}", &hex[..2])
}

/// Writes the record as a collector does.
async fn set_state(bucket: &Client, id: &LayerId, state: &str) {
    let key = record_key(id);
    let record = bucket::get(bucket, &key).await;
    let record = std::str::from_utf8(&record).unwrap();
    let state = format!(r#""state":{{"{state}":{{"nonce":"{NONCE}"}}}}"#);
    let changed = record.replace(r#""state":"live""#, &state);
    assert_ne!(changed, record);
    let body = Bytes::from(bucket::sealed(&changed));
    let put = bucket.put_object().bucket(BUCKET).key(&key);
    put.body(body.into()).send().await.unwrap();
}

async fn state(bucket: &Client, id: &LayerId) -> Value {
    let record = bucket::get(bucket, &record_key(id)).await;
    serde_json::from_slice::<Value>(&record).unwrap()["state"].take()
}

/// A layer that was pushed to [`name`].
async fn pushed() -> (S3LayerService, Client, LayerId, Bytes) {
    let (store, service) = stores::with_service().await;
    let bytes = ramp(1, SIZE);
    service.push(&name(), &mut &bytes[..]).await.unwrap();
    let client = stores::sdk_client(&store);
    (service, client, sha256(&bytes).into(), bytes)
}

#[tokio::test]
async fn mount_writes_a_condemned_record_back_to_live() {
    for from in [Some(name()), None] {
        let (service, bucket, id, _) = pushed().await;
        set_state(&bucket, &id, "condemned").await;
        assert!(service.mount(&other(), &id, from.as_ref()).await.unwrap());
        assert_eq!(state(&bucket, &id).await, "live", "{from:?}");
    }
}

/// The link still names the layer, and its data is still there.
#[tokio::test]
async fn mount_of_a_dead_record_is_refused() {
    for dead in ["dead", "purging"] {
        let (service, bucket, id, _) = pushed().await;
        set_state(&bucket, &id, dead).await;
        for from in [Some(name()), None] {
            let mounted = service.mount(&other(), &id, from.as_ref()).await.unwrap();
            assert!(!mounted, "{dead} from {from:?}");
        }
        assert!(service.layer(&other(), &id).await.is_err(), "{dead}");
    }
}

/// Another driver found a duplicate and removed the data, and died before it wrote the link.
#[tokio::test(start_paused = true)]
async fn interrupted_commit_of_a_duplicate_writes_its_record_back_to_live() {
    let store = stores::in_memory().await;
    let bucket = stores::sdk_client(&store);
    let bytes = ramp(1, PART + SIZE);
    let id = LayerId::from(sha256(&bytes));
    let elsewhere = stores::service(&store).await;
    elsewhere.push(&name(), &mut &bytes[..]).await.unwrap();

    let (wire, service) = stores::over_wire(&store).await;
    let mut upload = service.upload(&other(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(bytes.clone()).await.unwrap();
    wire.fault(On::every(PutObject).key_contains("/_layers/").status(403));
    let interrupted = upload.finish(bytes.len() as u64, &sha256(&bytes)).await;
    assert!(interrupted.map(drop).unwrap_err().is_permission());
    drop(upload);
    remove_data(&bucket, uuid).await;
    set_state(&bucket, &id, "condemned").await;

    let mut resumed = elsewhere.resume(&other(), None, uuid).await.unwrap();
    let finished = resumed.finish(bytes.len() as u64, &sha256(&bytes)).await;
    finished.unwrap();
    assert_eq!(state(&bucket, &id).await, "live");
    elsewhere.layer(&other(), &id).await.unwrap();
}

async fn remove_data(bucket: &Client, uuid: Uuid) {
    let prefix = format!("data/{}/{uuid}.", &uuid.to_string()[..2]);
    let keys = bucket::keys(bucket).await;
    let data: Vec<_> = keys.iter().filter(|key| key.starts_with(&prefix)).collect();
    assert!(!data.is_empty());
    for key in data {
        let delete = bucket.delete_object().bucket(BUCKET).key(key);
        delete.send().await.unwrap();
    }
}

/// A process that was suspended between the record and the link: the record may be dead by now.
#[tokio::test(start_paused = true)]
async fn link_is_not_signed_long_after_the_record_was_read() {
    let store = stores::in_memory().await;
    let bytes = ramp(1, SIZE);
    let id = LayerId::from(sha256(&bytes));
    let elsewhere = stores::service(&store).await;
    elsewhere.push(&name(), &mut &bytes[..]).await.unwrap();

    let wire = FaultClient::over(store.http_client());
    let service = Arc::new(stores::connect(&store, &wire).await);
    let look = wire.hold(On::every(HeadObject));
    let mount = tokio::spawn({
        let (service, id) = (Arc::clone(&service), id.clone());
        async move { service.mount(&other(), &id, Some(&name())).await }
    });
    look.reached_by(1).await;
    tokio::time::advance(Duration::from_secs(16 * 60)).await;
    look.open();
    let refused = mount.await.unwrap().unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    assert!(elsewhere.layer(&other(), &id).await.is_err());

    assert!(service.mount(&other(), &id, Some(&name())).await.unwrap());
    elsewhere.layer(&other(), &id).await.unwrap();
}
