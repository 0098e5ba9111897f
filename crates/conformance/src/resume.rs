//! Uploads that are closed or dropped, and resumed: in the other process, unless a case says
//! otherwise.

use bytes::Bytes;
use futures_util::future::join_all;
use uuid::Uuid;

use super::case::{Case, FEW, assert_closed, finish, refused, sha256, sha512, write_rest};
use s3layers::{Error, LayerId, LayerUpload};

pub(super) async fn upload_that_never_began_is_unknown(case: Case) {
    case.assert_unknown(Uuid::from_u128(0)).await;
    case.assert_unknown(Uuid::from_u128(0x1234_5678)).await;
}

pub(super) async fn a_resumed_upload_has_the_digest_of_its_bytes_if_it_says_one(case: Case) {
    let bytes = case.bytes(FEW);
    let running = case.begin_closed(&bytes).await;
    for mut upload in [case.resume_elsewhere(running).await, case.resume_here(running).await] {
        if let Some(digest) = upload.digest_at_start() {
            assert_eq!(*digest, sha256(&bytes));
        }
        upload.close().await.unwrap();
    }
}

pub(super) async fn an_upload_of_another_repository_is_unknown(case: Case) {
    let bytes = case.bytes(FEW);
    let running = case.begin_closed(&bytes).await;
    for service in [&case.here, &case.elsewhere] {
        let resumed = service.resume(&case.other_name, None, running).await;
        refused!(resumed, Error::UploadUnknown { uuid } if uuid == running);
    }
    finish(&mut case.resume_here(running).await, &bytes).await;
}

pub(super) async fn an_upload_of_another_declared_id_is_unknown(case: Case) {
    let bytes = case.bytes(FEW);
    let declared = sha256(&bytes).into();
    let upload = case.here.upload(&case.name, Some(&declared)).await;
    let running = upload.unwrap().uuid();
    let others: [LayerId; 2] = [sha256(b"something else").into(), sha512(&bytes).into()];
    for other in others {
        for service in [&case.here, &case.elsewhere] {
            let resumed = service.resume(&case.name, Some(&other), running).await;
            refused!(resumed, Error::UploadUnknown { uuid } if uuid == running);
        }
    }
}

pub(super) async fn an_upload_is_resumed_with_its_declared_id_or_without(case: Case) {
    let bytes = case.bytes(FEW);
    let mut upload = case.here.upload(&case.name, None).await.unwrap();
    assert_eq!(upload.declared_id(), None);
    upload.close().await.unwrap();
    let id = sha256(&bytes).into();
    let mut upload = case.here.upload(&case.name, Some(&id)).await.unwrap();
    assert_eq!(upload.declared_id(), Some(&id));
    upload.close().await.unwrap();
    let uuid = upload.uuid();

    let mut upload = case.resume_elsewhere(uuid).await;
    assert_eq!(upload.declared_id(), Some(&id));
    upload.write_bytes(bytes.slice(..10)).await.unwrap();
    upload.close().await.unwrap();
    let mut upload = case.elsewhere.resume(&case.name, Some(&id), uuid).await.unwrap();
    assert_eq!(upload.offset(), 10);
    upload.write_bytes(bytes.slice(10..)).await.unwrap();
    case.finish_stored(&mut upload, &bytes).await;
}

/// Writes the bytes of `bytes` that the upload does not have yet, and finishes it.
async fn complete(upload: &mut Box<dyn LayerUpload>, bytes: &Bytes) {
    write_rest(upload, bytes).await.unwrap();
    finish(upload, bytes).await;
}

pub(super) async fn closed_upload_resumes_elsewhere_at_every_boundary(case: Case) {
    let case = &case;
    let points = (0..).zip(case.points());
    join_all(points.map(|(nth, point)| async move {
        let bytes = case.other_bytes(nth, point + case.part_size / 8);
        let closed = bytes.slice(..point as usize);
        let uuid = case.begin_closed(&closed).await;
        let mut upload = case.resume_elsewhere(uuid).await;
        assert_eq!(upload.offset(), point);
        assert_eq!(upload.uuid(), uuid);
        assert_eq!(*upload.name(), case.name);
        complete(&mut upload, &bytes).await;
        case.assert_stored(&bytes).await;
    }))
    .await;
}

pub(super) async fn dropped_upload_resumes_elsewhere_at_every_boundary(case: Case) {
    let case = &case;
    let points = (0..).zip(case.points());
    join_all(points.map(|(nth, point)| async move {
        let bytes = case.other_bytes(nth, point + case.part_size / 8);
        let mut cut = case.begin().await;
        let uuid = cut.uuid();
        let taken = bytes.slice(..point as usize);
        for piece in taken.chunks(100_000) {
            cut.write_bytes(taken.slice_ref(piece)).await.unwrap();
        }
        drop(cut);
        let mut upload = case.resume_elsewhere(uuid).await;
        let offset = upload.offset();
        assert!(offset <= point, "cut at {point}, resumed at {offset}");
        complete(&mut upload, &bytes).await;
        case.assert_stored(&bytes).await;
    }))
    .await;
}

