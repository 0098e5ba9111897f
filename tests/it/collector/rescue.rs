//! Every step of the collector against every request of a client that makes a layer visible, or says
//! that it is.

use std::time::Duration;

use s3layers::{RepositoryName, RepositoryService as _, S3LayerService};

use super::site::{
    BOTH, By, Image, Site, collect, hours, pull, push, push_by_sha512, push_layer, put_manifest,
};
use crate::support::fault_client::{DeleteObject, Gate, On, PutObject};
use crate::support::stores::name;

fn other() -> RepositoryName {
    "library/other".parse().unwrap()
}

/// How far the collection has come when the client asks.
const STEPS: [(&str, &[u32]); 6] = [
    ("old", &[]),
    ("condemned", &[73]),
    ("condemned, and the wait is over", &[73, 19]),
    ("dead", &[73, 21]),
    // The third pass stands before the removal of the record.
    ("purging", &[73, 21]),
    ("freed", &[73, 21, 21]),
];

/// What the client does, and whether the answer says that the layer is present.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Head,
    Manifest,
    Mount,
    MountFromAny,
    Push,
}

impl Ask {
    const ALL: [Ask; 5] = [
        Ask::Head,
        Ask::Manifest,
        Ask::Mount,
        Ask::MountFromAny,
        Ask::Push,
    ];

    /// Where the layer is said to be.
    fn name(self) -> RepositoryName {
        match self {
            Ask::Mount | Ask::MountFromAny => other(),
            Ask::Head | Ask::Manifest | Ask::Push => name(),
        }
    }

    async fn ask(self, service: &S3LayerService, image: &Image) -> bool {
        match self {
            Ask::Head => {
                let layer = service.confirm_layer(&name(), &image.id()).await;
                layer.unwrap().is_some()
            }
            Ask::Manifest => put_manifest(service, &name(), image).await.unwrap(),
            Ask::Mount => {
                let from = name();
                let mount = service.mount(&other(), &image.id(), Some(&from)).await;
                mount.unwrap()
            }
            Ask::MountFromAny => service.mount(&other(), &image.id(), None).await.unwrap(),
            Ask::Push => {
                push_layer(service, &name(), image).await;
                true
            }
        }
    }
}

/// A pass that has removed the data of a layer, and not its record.
struct Purging {
    pass: tokio::task::JoinHandle<()>,
    removal: Gate,
}

impl Purging {
    async fn begin(site: &Site, by: By) -> Self {
        site.clock.advance(hours(21));
        let (collector, faults) = site.process_over_faults().await;
        let removal = match by {
            By::Delete => On::every(DeleteObject),
            // The record is written as purging first.
            By::Tombstone => On::nth(PutObject, 2),
        };
        let removal = faults.hold(removal.key_contains("layers/sha256/"));
        let pass = tokio::spawn(async move { drop(collect(&collector).await.unwrap()) });
        removal.reached_by(1).await;
        Purging { pass, removal }
    }

    async fn end(self) {
        self.removal.open();
        self.pass.await.unwrap();
    }
}

/// What was said to be there is there when its manifest comes within the promised time, and after that
/// for as long as the manifest is.
#[tokio::test]
async fn layer_that_was_reported_to_a_client_stays() {
    for by in BOTH {
        for size in [100_000, 1_000] {
            for (step, passes) in STEPS {
                for ask in Ask::ALL {
                    let case = format!("{by:?} {size} bytes, {step}, {ask:?}");
                    let site = Site::new(by).await;
                    let service = site.process().await;
                    let image = Image::new(1, size);
                    push_layer(&service, &name(), &image).await;
                    for time in passes {
                        site.collect_after(hours(*time)).await;
                    }
                    let purging = match step {
                        "purging" => Some(Purging::begin(&site, by).await),
                        _ => None,
                    };
                    let is_there = ask.ask(&service, &image).await;
                    if let Some(purging) = purging {
                        purging.end().await;
                    }
                    let is_gone = matches!(step, "dead" | "purging" | "freed");
                    assert_eq!(is_there, !is_gone || matches!(ask, Ask::Push), "{case}");
                    if !is_there {
                        continue;
                    }
                    // L/2 + W is 56 hours.
                    for time in [18, 18, 19] {
                        site.collect_after(hours(time)).await;
                    }
                    let put = put_manifest(&service, &ask.name(), &image).await;
                    assert!(put.unwrap(), "{case}");
                    for time in [1, 21, 21, 73, 21, 21] {
                        site.collect_after(hours(time)).await;
                    }
                    assert!(pull(&service, &ask.name(), &image).await, "{case}");
                }
            }
        }
    }
}

