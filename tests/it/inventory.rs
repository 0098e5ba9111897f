//! The inventory of a bucket: every upload and every layer once, in pages; it cancels an upload
//! by its UUID alone.

use aws_sdk_s3::primitives::ByteStream;
use embedded_s3::EmbeddedStore;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use s3layers::{
    Algorithm, Error, LayerService as _, LayerServiceExt as _, S3LayerService, UploadEntry,
    UploadPhase,
};
use uuid::Uuid;

use crate::support::bucket::{keys, multiparts};
use crate::support::bytes::{KIB, ramp, sha256};
use crate::support::fault_client::{
    CompleteMultipartUpload, FaultClient, GetObject, HeadObject, ListObjectsV2, On,
};
use crate::support::stores::{self, BUCKET, PART, name};

/// More than fits the documents of a layer, in bytes.
const SEPARATE: u64 = 20_000;

/// A service whose requests are seen.
async fn watched(store: &EmbeddedStore) -> (S3LayerService, FaultClient) {
    let wire = FaultClient::over(store.http_client());
    let client = stores::client(store, wire.http_client());
    let service = S3LayerService::connect(client, stores::config());
    (service.await.unwrap(), wire)
}

async fn put(store: &EmbeddedStore, key: String) {
    let client = stores::sdk_client(store);
    let put = client.put_object().bucket(BUCKET).key(key);
    let bytes = ByteStream::from_static(b"bytes");
    put.body(bytes).send().await.unwrap();
}

async fn uploads(service: &S3LayerService) -> Vec<UploadEntry> {
    service.uploads().try_collect().await.unwrap()
}