pub(super) async fn closed_bytes_survive_a_later_drop(case: Case) {
    let case = &case;
    let points = (0..).zip(case.points());
    join_all(points.map(|(nth, point)| async move {
        let lost = case.part_size / 8;
        let bytes = case.other_bytes(nth, point + lost + FEW);
        let uuid = case.begin_closed(&bytes.slice(..point as usize)).await;
        let mut cut = case.resume_here(uuid).await;
        let end = point + lost;
        let more = bytes.slice(point as usize..end as usize);
        cut.write_bytes(more).await.unwrap();
        drop(cut);
        let mut upload = case.resume_elsewhere(uuid).await;
        let offset = upload.offset();
        assert!((point..=end).contains(&offset), "{offset} after {point}");
        complete(&mut upload, &bytes).await;
        case.assert_stored(&bytes).await;
    }))
    .await;
}

/// Writes `bytes` in steps of these sizes, each through a handle of its own, in turn in one
/// process and in the other.
async fn chain(case: &Case, bytes: &Bytes, sizes: &[u64]) {
    let mut upload = case.begin().await;
    let uuid = upload.uuid();
    let mut offset = 0;
    for (nth, size) in sizes.iter().enumerate() {
        assert_eq!(upload.offset(), offset, "step {nth}");
        let end = offset + size;
        let piece = bytes.slice(offset as usize..end as usize);
        upload.write_bytes(piece).await.unwrap();
        upload.close().await.unwrap();
        offset = end;
        upload = if nth % 2 == 0 {
            case.resume_elsewhere(uuid).await
        } else {
            case.resume_here(uuid).await
        };
    }
    assert_eq!(upload.offset(), offset, "the last step");
    finish(&mut upload, bytes).await;
    case.assert_stored(bytes).await;
}

pub(super) async fn a_chain_of_many_resumes_is_one_layer(case: Case) {
    let mut random = case.random();
    let mut sizes = vec![0, 1];
    for limit in [16, 200, 10_000, 40_000].iter().cycle().take(28) {
        sizes.push(random.below(*limit));
    }
    let bytes = case.bytes(sizes.iter().sum());
    chain(&case, &bytes, &sizes).await;
}

pub(super) async fn a_chain_of_whole_parts_is_one_layer(case: Case) {
    let part = case.part_size;
    let sizes = [part - 1, 1, part, FEW, part + 1, part / 2, part / 2, 1];
    let bytes = case.bytes(sizes.iter().sum());
    chain(&case, &bytes, &sizes).await;
}

pub(super) async fn idle_handle_changes_nothing(case: Case) {
    let bytes = case.bytes(FEW);
    let uuid = case.begin_closed(&bytes).await;
    for _ in 0..3 {
        assert_eq!(case.resume_here(uuid).await.offset(), FEW);
        let mut upload = case.resume_elsewhere(uuid).await;
        assert_eq!(upload.offset(), FEW);
        upload.close().await.unwrap();
    }
    case.finish_stored(&mut case.resume_here(uuid).await, &bytes).await;
}

pub(super) async fn a_closed_handle_is_closed(case: Case) {
    let bytes = case.bytes(FEW);
    let mut upload = case.begin_with(&bytes).await;
    upload.close().await.unwrap();
    assert_closed(&mut upload).await;
    let mut upload = case.resume_here(upload.uuid()).await;
    assert_eq!(upload.offset(), FEW);
    finish(&mut upload, &bytes).await;
}

pub(super) async fn every_handle_reports_the_offset(case: Case) {
    let bytes = case.bytes(case.part_size + FEW);
    let (few, all) = (FEW as usize, bytes.len() as u64);
    let mut upload = case.begin().await;
    assert_eq!(upload.offset(), 0);
    upload.write_bytes(bytes.slice(..few)).await.unwrap();
    assert_eq!(upload.offset(), FEW);
    upload.close().await.unwrap();
    assert_eq!(upload.offset(), FEW, "closed");

    let mut upload = case.resume_elsewhere(upload.uuid()).await;
    assert_eq!(upload.offset(), FEW, "resumed");
    upload.write_bytes(bytes.slice(few..)).await.unwrap();
    assert_eq!(upload.offset(), all);
    let finished = upload.finish(all + 1, &sha256(&bytes)).await;
    refused!(finished, Error::InvalidLength { received, .. } if received == all);
    assert_eq!(upload.offset(), all, "not finished");
    finish(&mut upload, &bytes).await;
    assert_eq!(upload.offset(), all, "finished");
}
