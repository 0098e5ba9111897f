//! What makes a collection stop: a store that cannot be collected, or whose listings are not to be
//! believed.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use s3layers::{
    CheckOptions, CollectError, CollectOptions, LayerService as _, RepositoryName,
    RepositoryService as _, S3LayerService, StoreProfile, TrashReference,
};

use super::site::{By, Image, Site, collect, hours, pull, push, push_layer, put_manifest};
use crate::support::answers::{Reword, reword};
use crate::support::bucket;
use crate::support::fault_client::{DeleteObject, GetObject, ListObjectsV2, On};
use crate::support::stores::{self, BUCKET, name};

/// The `<Contents>` of a listing, in another order or number.
struct Relist {
    below: &'static str,
    change: fn(Vec<&str>) -> Vec<&str>,
}

impl Reword for Relist {
    fn text(&self, request: &str, text: String) -> String {
        if !request.contains(&format!("prefix={}", self.below)) {
            return text;
        }
        let end = "</Contents>";
        let Some((head, _)) = text.split_once("<Contents>") else {
            return text;
        };
        let tail = text.rsplit_once(end).unwrap().1;
        let inner = &text[head.len()..text.len() - tail.len()];
        let objects: Vec<&str> = inner.split_inclusive(end).collect();
        format!("{head}{}{tail}", (self.change)(objects).concat())
    }
}

/// Two images, and a layer that can be removed.
async fn collectable() -> Site {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    for seed in 0..2 {
        push(&service, &name(), &Image::new(seed, 1_000)).await;
    }
    push_layer(&service, &name(), &Image::new(9, 100_000)).await;
    site.collect_after(hours(73)).await;
    site.clock.advance(hours(21));
    site
}

async fn refusal(service: &S3LayerService) -> String {
    match collect(service).await.unwrap_err().error {
        error @ CollectError::Refused { .. } => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn listings_that_are_not_to_be_believed_remove_nothing() {
    type Change = fn(Vec<&str>) -> Vec<&str>;
    let reversed: Change = |mut objects| {
        objects.reverse();
        objects
    };
    let twice: Change = |objects| [&objects[..], &objects[..]].concat();
    let none: Change = |_| Vec::new();
    for (case, change) in [
        ("out of order", reversed),
        ("twice", twice),
        ("empty", none),
    ] {
        let site = collectable().await;
        let before = site.keys().await;
        let below = "repositories";
        let http = reword(site.http_client(), Relist { below, change });
        let service = site.process_over(http).await;
        let refusal = refusal(&service).await;
        assert!(!refusal.is_empty(), "{case}");
        assert_eq!(site.keys().await, before, "{case}");
        // The same bucket by a correct store.
        assert_eq!(site.collect().await.links_removed, 1, "{case}");
    }
}

#[tokio::test]
async fn listing_that_is_much_shorter_than_the_last_one_removes_nothing() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    for seed in 0..40 {
        push(&service, &name(), &Image::new(seed, 100)).await;
    }
    push_layer(&service, &name(), &Image::new(99, 100)).await;
    site.collect_after(hours(73)).await;
    site.clock.advance(hours(21));
    // A third of the links and manifests is missing.
    let http = reword(
        site.http_client(),
        Relist {
            below: "repositories",
            change: |objects| {
                let kept = objects.into_iter().enumerate();
                let kept = kept.filter(|(at, object)| at % 3 > 0 || object.contains("canary"));
                kept.map(|(_, object)| object).collect()
            },
        },
    );
    let lied_to = site.process_over(http).await;
    let collected = lied_to.collect(&CollectOptions::default()).await.unwrap();
    assert!(collected.stopped.is_some(), "{collected:?}");
    assert_eq!((collected.links_removed, collected.layers_removed), (0, 0));
    let collected = service.collect(&CollectOptions::default()).await.unwrap();
    assert_eq!((collected.stopped, collected.links_removed), (None, 1));
}

/// Else what it counted is more than is left, and no later collection believes its listings.
#[tokio::test]
async fn links_that_another_collection_removes_meanwhile_are_not_missed() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    for seed in 0..40 {
        push(&service, &name(), &Image::new(seed, 100)).await;
    }
    for seed in 40..60 {
        push_layer(&service, &name(), &Image::new(seed, 100)).await;
    }
    site.collect_after(hours(73)).await;
    site.clock.advance(hours(21));
    let (late, faults) = site.process_over_faults().await;
    let looks = faults.hold(On::every(GetObject).key_contains("/_layers/"));
    let other = async {
        looks.reached_by(1).await;
        assert_eq!(site.collect().await.links_removed, 20);
        looks.open();
    };
    let options = CollectOptions::default();
    let (collected, ()) = tokio::join!(late.collect(&options), other);
    let collected = collected.unwrap();
    assert_eq!((collected.links, collected.links_removed), (40, 0));
    let next = service.collect(&options).await.unwrap();
    assert_eq!(next.stopped, None);
}