/// One that was being committed when its process died.
async fn committing(store: &EmbeddedStore) -> Uuid {
    let (doomed, wire) = watched(store).await;
    let bytes = ramp(3, PART + 7);
    let mut upload = doomed.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    wire.fault(On::every(CompleteMultipartUpload).status(403));
    let finished = upload.finish(PART + 7, &sha256(&bytes)).await.map(drop);
    assert!(finished.unwrap_err().is_permission());
    upload.uuid()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_upload_is_listed_with_the_values_of_its_session() {
    let (store, service) = stores::with_service().await;
    assert!(uploads(&service).await.is_empty());

    let id = sha256(b"declared").into();
    let mut open = service.upload(&name(), Some(&id)).await.unwrap();
    open.write_bytes(ramp(1, PART + 100 * KIB)).await.unwrap();
    open.close().await.unwrap();
    let committing = committing(&store).await;
    let orphaned = Uuid::from_u128(7);
    put(&store, format!("uploads/{orphaned}/tail/0-nonce")).await;
    let broken = Uuid::from_u128(8);
    put(&store, format!("uploads/{broken}/session")).await;
    put(&store, "uploads/none-of-ours/session".to_owned()).await;
    // What is finished is no upload any more.
    service.push(&name(), &mut &b"done"[..]).await.unwrap();
    service.wait_for_background().await;

    let listed = uploads(&service).await;
    assert!(listed.is_sorted_by_key(|upload| upload.uuid));
    assert_eq!(listed.len(), 4, "{listed:?}");
    let of = |uuid| listed.iter().find(|upload| upload.uuid == uuid).unwrap();
    let state = of(open.uuid()).state.as_ref().unwrap().as_ref().unwrap();
    assert_eq!(state.phase, UploadPhase::Open);
    assert_eq!(state.offset, PART + 100 * KIB);
    assert_eq!((&state.name, &state.declared), (&name(), &Some(id)));
    assert!(state.begun_at <= of(open.uuid()).written_at + std::time::Duration::from_secs(1));
    let state = of(committing).state.as_ref().unwrap().as_ref().unwrap();
    assert_eq!(state.phase, UploadPhase::Committing);
    assert!(matches!(of(orphaned).state, Ok(None)));
    assert!(matches!(of(broken).state, Err(Error::Damaged { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_takes_a_page_and_eight_documents_at_a_time() {
    let store = stores::in_memory().await;
    let (service, wire) = watched(&store).await;
    // Two objects of an upload stand at the end of the first page and at the start of the second.
    let uuids: Vec<Uuid> = (0..1001).map(Uuid::from_u128).collect();
    let tails = |uuid: &Uuid| match uuid.as_u128() {
        999 => vec!["0-a", "5-b"],
        _ => vec!["0-a"],
    };
    let key = |uuid: Uuid, tail| format!("uploads/{uuid}/tail/{tail}");
    let keys = uuids
        .iter()
        .flat_map(|uuid| tails(uuid).into_iter().map(|tail| key(*uuid, tail)));
    stream::iter(keys)
        .for_each_concurrent(8, |key| put(&store, key))
        .await;

    wire.reset();
    let gate = wire.hold(On::every(GetObject));
    let listing = tokio::spawn(service.uploads().try_collect::<Vec<_>>());
    gate.reached_by(8).await;
    gate.open();
    let listed = listing.await.unwrap().unwrap();
    assert_eq!(listed.iter().map(|one| one.uuid).collect::<Vec<_>>(), uuids);
    assert_eq!(wire.count(ListObjectsV2), 2);
    assert_eq!(wire.count(GetObject), 1001);
    assert_eq!(wire.most_in_flight(GetObject), 8);
    // Who stops listening asks for no more.
    wire.reset();
    let first: Vec<_> = service.uploads().take(1).collect().await;
    assert_eq!(first.len(), 1);
    assert_eq!(wire.count(ListObjectsV2), 1);
    assert!(wire.count(GetObject) <= 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_fails_says_so_and_ends() {
    let store = stores::in_memory().await;
    let (service, wire) = watched(&store).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.close().await.unwrap();
    wire.fault(On::every(ListObjectsV2).status(403));
    let listed: Vec<_> = service.uploads().collect().await;
    assert!(matches!(&listed[..], [Err(error)] if error.is_permission()));
    let listed: Vec<_> = service.layers().collect().await;
    assert!(matches!(&listed[..], [Err(error)] if error.is_permission()));
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_listed_by_bucket_and_by_repository() {
    let (store, service) = stores::with_service().await;
    let other = "other/repository".parse().unwrap();
    let mut wants = Vec::new();
    let bytes = [1, 2].map(|seed| ramp(seed, SEPARATE));
    for (name, bytes) in [
        (&name(), &bytes[0]),
        (&name(), &bytes[1]),
        (&other, &bytes[1]),
    ] {
        let layer = service.push(name, &mut &bytes[..]).await.unwrap();
        wants.push(layer.digest().clone());
    }
    put(&store, "layers/sha256/ab/no-digest".to_owned()).await;
    let [one, two, _] = &wants[..] else {
        unreachable!()
    };
    let digests = async |mut listed: futures_util::stream::BoxStream<'static, _>| {
        let mut digests = Vec::new();
        while let Some(layer) = listed.next().await {
            let layer: s3layers::LayerEntry = Result::unwrap(layer);
            let info = layer.info.unwrap();
            assert_eq!((&info.digest, info.size), (&layer.digest, SEPARATE));
            assert_eq!(info.name, name(), "both were first published there");
            digests.push(layer.digest);
        }
        digests
    };
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(digests(service.layers()).await, both);
    assert_eq!(digests(service.layers_of(&name())).await, both);
    assert_eq!(digests(service.layers_of(&other)).await, wants[1..2]);
    let absent = "absent".parse().unwrap();
    assert!(digests(service.layers_of(&absent)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_judged_by_one_head() {
    let store = stores::in_memory().await;
    let (service, wire) = watched(&store).await;
    let bytes = ramp(5, 3 * PART);
    let layer = service.push(&name(), &mut &bytes[..]).await.unwrap();
    let id = layer.digest().clone().into();
    wire.reset();
    let stat = service.stat(&id).await.unwrap();
    assert_eq!((stat.damage, stat.info.size), (None, 3 * PART));
    assert_eq!((wire.count(HeadObject), wire.count(GetObject)), (1, 1));

    let client = stores::sdk_client(&store);
    let key = stat.info.objects[0].key.clone();
    let delete = client.delete_object().bucket(BUCKET).key(&key);
    delete.send().await.unwrap();
    let damage = service.stat(&id).await.unwrap().damage.unwrap();
    assert!(damage.contains("missing"), "{damage}");
    // A second push repairs it.
    service.push(&name(), &mut &bytes[..]).await.unwrap();
    let stat = service.stat(&id).await.unwrap();
    assert_eq!(stat.damage, None);
    assert_ne!(stat.info.objects[0].key, key);
    let unknown = service.stat(&sha256(b"unknown").into()).await;
    assert!(matches!(unknown, Err(Error::LayerUnknown { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_cancelled_by_its_uuid_alone() {
    let (store, service) = stores::with_service().await;
    let id = sha256(b"declared").into();
    let mut upload = service.upload(&name(), Some(&id)).await.unwrap();
    upload.write_bytes(ramp(1, PART + 100 * KIB)).await.unwrap();
    upload.close().await.unwrap();
    let orphaned = Uuid::from_u128(7);
    put(&store, format!("uploads/{orphaned}/tail/0-nonce")).await;
    for uuid in [upload.uuid(), orphaned] {
        service.cancel_upload(uuid).await.unwrap();
        let again = service.cancel_upload(uuid).await;
        assert!(
            matches!(again, Err(Error::UploadUnknown { .. })),
            "{again:?}"
        );
    }
    let client = stores::sdk_client(&store);
    assert_eq!(
        keys(&client).await.into_iter().collect::<Vec<_>>(),
        ["profile"]
    );
    assert_eq!(multiparts(&client).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_of_a_committing_upload_commits_it() {
    let (store, service) = stores::with_service().await;
    let uuid = committing(&store).await;
    for _ in 0..2 {
        let refused = service.cancel_upload(uuid).await;
        assert!(
            matches!(refused, Err(Error::UploadUnknown { .. })),
            "{refused:?}"
        );
        service.wait_for_background().await;
    }
    let id = sha256(&ramp(3, PART + 7)).into();
    assert!(service.exists(&id).await.unwrap());
    assert!(uploads(&service).await.is_empty());
}

/// The link of a small layer holds its bytes, so it is complete without the record.
#[tokio::test]
async fn a_small_layer_is_listed_from_its_link() {
    let (_, service) = stores::with_service().await;
    let other = "other/repository".parse().unwrap();
    for name in [&name(), &other] {
        service.push(name, &mut &b"small"[..]).await.unwrap();
        let listed: Vec<_> = service.layers_of(name).try_collect().await.unwrap();
        let info = listed[0].info.as_ref().unwrap();
        assert_eq!((info.size, &info.name), (5, name));
        assert!(info.objects.is_empty());
    }
    let all: Vec<_> = service.layers().try_collect().await.unwrap();
    assert_eq!(
        all[0].info.as_ref().unwrap().name,
        name(),
        "published first"
    );
}

/// What a collection has left of removed layers hides no other one.
#[tokio::test]
async fn shortened_digest_is_found_behind_tombstones() {
    let (store, service) = stores::with_service().await;
    let bytes = ramp(1, SEPARATE);
    service.push(&name(), &mut &bytes[..]).await.unwrap();
    let digest = sha256(&bytes);
    let hex = digest.hex();
    let client = stores::sdk_client(&store);
    for number in 0..25 {
        let key = format!("layers/sha256/{}/{}{number:060}", &hex[..2], &hex[..4]);
        let put = client.put_object().bucket(BUCKET).key(key);
        let tombstone = ByteStream::from(vec![b' '; 96]);
        put.body(tombstone).send().await.unwrap();
    }
    let found = service
        .find(Algorithm::Sha256, &hex[..4], 11)
        .await
        .unwrap();
    assert_eq!(found, [digest]);
}
