//! Passes of the collector over a bucket without other clients.

use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use s3layers::{
    CheckOptions, CheckVerdict, CollectOptions, Error, LayerService as _, LayerServiceExt as _,
    ReadShare, RepositoryService as _,
};

use super::site::{
    BOTH, By, Image, Site, collect, hours, manifest, pull, push, push_by_sha512, push_layer,
    put_manifest,
};
use crate::support::answers::{Reword, reword};
use crate::support::bucket;
use crate::support::bytes::{ramp, sha256};
use crate::support::fault_client::{GetObject, ListObjectsV2, PutObject};
use crate::support::stores::{BUCKET, PART, name};

/// With data objects, and within its documents.
const SIZES: [u64; 2] = [100_000, 1_000];

/// A store whose buckets keep versions.
struct Versioned;

impl Reword for Versioned {
    fn text(&self, request: &str, text: String) -> String {
        if request.contains("versioning") {
            return "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
                .to_owned();
        }
        text
    }
}

#[tokio::test]
async fn bytes_of_a_versioned_bucket_are_reported_as_noncurrent() {
    let site = Site::new(By::Delete).await;
    let versioned = site
        .process_over(reword(site.http_client(), Versioned))
        .await;
    for service in [&site.process().await, &versioned] {
        let image = Image::new(1, 100_000);
        let name = name();
        push(service, &name, &image).await;
        let delete = service.delete_manifest(&name, &image.manifest.digest);
        assert!(delete.await.unwrap());
        let mut reports = Vec::new();
        for time in [73, 21, 21] {
            site.clock.advance(hours(time));
            reports.push(collect(service).await.unwrap());
        }
        let is_versioned = std::ptr::eq(service, &versioned);
        let said = reports.iter().map(|report| report.is_versioned);
        assert_eq!(said.collect::<Vec<_>>(), [false, false, is_versioned]);
        assert_eq!(reports[2].layers_freed, 1);
    }
}

#[tokio::test]
async fn deleted_image_is_freed_after_the_waits() {
    for by in BOTH {
        for size in SIZES {
            let site = Site::new(by).await;
            let service = site.process().await;
            let image = Image::new(1, size);
            push(&service, &name(), &image).await;
            let (name, digest) = (name(), &image.manifest.digest);
            assert!(service.delete_manifest(&name, digest).await.unwrap());

            // Young: a manifest may still come.
            let first = site.collect().await;
            assert_eq!(
                (first.links, first.links_condemned),
                (1, 0),
                "{by:?} {size}"
            );
            let second = site.collect_after(hours(73)).await;
            let condemned = (second.links_condemned, second.layers_condemned);
            assert_eq!((condemned, second.bytes_condemned), ((1, 1), size));
            // It is served as before.
            assert!(service.layer(&name, &image.id()).await.is_ok());
            assert_eq!(site.collect_after(hours(19)).await.links_removed, 0);

            let removed = site.collect_after(hours(2)).await;
            assert_eq!((removed.links_removed, removed.layers_removed), (1, 1));
            assert!(service.layer(&name, &image.id()).await.is_err());
            assert!(!service.exists(&image.id()).await.unwrap());
            assert_eq!(site.collect_after(hours(19)).await.layers_freed, 0);

            let freed = site.collect_after(hours(2)).await;
            assert_eq!((freed.layers_freed, freed.bytes_freed()), (1, size));
            assert_eq!(site.keys().await, ["names/library.demo"], "{by:?} {size}");
            let page = service.repositories(None, 10).await.unwrap();
            assert_eq!(page.items, []);
            // What the manifests of the repository named is forgotten as well.
            let kept = bucket::keys(&site.client()).await;
            let mut names = kept.iter().filter(|key| key.starts_with("gc/names/"));
            assert_eq!(names.next(), None, "{by:?} {size}");
        }
    }
}

#[tokio::test]
async fn what_a_manifest_names_stays() {
    for by in BOTH {
        let site = Site::new(by).await;
        let service = site.process().await;
        let images = SIZES.map(|size| Image::new(size as u32, size));
        for image in &images {
            push(&service, &name(), image).await;
        }
        let before = site.keys().await;
        for _ in 0..5 {
            site.collect_after(hours(50)).await;
            for image in &images {
                assert!(pull(&service, &name(), image).await, "{by:?}");
            }
        }
        assert_eq!(site.keys().await, before);
    }
}