/// The listings of two passes lack all keys of a repository: the record is set to dead, but the bytes stay as long as
/// later listings show the link.
#[tokio::test]
async fn keys_that_two_listings_lack_free_no_bytes() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let other: RepositoryName = "library/other".parse().unwrap();
    let image = Image::new(1, 100_000);
    push(&service, &name(), &image).await;
    let (home, id) = (name(), image.id());
    assert!(service.mount(&other, &id, Some(&home)).await.unwrap());
    assert!(put_manifest(&service, &other, &image).await.unwrap());
    let digest = &image.manifest.digest;
    assert!(service.delete_manifest(&name(), digest).await.unwrap());
    let http = reword(
        site.http_client(),
        Relist {
            below: "repositories",
            change: |mut objects| {
                objects.retain(|object| !object.contains("library/other"));
                objects
            },
        },
    );
    let lied_to = site.process_over(http).await;
    site.clock.advance(hours(73));
    assert_eq!(collect(&lied_to).await.unwrap().layers_condemned, 1);
    site.clock.advance(hours(21));
    assert_eq!(collect(&lied_to).await.unwrap().layers_removed, 1);
    let is_served = async || {
        let layer = service.layer(&other, &image.id()).await.unwrap();
        let pieces: Vec<_> = layer.into_stream().try_collect().await.unwrap();
        pieces.concat() == image.layer
    };
    for _ in 0..3 {
        assert_eq!(site.collect_after(hours(50)).await.layers_freed, 0);
        assert!(is_served().await);
    }
    // It is served where the record is lost as well, which can be written again from the link.
    let hex = id.to_string().split_off("sha256:".len());
    let key = format!("layers/sha256/{}/{hex}", &hex[..2]);
    let delete = site.client().delete_object().bucket(stores::BUCKET);
    delete.key(key).send().await.unwrap();
    for _ in 0..3 {
        site.collect_after(hours(50)).await;
        assert!(is_served().await);
    }
}

#[tokio::test]
async fn more_than_the_share_of_a_repository_stays() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    for seed in 0..12 {
        push_layer(&service, &name(), &Image::new(seed, 100)).await;
    }
    site.clock.advance(hours(73));
    let collected = service.collect(&CollectOptions::default()).await.unwrap();
    assert_eq!((collected.links_condemned, collected.skipped.len()), (0, 1));
    assert_eq!(collected.repositories_left, 1);
    assert_eq!(site.collect().await.links_condemned, 12);
}

/// What one pass with a larger share has condemned goes with the ordinary passes that follow.
#[tokio::test]
async fn one_pass_with_a_larger_share_is_enough() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    for seed in 0..40 {
        let image = Image::new(seed, 100_000);
        push_layer(&service, &name(), &image).await;
        if seed >= 30 {
            assert!(put_manifest(&service, &name(), &image).await.unwrap());
        }
    }
    let ordinary = async || {
        let collected = service.collect(&CollectOptions::default()).await.unwrap();
        assert_eq!(
            (&collected.stopped, collected.repositories_left),
            (&None, 0)
        );
        collected
    };
    // They are too young to count.
    site.clock.advance(hours(30));
    assert_eq!(ordinary().await.links_condemned, 0);
    site.clock.advance(hours(43));
    let guarded = service.collect(&CollectOptions::default()).await.unwrap();
    assert_eq!((guarded.links_condemned, guarded.repositories_left), (0, 1));
    assert_eq!(site.collect().await.links_condemned, 30);
    assert_eq!(ordinary().await.links_removed, 0);
    site.clock.advance(hours(21));
    let removed = ordinary().await;
    assert_eq!((removed.links_removed, removed.layers_removed), (30, 30));
    site.clock.advance(hours(21));
    assert_eq!(ordinary().await.layers_freed, 30);
}

