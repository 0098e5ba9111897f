//! Removals: conditional on what they read, by DELETE or by a tombstone, beside writers and crashes.

use std::sync::Arc;

use bytes::Bytes;
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::{Digest, LayerService as _, S3LayerService, StoreProfile, Tag};
use s3layers_registry::{Manifest, Page, Referrer, ReferrerKey, RepositoryService as _};

use crate::support::bucket::{get, is_tombstone, sealed};
use crate::support::bytes::sha256;
use crate::support::fault_client::{
    DeleteObject, DeleteObjects, End, FaultClient, GetObject, On, Operation, PutObject,
};
use crate::support::stores::{self, BUCKET, name};

/// How a store removes a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Delete,
    /// The store ignores the condition of a DELETE, as MinIO does.
    Tombstone,
}

const BOTH: [By; 2] = [By::Delete, By::Tombstone];

async fn store(by: By) -> EmbeddedStore {
    let mut quirks = Quirks::none();
    quirks.ignore_delete_conditions = by == By::Tombstone;
    stores::in_memory().await.with_quirks(quirks)
}

/// A process that has probed the store, over a wire.
async fn process(store: &EmbeddedStore) -> (Arc<S3LayerService>, FaultClient) {
    // The first process of a bucket probes it.
    stores::service(store).await;
    let wire = FaultClient::over(store.http_client());
    let client = stores::client(store, wire.http_client());
    let service = S3LayerService::connect(client, stores::config()).await;
    wire.reset();
    (Arc::new(service.unwrap()), wire)
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn image(number: u32) -> Manifest {
    let bytes = Bytes::from(format!(r#"{{"number": {number}}}"#));
    Manifest {
        digest: sha256(&bytes),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        bytes,
        subject: None,
        artifact_type: None,
        annotations: [].into(),
    }
}

fn signature(number: u32, of: &Digest, artifact_type: &str) -> Manifest {
    Manifest {
        subject: Some(of.clone()),
        artifact_type: Some(artifact_type.to_owned()),
        ..image(1_000_000 + number)
    }
}

async fn listed(
    service: &S3LayerService,
    subject: &Digest,
    artifact_type: Option<&str>,
    limit: usize,
) -> Page<Referrer> {
    let name = name();
    let page = service.referrers(&name, subject, artifact_type, None, limit, usize::MAX);
    page.await.unwrap()
}

#[tokio::test]
async fn probe_finds_how_a_store_removes() {
    for by in BOTH {
        let (service, _) = process(&store(by).await).await;
        assert_eq!(service.profile().conditional_deletes, by == By::Delete);
    }
}

/// No document of a repository is removed by a DELETE without a condition that holds, and what was
/// removed is absent, and can be put again.
#[tokio::test]
async fn removed_documents_are_absent_and_can_be_put_again() {
    for by in BOTH {
        let store = store(by).await;
        let (service, wire) = process(&store).await;
        let image = image(1);
        let signature = signature(1, &image.digest, "application/x");
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload
            .write_bytes(Bytes::from_static(b"layer"))
            .await
            .unwrap();
        let layer = sha256(b"layer");
        upload.finish(5, &layer).await.unwrap();
        service.wait_for_background().await;
        let id = layer.clone().into();
        for round in 0..3 {
            service.mount(&name(), &id, None).await.unwrap();
            service.put_manifest(&name(), &image).await.unwrap();
            service.put_manifest(&name(), &signature).await.unwrap();
            for text in ["a", "b"] {
                let put = service.put_tag(&name(), &tag(text), &image.digest).await;
                put.unwrap();
            }
            let page = listed(&service, &image.digest, None, 9);
            let page = page.await;
            assert_eq!(page.items, [Referrer::from(signature.clone())], "{round}");
            let tags = service.tags(&name(), None, 10).await.unwrap().unwrap();
            assert_eq!(tags.items, [tag("a"), tag("b")]);
            wire.reset();
            assert!(service.unlink(&name(), &id).await.unwrap());
            assert!(service.delete_tag(&name(), &tag("a")).await.unwrap());
            for manifest in [&image, &signature] {
                let deleted = service.delete_manifest(&name(), &manifest.digest).await;
                assert!(deleted.unwrap(), "{by:?}");
            }
            let deletes = wire.count(DeleteObject) + wire.count(DeleteObjects);
            // Of the link, both tags, the image and the entry.
            let want = if by == By::Delete { 5 } else { 0 };
            assert_eq!(deletes, want, "{:#?}", wire.log());
            for manifest in [&image, &signature] {
                let found = service.manifest(&name(), &manifest.digest).await.unwrap();
                assert_eq!(found, None);
                let deleted = service.delete_manifest(&name(), &manifest.digest).await;
                assert!(!deleted.unwrap());
            }
            assert!(service.layer(&name(), &id).await.is_err());
            assert_eq!(service.tag(&name(), &tag("b")).await.unwrap(), None);
            let tags = service.tags(&name(), None, 10).await.unwrap();
            assert!(tags.is_none_or(|page| page.items.is_empty()));
        }
    }
}

/// A removal judges the document that it read: one that is written again meanwhile stays, with the
/// same contents too.
#[tokio::test]
async fn tag_that_is_put_again_during_its_removal_stays() {
    for by in BOTH {
        for again in [1, 2] {
            for lost in [false, true] {
                let store = store(by).await;
                let (service, wire) = process(&store).await;
                let (other, _) = process(&store).await;
                let (first, again) = (image(1).digest, image(again).digest);
                service.put_tag(&name(), &tag("t"), &first).await.unwrap();
                let operation = if by == By::Delete {
                    DeleteObject
                } else {
                    PutObject
                };
                let on = || On::every(operation).key_ends("/_tags/t");
                if lost {
                    wire.fault(On::nth(operation, 1).key_ends("/_tags/t").lose_answer());
                }
                let gate = wire.hold(on());
                let name = name();
                let tag = tag("t");
                let removal = service.delete_tag(&name, &tag);
                let write = async {
                    gate.reached_by(1).await;
                    other.put_tag(&name, &tag, &again).await.unwrap();
                    gate.open();
                };
                let (removed, ()) = tokio::join!(removal, write);
                assert!(removed.unwrap());
                let stands = service.tag(&name, &tag).await.unwrap();
                assert_eq!(stands, Some(again), "{by:?}, lost: {lost}");
            }
        }
    }
}

/// The answer to a removal is lost: reading settles it, and the repeated attempt hits nothing that
/// was written since.
#[tokio::test]
async fn removal_whose_answer_was_lost_is_settled() {
    for by in BOTH {
        let store = store(by).await;
        let (service, wire) = process(&store).await;
        let image = image(1);
        service.put_manifest(&name(), &image).await.unwrap();
        service
            .put_tag(&name(), &tag("t"), &image.digest)
            .await
            .unwrap();
        let operation = if by == By::Delete {
            DeleteObject
        } else {
            PutObject
        };
        wire.fault(On::nth(operation, 1).lose_answer());
        assert!(service.delete_tag(&name(), &tag("t")).await.unwrap());
        assert_eq!(service.tag(&name(), &tag("t")).await.unwrap(), None);
        wire.clear_faults();
        wire.fault(On::nth(operation, 1).lose_answer());
        let deleted = service.delete_manifest(&name(), &image.digest).await;
        assert!(deleted.unwrap());
        assert_eq!(
            service.manifest(&name(), &image.digest).await.unwrap(),
            None
        );
    }
}

/// The entry among the referrers is written before its manifest and removed after it: at
/// every crash, each manifest that is present is in the listing of referrers.
#[tokio::test]
async fn manifest_with_a_subject_is_listed_after_every_crash() {
    let image = image(1).digest;
    let signature = signature(1, &image, "application/x");
    for by in BOTH {
        for number in 1..20 {
            for end in [End::KilledBefore(number), End::KilledAfter(number)] {
                let store = store(by).await;
                let (dying, wire) = process(&store).await;
                wire.end(end);
                let life = async {
                    dying.put_manifest(&name(), &signature).await?;
                    dying.delete_manifest(&name(), &signature.digest).await?;
                    dying.put_manifest(&name(), &signature).await
                };
                tokio::select! {
                    biased;
                    () = wire.died() => {}
                    done = life => done.unwrap(),
                }
                let (service, _) = process(&store).await;
                let found = service.manifest(&name(), &signature.digest).await.unwrap();
                let page = listed(&service, &image, None, 9);
                let listed = page.await.items;
                let want: Vec<_> = found.into_iter().map(Referrer::from).collect();
                assert_eq!(listed, want, "{by:?} {end:?}");
            }
        }
    }
}

/// A PUT beside a removal, each stopped before each of its requests: if the manifest is there in the
/// end, so is its entry.
#[tokio::test]
async fn put_beside_a_removal_of_a_manifest_with_a_subject_keeps_its_entry() {
    let image = image(1).digest;
    let signature = signature(1, &image, "application/x");
    for by in BOTH {
        for (stops, removal_first) in (1..8).flat_map(|nth| [(nth, true), (nth, false)]) {
            let store = store(by).await;
            let (service, wire) = process(&store).await;
            let (other, other_wire) = process(&store).await;
            service.put_manifest(&name(), &signature).await.unwrap();
            wire.reset();
            let (name, digest) = (name(), &signature.digest);
            let stopped = if removal_first { &wire } else { &other_wire };
            // The process that is stopped stands before its request of this number.
            let gate = stopped.hold(On::request(stops));
            let removal = async {
                if !removal_first {
                    let reached = gate.reached_by(1);
                    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), reached).await;
                }
                let deleted = service.delete_manifest(&name, digest).await;
                if !removal_first {
                    gate.open();
                }
                deleted.unwrap();
            };
            let put = async {
                if removal_first {
                    let reached = gate.reached_by(1);
                    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), reached).await;
                }
                let put = other.put_manifest(&name, &signature).await;
                if removal_first {
                    gate.open();
                }
                put.unwrap();
            };
            tokio::join!(removal, put);
            let found = service.manifest(&name, digest).await.unwrap();
            let page = listed(&service, &image, None, 9);
            let listed = page.await.items;
            let want: Vec<_> = found.into_iter().map(Referrer::from).collect();
            assert_eq!(listed, want, "{by:?}, request {stops}, {removal_first}");
        }
    }
}