/// The link of a layer under its SHA-512 has the same layer behind it.
#[tokio::test]
async fn layer_that_a_manifest_names_by_another_id_stays() {
    let site = Site::new(By::Tombstone).await;
    let service = site.process().await;
    let sha512 = push_by_sha512(&service, &name(), &ramp(1, 100_000)).await;
    let kept = manifest(&sha512, 100_000);
    service.put_manifest(&name(), &kept).await.unwrap();
    for _ in 0..5 {
        site.collect_after(hours(50)).await;
    }
    let id = sha512.clone().into();
    assert!(service.confirm_layer(&name(), &id).await.unwrap().is_some());

    // Without its manifest all of its links, its record and its alias go.
    service
        .delete_manifest(&name(), &kept.digest)
        .await
        .unwrap();
    for _ in 0..8 {
        site.collect_after(hours(50)).await;
    }
    assert!(service.confirm_layer(&name(), &id).await.unwrap().is_none());
    assert!(!service.exists(&id).await.unwrap());
    assert_eq!(site.keys().await, ["names/library.demo"]);
}

/// What writes the link of a layer by its SHA-256 again, while a manifest names it by SHA-512.
#[derive(Clone, Copy, Debug)]
enum Rewrite {
    Mount,
    Push,
    /// After the link was lost.
    PushAndHead,
    /// After the link was damaged.
    PushAlone,
}

/// The record does not know the SHA-512: the layer was pushed to another repository before.
#[tokio::test]
async fn link_that_is_written_again_protects_a_layer_that_is_named_by_another_id() {
    let other = "library/other".parse().unwrap();
    for rewrite in [
        Rewrite::Mount,
        Rewrite::Push,
        Rewrite::PushAndHead,
        Rewrite::PushAlone,
    ] {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        let image = Image::new(1, 100_000);
        push_layer(&service, &other, &image).await;
        let sha512 = push_by_sha512(&service, &name(), &image.layer).await;
        let named = manifest(&sha512, 100_000);
        service.put_manifest(&name(), &named).await.unwrap();
        let is_there = async || {
            let id = sha512.clone().into();
            let layer = service.confirm_layer(&name(), &id).await;
            layer.unwrap().is_some()
        };

        site.clock.advance(hours(40));
        match rewrite {
            Rewrite::Mount => {
                let is_mounted = service.mount(&name(), &image.id(), None).await;
                assert!(is_mounted.unwrap());
            }
            Rewrite::Push => push_layer(&service, &name(), &image).await,
            Rewrite::PushAndHead => {
                site.delete_own_link(&image).await;
                push_layer(&service, &name(), &image).await;
                assert!(is_there().await);
            }
            Rewrite::PushAlone => {
                site.damage_own_link(&image).await;
                push_layer(&service, &name(), &image).await;
            }
        }
        for _ in 0..5 {
            site.collect_after(hours(50)).await;
        }
        assert!(is_there().await, "{rewrite:?}");
    }
}

/// Whether or not its record knows that id.
#[tokio::test]
async fn layer_that_is_named_by_another_id_waits_for_the_repair_of_its_link() {
    let other = "library/other".parse().unwrap();
    for is_known in [true, false] {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        let image = Image::new(1, 100_000);
        if !is_known {
            push_layer(&service, &other, &image).await;
        }
        let sha512 = push_by_sha512(&service, &name(), &image.layer).await;
        let named = manifest(&sha512, 100_000);
        service.put_manifest(&name(), &named).await.unwrap();
        site.delete_own_link(&image).await;
        for _ in 0..25 {
            site.collect_after(hours(6)).await;
        }
        let repair = CheckOptions {
            repair: true,
            wait: Some(Duration::ZERO),
            ..CheckOptions::default()
        };
        let checked = site.process().await.check(&repair).await.unwrap();
        assert_eq!(checked.verdict(), CheckVerdict::Repaired, "{is_known}");
        let layer = service.confirm_layer(&name(), &sha512.into()).await;
        assert!(layer.unwrap().is_some(), "{is_known}");
    }
}

/// Its state is that of the link by SHA-256.
#[tokio::test]
async fn link_by_another_id_alone_is_no_link() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let image = Image::new(1, 100_000);
    let id = push_by_sha512(&service, &name(), &image.layer).await.into();
    assert!(service.layer(&name(), &id).await.is_ok());
    site.delete_own_link(&image).await;
    let layer = service.layer(&name(), &id).await;
    assert!(matches!(layer, Err(Error::LayerUnknown { .. })));
    let other = "library/other".parse().unwrap();
    let from = Some(&name());
    assert!(!service.mount(&other, &id, from).await.unwrap());
}