/// The links that it has removed are not those that a listing lacks.
#[tokio::test]
async fn collection_that_ends_within_its_removals_is_continued() {
    for before in [0, 1, 30] {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        for seed in 0..40 {
            push_layer(&service, &name(), &Image::new(seed, 100)).await;
        }
        push(&service, &name(), &Image::new(99, 100)).await;
        site.collect_after(hours(73)).await;
        site.clock.advance(hours(21));
        let (collector, faults) = site.process_over_faults().await;
        faults.fault(On::nth(DeleteObject, before + 1).status(403));
        collect(&collector).await.unwrap_err();
        let ordinary = service.collect(&CollectOptions::default()).await.unwrap();
        assert_eq!(ordinary.stopped, None, "{before}");
        assert_eq!(ordinary.links_removed, 40 - before as u64, "{before}");
    }
}

/// 11 of 55 links are 20 %.
#[tokio::test]
async fn share_that_may_go_is_exact() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    for seed in 0..55 {
        let image = Image::new(seed, 100);
        push_layer(&service, &name(), &image).await;
        if seed >= 11 {
            assert!(put_manifest(&service, &name(), &image).await.unwrap());
        }
    }
    site.clock.advance(hours(73));
    for (max_share, condemned) in [(0.19, 0), (0.2, 11)] {
        let options = CollectOptions {
            max_share,
            ..CollectOptions::default()
        };
        let collected = service.collect(&options).await.unwrap();
        assert_eq!(collected.links_condemned, condemned, "{max_share}");
        assert_eq!(collected.skipped.is_empty(), condemned > 0, "{max_share}");
    }
}

#[tokio::test]
async fn more_than_the_share_of_all_layers_stays() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    for seed in 0..12 {
        let image = Image::new(seed, 100);
        push_layer(&service, &name(), &image).await;
        assert!(service.unlink(&name(), &image.id()).await.unwrap());
    }
    site.clock.advance(hours(73));
    let collected = service.collect(&CollectOptions::default()).await.unwrap();
    assert_eq!(collected.layers_condemned, 0);
    assert!(collected.stopped.is_some());
    assert_eq!(site.collect().await.layers_condemned, 12);
}

/// The repository whole, or its manifests alone: what keeps the layers then is the share of all, or that of the repository.
#[tokio::test]
async fn image_whose_layers_the_share_keeps_can_be_restored() {
    for is_whole in [true, false] {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        let images: Vec<_> = (0..12).map(|seed| Image::new(seed, 100)).collect();
        for image in &images {
            push(&service, &name(), image).await;
        }
        if is_whole {
            service.remove_repository(&name()).await.unwrap();
        }
        for image in images.iter().filter(|_| !is_whole) {
            let digest = &image.manifest.digest;
            assert!(service.delete_manifest(&name(), digest).await.unwrap());
        }
        for _ in 0..3 {
            site.clock.advance(hours(73));
            let collected = service.collect(&CollectOptions::default()).await.unwrap();
            let freed = (collected.links_condemned, collected.layers_condemned);
            assert_eq!(freed, (0, 0), "{collected:?}");
        }
        for image in &images {
            let reference = TrashReference::Digest(image.manifest.digest.clone());
            service.restore(&name(), &reference).await.unwrap();
            assert!(pull(&service, &name(), image).await);
        }
        // What may go leaves the trash.
        let digest = &images[0].manifest.digest;
        assert!(service.delete_manifest(&name(), digest).await.unwrap());
        for _ in 0..3 {
            site.collect_after(hours(73)).await;
        }
        assert_eq!(service.trash(None).await.unwrap(), []);
    }
}

