//! Every request of a collection killed, spoilt and delayed: the next one continues, and nothing that
//! a client relies on is lost.

use s3layers::S3LayerService;

use super::site::{By, Image, Site, collect, hours, pull, push, push_layer};
use crate::support::fault_client::{End, FaultClient, On, Rule};
use crate::support::stores::{PART, name};

/// How a request goes wrong.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    KilledBefore,
    KilledAfter,
    Refused,
    AnswerLost,
}

const ALL: [Wrong; 4] = [
    Wrong::KilledBefore,
    Wrong::KilledAfter,
    Wrong::Refused,
    Wrong::AnswerLost,
];

impl Wrong {
    fn apply(self, faults: &FaultClient, number: usize) {
        let fault: Rule = match self {
            Wrong::KilledBefore => return faults.end(End::KilledBefore(number)),
            Wrong::KilledAfter => return faults.end(End::KilledAfter(number)),
            Wrong::Refused => On::request(number).status(503),
            Wrong::AnswerLost => On::request(number).lose_answer(),
        };
        faults.fault(fault);
    }

    fn kills(self) -> bool {
        matches!(self, Wrong::KilledBefore | Wrong::KilledAfter)
    }
}

/// A layer at each step of its end: its first passes were made.
async fn prepared(by: By) -> (Site, S3LayerService, Image) {
    let site = Site::new(by).await;
    let service = site.process().await;
    let kept = Image::new(1, PART + 1);
    push(&service, &name(), &kept).await;
    push_layer(&service, &name(), &Image::new(2, 100_000)).await;
    site.collect_after(hours(73)).await;
    site.clock.advance(hours(21));
    push_layer(&service, &name(), &Image::new(3, 1_000)).await;
    (site, service, kept)
}

/// The passes that remain, the first of them with a fault at one request. How many requests it made.
async fn collected_with(by: By, wrong: Option<(Wrong, usize)>, skipped: u32) -> usize {
    let (site, service, kept) = prepared(by).await;
    for _ in 0..skipped {
        site.collect_after(hours(21)).await;
    }
    let (doomed, faults) = site.process_over_faults().await;
    if let Some((wrong, number)) = wrong {
        wrong.apply(&faults, number);
    }
    let is_killed = wrong.is_some_and(|(wrong, _)| wrong.kills());
    let pass = tokio::spawn(async move { collect(&doomed).await });
    if is_killed {
        faults.died().await;
        pass.abort();
    } else {
        pass.await.unwrap().unwrap();
    }
    let requests = faults.log().len();
    assert!(pull(&service, &name(), &kept).await, "{wrong:?}");
    for _ in 0..7 {
        site.collect_after(hours(40)).await;
        assert!(pull(&service, &name(), &kept).await, "{wrong:?}");
    }
    // Nothing is left but the image that was kept.
    let keys = site.keys().await;
    let data = keys.iter().filter(|key| key.starts_with("data/")).count();
    let records = keys.iter().filter(|key| key.starts_with("layers/")).count();
    let links = keys.iter().filter(|key| key.contains("/_layers/")).count();
    assert_eq!((data, records, links), (1, 1, 1), "{wrong:?}: {keys:?}");
    requests
}

#[test]
fn fault_at_any_request_of_a_collection_is_continued_by_the_next() {
    let stride = if std::env::var("S3LAYERS_COLLECTION").is_ok_and(|extent| extent == "full") {
        1
    } else {
        23
    };
    let (begun, mut played) = (std::time::Instant::now(), 0);
    for by in [By::Delete, By::Tombstone] {
        for skipped in 0..2 {
            let run = |wrong| {
                crate::support::cases::runtime().block_on(collected_with(by, wrong, skipped))
            };
            let requests = run(None);
            for (nth, wrong) in ALL.into_iter().enumerate() {
                for number in (1 + nth..=requests).step_by(stride) {
                    run(Some((wrong, number)));
                    played += 1;
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("faults of a collection: {played} cases in {seconds:.1} s, 0 failed");
}
