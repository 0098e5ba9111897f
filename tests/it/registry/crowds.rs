//! Many manifests at a time, or slow ones: what they hold of memory, and for how long. Time is
//! paused, and no socket in between, so that waiting costs nothing and every byte is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use s3layers::MemoryLayerService;
use s3layers_registry::{BodyError, Options, Registry, ResponseBody, router};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::support::bytes::{KIB, MIB};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const PIECE: usize = 64 * KIB as usize;
/// What a manifest may have.
const LARGE: usize = 4 * MIB as usize;

fn registry() -> Registry {
    router(Arc::new(MemoryLayerService::new()), Options::default())
}

/// Puts a manifest that comes in pieces, as they are sent here.
async fn put(
    registry: Registry,
    tag: usize,
    pieces: mpsc::Receiver<Bytes>,
) -> Response<ResponseBody> {
    let pieces = stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, BodyError>(Frame::data(piece)), pieces))
    });
    let request = Request::put(format!("/v2/a/manifests/v{tag}"))
        .header("content-type", INDEX)
        .body(StreamBody::new(pieces))
        .unwrap();
    registry.handle(request).await
}

/// An index of nothing, filled up with spaces.
fn index(size: usize) -> Bytes {
    let mut text = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
    text.extend(std::iter::repeat_n(' ', size.saturating_sub(text.len())));
    text.into()
}

/// Sends piece by piece, as they are taken.
async fn send(pieces: &mpsc::Sender<Bytes>, bytes: &Bytes, taken: &AtomicUsize) {
    for start in (0..bytes.len()).step_by(PIECE) {
        let piece = bytes.slice(start..bytes.len().min(start + PIECE));
        let length = piece.len();
        if pieces.send(piece).await.is_err() {
            return;
        }
        taken.fetch_add(length, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_trickles_has_a_minute_in_all() {
    let (pieces, received) = mpsc::channel(1);
    tokio::spawn(async move {
        for byte in index(10).chunks(1) {
            sleep(Duration::from_secs(20)).await;
            let _ = pieces.send(Bytes::copy_from_slice(byte)).await;
        }
    });
    let begun = Instant::now();
    let reply = put(registry(), 0, received).await;
    assert_eq!(reply.status(), 408);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(65), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn manifests_that_do_not_end_are_held_to_a_bound_together() {
    const CLIENTS: usize = 40;
    let begin = Duration::from_millis(500);
    let registry = registry();
    let taken = Arc::new(AtomicUsize::new(0));
    let stalled = (0..CLIENTS).map(|number| {
        let (pieces, received) = mpsc::channel(1);
        let (registry, taken) = (registry.clone(), taken.clone());
        tokio::spawn(async move {
            // Half of them take all memory before the others begin.
            let is_early = number < CLIENTS / 2;
            if !is_early {
                sleep(begin).await;
            }
            let sending = async {
                if is_early {
                    send(&pieces, &index(PIECE), &taken).await;
                    sleep(2 * begin).await;
                }
                send(&pieces, &index(LARGE - 2 * PIECE), &taken).await;
                pieces.closed().await;
            };
            tokio::join!(put(registry, number, received), sending).0
        })
    });
    let stalled: Vec<_> = stalled.collect();
    sleep(3 * begin).await;
    let held = taken.load(SeqCst);
    // Besides, each has a piece in hand, and one in the channel.
    let bound = 32 * MIB as usize + CLIENTS * 2 * PIECE;
    assert!(held <= bound, "{held} bytes are held");
    assert!(held >= bound / 2, "{held} bytes are held");

    // Who comes meanwhile has its turn when the minute of the others is over.
    let (pieces, received) = mpsc::channel(1);
    let sending = async {
        send(&pieces, &index(PIECE), &taken).await;
        drop(pieces);
    };
    let (reply, ()) = tokio::join!(put(registry, CLIENTS, received), sending);
    assert_eq!(reply.status(), 201);
    let mut refused = 0;
    for reply in join_all(stalled).await {
        let reply = reply.unwrap();
        match reply.status().as_u16() {
            408 => {}
            429 => {
                refused += 1;
                assert!(reply.headers().contains_key("retry-after"));
            }
            other => panic!("{other}"),
        }
    }
    // Requests that could not continue with the memory they held.
    assert!(refused >= CLIENTS / 4, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_large_manifests_gets_through() {
    let registry = registry();
    let taken = Arc::new(AtomicUsize::new(0));
    let crowd = (0..40).map(|number| {
        let (pieces, received) = mpsc::channel(1);
        let (registry, taken) = (registry.clone(), taken.clone());
        async move {
            let sending = async {
                send(&pieces, &index(LARGE), &taken).await;
                drop(pieces);
            };
            tokio::join!(put(registry, number, received), sending).0
        }
    });
    for reply in join_all(crowd).await {
        assert_eq!(reply.status(), 201);
    }
}
