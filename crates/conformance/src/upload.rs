//! Bytes that go in one way or another and come out the same, at every size that matters.

use std::io::Cursor;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use super::bytes::assert_same;
use super::case::{Case, FEW, assert_closed, finish, sha256, tar_sum};
use s3layers::LayerServiceExt as _;

pub(super) async fn a_new_upload_is_empty_and_knows_its_names(case: Case) {
    let first = case.begin().await;
    let second = case.begin().await;
    assert_ne!(first.uuid(), second.uuid());
    assert_eq!(first.offset(), 0);
    assert_eq!(*first.name(), case.name);
    assert_eq!(first.tar_sum(), None);

    let declared = tar_sum("tarsum.v1");
    let id = declared.clone().into();
    let third = case.here.upload(&case.other_name, Some(&id)).await.unwrap();
    assert_eq!(*third.name(), case.other_name);
    assert_eq!(third.tar_sum(), Some(&declared));
}

/// `size` bytes in one piece.
async fn comes_back(case: Case, size: u64) {
    let bytes = case.bytes(size);
    case.publish(&bytes).await;
    case.assert_stored(&bytes).await;
}

pub(super) async fn a_layer_of_no_bytes_comes_back(case: Case) {
    let mut upload = case.begin().await;
    let layer = finish(&mut upload, &Bytes::new()).await;
    assert_eq!(layer.size(), 0);
    case.assert_stored(&Bytes::new()).await;
}

pub(super) async fn a_layer_of_one_byte_comes_back(case: Case) {
    comes_back(case, 1).await;
}

pub(super) async fn a_layer_of_one_byte_less_than_a_part_comes_back(case: Case) {
    let size = case.part_size - 1;
    comes_back(case, size).await;
}

pub(super) async fn a_layer_of_exactly_one_part_comes_back(case: Case) {
    let size = case.part_size;
    comes_back(case, size).await;
}

pub(super) async fn a_layer_of_one_byte_more_than_a_part_comes_back(case: Case) {
    let size = case.part_size + 1;
    comes_back(case, size).await;
}

pub(super) async fn a_layer_of_exactly_two_parts_comes_back(case: Case) {
    let size = 2 * case.part_size;
    comes_back(case, size).await;
}

pub(super) async fn several_parts_and_an_odd_tail_come_back(case: Case) {
    let bytes = case.bytes(3 * case.part_size + 4321);
    let mut upload = case.begin().await;
    let piece = usize::try_from(case.part_size / 3 + 1).unwrap();
    for at in (0..bytes.len()).step_by(piece) {
        let piece = bytes.slice(at..bytes.len().min(at + piece));
        upload.write_bytes(piece).await.unwrap();
    }
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn many_tiny_writes_are_one_layer(case: Case) {
    let bytes = case.bytes(10_007);
    let mut upload = case.begin().await;
    for (nth, piece) in bytes.chunks(3).enumerate() {
        if nth % 2 == 0 {
            upload.write_all(piece).await.unwrap();
        } else {
            upload.write_bytes(bytes.slice_ref(piece)).await.unwrap();
        }
    }
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn one_huge_piece_is_one_layer(case: Case) {
    let size = 3 * case.part_size + 7;
    comes_back(case, size).await;
}

pub(super) async fn both_ways_of_writing_can_be_mixed(case: Case) {
    let bytes = case.bytes(2 * case.part_size + 99);
    let mut upload = case.begin().await;
    let mut random = case.random();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let len = 1 + random.below(case.part_size / 2);
        let piece = rest.split_to(rest.len().min(usize::try_from(len).unwrap()));
        if random.below(2) == 0 {
            upload.write_all(&piece).await.unwrap();
        } else {
            upload.write_bytes(piece).await.unwrap();
        }
        if random.below(4) == 0 {
            upload.flush().await.unwrap();
        }
    }
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn a_reader_can_be_copied_in(case: Case) {
    let bytes = case.bytes(case.part_size + case.part_size / 2 + 1);
    let mut upload = case.begin().await;
    let copied = tokio::io::copy(&mut &bytes[..], &mut upload).await.unwrap();
    assert_eq!(copied, bytes.len() as u64);
    assert_eq!(upload.offset(), copied);
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn every_accepted_byte_is_counted_at_once(case: Case) {
    let bytes = case.bytes(case.part_size + FEW);
    let mut upload = case.begin().await;
    let mut rest = bytes.clone();
    let mut taken = 0;
    for len in [1, 13, 4096, 0, 1] {
        upload.write_bytes(rest.split_to(len)).await.unwrap();
        taken += len as u64;
        assert_eq!(upload.offset(), taken);
    }
    while !rest.is_empty() {
        let wrote = upload.write(&rest).await.unwrap();
        assert!((1..=rest.len()).contains(&wrote), "a write of {wrote} bytes");
        rest = rest.split_off(wrote);
        taken += wrote as u64;
        assert_eq!(upload.offset(), taken);
    }
    finish(&mut upload, &bytes).await;
    assert_eq!(upload.offset(), bytes.len() as u64, "after the finish");
}

pub(super) async fn an_empty_write_changes_nothing(case: Case) {
    let bytes = case.bytes(FEW);
    let mut upload = case.begin().await;
    upload.write_bytes(Bytes::new()).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.write_bytes(Bytes::new()).await.unwrap();
    assert_eq!(upload.write(&[]).await.unwrap(), 0);
    upload.flush().await.unwrap();
    assert_eq!(upload.offset(), FEW);
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn shutting_down_closes_the_upload(case: Case) {
    let bytes = case.bytes(case.part_size + FEW);
    let mut upload = case.begin().await;
    upload.write_all(&bytes).await.unwrap();
    upload.shutdown().await.unwrap();
    assert_closed(&mut upload).await;
    let mut upload = case.resume_elsewhere(upload.uuid()).await;
    assert_eq!(upload.offset(), bytes.len() as u64);
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn push_and_pull_return_the_same_bytes(case: Case) {
    let bytes = case.bytes(case.part_size + 3);
    let layer = case.here.push(&case.name, &mut &bytes[..]).await.unwrap();
    assert_eq!(layer.size(), bytes.len() as u64);
    // Space for one byte too many, so that a reader without an end is detected.
    let mut pulled = vec![0; bytes.len() + 1];
    let mut room = Cursor::new(&mut pulled[..]);
    let id = sha256(&bytes).into();
    case.elsewhere.pull(&id, &mut room).await.unwrap();
    let len = usize::try_from(room.position()).unwrap();
    assert_same(&pulled[..len], &bytes, "what was pulled");
}

pub(super) async fn uploads_of_one_repository_do_not_mix(case: Case) {
    let contents: Vec<Bytes> = (0..3).map(|nth| case.other_bytes(nth, 9 * FEW)).collect();
    let mut uploads = Vec::new();
    for _ in &contents {
        uploads.push(case.begin().await);
    }
    for turn in 0..9 {
        let range = turn * FEW as usize..(turn + 1) * FEW as usize;
        for (upload, bytes) in uploads.iter_mut().zip(&contents) {
            upload.write_bytes(bytes.slice(range.clone())).await.unwrap();
        }
    }
    for (upload, bytes) in uploads.iter_mut().zip(&contents) {
        finish(upload, bytes).await;
    }
    for bytes in &contents {
        case.assert_stored(bytes).await;
    }
}
