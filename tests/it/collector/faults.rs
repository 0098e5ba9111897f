//! Every request of a collection killed, spoilt and delayed: the next one continues, and nothing that
//! a client relies on is lost.

use s3layers::{Algorithm, RepositoryService as _, S3LayerService};

use super::site::{By, Image, Site, collect, hours, pull, push, push_layer};
use crate::support::fault_client::{End, FaultClient, Gate, On};
use crate::support::stores::{PART, name};

/// How a request goes wrong.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    KilledBefore,
    KilledAfter,
    Refused,
    AnswerLost,
    /// Another pass comes between.
    Delayed,
}

const ALL: [Wrong; 5] = [
    Wrong::KilledBefore,
    Wrong::KilledAfter,
    Wrong::Refused,
    Wrong::AnswerLost,
    Wrong::Delayed,
];

impl Wrong {
    fn apply(self, faults: &FaultClient, number: usize) -> Option<Gate> {
        match self {
            Wrong::KilledBefore => faults.end(End::KilledBefore(number)),
            Wrong::KilledAfter => faults.end(End::KilledAfter(number)),
            Wrong::Refused => faults.fault(On::request(number).status(503)),
            Wrong::AnswerLost => faults.fault(On::request(number).lose_answer()),
            Wrong::Delayed => return Some(faults.hold(On::request(number))),
        }
        None
    }

    fn kills(self) -> bool {
        matches!(self, Wrong::KilledBefore | Wrong::KilledAfter)
    }
}

/// Layers to collect, of which one has an alias, one has its link for a day longer, and one is of a deleted image, beside
/// an image to keep.
async fn prepared(by: By) -> (Site, S3LayerService, Image) {
    let site = Site::new(by).await;
    let service = site.process().await;
    let deleted = Image::new(4, 30_000);
    let name = name();
    push(&service, &name, &deleted).await;
    let delete = service.delete_manifest(&name, &deleted.manifest.digest);
    assert!(delete.await.unwrap());
    let kept = Image::new(1, PART + 1);
    push(&service, &name, &kept).await;
    let aliased = Image::named_by(Algorithm::Sha512, 2, 100_000);
    push_layer(&service, &name, &aliased).await;
    site.clock.advance(hours(21));
    push_layer(&service, &name, &Image::new(3, 1_000)).await;
    (site, service, kept)
}

/// All passes, the one that is numbered so with a fault at one request. How many requests that pass made.
async fn collected_with(by: By, wrong: Option<(Wrong, usize)>, pass: u32) -> usize {
    let (site, service, kept) = prepared(by).await;
    site.clock.advance(hours(52));
    for _ in 0..pass {
        site.collect_after(hours(21)).await;
    }
    site.clock.advance(hours(21));
    let (doomed, faults) = site.process_over_faults().await;
    let gate = wrong.and_then(|(wrong, number)| wrong.apply(&faults, number));
    let is_killed = wrong.is_some_and(|(wrong, _)| wrong.kills());
    let collecting = tokio::spawn(async move { collect(&doomed).await });
    if is_killed {
        faults.died().await;
        collecting.abort();
    } else {
        if let Some(gate) = gate {
            gate.reached_by(1).await;
            site.collect().await;
            assert!(pull(&service, &name(), &kept).await, "{pass} {wrong:?}");
            gate.open();
        }
        collecting.await.unwrap().unwrap();
    }
    let requests = faults.log().len();
    assert!(pull(&service, &name(), &kept).await, "{pass} {wrong:?}");
    for _ in 0..8 {
        site.collect_after(hours(40)).await;
        assert!(pull(&service, &name(), &kept).await, "{pass} {wrong:?}");
    }
    // Nothing is left but the image that was kept.
    let keys = site.keys().await;
    let data = keys.iter().filter(|key| key.starts_with("data/")).count();
    let records = keys.iter().filter(|key| key.starts_with("layers/")).count();
    let links = keys.iter().filter(|key| key.contains("/_layers/")).count();
    assert_eq!((data, records, links), (1, 1, 1), "{wrong:?}: {keys:?}");
    let is_in_trash = |key: &String| key.starts_with("gc/trash/");
    assert!(!keys.iter().any(is_in_trash), "{wrong:?}: {keys:?}");
    requests
}

/// They condemn links and layers, remove links and set layers to dead, and purge and forget what was deleted.
const PASSES: u32 = 3;

#[test]
fn fault_at_any_request_of_a_collection_is_continued_by_the_next() {
    let stride = if std::env::var("S3LAYERS_COLLECTION").is_ok_and(|extent| extent == "full") {
        1
    } else {
        23
    };
    let (begun, mut played) = (std::time::Instant::now(), 0);
    for by in [By::Delete, By::Tombstone] {
        for pass in 0..PASSES {
            let run =
                |wrong| crate::support::cases::runtime().block_on(collected_with(by, wrong, pass));
            let requests = run(None);
            for (nth, wrong) in ALL.into_iter().enumerate() {
                let first = 1 + nth * stride / ALL.len();
                for number in (first..=requests).step_by(stride) {
                    run(Some((wrong, number)));
                    played += 1;
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("faults of a collection: {played} cases in {seconds:.1} s, 0 failed");
}
