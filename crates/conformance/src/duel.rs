//! Two handles on one upload. The newest owner wins, the other one gets a conflict, and their bytes
//! never mix.

use bytes::Bytes;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::case::{
    Case, FEW, TINY, assert_conflict, assert_over, assert_replaced, finish, sha256, try_finish, write_and_close,
    write_rest,
};
use s3layers::{Error, Result, LayerUpload};

/// The first `at` bytes of `first`, and what `second` has from there on.
fn spliced(first: &Bytes, at: u64, second: &Bytes) -> Bytes {
    let at = usize::try_from(at).unwrap();
    [&first[..at], &second[at..]].concat().into()
}

pub(super) async fn status_requests_do_not_disturb_the_writer(case: Case) {
    let bytes = case.bytes(3 * FEW);
    let mut writer = case.begin().await;
    let mut offset = 0;
    let mut guests = Vec::new();
    for _ in 0..3 {
        let guest = case.resume_elsewhere(writer.uuid()).await;
        assert!(guest.offset() <= writer.offset());
        guests.push(guest);
        drop(case.resume_here(writer.uuid()).await);
        let piece = bytes.slice(offset..offset + FEW as usize);
        writer.write_bytes(piece).await.unwrap();
        offset += FEW as usize;
    }
    writer.close().await.unwrap();
    case.finish_stored(&mut case.resume_here(writer.uuid()).await, &bytes).await;
}

pub(super) async fn closing_an_idle_handle_does_not_disturb_the_writer(case: Case) {
    let bytes = case.bytes(2 * FEW);
    let mut writer = case.begin().await;
    writer.write_bytes(bytes.slice(..FEW as usize)).await.unwrap();
    let mut guest = case.resume_elsewhere(writer.uuid()).await;
    guest.close().await.unwrap();
    write_rest(&mut writer, &bytes).await.unwrap();
    case.finish_stored(&mut writer, &bytes).await;
}

pub(super) async fn the_first_byte_through_a_resumed_handle_makes_it_the_owner(case: Case) {
    let (old, new) = (case.bytes(3 * FEW), case.other_bytes(1, 2 * FEW));
    let mut older = case.begin().await;
    older.write_bytes(old.slice(..FEW as usize)).await.unwrap();
    let mut newer = case.resume_elsewhere(older.uuid()).await;
    let bytes = spliced(&old, newer.offset(), &new);
    write_rest(&mut newer, &bytes).await.unwrap();
    assert_replaced(&mut older).await;
    assert_replaced(&mut older).await;
    case.finish_stored(&mut newer, &bytes).await;
}

/// An upload of `old`, closed at `closed` bytes, which an older handle has written more to. Then
/// a newer one closed other bytes: gives the older handle, and what the upload holds.
async fn replaced(case: &Case, old: &Bytes, closed: u64) -> (Box<dyn LayerUpload>, Bytes) {
    let uuid = case.begin_closed(&old.slice(..closed as usize)).await;
    let mut older = case.resume_here(uuid).await;
    write_rest(&mut older, old).await.unwrap();

    let mut newer = case.resume_elsewhere(uuid).await;
    let at = newer.offset();
    let taken = closed..=old.len() as u64;
    assert!(taken.contains(&at), "resumed at {at} of {taken:?}");
    let bytes = spliced(old, at, &case.other_bytes(1, old.len() as u64 + FEW));
    write_rest(&mut newer, &bytes).await.unwrap();
    newer.close().await.unwrap();
    (older, bytes)
}

/// What the newer handle closed is the upload, and nothing else.
async fn assert_newer_won(case: &Case, uuid: Uuid, bytes: &Bytes) {
    let mut upload = case.resume_elsewhere(uuid).await;
    assert_eq!(upload.offset(), bytes.len() as u64);
    finish(&mut upload, bytes).await;
    case.assert_stored(bytes).await;
}

pub(super) async fn replaced_writer_fails_before_anything_is_acknowledged(case: Case) {
    let old = case.bytes(3 * FEW);
    let (mut older, bytes) = replaced(&case, &old, FEW).await;
    assert_replaced(&mut older).await;
    assert_replaced(&mut older).await;
    assert_newer_won(&case, older.uuid(), &bytes).await;
}