#[tokio::test]
async fn layer_that_another_repository_has_stays() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let other = "library/other".parse().unwrap();
    let image = Image::new(1, 100_000);
    push(&service, &name(), &image).await;
    assert!(
        service
            .mount(&other, &image.id(), Some(&name()))
            .await
            .unwrap()
    );
    service.put_manifest(&other, &image.manifest).await.unwrap();
    let digest = &image.manifest.digest;
    assert!(service.delete_manifest(&name(), digest).await.unwrap());
    for _ in 0..5 {
        site.collect_after(hours(50)).await;
    }
    assert!(service.layer(&name(), &image.id()).await.is_err());
    assert!(pull(&service, &other, &image).await);
}

/// The clock of the process that began it stands still here.
async fn begun_earlier(site: &Site, uuid: uuid::Uuid, time: Duration) {
    let (key, client) = (format!("uploads/{uuid}/session"), site.client());
    let session = bucket::get(&client, &key).await;
    let session = std::str::from_utf8(&session).unwrap();
    let (head, rest) = session.split_once(r#""begun_at":""#).unwrap();
    let (_, tail) = rest.split_once('"').unwrap();
    let begun = DateTime::from(std::time::SystemTime::now() - time);
    let begun = begun.fmt(DateTimeFormat::DateTime).unwrap();
    let changed = bucket::sealed(&format!(r#"{head}"begun_at":"{begun}"{tail}"#));
    let put = client.put_object().bucket(BUCKET).key(key);
    put.body(changed.into_bytes().into()).send().await.unwrap();
}

/// The promise of README: a manifest may come W after the end of a long upload that began soon after.
#[tokio::test]
async fn open_upload_keeps_the_links_of_its_repository() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let image = Image::new(1, 100_000);
    push_layer(&service, &name(), &image).await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(ramp(2, 50_000)).await.unwrap();
    upload.close().await.unwrap();
    begun_earlier(&site, upload.uuid(), hours(250)).await;
    for _ in 0..5 {
        let collected = site.collect_after(hours(50)).await;
        assert_eq!(collected.links_removed, 0);
    }
    let mut upload = service.resume(&name(), None, upload.uuid()).await.unwrap();
    upload.cancel().await.unwrap();
    let condemned = site.collect().await;
    assert_eq!(condemned.links_condemned, 1);
    assert_eq!(site.collect_after(hours(21)).await.links_removed, 1);
}

#[tokio::test]
async fn dry_run_changes_nothing_and_says_what_would_be_done() {
    let site = Site::new(By::Delete).await;
    let (service, faults) = site.process_over_faults().await;
    for seed in 0..3 {
        push_layer(&service, &name(), &Image::new(seed, 100_000)).await;
    }
    site.clock.advance(hours(73));
    faults.reset();
    let options = CollectOptions {
        dry_run: true,
        ..CollectOptions::default()
    };
    let collected = service.collect(&options).await.unwrap();
    let condemned = (collected.links_condemned, collected.bytes_condemned);
    assert_eq!((collected.dry_run, condemned), (true, (3, 300_000)));
    let changes = faults
        .log()
        .into_iter()
        .filter(|request| !matches!(request.operation, GetObject | ListObjectsV2));
    assert_eq!(changes.count(), 0);
}

/// A layer of several repositories counts once, one that another repository needs does not, and what follows
/// from the removal of links is shown too.
#[tokio::test]
async fn dry_run_shows_what_the_pass_does() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let others = ["library/one", "library/two"].map(|name| name.parse().unwrap());
    let [unused, used] = [1, 2].map(|seed| Image::new(seed, 100_000));
    for name in others.iter().chain([&name()]) {
        push_layer(&service, name, &unused).await;
        push_layer(&service, name, &used).await;
    }
    assert!(put_manifest(&service, &name(), &used).await.unwrap());
    let options = CollectOptions {
        dry_run: true,
        ..CollectOptions::default()
    };
    // Condemned, removed, freed, and nothing.
    let mut layers = Vec::new();
    for wait in [73, 21, 21, 21] {
        site.clock.advance(hours(wait));
        let mut shown = service.collect(&options).await.unwrap();
        let done = service.collect(&CollectOptions::default()).await.unwrap();
        shown.dry_run = false;
        assert_eq!(shown, done);
        layers.push((
            done.layers_condemned,
            done.layers_removed,
            done.layers_freed,
        ));
    }
    assert_eq!(layers, [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]);
    assert!(pull(&service, &name(), &used).await);
}

/// A push replaced a dead record: its old data goes, the new one stays.
#[tokio::test]
async fn data_of_a_replaced_dead_record_is_freed() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let image = Image::new(1, PART + 1);
    push_layer(&service, &name(), &image).await;
    site.collect_after(hours(73)).await;
    assert_eq!(site.collect_after(hours(21)).await.layers_removed, 1);
    push(&service, &name(), &image).await;
    let data = async || {
        let keys = site.keys().await;
        keys.iter().filter(|key| key.starts_with("data/")).count()
    };
    assert_eq!(data().await, 2);
    site.collect_after(hours(21)).await;
    assert_eq!(data().await, 1);
    assert!(pull(&service, &name(), &image).await);
    let lists = crate::support::bucket::keys(&site.client()).await;
    assert!(
        !lists.iter().any(|key| key.starts_with("gc/dead/")),
        "{lists:?}"
    );
}

