//! Reads of a stored layer.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};

use super::bytes::assert_same;
use super::case::{Case, FEW, TINY, collect, read_rest, sha256, stream_rest};
use s3layers::Layer;

/// The bytes of a random seek's read: an odd number, as the tests of the first registry had it.
const PATTERN: usize = 13;

impl Case {
    /// A layer of several parts and an odd tail, fetched elsewhere, and its bytes.
    async fn large(&self) -> (Box<dyn Layer>, Bytes) {
        self.layer(2 * self.part_size + 4321).await
    }

    async fn layer(&self, size: u64) -> (Box<dyn Layer>, Bytes) {
        let bytes = self.bytes(size);
        self.publish(&bytes).await;
        let layer = self.elsewhere.fetch(&sha256(&bytes).into()).await;
        (layer.unwrap(), bytes)
    }
}

pub(super) async fn a_layer_read_in_pieces_is_the_same(case: Case) {
    let (mut layer, bytes) = case.large().await;
    let third = usize::try_from(case.part_size / 3).unwrap();
    let mut got = Vec::with_capacity(bytes.len());
    for size in [1, 7, 13, 4096, 65_537, third].into_iter().cycle() {
        let before = got.len();
        let mut piece = (&mut layer).take(size as u64);
        let read = piece.read_to_end(&mut got).await.unwrap();
        assert_eq!(layer.stream_position().await.unwrap(), got.len() as u64);
        assert_eq!(read, size.min(bytes.len() - before), "at {before}");
        if read < size {
            break;
        }
    }
    assert_same(&got, &bytes, "all pieces");
}

pub(super) async fn a_second_full_read_is_identical(case: Case) {
    let (mut layer, bytes) = case.large().await;
    assert_same(&read_rest(&mut layer).await, &bytes, "the first read");
    assert_eq!(layer.seek(SeekFrom::Start(0)).await.unwrap(), 0);
    assert_same(&read_rest(&mut layer).await, &bytes, "the second read");
}

pub(super) async fn random_seeks_read_the_bytes_that_are_there(case: Case) {
    let (mut layer, bytes) = case.large().await;
    let mut random = case.random();
    let size = layer.size();
    let last = size - PATTERN as u64;
    let mut edges = vec![0, last, case.part_size - 6, 2 * case.part_size - 6];
    for nth in 0..100_u64 {
        let target = edges.pop().unwrap_or_else(|| random.below(last + 1));
        let here = layer.stream_position().await.unwrap();
        let to = match nth % 3 {
            0 => SeekFrom::Start(target),
            1 => SeekFrom::Current(target.cast_signed() - here.cast_signed()),
            _ => SeekFrom::End(target.cast_signed() - size.cast_signed()),
        };
        assert_eq!(layer.seek(to).await.unwrap(), target, "{to:?}");
        let mut got = [0; PATTERN];
        layer.read_exact(&mut got).await.unwrap();
        let at = usize::try_from(target).unwrap();
        assert_same(&got, &bytes[at..at + PATTERN], &format!("read at {target}"));
        let here = layer.stream_position().await.unwrap();
        assert_eq!(here, target + PATTERN as u64);
    }
}

pub(super) async fn seek_returns_the_new_position(case: Case) {
    let (mut layer, bytes) = case.layer(FEW).await;
    for (to, want) in [
        (SeekFrom::Current(0), 0),
        (SeekFrom::End(0), FEW),
        (SeekFrom::Start(0), 0),
        (SeekFrom::Start(40), 40),
        (SeekFrom::Current(-7), 33),
        (SeekFrom::Current(9), 42),
        (SeekFrom::End(-1), FEW - 1),
        (SeekFrom::Current(50), FEW + 49),
        (SeekFrom::End(50), FEW + 50),
        (SeekFrom::Current(-60), FEW - 10),
    ] {
        assert_eq!(layer.seek(to).await.unwrap(), want, "{to:?}");
        assert_eq!(layer.stream_position().await.unwrap(), want, "{to:?}");
    }
    let rest = read_rest(&mut layer).await;
    assert_same(&rest, &bytes[FEW as usize - 10..], "the rest");
}

pub(super) async fn past_the_end_is_the_end_of_file(case: Case) {
    let (mut layer, bytes) = case.layer(FEW).await;
    for position in [FEW, FEW + 1, FEW + (1 << 40), u64::MAX >> 1] {
        let to = SeekFrom::Start(position);
        assert_eq!(layer.seek(to).await.unwrap(), position);
        assert_eq!(layer.read(&mut [0; 10]).await.unwrap(), 0, "{to:?}");
        assert_eq!(layer.read(&mut [0; 10]).await.unwrap(), 0, "{to:?}");
        assert_eq!(layer.stream_position().await.unwrap(), position);
    }
    layer.seek(SeekFrom::Start(1)).await.unwrap();
    assert_same(&read_rest(&mut layer).await, &bytes[1..], "back again");
}

