//! How a layer is read over the wire: bounded ranges, several under way, and every byte right
//! despite any fault of the bodies.

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use futures_util::StreamExt as _;
use s3layers::{Error, Layer, LayerService as _, LayerServiceExt as _, S3LayerService};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};

use crate::support::bucket;
use crate::support::bytes::{KIB, MIB, assert_same, ramp};
use crate::support::fault_client::{FaultClient, GetObject, On, Position, Request};
use crate::support::stores::{self, BUCKET, name};

const BLOCK: u64 = 8 * MIB;

/// A layer of so many bytes, and the wire to it.
async fn layer(size: u64) -> (EmbeddedStore, FaultClient, Box<dyn Layer>, Bytes) {
    let store = stores::in_memory().await;
    let bytes = ramp(1, size);
    let service = stores::service(&store).await;
    let pushed = service.push(&name(), &mut &bytes[..]).await.unwrap();
    let wire = FaultClient::over(store.http_client());
    let client = stores::client(&store, wire.http_client());
    let service = S3LayerService::connect(client, stores::config());
    let service = service.await.unwrap();
    let id = pushed.digest().clone().into();
    let layer = service.fetch(&id).await.unwrap();
    wire.reset();
    (store, wire, layer, bytes)
}

/// By pushes that found the bytes gone.
#[tokio::test]
async fn open_layer_that_is_replaced_again_and_again_is_read() {
    let (store, _, mut layer, bytes) = layer(5 * BLOCK).await;
    let client = stores::sdk_client(&store);
    for block in [0, 4, 2] {
        for key in bucket::keys(&client).await {
            if key.starts_with("data/") {
                let delete = client.delete_object().bucket(BUCKET).key(&key);
                delete.send().await.unwrap();
            }
        }
        let elsewhere = stores::service(&store).await;
        elsewhere.push(&name(), &mut &bytes[..]).await.unwrap();
        elsewhere.wait_for_background().await;
        let at = block * BLOCK;
        layer.seek(SeekFrom::Start(at)).await.unwrap();
        let mut got = [0; 10];
        layer.read_exact(&mut got).await.unwrap();
        assert_eq!(got, bytes[at as usize..at as usize + 10], "block {block}");
    }
}