pub(super) async fn the_older_writer_cannot_finish(case: Case) {
    let old = case.bytes(3 * FEW);
    let (mut older, bytes) = replaced(&case, &old, FEW).await;
    assert_conflict(try_finish(&mut older, &old).await);
    assert_conflict(try_finish(&mut older, &old).await);
    case.assert_absent(sha256(&old)).await;
    assert_newer_won(&case, older.uuid(), &bytes).await;
}

pub(super) async fn the_older_writer_of_several_parts_loses(case: Case) {
    let part = case.part_size;
    let old = case.bytes(2 * part + FEW);
    let (mut older, bytes) = replaced(&case, &old, part / 2).await;
    // More than a part, so that it cannot be kept back until the close.
    let outcome = write_and_close(&mut older, case.other_bytes(2, part + FEW)).await;
    assert_conflict(outcome);
    assert_newer_won(&case, older.uuid(), &bytes).await;
}

pub(super) async fn last_writer_of_several_resumed_handles_wins(case: Case) {
    let start = case.bytes(FEW);
    let uuid = case.begin_closed(&start).await;
    let mut handles = Vec::new();
    for service in [&case.here, &case.elsewhere, &case.here] {
        handles.push(service.resume(&case.name, None, uuid).await.unwrap());
    }
    // Resumed in this order, they write in another.
    let mut second = handles.pop().unwrap();
    let mut last = handles.remove(0);
    let mut first = handles.remove(0);
    let bytes = spliced(&start, FEW, &case.other_bytes(3, 2 * FEW));
    first.write_bytes(case.other_bytes(1, 7)).await.unwrap();
    second.write_bytes(case.other_bytes(2, 8)).await.unwrap();
    write_rest(&mut last, &bytes).await.unwrap();
    assert_replaced(&mut first).await;
    assert_replaced(&mut second).await;
    case.finish_stored(&mut last, &bytes).await;
}

pub(super) async fn a_handle_that_missed_acknowledged_bytes_cannot_write_over_them(case: Case) {
    let bytes = case.bytes(3 * FEW);
    let start = bytes.slice(..FEW as usize);
    let uuid = case.begin_closed(&start).await;
    let mut stale = case.resume_elsewhere(uuid).await;
    let mut stale_too = case.resume_here(uuid).await;

    let mut writer = case.resume_here(uuid).await;
    write_rest(&mut writer, &bytes).await.unwrap();
    writer.close().await.unwrap();

    assert_replaced(&mut stale).await;
    assert_conflict(try_finish(&mut stale_too, &start).await);
    case.assert_absent(sha256(&start)).await;
    assert_newer_won(&case, uuid, &bytes).await;
}

pub(super) async fn finishing_through_a_resumed_handle_makes_it_the_owner(case: Case) {
    let bytes = case.bytes(FEW);
    let uuid = case.begin_closed(&bytes).await;
    let mut older = case.resume_here(uuid).await;
    older.write_bytes(case.other_bytes(1, 10)).await.unwrap();

    finish(&mut case.resume_elsewhere(uuid).await, &bytes).await;
    let outcome = write_and_close(&mut older, case.other_bytes(1, 10)).await;
    assert_over(outcome);
    case.assert_unknown(uuid).await;
    case.assert_stored(&bytes).await;
}

pub(super) async fn finishing_what_another_handle_finished_is_refused(case: Case) {
    for size in [FEW, case.part_size + FEW] {
        let bytes = case.bytes(size);
        let uuid = case.begin_closed(&bytes).await;
        let mut late = case.resume_elsewhere(uuid).await;
        finish(&mut case.resume_here(uuid).await, &bytes).await;
        assert_over(try_finish(&mut late, &bytes).await);
        assert_over(try_finish(&mut late, &bytes).await);
        case.assert_unknown(uuid).await;
        case.assert_stored(&bytes).await;
    }
}