/// Manifests are read once, and a pass lists a thousand keys by a request.
#[tokio::test]
async fn pass_with_nothing_to_do_costs_few_requests() {
    let site = Site::new(By::Delete).await;
    let (service, faults) = site.process_over_faults().await;
    for seed in 0..20 {
        push(&service, &name(), &Image::new(seed, 1_000)).await;
    }
    collect(&service).await.unwrap();
    site.clock.advance(hours(100));
    faults.reset();
    collect(&service).await.unwrap();
    let log: Vec<_> = faults
        .log()
        .into_iter()
        .map(|one| (one.operation, one.key))
        .collect();
    // `gc/dead/`, `uploads/`, `repositories/`, `layers/`, `gc/trash/`, `gc/names/`; the names and the counts; the canary.
    assert_eq!(faults.count(ListObjectsV2), 6, "{log:?}");
    assert_eq!(faults.count(GetObject), 2, "{log:?}");
    assert_eq!(faults.count(PutObject), 1, "{log:?}");
}

/// Of each layer that goes: its link is read twice, condemned and removed; its record is read three times, condemned, set to
/// dead, to purging, and removed; its session is looked for once. The rest is for hundreds of layers at once.
#[tokio::test]
async fn layer_that_goes_costs_twelve_requests() {
    let mut costs = Vec::new();
    for layers in [5, 25] {
        let site = Site::new(By::Delete).await;
        let (service, faults) = site.process_over_faults().await;
        for seed in 0..layers {
            push_layer(&service, &name(), &Image::new(seed, 20_000)).await;
        }
        faults.reset();
        let mut freed = 0;
        for time in [73, 21, 21] {
            site.clock.advance(hours(time));
            freed += collect(&service).await.unwrap().layers_freed;
        }
        assert_eq!(freed, u64::from(layers));
        assert_eq!(site.keys().await, ["names/library.demo"]);
        costs.push(faults.log().len());
    }
    assert_eq!(costs[1] - costs[0], 20 * 12, "{costs:?}");
}

#[tokio::test]
async fn every_request_keeps_the_rate() {
    let site = Site::new(By::Delete).await;
    let (service, faults) = site.process_over_faults().await;
    for seed in 0..3 {
        push(&service, &name(), &Image::new(seed, 20_000)).await;
    }
    push_layer(&service, &name(), &Image::new(9, 1_000)).await;
    site.clock.advance(hours(73));
    let rate = Some(100);
    let collect = CollectOptions {
        rate,
        ..CollectOptions::default()
    };
    let check = CheckOptions {
        rate,
        objects: true,
        read: Some(ReadShare::Part(1.0)),
        ..CheckOptions::default()
    };
    let keeps = |begun: Instant| {
        let requests = faults.log().len() as u32;
        faults.reset();
        assert!(requests > 10);
        assert!(begun.elapsed() >= Duration::from_millis(10) * (requests - 1));
    };
    faults.reset();
    let begun = Instant::now();
    service.collect(&collect).await.unwrap();
    keeps(begun);
    let begun = Instant::now();
    service.check(&check).await.unwrap();
    keeps(begun);
}

/// A record without any link: its push died, or its repository was removed.
#[tokio::test]
async fn layer_without_a_link_is_freed() {
    let site = Site::new(By::Tombstone).await;
    let service = site.process().await;
    let image = Image::new(1, 100_000);
    push_layer(&service, &name(), &image).await;
    assert!(service.unlink(&name(), &image.id()).await.unwrap());
    assert_eq!(site.collect_after(hours(23)).await.layers_condemned, 0);
    assert_eq!(site.collect_after(hours(2)).await.layers_condemned, 1);
    assert_eq!(site.collect_after(hours(21)).await.layers_removed, 1);
    assert_eq!(site.collect_after(hours(21)).await.layers_freed, 1);
    let digest = sha256(&image.layer);
    assert!(
        !site
            .keys()
            .await
            .iter()
            .any(|key| key.contains(digest.hex()))
    );
    // And it can be pushed again.
    let pushed = service.push(&name(), &mut &image.layer[..]).await.unwrap();
    assert_eq!(*pushed.digest(), digest);
}