/// A link that is only old is not counted.
#[tokio::test]
async fn condemned_links_that_are_written_back_are_counted() {
    for (age, want) in [(1, 0), (37, 0), (73, 1)] {
        for ask in [Ask::Head, Ask::Push] {
            let site = Site::new(BOTH[0]).await;
            let service = site.process().await;
            let image = Image::new(1, 100_000);
            push_layer(&service, &name(), &image).await;
            site.collect_after(hours(age)).await;
            for _ in 0..2 {
                assert!(ask.ask(&service, &image).await);
            }
            let rescued = service.status().events["link_rescued"];
            assert_eq!(rescued, want, "{age} hours, {ask:?}");
        }
    }
}

/// A client uses the link between its last look and its removal.
#[tokio::test]
async fn removal_that_is_refused_is_not_counted() {
    for by in BOTH {
        let site = Site::new(by).await;
        let service = site.process().await;
        let image = Image::new(1, 100_000);
        push_layer(&service, &name(), &image).await;
        site.collect_after(hours(73)).await;
        site.clock.advance(hours(21));
        let (collector, faults) = site.process_over_faults().await;
        let removal = faults.hold(On::every(by.operation()).key_contains("/_layers/"));
        let used = async {
            removal.reached_by(1).await;
            assert!(Ask::Head.ask(&service, &image).await);
            removal.open();
        };
        let (collected, ()) = tokio::join!(collect(&collector), used);
        let collected = collected.unwrap();
        let removed = (collected.links_removed, collected.layers_removed);
        assert_eq!(removed, (0, 0), "{by:?}");
        assert!(put_manifest(&service, &name(), &image).await.unwrap());
        assert!(pull(&service, &name(), &image).await, "{by:?}");
    }
}

/// A collection found it without that by SHA-256, which was pushed again before the removal.
#[tokio::test]
async fn link_by_another_id_that_a_client_uses_stays() {
    for by in BOTH {
        let site = Site::new(by).await;
        let service = site.process().await;
        let image = Image::new(1, 100_000);
        let sha512 = push_by_sha512(&service, &name(), &image.layer).await.into();
        site.delete_own_link(&image).await;
        site.clock.advance(hours(73));
        let (collector, faults) = site.process_over_faults().await;
        let removal = faults.hold(On::every(by.operation()).key_contains("/_layers/sha512"));
        let name = name();
        let used = async {
            removal.reached_by(1).await;
            push_layer(&service, &name, &image).await;
            let layer = service.confirm_layer(&name, &sha512).await;
            assert!(layer.unwrap().is_some());
            removal.open();
        };
        let (collected, ()) = tokio::join!(collect(&collector), used);
        assert_eq!(collected.unwrap().links_removed, 0, "{by:?}");
        let layer = service.layer(&name, &sha512).await;
        assert!(layer.is_ok(), "{by:?}");
    }
}

/// The touch costs a request only where the link is older than half the age at which it is condemned.
#[tokio::test]
async fn link_is_touched_once_in_half_its_age() {
    for (age, want) in [(35, 0), (37, 1)] {
        let site = Site::new(BOTH[0]).await;
        let (service, faults) = site.process_over_faults().await;
        let image = Image::new(1, 100_000);
        push(&service, &name(), &image).await;
        site.clock.advance(hours(age));
        faults.reset();
        for _ in 0..3 {
            let layer = service.confirm_layer(&name(), &image.id()).await.unwrap();
            assert!(layer.is_some());
        }
        assert_eq!(faults.count(PutObject), want, "{age} hours");
    }
}

/// A GET is no promise.
#[tokio::test]
async fn read_of_a_condemned_layer_changes_nothing() {
    let site = Site::new(BOTH[0]).await;
    let (service, faults) = site.process_over_faults().await;
    let image = Image::new(1, 100_000);
    push_layer(&service, &name(), &image).await;
    site.collect_after(hours(73)).await;
    faults.reset();
    let layer = service.layer(&name(), &image.id()).await.unwrap();
    assert!(layer.is_stored().await.unwrap());
    assert_eq!(faults.count(PutObject), 0);
    assert_eq!(site.collect_after(hours(21)).await.links_removed, 1);
}

/// A process that was suspended between its look at the layers and the manifest.
#[tokio::test(start_paused = true)]
async fn manifest_is_not_signed_long_after_its_layers_were_confirmed() {
    let site = Site::new(BOTH[0]).await;
    let service = site.process().await;
    let image = Image::new(1, 1_000);
    push_layer(&service, &name(), &image).await;
    let since = s3layers::clock::Moment::now();
    tokio::time::advance(Duration::from_secs(16 * 60)).await;
    let name = name();
    let put = service.put_confirmed_manifest(&name, &image.manifest, since);
    let refused = put.await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    let digest = &image.manifest.digest;
    assert!(service.manifest(&name, digest).await.unwrap().is_none());
}