pub(super) async fn concurrent_finishes_publish_one_layer(case: Case) {
    for (nth, size) in (0..).zip([0, TINY, FEW, 2 * FEW, case.part_size + FEW]) {
        let bytes = case.other_bytes(nth, size);
        let uuid = case.begin_closed(&bytes).await;
        let one = case.resume_here(uuid).await;
        let two = case.resume_elsewhere(uuid).await;
        let finish = |mut upload: Box<dyn LayerUpload>| {
            let bytes = bytes.clone();
            tokio::spawn(async move { try_finish(&mut upload, &bytes).await })
        };
        let outcomes = both(finish(one), finish(two)).await;
        match outcomes {
            (Ok(_), Ok(_)) => (),
            (Ok(_), loser) | (loser, Ok(_)) => assert_over(loser),
            (Err(one), Err(two)) => panic!("both were refused: {one:?} and {two:?}"),
        }
        case.assert_stored(&bytes).await;
        case.assert_unknown(uuid).await;
    }
}

pub(super) async fn one_of_a_concurrent_finish_and_cancel_succeeds(case: Case) {
    for (nth, size) in (0..).zip([0, TINY, FEW, 2 * FEW, case.part_size, case.part_size + FEW]) {
        let bytes = case.other_bytes(nth, size);
        let uuid = case.begin_closed(&bytes).await;
        let mut one = case.resume_here(uuid).await;
        let mut two = case.resume_elsewhere(uuid).await;
        let finished = bytes.clone();
        let finish = tokio::spawn(async move { try_finish(&mut one, &finished).await });
        let cancel = tokio::spawn(async move { two.cancel().await });
        match both(finish, cancel).await {
            (Ok(_), cancelled) => {
                assert_over(cancelled);
                case.assert_stored(&bytes).await;
            }
            (finished, Ok(())) => {
                assert_over(finished);
                // So few bytes may be published beside the write that was refused.
                if size > TINY {
                    case.assert_absent(sha256(&bytes)).await;
                }
            }
            (Err(finish), Err(cancel)) => panic!("neither was done: {finish:?} and {cancel:?}"),
        }
        case.assert_unknown(uuid).await;
    }
}

/// Waits for two tasks, which run at the same time indeed.
async fn both<A, B>(one: JoinHandle<A>, two: JoinHandle<B>) -> (A, B) {
    let (one, two) = tokio::join!(one, two);
    (one.unwrap(), two.unwrap())
}

/// Writes what is missing of `bytes` in pieces, giving others a chance in between, and finishes.
async fn race(mut upload: Box<dyn LayerUpload>, bytes: Bytes) -> Result<()> {
    let mut rest = bytes.slice(usize::try_from(upload.offset()).unwrap()..);
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(10_000));
        upload.write_bytes(piece).await?;
        tokio::task::yield_now().await;
    }
    try_finish(&mut upload, &bytes).await.map(drop)
}

pub(super) async fn bytes_of_concurrent_writers_never_mix(case: Case) {
    let size = case.part_size + case.part_size / 4;
    for (nth, closed) in (0..).zip([0, TINY, FEW, case.part_size + 1]) {
        let one = case.other_bytes(2 * nth, size);
        let two = spliced(&one, closed, &case.other_bytes(2 * nth + 1, size));
        let uuid = case.begin_closed(&one.slice(..closed as usize)).await;
        let here = case.resume_here(uuid).await;
        let elsewhere = case.resume_elsewhere(uuid).await;
        let here = tokio::spawn(race(here, one.clone()));
        let elsewhere = tokio::spawn(race(elsewhere, two.clone()));
        let (won, lost, loser) = match both(here, elsewhere).await {
            (Ok(()), loser) => (one, two, loser),
            (loser, Ok(())) => (two, one, loser),
            // At most one wins. Bytes of the older that were in flight may have replaced those of the
            // newer. Then the upload is damaged, and nothing is published.
            (Err(one_lost), Err(two_lost)) => {
                let damaged = |error: &Error| matches!(error, Error::Damaged { .. });
                assert!(
                    damaged(&one_lost) || damaged(&two_lost),
                    "both were refused without damage: {one_lost:?} and {two_lost:?}"
                );
                case.assert_absent(sha256(&one)).await;
                case.assert_absent(sha256(&two)).await;
                case.assert_unknown(uuid).await;
                continue;
            }
        };
        assert_over(loser);
        case.assert_stored(&won).await;
        case.assert_absent(sha256(&lost)).await;
        case.assert_unknown(uuid).await;
    }
}