/// Stores copies of an object under other keys, without the adapter: thousands of tags in a moment.
async fn copy(store: &EmbeddedStore, document: &Bytes, keys: Vec<String>) {
    let client = stores::sdk_client(store);
    for key in keys {
        let put = client.put_object().bucket(BUCKET).key(key);
        put.body(document.clone().into()).send().await.unwrap();
    }
}

#[tokio::test]
async fn manifest_among_3_000_tags_is_deleted_by_at_most_13_requests() {
    for by in BOTH {
        let store = store(by).await;
        let (service, wire) = process(&store).await;
        let client = stores::sdk_client(&store);
        let image = image(1);
        service.put_manifest(&name(), &image).await.unwrap();
        service
            .put_tag(&name(), &tag("its"), &image.digest)
            .await
            .unwrap();
        let folder = format!("repositories/{}/_tags", name());
        for number in 0..15 {
            let other = self::image(100 + number).digest;
            service
                .put_tag(&name(), &tag("model"), &other)
                .await
                .unwrap();
            let document = get(&client, &format!("{folder}/model")).await;
            let keys = (0..200).map(|copy| format!("{folder}/t{number}-{copy}"));
            copy(&store, &document, keys.collect()).await;
        }
        wire.reset();
        let deleted = service.delete_manifest(&name(), &image.digest).await;
        assert!(deleted.unwrap());
        let spent = wire.log().len();
        assert!(spent <= 13, "{by:?}: {spent} requests");
        assert_eq!(service.tag(&name(), &tag("its")).await.unwrap(), None);
        assert!(service.tag(&name(), &tag("model")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn one_of_2_000_referrers_is_found_by_its_type_with_few_requests() {
    let store = stores::in_memory().await;
    let (service, wire) = process(&store).await;
    let client = stores::sdk_client(&store);
    let subject = image(1).digest;
    let rare = signature(1, &subject, "application/rare");
    service.put_manifest(&name(), &rare).await.unwrap();
    let model = signature(2, &subject, "application/common");
    service.put_manifest(&name(), &model).await.unwrap();
    let folder = format!(
        "repositories/{}/_referrers/sha256/{}",
        name(),
        subject.hex()
    );
    let own = ReferrerKey::new(model.artifact_type.as_deref(), &model.digest);
    let document = get(&client, &format!("{folder}/{own}")).await;
    let text = std::str::from_utf8(&document).unwrap();
    for number in 0..2000 {
        let other = image(10 + number).digest;
        let own = ReferrerKey::new(model.artifact_type.as_deref(), &other);
        let entry = text.replace(&model.digest.to_string(), &other.to_string());
        copy(
            &store,
            &sealed(&entry).into(),
            vec![format!("{folder}/{own}")],
        )
        .await;
    }
    for (artifact_type, want) in [("application/rare", &rare), ("application/common", &model)] {
        wire.reset();
        let page = listed(&service, &subject, Some(artifact_type), 1);
        let page = page.await;
        if artifact_type == "application/rare" {
            assert!(wire.log().len() <= 10 + 1, "{:#?}", wire.log());
            assert!(!page.more);
        }
        assert_eq!(page.items, [Referrer::from(want.clone())]);
    }
    // With all of them present, of every type.
    let manifest = format!(
        "repositories/{}/_manifests/sha256/{}",
        name(),
        model.digest.hex()
    );
    let stored = get(&client, &manifest).await;
    let text = std::str::from_utf8(&stored).unwrap();
    for number in 0..20 {
        let other = image(10 + number);
        let bytes = |bytes: &[u8]| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(bytes)
        };
        let stored = text.replace(&bytes(&model.bytes), &bytes(&other.bytes));
        let key = format!(
            "repositories/{}/_manifests/sha256/{}",
            name(),
            other.digest.hex()
        );
        copy(&store, &sealed(&stored).into(), vec![key]).await;
    }
    wire.reset();
    let page = listed(&service, &subject, Some("application/rare"), 1);
    assert_eq!(page.await.items, [Referrer::from(rare)]);
    assert!(wire.log().len() <= 10 + 1, "{:#?}", wire.log());
}

/// A 404 without S3's error body is from something in front of the store: nothing was absent.
#[tokio::test(start_paused = true)]
async fn bare_404_is_no_absence() {
    let store = stores::in_memory().await;
    let (service, wire) = process(&store).await;
    let image = image(1);
    service.put_manifest(&name(), &image).await.unwrap();
    service
        .put_tag(&name(), &tag("t"), &image.digest)
        .await
        .unwrap();
    let bare = |operation: Operation| On::every(operation).status(404);
    wire.fault(bare(GetObject));
    for error in [
        service.tag(&name(), &tag("t")).await.map(drop),
        service.manifest(&name(), &image.digest).await.map(drop),
        service.delete_tag(&name(), &tag("t")).await.map(drop),
        service
            .delete_manifest(&name(), &image.digest)
            .await
            .map(drop),
    ] {
        assert!(error.unwrap_err().is_retryable());
    }
    wire.clear_faults();
    wire.fault(bare(DeleteObject));
    let deleted = service.delete_tag(&name(), &tag("t")).await;
    assert!(deleted.unwrap_err().is_retryable());
    wire.clear_faults();
    let tagged = service.tag(&name(), &tag("t")).await.unwrap();
    assert_eq!(tagged, Some(image.digest));
    // Once is retried.
    wire.fault(On::nth(GetObject, 1).status(404));
    assert!(service.tag(&name(), &tag("t")).await.unwrap().is_some());
}

/// An object that a HEAD through a proxy does not find is looked for by a GET, before a record is
/// replaced or an upload given up.
#[tokio::test(start_paused = true)]
async fn bare_404_to_head_removes_nothing() {
    let store = stores::in_memory().await;
    let (first, _) = process(&store).await;
    let bytes = crate::support::bytes::ramp(1, 100_000);
    let push = async |service: &S3LayerService| {
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload.finish(100_000, &sha256(&bytes)).await.map(drop)
    };
    push(&first).await.unwrap();
    first.wait_for_background().await;
    let client = stores::sdk_client(&store);
    let digest = sha256(&bytes);
    let record = format!("layers/sha256/{}/{}", &digest.hex()[..2], digest.hex());
    let before = get(&client, &record).await;
    let wire = FaultClient::over(store.http_client());
    let config = stores::config().profile(StoreProfile::AWS);
    let http = stores::client(&store, wire.http_client());
    let second = S3LayerService::connect(http, config).await.unwrap();
    wire.fault(
        On::every(crate::support::fault_client::HeadObject)
            .key_contains("data/")
            .status(404),
    );
    assert!(push(&second).await.unwrap_err().is_retryable());
    assert_eq!(get(&client, &record).await, before);
}

/// No listing names the tombstones of a store, and each replaces the object it stands for.
#[tokio::test]
async fn tombstones_have_one_size_and_are_not_listed() {
    let store = store(By::Tombstone).await;
    let (service, _) = process(&store).await;
    for number in 0..5 {
        let tag = tag(&format!("t{number}"));
        let digest = image(number).digest;
        service.put_tag(&name(), &tag, &digest).await.unwrap();
        if number != 3 {
            assert!(service.delete_tag(&name(), &tag).await.unwrap());
        }
    }
    let client = stores::sdk_client(&store);
    let listed = client
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("repositories/");
    let listed = listed.send().await.unwrap();
    let tombstones = listed.contents().iter().filter(|one| is_tombstone(one));
    assert_eq!(tombstones.count(), 4);
    for limit in [1, 2, 100] {
        let page = service.tags(&name(), None, limit).await.unwrap().unwrap();
        assert_eq!(page.items, [tag("t3")], "{limit}");
    }
    assert_eq!(
        service.repositories(None, 10).await.unwrap().items,
        [name()]
    );
    assert!(service.delete_tag(&name(), &tag("t3")).await.unwrap());
    assert_eq!(service.tags(&name(), None, 10).await.unwrap(), None);
    assert_eq!(service.repositories(None, 10).await.unwrap().items, []);
}