pub(super) async fn a_negative_position_is_an_error_and_moves_nothing(case: Case) {
    let (mut layer, bytes) = case.layer(FEW).await;
    let mut start = [0; 10];
    layer.read_exact(&mut start).await.unwrap();
    for to in [
        SeekFrom::Current(-11),
        SeekFrom::Current(i64::MIN),
        SeekFrom::End(-(FEW.cast_signed()) - 1),
        SeekFrom::End(i64::MIN),
    ] {
        let error = layer.seek(to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{to:?}: {error}");
        assert_eq!(layer.stream_position().await.unwrap(), 10, "{to:?}");
    }
    assert_same(&read_rest(&mut layer).await, &bytes[10..], "the rest");
}

pub(super) async fn a_layer_of_no_bytes_is_at_its_end(case: Case) {
    let (mut layer, _) = case.layer(0).await;
    assert_eq!(layer.size(), 0);
    assert_eq!(layer.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(layer.seek(SeekFrom::End(0)).await.unwrap(), 0);
    layer.seek(SeekFrom::End(-1)).await.unwrap_err();
    assert_eq!(layer.read(&mut [0; 10]).await.unwrap(), 0);
    assert_same(&stream_rest(layer).await, b"", "the stream");
}

pub(super) async fn stream_returns_the_rest_from_the_middle(case: Case) {
    let (layer, bytes) = case.large().await;
    let id = layer.digest().clone().into();
    for at in [0, TINY, FEW, case.part_size + 1, layer.size() - 1] {
        let mut layer = case.elsewhere.fetch(&id).await.unwrap();
        layer.seek(SeekFrom::Start(at)).await.unwrap();
        assert_same(&stream_rest(layer).await, &bytes[at as usize..], &format!("from {at}"));
    }
    // After a read, too, of which the reader may hold more than it gave.
    let mut layer = layer;
    let mut start = [0; PATTERN];
    layer.read_exact(&mut start).await.unwrap();
    assert_same(&stream_rest(layer).await, &bytes[PATTERN..], "after a read");
}

pub(super) async fn a_stream_from_the_end_or_past_it_is_empty(case: Case) {
    let (layer, _) = case.layer(FEW).await;
    let id = layer.digest().clone().into();
    for at in [FEW, FEW + 1, 1 << 40] {
        let mut layer = case.elsewhere.fetch(&id).await.unwrap();
        layer.seek(SeekFrom::Start(at)).await.unwrap();
        assert_same(&stream_rest(layer).await, b"", &format!("from {at}"));
    }
}

pub(super) async fn a_stream_of_a_part_ends_with_it(case: Case) {
    let (layer, bytes) = case.large().await;
    let id = sha256(&bytes).into();
    let (size, middle) = (layer.size(), case.part_size + 77);
    for (from, to) in [
        (0, 1),
        (13, 113),
        (middle, middle + 100_000),
        (middle, size - 1),
        (middle, size),
        (size - 1, size + 100),
        (middle, middle),
        (middle, 5),
        (size, u64::MAX),
    ] {
        let mut layer = case.elsewhere.fetch(&id).await.unwrap();
        layer.seek(SeekFrom::Start(from)).await.unwrap();
        let got = collect(layer.into_stream_to(to), bytes.len()).await;
        let end = to.clamp(from, size);
        let want = &bytes[usize::try_from(from).unwrap()..usize::try_from(end).unwrap()];
        assert_same(&got, want, &format!("{from} to {to}"));
    }
}

pub(super) async fn a_stream_of_parts_has_each_part_and_nothing_else(case: Case) {
    let (layer, bytes) = case.large().await;
    let id = sha256(&bytes).into();
    let (size, middle) = (layer.size(), case.part_size + 77);
    for parts in [
        vec![],
        vec![size - 1..size, size..size + 1],
        vec![0..1, 2..3, 10..1000],
        vec![5..6, middle..middle + 100_000, size - 1..size],
        vec![0..middle, middle + 1..size],
        vec![13..14, size - 10..size + 100],
        vec![7..7, size..size + 1],
    ] {
        let mut layer = case.elsewhere.fetch(&id).await.unwrap();
        layer.seek(SeekFrom::Start(99)).await.unwrap();
        let got = collect(layer.into_stream_of(parts.clone()), bytes.len()).await;
        let want = parts.iter().flat_map(|part| {
            let end = usize::try_from(part.end.min(size)).unwrap();
            &bytes[usize::try_from(part.start).unwrap()..end]
        });
        let want: Vec<u8> = want.copied().collect();
        assert_same(&got, &want, &format!("{parts:?}"));
    }
}

pub(super) async fn two_readers_do_not_disturb_each_other(case: Case) {
    let (mut one, bytes) = case.large().await;
    let mut two = case.here.fetch(&one.digest().clone().into()).await.unwrap();
    two.seek(SeekFrom::Start(case.part_size + 1)).await.unwrap();
    let (one, two) = tokio::join!(read_rest(&mut one), read_rest(&mut two));
    assert_same(&one, &bytes, "one reader");
    assert_same(&two, &bytes[case.part_size as usize + 1..], "the other");
}

pub(super) async fn layer_can_be_closed_after_a_partial_read(case: Case) {
    let (mut layer, bytes) = case.large().await;
    let mut other = case.elsewhere.fetch(&layer.digest().clone().into()).await.unwrap();
    let mut start = [0; PATTERN];
    layer.read_exact(&mut start).await.unwrap();
    layer.close().await;
    layer.close().await;
    assert_eq!(layer.size(), bytes.len() as u64);
    assert_eq!(*layer.digest(), sha256(&bytes));
    drop(layer);
    assert_same(&read_rest(&mut other).await, &bytes, "another reader");
}

pub(super) async fn a_presigned_url_is_http(case: Case) {
    let (layer, _) = case.layer(FEW).await;
    let lifetime = Duration::from_secs(60);
    let Some(url) = layer.presigned_url(lifetime).await.unwrap() else {
        return; // The storage has no such thing, which the contract allows.
    };
    let host = url.strip_prefix("https://").or(url.strip_prefix("http://"));
    assert!(
        host.is_some_and(|host| !host.is_empty()) && !url.contains(char::is_whitespace),
        "not a URL: it has {} characters, and is a secret",
        url.len()
    );
}