/// Of two repositories whose last links one pass removes: a look for other entries, or the removal of the first link.
#[tokio::test]
async fn failed_removal_leaves_no_other_repository_in_the_catalog() {
    let look = On::nth(ListObjectsV2, 3);
    let link = On::every(DeleteObject).key_contains("library/a/_layers/");
    for (refused, stale) in [(look, 1), (link, 0)] {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        let names = ["library/a", "library/b"].map(|name| name.parse().unwrap());
        for (name, seed) in names.iter().zip(0..) {
            push_layer(&service, name, &Image::new(seed, 100)).await;
        }
        site.collect_after(hours(73)).await;
        site.clock.advance(hours(21));
        let (collector, faults) = site.process_over_faults().await;
        faults.fault(refused.status(403));
        let ended = collect(&collector).await.unwrap_err();
        assert!(matches!(ended.error, CollectError::Failed(_)), "{ended}");
        let page = service.repositories(None, 10).await.unwrap();
        let links_left = 2 - ended.report.links_removed as usize;
        assert_eq!(page.items.len(), links_left + stale, "{:?}", ended.report);
        // A check completes the removal.
        site.clock.advance(hours(2));
        let repair = CheckOptions {
            repair: true,
            wait: Some(Duration::ZERO),
            ..CheckOptions::default()
        };
        service.check(&repair).await.unwrap();
        let page = service.repositories(None, 10).await.unwrap();
        assert_eq!(page.items.len(), links_left, "{:?}", ended.report);
    }
}

#[tokio::test]
async fn store_without_conditional_writes_is_refused() {
    let site = Site::new(By::Delete).await;
    let mut without = StoreProfile::AWS;
    without.conditional_writes = false;
    for profile in [StoreProfile::AWS, without] {
        let client = stores::client(&site.store, site.http_client());
        let config = stores::config().profile(profile);
        let config = config.single_writer(true);
        let service = S3LayerService::connect(client, config).await.unwrap();
        assert!(refusal(&service).await.contains("conditional"));
        let repair = CheckOptions {
            repair: true,
            ..CheckOptions::default()
        };
        service.check(&repair).await.unwrap_err();
    }
}

#[tokio::test]
async fn refused_request_ends_the_pass() {
    let site = collectable().await;
    let (service, faults) = site.process_over_faults().await;
    faults.fault(On::nth(ListObjectsV2, 2).status(403));
    let failed = collect(&service).await.unwrap_err().error;
    assert!(
        matches!(&failed, CollectError::Failed(error) if error.is_permission()),
        "{failed:?}"
    );
    faults.clear_faults();
    assert_eq!(collect(&service).await.unwrap().links_removed, 1);
}

/// The listing of the records is the fourth.
#[tokio::test]
async fn late_error_keeps_the_report_of_what_was_done() {
    let site = collectable().await;
    let (service, faults) = site.process_over_faults().await;
    faults.fault(On::nth(ListObjectsV2, 4).status(403));
    let ended = collect(&service).await.unwrap_err();
    assert!(matches!(ended.error, CollectError::Failed(_)), "{ended}");
    assert_eq!(ended.report.links_removed, 1);
    assert_eq!((ended.report.links, ended.report.manifests), (3, 2));
}

#[tokio::test]
async fn manifest_that_cannot_be_read_keeps_its_repository() {
    let site = collectable().await;
    let service = site.process().await;
    let image = Image::new(5, 1_000);
    push(&service, &name(), &image).await;
    let hex = image.manifest.digest.hex().to_owned();
    let key = format!("repositories/library/demo/_manifests/sha256/{hex}");
    let newer = r#"{"version":99,"names":[],"seal":""}"#;
    let body = crate::support::bucket::sealed(newer).into_bytes();
    let put = site.client().put_object().bucket(stores::BUCKET).key(key);
    put.body(body.into()).send().await.unwrap();
    let collected = site.collect_after(hours(200)).await;
    assert_eq!((collected.links_condemned, collected.links_removed), (0, 0));
    assert_eq!(collected.skipped.len(), 1, "{:?}", collected.skipped);
}

