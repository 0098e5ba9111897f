//! The reader against a scripted store. Time is paused: waiting costs nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};

use super::plan::FIRST;
use super::{ReadBack, S3Layer};
use s3layers_tarsum::{Algorithm, Hasher};
use uuid::Uuid;

use crate::contract::Layer as _;
use crate::error::{Error, Result};
use crate::s3::bucket::Store;
use crate::s3::bucket::objects::ObjectBytes;
use crate::s3::bucket::presence;
use crate::s3::format::checksum::BLOCK;
use crate::s3::format::record::StoredLayer;

mod damage;
mod fake;

use fake::{Answer, Fake, etag, layer as layer_of, noise, store};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Two whole blocks and a short one.
const SIZE: u64 = 2 * BLOCK + 3 * MIB + 5;
const PLENTY: u64 = 1024 * MIB;

/// An object, its store, and the layer of it.
struct Scene {
    bytes: Bytes,
    fake: Arc<Fake>,
    store: Arc<Store>,
    layer: StoredLayer,
}

impl Scene {
    fn new(memory_budget: u64) -> Self {
        // Made once: an unoptimised build takes its time.
        static OBJECT: LazyLock<(Bytes, StoredLayer)> = LazyLock::new(|| {
            let bytes = noise(SIZE as usize);
            let layer = layer_of(&Fake::new(bytes.clone(), SIZE));
            (bytes, layer)
        });
        let (bytes, layer) = OBJECT.clone();
        let fake = Fake::new(bytes.clone(), SIZE);
        Scene {
            store: store(&fake, memory_budget),
            layer,
            bytes,
            fake,
        }
    }

    fn layer(&self) -> S3Layer {
        S3Layer::new(Arc::clone(&self.store), Arc::new(self.layer.clone()))
    }
}

/// Reads until an error or the end.
async fn read_all(layer: &mut S3Layer) -> (Vec<u8>, Option<Error>) {
    let mut bytes = Vec::new();
    let error = layer.read_to_end(&mut bytes).await.err();
    (bytes, error.map(Error::from_io))
}