/// The range that a request asks for.
pub fn range(request: &Request) -> std::ops::Range<u64> {
    let range = request.range.as_ref().unwrap();
    let (first, last) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    first.parse().unwrap()..last.parse::<u64>().unwrap() + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_in_order_asks_for_bounded_ranges_several_at_a_time() {
    let (_store, wire, mut layer, want) = layer(64 * MIB).await;
    let mut got = Vec::new();
    // From the second block on: so that the first ranges are answered and the window has opened.
    let mut first = vec![0; 2 * MIB as usize];
    layer.read_exact(&mut first).await.unwrap();
    got.extend_from_slice(&first);
    let gate = wire.hold(On::every(GetObject));
    let rest = layer.read_to_end(&mut got);
    let several = async {
        gate.reached_by(3).await;
        gate.open();
    };
    let (rest, ()) = tokio::join!(rest, several);
    rest.unwrap();
    assert_same(&got, &want, "read in order");
    let log = wire.log();
    println!("64 MiB in order: {} requests", log.len());
    assert!(wire.most_in_flight(GetObject) >= 3);
    // Several are sent at once, in any order.
    let mut ranges: Vec<_> = log.iter().map(range).collect();
    ranges.sort_by_key(|range| range.start);
    let mut end = 0;
    for range in ranges {
        assert!(range.end - range.start <= BLOCK, "{range:?}");
        assert_eq!(range.start, end, "{range:?}");
        end = range.end;
    }
    assert_eq!(end, 64 * MIB, "every byte once");
}

async fn streamed(layer: Box<dyn Layer>) -> Vec<u8> {
    let mut stream = layer.into_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_body_costs_a_request_for_each_block() {
    for (size, requests) in [(100 * KIB, 1), (BLOCK, 1), (BLOCK + 1, 2), (16 * MIB, 2)] {
        let (_store, wire, layer, want) = layer(size).await;
        assert_same(&streamed(layer).await, &want, "a whole body");
        assert_eq!(wire.log().len(), requests, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_seeks_and_small_reads_cost_a_thousand_requests() {
    let (_store, wire, mut layer, want) = layer(40 * MIB).await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut some = [0; 4 * KIB as usize];
    for _ in 0..1000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = (seed >> 20) % (40 * MIB - 4 * KIB);
        layer.seek(SeekFrom::Start(at)).await.unwrap();
        layer.read_exact(&mut some).await.unwrap();
        assert_same(&some, &want[at as usize..][..some.len()], "after a seek");
    }
    let log = wire.log();
    let received: u64 = log.iter().map(|one| one.received).sum();
    println!(
        "1000 seeks: {} requests, {} KiB each",
        log.len(),
        received / KIB / 1000
    );
    assert!(log.len() <= 1000, "{} requests", log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_is_picked_up_at_the_exact_byte() {
    for cut in [On::cut_answer, On::shorten_answer] {
        let (_store, wire, mut layer, want) = layer(20 * MIB).await;
        // No body brings more than this.
        wire.fault(cut(On::every(GetObject), Position::Byte(1_000_001)));
        let mut got = Vec::new();
        layer.read_to_end(&mut got).await.unwrap();
        assert_same(&got, &want, "picked up");
        let log = wire.log();
        let received: u64 = log.iter().map(|one| one.received).sum();
        assert_eq!(received, 20 * MIB, "no byte was fetched twice");
        assert!(log.len() > 20, "{} requests", log.len());
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_whole_block_is_fetched_again_and_never_handed_out() {
    let (_store, wire, layer, want) = layer(16 * MIB).await;
    wire.fault(On::nth(GetObject, 1).flip_bit(Position::Middle));
    let got = streamed(layer).await;
    assert_same(&got, &want, "a layer with a flipped bit in a whole block");
    let log = wire.log();
    let flipped = range(&log[0]);
    assert_eq!(
        flipped.end - flipped.start,
        BLOCK,
        "a whole block: {flipped:?}"
    );
    let reads = log.iter().filter(|one| range(one) == flipped).count();
    assert_eq!(reads, 2, "it was fetched again");

    let (_store, wire, mut layer, want) = self::layer(100 * KIB).await;
    wire.fault(On::nth(GetObject, 1).flip_bit(Position::Byte(99)));
    let mut got = Vec::new();
    layer.read_to_end(&mut got).await.unwrap();
    assert_same(&got, &want, "a layer of one range");
    assert_eq!(wire.log().len(), 2, "it was fetched again");
}

/// The first block of a run comes in several ranges, and the first ones are handed out before the
/// block is whole. A bit flipped in one of them is an error at the block's end, and stays one until
/// the block is read right.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_first_ranges_is_an_error_before_the_block_ends() {
    let (store, wire, mut layer, want) = layer(20 * MIB).await;
    wire.fault(On::nth(GetObject, 1).flip_bit(Position::Byte(1000)));
    let mut got = Vec::new();
    let error = layer.read_to_end(&mut got).await.unwrap_err();
    let error = Error::from_io(error);
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(
        (got.len() as u64) < BLOCK,
        "{} bytes were handed out",
        got.len()
    );
    assert!(
        layer.read_u8().await.is_err(),
        "reading again is no way around it"
    );

    let id = layer.digest().clone().into();
    let mut got = Vec::new();
    let service = stores::service(&store).await;
    service.pull(&id, &mut got).await.unwrap();
    assert_same(&got, &want, "read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_stays_wrong_is_an_error_and_hands_nothing_out() {
    let (_store, wire, mut layer, _) = layer(100 * KIB).await;
    wire.fault(On::every(GetObject).flip_bit(Position::Byte(70_000)));
    let mut got = Vec::new();
    let error = Error::from_io(layer.read_to_end(&mut got).await.unwrap_err());
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(got.len(), 0);
}