/// A program of a newer version, or damage, has left a document: it stays, and the rest is collected.
#[tokio::test]
async fn documents_that_cannot_be_read_do_not_stop_the_collection() {
    let site = collectable().await;
    let client = site.client();
    let newer = bucket::sealed(r#"{"version":99,"seal":""}"#);
    let put = async |key: String, body: &str| {
        let put = client.put_object().bucket(stores::BUCKET).key(key);
        put.body(body.as_bytes().to_vec().into())
            .send()
            .await
            .unwrap();
    };
    let hex = Image::new(0, 1_000)
        .id()
        .to_string()
        .split_off("sha256:".len());
    let links = "repositories/library/demo/_layers";
    let other = format!("{links}/sha512/{}", "0".repeat(128));
    let stay = [
        "gc/last".to_owned(),
        "gc/names/library.demo".to_owned(),
        format!("{links}/sha256/{hex}"),
        other,
    ];
    for key in &stay {
        put(key.clone(), &newer).await;
    }
    for (time, want) in [(0, (1, 0)), (80, (0, 1))] {
        let collected = site.collect_after(hours(time)).await;
        assert_eq!((collected.links_removed, collected.layers_freed), want);
    }
    for key in &stay {
        assert_eq!(bucket::get(&client, key).await, newer.as_bytes(), "{key}");
    }
    put(stay[0].clone(), "damaged").await;
    site.collect().await;
    assert_ne!(bucket::get(&client, &stay[0]).await, "damaged");
}

#[tokio::test]
async fn unsafe_times_in_the_profile_are_refused() {
    let site = Site::new(By::Delete).await;
    let mut profile = StoreProfile::AWS;
    profile.collection.wait = 60;
    let client = stores::client(&site.store, site.http_client());
    let refused =
        S3LayerService::connect(client.clone(), stores::config().profile(profile.clone()));
    assert!(refused.await.unwrap_err().to_string().contains("wait"));
    profile.collection.testing = true;
    let accepted = S3LayerService::connect(client, stores::config().profile(profile));
    accepted.await.unwrap();
}

/// A process that is given no time to set layers to dead leaves them condemned, and another one continues.
#[tokio::test]
async fn layers_that_a_pass_comes_to_too_late_are_left_to_the_next() {
    let site = Site::new(By::Delete).await;
    push_layer(&site.process().await, &name(), &Image::new(1, 20_000)).await;
    let mut profile = StoreProfile::AWS;
    profile.collection.look = 0;
    profile.collection.testing = true;
    let client = stores::client(&site.store, site.http_client());
    let config = stores::config().profile(profile);
    let hurried = S3LayerService::connect(client, config).await.unwrap();
    for time in [73, 21, 21] {
        site.clock.advance(hours(time));
        assert_eq!(collect(&hurried).await.unwrap().layers_removed, 0);
    }
    let late = collect(&hurried).await.unwrap();
    assert!(
        late.skipped[0].contains("longer than 0 seconds"),
        "{late:?}"
    );
    assert_eq!(site.collect().await.layers_removed, 1);
    assert_eq!(site.collect_after(hours(21)).await.layers_freed, 1);
}

/// Those of passes that may still be running stay.
#[tokio::test]
async fn canaries_of_killed_passes_are_removed() {
    let site = Site::new(By::Delete).await;
    let client = site.client();
    let put = async |name: &str| {
        let key = format!("repositories/=canary/{name}");
        let put = client.put_object().bucket(BUCKET).key(key);
        put.body(vec![b' '; 96].into()).send().await.unwrap();
    };
    let canaries = async || {
        let keys = bucket::keys(&client).await.into_iter();
        let canaries = keys.filter(|key| key.contains("=canary"));
        canaries.collect::<Vec<_>>()
    };
    put("old").await;
    site.clock.advance(hours(30 * 24 - 1));
    site.collect().await;
    assert_eq!(canaries().await, ["repositories/=canary/old"]);
    put("young").await;
    site.clock.advance(hours(2));
    let dry_run = CollectOptions {
        dry_run: true,
        ..CollectOptions::default()
    };
    site.process().await.collect(&dry_run).await.unwrap();
    assert_eq!(canaries().await.len(), 2);
    site.collect().await;
    assert_eq!(canaries().await, ["repositories/=canary/young"]);
}

/// It may be that of an upload to any repository.
#[tokio::test]
async fn damaged_session_keeps_all_links_until_a_sweep() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    push_layer(&service, &name(), &Image::new(1, 1_000)).await;
    let other = "library/other".parse().unwrap();
    let upload = service.upload(&other, None).await.unwrap();
    let put = site.client().put_object().bucket(BUCKET);
    let put = put.key(format!("uploads/{}/session", upload.uuid()));
    put.body(b"junk".to_vec().into()).send().await.unwrap();
    let kept = site.collect_after(hours(73)).await;
    assert_eq!(kept.links_condemned, 0);
    stores::swept(&service, hours(1), false).await.unwrap();
    assert_eq!(site.collect().await.links_condemned, 1);
}