async fn read_at(layer: &mut S3Layer, position: u64, length: usize) -> std::io::Result<Vec<u8>> {
    layer.seek(SeekFrom::Start(position)).await?;
    let mut bytes = vec![0; length];
    layer.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[tokio::test(start_paused = true)]
async fn a_layer_is_read_in_order_by_parallel_ranges() {
    let scene = Scene::new(PLENTY);
    let mut layer = scene.layer();
    assert_eq!(
        scene.fake.requests(),
        0,
        "nothing is asked for before a read"
    );
    let (bytes, error) = read_all(&mut layer).await;
    assert!(error.is_none() && bytes == scene.bytes);
    assert_eq!(
        scene.fake.requests(),
        8,
        "six in the first block, one in each other"
    );
}

#[tokio::test(start_paused = true)]
async fn half_a_gibibyte_in_69_requests() {
    let size = 512 * MIB;
    let fake = Fake::new(noise(BLOCK as usize), size);
    let mut layer = S3Layer::new(store(&fake, PLENTY), Arc::new(layer_of(&fake)));
    let begun = tokio::time::Instant::now();
    let read = tokio::io::copy(&mut layer, &mut tokio::io::sink()).await;
    assert_eq!(read.unwrap(), size);
    assert_eq!(fake.requests(), 69);
    assert_eq!(fake.most_open.load(SeqCst), 16);
    // 69 requests one after the other would take 690 ms of waiting.
    assert!(
        begun.elapsed() < Duration::from_millis(150),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_the_bytes_from_the_position_on() {
    let scene = Scene::new(PLENTY);
    let mut layer = scene.layer();
    layer.seek(SeekFrom::Start(5 * MIB + 1)).await.unwrap();
    let mut stream = Box::new(layer).into_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    assert!(bytes == scene.bytes[5 * MIB as usize + 1..]);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_block_that_was_wrong_is_handed_out_when_all_of_it_is_right() {
    let scene = Scene::new(PLENTY);
    scene.fake.script(|_, _| Answer::Flip(1000));
    let mut layer = scene.layer();
    let (_, error) = read_all(&mut layer).await;
    assert!(matches!(error, Some(Error::Damaged { .. })), "{error:?}");
    scene.fake.script(|_, _| Answer::Right);
    let (begun, end) = (scene.fake.requests(), 2 * MIB + 100);
    layer.seek(SeekFrom::Start(2 * MIB)).await.unwrap();
    let mut stream = Box::new(layer).into_stream_to(end);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    assert!(bytes == scene.bytes[2 * MIB as usize..end as usize]);
    assert_eq!(scene.fake.requests() - begun, 1, "the whole block");
}

#[tokio::test(start_paused = true)]
async fn random_reads_cost_one_request_each_at_most() {
    let scene = Scene::new(PLENTY);
    let mut layer = scene.layer();
    let mut place = 12_345_u64;
    for _ in 0..1_000 {
        place = place
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let position = (place >> 20) % (SIZE - 4096);
        let bytes = read_at(&mut layer, position, 4096).await.unwrap();
        assert!(
            bytes == scene.bytes[position as usize..][..4096],
            "{position}"
        );
    }
    assert!(scene.fake.requests() <= 1_000, "{}", scene.fake.requests());
}

#[tokio::test(start_paused = true)]
async fn a_seek_inside_what_is_buffered_costs_no_request() {
    let scene = Scene::new(PLENTY);
    let mut layer = scene.layer();
    for position in [0, 100_000, 7, 126_976, 0] {
        let bytes = read_at(&mut layer, position, 4096).await.unwrap();
        assert!(bytes == scene.bytes[position as usize..][..4096]);
    }
    assert_eq!(scene.fake.requests(), 1);
    layer.close().await;
    read_at(&mut layer, 0, 4096).await.unwrap();
    assert_eq!(scene.fake.requests(), 2, "closed: nothing is buffered");

    let end = layer.seek(SeekFrom::End(3)).await.unwrap();
    assert_eq!(end, SIZE + 3);
    assert_eq!(layer.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(layer.seek(SeekFrom::End(-(SIZE as i64) - 1)).await.is_err());
    assert_eq!(layer.stream_position().await.unwrap(), SIZE + 3);
    assert_eq!(scene.fake.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn small_layers_cost_a_request_and_empty_ones_none() {
    for (size, requests) in [
        (0, 0),
        (1, 1),
        (FIRST, 1),
        (2 * FIRST, 1),
        (2 * FIRST + 1, 2),
    ] {
        let bytes = noise(size.max(1) as usize);
        let fake = Fake::new(bytes.clone(), size);
        let mut layer = S3Layer::new(store(&fake, PLENTY), Arc::new(layer_of(&fake)));
        let (read, error) = read_all(&mut layer).await;
        assert!(error.is_none() && read == bytes[..size as usize], "{size}");
        assert_eq!(fake.requests(), requests, "{size} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn whole_bodies_are_asked_for_in_whole_blocks() {
    for (size, requests) in [
        (0, 0),
        (1, 1),
        (MIB, 1),
        (BLOCK, 1),
        (BLOCK + 1, 2),
        (24 * MIB, 3),
        (64 * MIB, 8),
    ] {
        let fake = Fake::new(noise(BLOCK as usize), size);
        let layer = S3Layer::new(store(&fake, 256 * MIB), Arc::new(layer_of(&fake)));
        let read = stream_all(layer).await;
        assert_eq!(read.len() as u64, size);
        assert_eq!(fake.requests(), requests, "{size} bytes");
    }
}

async fn stream_all(layer: S3Layer) -> Vec<u8> {
    let mut stream = Box::new(layer).into_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

/// How many of the next bytes of a stream, up to `most`, are in memory that the store's answers came in.
async fn kept(stream: &mut BoxStream<'static, Result<Bytes>>, answers: &Bytes, most: u64) -> u64 {
    let answers = answers.as_ptr_range();
    let (mut read, mut kept) = (0, 0);
    while read < most {
        let Some(piece) = stream.next().await else {
            return kept;
        };
        let piece = piece.unwrap();
        read += piece.len() as u64;
        if answers.contains(&piece.as_ptr()) {
            kept += piece.len() as u64;
        }
    }
    kept
}

/// A client that stalls keeps the buffers of its last pieces, so few readers may, and not at their end.
#[tokio::test(start_paused = true)]
async fn large_buffers_are_kept_by_eight_readers_and_not_at_the_end() {
    let answers = noise(BLOCK as usize);
    let fake = Fake::new(answers.clone(), 3 * BLOCK);
    let store = store(&fake, PLENTY);
    for (frame, want) in [(400, 14 * MIB..2 * BLOCK), (256, 0..1)] {
        fake.frame.store(frame * KIB as usize, SeqCst);
        let open = || {
            let layer = S3Layer::new(Arc::clone(&store), Arc::new(layer_of(&fake)));
            Box::new(layer).into_stream()
        };
        let mut streams: Vec<_> = (0..9).map(|_| open()).collect();
        let mut last = streams.pop().unwrap();
        for stream in &mut streams {
            kept(stream, &answers, 1).await;
        }
        assert_eq!(kept(&mut last, &answers, u64::MAX).await, 0, "the ninth");
        for stream in &mut streams {
            let begun = kept(stream, &answers, 2 * BLOCK).await;
            assert!(want.contains(&begun), "{frame} KiB: {begun}");
            assert_eq!(kept(stream, &answers, u64::MAX).await, 0, "the last range");
        }
        drop(streams);
        let mut next = open();
        assert!(want.contains(&kept(&mut next, &answers, u64::MAX).await));
    }
}

#[tokio::test(start_paused = true)]
async fn large_layer_is_read_by_four_requests_at_a_time_or_sixteen_from_a_distant_store() {
    for (latency, most) in [(10, 4), (90, 4), (110, 16)] {
        let size = 512 * MIB;
        let fake = Fake::new(noise(BLOCK as usize), size);
        *fake.latency.lock().unwrap() = Duration::from_millis(latency);
        let layer = S3Layer::new(store(&fake, 256 * MIB), Arc::new(layer_of(&fake)));
        let mut stream = Box::new(layer).into_stream();
        let mut read = 0;
        while let Some(piece) = stream.next().await {
            read += piece.unwrap().len() as u64;
        }
        assert_eq!(read, size);
        assert_eq!(fake.most_open.load(SeqCst), most, "{latency} ms");
        assert!(fake.requests() <= 140, "{} requests", fake.requests());
    }
}

/// The reader waits for its first range when that turns out to be slow.
#[tokio::test(start_paused = true)]
async fn distant_store_is_asked_for_more_before_its_first_answer() {
    let fake = Fake::new(noise(BLOCK as usize), 512 * MIB);
    *fake.latency.lock().unwrap() = Duration::from_secs(1);
    let layer = S3Layer::new(store(&fake, 256 * MIB), Arc::new(layer_of(&fake)));
    let mut stream = Box::new(layer).into_stream();
    let begun = tokio::time::Instant::now();
    stream.next().await.unwrap().unwrap();
    // Four of 8 MiB, and eight of 4 MiB in the rest of the memory.
    assert_eq!(fake.most_open.load(SeqCst), 12);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

/// In ranges smaller than a block, each block is still compared before any of it is handed out.
#[tokio::test(start_paused = true)]
async fn flipped_bit_in_half_a_block_is_fetched_again() {
    let size = 72 * MIB;
    let block = noise(BLOCK as usize);
    let fake = Fake::new(block.clone(), size);
    let layer = S3Layer::new(store(&fake, 64 * MIB), Arc::new(layer_of(&fake)));
    fake.script(|nth, range| match nth {
        1 => Answer::Flip(range.start + 1000),
        _ => Answer::Right,
    });
    let read = stream_all(layer).await;
    assert_eq!(read.len() as u64, size);
    assert!(read.chunks(BLOCK as usize).all(|read| read == block));
    let first = fake.log.lock().unwrap()[0].clone();
    assert_eq!(first, 0..4 * MIB);
}

#[tokio::test(start_paused = true)]
async fn reader_waits_while_others_hold_all_memory() {
    let scene = Scene::new(128 * MIB);
    let others = scene.store.budget.readers.holder();
    let mut taken = others.try_grow(32 * MIB).unwrap();
    taken.pin();
    let mut layer = scene.layer();
    let waiting = tokio::time::timeout(Duration::from_secs(600), layer.read_u8());
    assert!(waiting.await.is_err());
    assert_eq!(scene.fake.requests(), 0);
    drop(taken);
    let (bytes, error) = read_all(&mut layer).await;
    assert!(error.is_none() && bytes == scene.bytes);
}

#[tokio::test(start_paused = true)]
async fn little_memory_is_small_ranges() {
    let scene = Scene::new(128 * MIB);
    let others = scene.store.budget.readers.holder();
    let taken = others.try_grow(31 * MIB).unwrap();
    let read = stream_all(scene.layer()).await;
    assert!(read == scene.bytes);
    assert_eq!(scene.fake.most_open.load(SeqCst), 1);
    assert_eq!(scene.fake.requests() as u64, SIZE.div_ceil(MIB));
    drop(taken);
}

#[tokio::test(start_paused = true)]
async fn memory_of_a_reader_stays_within_the_pool() {
    let size = 100 * MIB;
    let fake = Fake::new(noise(BLOCK as usize), size);
    let pool = 20 * MIB;
    let mut layer = S3Layer::new(store(&fake, 4 * pool), Arc::new(layer_of(&fake)));
    let (mut read, mut most) = (0, 0);
    let mut buffer = vec![0; 40_000];
    loop {
        let n = layer.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        read += n;
        if read % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        most = most.max(fake.served.load(SeqCst) - read);
    }
    assert_eq!(read as u64, size);
    assert!(most as u64 <= pool, "{most}");
    assert!(most as u64 > pool / 2, "{most}: ranges are read ahead");
}

#[tokio::test(start_paused = true)]
async fn stalled_reader_gives_its_memory_back() {
    let scene = Scene::new(128 * MIB);
    let mut layer = scene.layer();
    let mut head = vec![0; 9 * MIB as usize + 77];
    layer.read_exact(&mut head).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let other = scene.store.budget.readers.holder();
    assert!(other.try_grow(32 * MIB).is_none(), "some is held");
    let waited = tokio::time::timeout(Duration::from_secs(10), other.reserve(32 * MIB));
    drop(waited.await.unwrap());

    // What was given back is fetched again, and its block still checked at its end.
    scene.fake.script(|_, _| Answer::Flip(2 * BLOCK - 1));
    let (rest, error) = read_all(&mut layer).await;
    assert!(matches!(error, Some(Error::Damaged { .. })), "{error:?}");
    assert!(rest == scene.bytes[head.len()..][..rest.len()]);
    assert!(head.len() + rest.len() < 2 * BLOCK as usize);
    scene.fake.script(|_, _| Answer::Right);
    let (more, error) = read_all(&mut layer).await;
    assert!(error.is_none(), "{error:?}");
    assert!([head, rest, more].concat() == scene.bytes);
}

/// More stalled readers than the pool has windows, and one that reads.
#[tokio::test(start_paused = true)]
async fn stalled_readers_stop_no_other_reader() {
    let scene = Scene::new(16 * MIB);
    let mut stalled = Vec::new();
    for _ in 0..9 {
        let mut layer = scene.layer();
        layer.read_u8().await.unwrap();
        stalled.push(layer);
    }
    let read = tokio::time::timeout(Duration::from_secs(60), stream_all(scene.layer()));
    assert!(read.await.unwrap() == scene.bytes);
    for layer in &mut stalled {
        let (rest, error) = read_all(layer).await;
        assert!(error.is_none() && rest == scene.bytes[1..]);
    }
}

/// More slow clients than the pool has windows: what was fetched is handed out, not fetched again.
#[tokio::test(start_paused = true)]
async fn slow_readers_use_what_they_fetched() {
    let scene = Scene::new(16 * MIB);
    let read_slowly = async |mut layer: S3Layer| {
        let (mut piece, mut read) = (vec![0; 32 * 1024], 0);
        for _ in 0..200 {
            read += layer.read(&mut piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        read
    };
    let readers = (0..8).map(|_| {
        let mut layer = scene.layer();
        layer.reader.want_all_to(SIZE);
        read_slowly(layer)
    });
    let read: usize = futures_util::future::join_all(readers).await.iter().sum();
    let served = scene.fake.served.load(SeqCst);
    assert!(served <= 2 * read + 8 * MIB as usize, "{served} for {read}");
}

/// A block that cannot be under way as a whole is handed out as it comes.
#[tokio::test(start_paused = true)]
async fn part_of_a_block_does_not_wait_for_the_next_part() {
    let scene = Scene::new(128 * MIB);
    let others = scene.store.budget.readers.holder();
    let _taken = others.try_grow(29 * MIB).unwrap();
    scene.fake.script(|_, range| match range.start {
        MIB => Answer::Stall(0),
        _ => Answer::Right,
    });
    let mut stream = Box::new(scene.layer()).into_stream();
    let mut read = 0;
    let first = async {
        while read < MIB {
            read += stream.next().await.unwrap().unwrap().len() as u64;
        }
    };
    let first = tokio::time::timeout(Duration::from_secs(1), first).await;
    assert!(first.is_ok(), "{read}");
}

#[tokio::test(start_paused = true)]
async fn an_object_without_a_record_is_read_back() {
    let scene = Scene::new(PLENTY);
    scene.fake.script(|nth, _| match nth {
        1 => Answer::Cut(100_000),
        2 => Answer::Status(500, "InternalError"),
        _ => Answer::Right,
    });
    let mut hasher = Hasher::new(Algorithm::Sha512);
    let mut segments = scene.layer.segments().to_vec();
    let mut object = ReadBack::of(&scene.store, Uuid::nil(), &segments, SIZE);
    while let Some(bytes) = object.next().await.unwrap() {
        hasher.update(&bytes);
    }
    let mut want = Hasher::new(Algorithm::Sha512);
    want.update(&scene.bytes);
    assert_eq!(hasher.digest(), want.digest());
    assert!(scene.fake.most_open.load(SeqCst) >= 3);

    segments[0].etag = etag("other");
    let mut object = ReadBack::of(&scene.store, Uuid::nil(), &segments, SIZE);
    let other = object.next().await;
    assert!(matches!(other, Err(Error::Damaged { .. })), "{other:?}");
}

#[tokio::test(start_paused = true)]
async fn a_url_lives_no_longer_than_is_configured() {
    let scene = Scene::new(PLENTY);
    let looking = presence::begin(&scene.store, &fake::key());
    presence::note(&scene.store, &fake::key(), &etag("etag"), looking);
    let layer = scene.layer();
    for (asked, expires) in [(60, 60), (100_000, 900)] {
        let url = layer
            .presigned_url(Duration::from_secs(asked))
            .await
            .unwrap()
            .unwrap();
        let path = format!("/bucket/{}?", fake::key());
        assert!(url.contains(&path), "{url}");
        assert!(url.contains(&format!("X-Amz-Expires={expires}&")), "{url}");
    }
}
