//! What ends an upload as a layer, and what does not.

use std::time::Duration;

use bytes::Bytes;

use super::case::{
    Case, FEW, TINY, assert_closed, assert_layer, finish, refused, sha256, sha512, tar_sum, try_finish,
    write_rest,
};
use s3layers::{clock, Error, LayerId};

/// What a store may round the time of day to.
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn finish_returns_the_layer_and_its_creation_time(case: Case) {
    let bytes = case.bytes(FEW);
    let began = clock::now();
    let mut layer = case.publish(&bytes).await;
    let ended = clock::now();
    assert_eq!(*layer.name(), case.name);
    assert_eq!(layer.tar_sum(), None);
    let created_at = layer.created_at();
    assert!(
        began - SECOND <= created_at && created_at <= ended + SECOND,
        "created at {created_at:?}, which is not from {began:?} to {ended:?}"
    );
    assert_layer(&mut layer, &bytes).await;
}

pub(super) async fn layer_has_the_same_properties_in_every_process(case: Case) {
    let bytes = case.bytes(FEW);
    let finished = case.publish(&bytes).await;
    let id = sha256(&bytes).into();
    for service in [&case.here, &case.elsewhere] {
        let fetched = service.fetch(&id).await.unwrap();
        assert_eq!(fetched.name(), finished.name());
        assert_eq!(fetched.digest(), finished.digest());
        assert_eq!(fetched.size(), finished.size());
        assert_eq!(fetched.tar_sum(), finished.tar_sum());
        assert_eq!(fetched.created_at(), finished.created_at());
    }
}

pub(super) async fn a_wrong_size_is_invalid_length_and_the_right_one_still_finishes(case: Case) {
    for size in [FEW, case.part_size + FEW] {
        let bytes = case.bytes(size);
        let mut upload = case.begin_with(&bytes).await;
        for wrong in [0, size - 1, size + 1, u64::MAX] {
            let finished = upload.finish(wrong, &sha256(&bytes)).await;
            refused!(finished, Error::InvalidLength { claimed, received }
                if (claimed, received) == (wrong, size));
            case.assert_absent(sha256(&bytes)).await;
        }
        case.finish_stored(&mut upload, &bytes).await;
    }
}

pub(super) async fn a_wrong_digest_is_invalid_checksum_and_the_right_one_still_finishes(
    case: Case,
) {
    for size in [FEW, case.part_size + FEW] {
        let bytes = case.bytes(size);
        let wrong = sha256(b"something else");
        let mut upload = case.begin_with(&bytes).await;
        let finished = upload.finish(size, &wrong).await;
        refused!(finished, Error::InvalidChecksum { claimed, computed }
            if claimed == wrong && computed == sha256(&bytes));
        case.assert_absent(sha256(&bytes)).await;
        case.assert_absent(wrong).await;
        case.finish_stored(&mut upload, &bytes).await;
    }
}

pub(super) async fn an_upload_takes_more_bytes_after_a_failed_finish(case: Case) {
    let bytes = case.bytes(case.part_size + FEW);
    let (few, all) = (FEW, bytes.len() as u64);
    let mut upload = case.begin().await;
    upload.write_bytes(bytes.slice(..few as usize)).await.unwrap();
    let finished = upload.finish(all, &sha256(&bytes)).await;
    refused!(finished, Error::InvalidLength { .. });
    let finished = upload.finish(few, &sha256(&bytes)).await;
    refused!(finished, Error::InvalidChecksum { .. });
    assert_eq!(upload.offset(), few);
    upload.write_bytes(bytes.slice(few as usize..)).await.unwrap();
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn the_length_is_checked_before_the_digest(case: Case) {
    let bytes = case.bytes(FEW);
    let mut upload = case.begin_with(&bytes).await;
    let finished = upload.finish(FEW + 1, &sha256(b"something else")).await;
    refused!(finished, Error::InvalidLength { .. });
}

pub(super) async fn an_empty_upload_with_another_digest_is_invalid_checksum(case: Case) {
    let mut upload = case.begin().await;
    let finished = upload.finish(0, &sha256(b"something else")).await;
    refused!(finished, Error::InvalidChecksum { computed, .. } if computed == sha256(b""));
    finish(&mut upload, &Bytes::new()).await;
    case.assert_stored(&Bytes::new()).await;
}

pub(super) async fn a_wrong_sha512_is_invalid_checksum_and_the_sha256_still_finishes(case: Case) {
    let bytes = case.bytes(case.part_size + FEW);
    let wrong = sha512(b"something else");
    let mut upload = case.begin_with(&bytes).await;
    let finished = upload.finish(bytes.len() as u64, &wrong).await;
    refused!(finished, Error::InvalidChecksum { claimed, computed }
        if claimed == wrong && computed == sha512(&bytes));
    case.assert_absent(sha256(&bytes)).await;
    case.assert_absent(wrong).await;
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn an_upload_whose_sha512_was_wrong_is_finished_elsewhere(case: Case) {
    for size in [FEW, case.part_size + FEW] {
        let bytes = case.bytes(size);
        let uuid = case.begin_closed(&bytes).await;
        let mut upload = case.resume_here(uuid).await;
        let finished = upload.finish(size, &sha512(b"something else")).await;
        refused!(finished, Error::InvalidChecksum { .. });
        drop(upload);
        let mut upload = case.resume_elsewhere(uuid).await;
        assert_eq!(upload.offset(), size);
        let layer = upload.finish(size, &sha512(&bytes)).await;
        assert_layer(&mut layer.unwrap(), &bytes).await;
        case.assert_stored(&bytes).await;
        case.assert_unknown(uuid).await;
    }
}

pub(super) async fn an_upload_whose_sha512_was_wrong_can_be_cancelled(case: Case) {
    let bytes = case.bytes(case.part_size + FEW);
    let mut upload = case.begin_with(&bytes).await;
    let finished = upload.finish(bytes.len() as u64, &sha512(b"other")).await;
    refused!(finished, Error::InvalidChecksum { .. });
    upload.cancel().await.unwrap();
    case.assert_unknown(upload.uuid()).await;
    case.assert_absent(sha256(&bytes)).await;
}

pub(super) async fn a_failed_finish_publishes_nothing_and_keeps_what_was_closed(case: Case) {
    let kept = case.part_size + FEW;
    let bytes = case.bytes(kept + 10 * FEW);
    let uuid = case.begin_closed(&bytes.slice(..kept as usize)).await;
    let mut upload = case.resume_here(uuid).await;
    upload.write_bytes(bytes.slice(kept as usize..)).await.unwrap();
    let finished = upload.finish(bytes.len() as u64, &sha256(b"other")).await;
    refused!(finished, Error::InvalidChecksum { .. });
    drop(upload);

    case.assert_absent(sha256(&bytes)).await;
    let mut upload = case.resume_elsewhere(uuid).await;
    let offset = upload.offset();
    assert!((kept..=bytes.len() as u64).contains(&offset), "{offset}");
    write_rest(&mut upload, &bytes).await.unwrap();
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn a_declared_digest_is_verified(case: Case) {
    let bytes = case.bytes(FEW);
    let declared = sha256(b"something else");
    let id = declared.clone().into();
    let mut upload = case.claim_with(&id, &bytes).await;
    let finished = try_finish(&mut upload, &bytes).await;
    refused!(finished, Error::InvalidChecksum { claimed, .. } if claimed == declared);
    // A resume that does not repeat the id does not get rid of it.
    upload.close().await.unwrap();
    let mut upload = case.resume_elsewhere(upload.uuid()).await;
    let finished = try_finish(&mut upload, &bytes).await;
    refused!(finished, Error::InvalidChecksum { claimed, .. } if claimed == declared);
    case.assert_absent(id).await;
    case.assert_absent(sha256(&bytes)).await;
    upload.cancel().await.unwrap();
}

pub(super) async fn an_id_given_at_the_resume_is_verified(case: Case) {
    let bytes = case.bytes(FEW);
    let uuid = case.begin_closed(&bytes).await;
    for wrong in [sha256(b"something else"), sha512(b"something else")] {
        let id = wrong.clone().into();
        let upload = case.elsewhere.resume(&case.name, Some(&id), uuid).await;
        let finished = try_finish(&mut upload.unwrap(), &bytes).await;
        refused!(finished, Error::InvalidChecksum { claimed, .. } if claimed == wrong);
        case.assert_absent(sha256(&bytes)).await;
    }
    let id = tar_sum("tarsum").into();
    let upload = case.elsewhere.resume(&case.name, Some(&id), uuid).await;
    let finished = try_finish(&mut upload.unwrap(), &bytes).await;
    refused!(finished, Error::TarSumVersionUnsupported { .. });
    case.assert_absent(sha256(&bytes)).await;

    let id = sha256(&bytes).into();
    let upload = case.elsewhere.resume(&case.name, Some(&id), uuid).await;
    finish(&mut upload.unwrap(), &bytes).await;
    case.assert_stored(&bytes).await;
}

pub(super) async fn a_declared_sha512_is_verified(case: Case) {
    let bytes = case.bytes(FEW);
    let declared = sha512(b"something else");
    let id = declared.clone().into();
    let mut upload = case.claim_with(&id, &bytes).await;
    let finished = try_finish(&mut upload, &bytes).await;
    refused!(finished, Error::InvalidChecksum { claimed, computed }
        if claimed == declared && computed == sha512(&bytes));
    case.assert_absent(sha256(&bytes)).await;
    upload.cancel().await.unwrap();
    case.assert_unknown(upload.uuid()).await;
}

/// Finishing an upload that declares the TarSum labelled so is refused, and leaves the upload as
/// it was, claim and all.
async fn is_unsupported(case: &Case, label: &str) {
    let bytes = case.bytes(FEW);
    let declared = tar_sum(label);
    let id = LayerId::from(declared.clone());
    let mut upload = case.here.upload(&case.name, Some(&id)).await.unwrap();
    let running = upload.uuid();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let finished = try_finish(&mut upload, &bytes).await;
    refused!(finished, Error::TarSumVersionUnsupported { tar_sum, .. } if tar_sum == declared);
    case.assert_absent(id.clone()).await;
    case.assert_absent(sha256(&bytes)).await;

    let second = case.elsewhere.upload(&case.name, Some(&id)).await;
    refused!(second, Error::UploadInProgress { uuid, .. } if uuid == running);
    upload.cancel().await.unwrap();
    case.assert_unknown(running).await;
}

pub(super) async fn a_tar_sum_of_an_unsupported_version_is_refused_and_can_be_cancelled(
    case: Case,
) {
    is_unsupported(&case, "tarsum").await;
    is_unsupported(&case, "tarsum.v9").await;
}

pub(super) async fn a_tar_sum_is_checked_last(case: Case) {
    let bytes = case.bytes(FEW);
    let id = tar_sum("tarsum").into();
    let mut upload = case.claim_with(&id, &bytes).await;
    let finished = upload.finish(FEW + 1, &sha256(&bytes)).await;
    refused!(finished, Error::InvalidLength { .. });
    let finished = upload.finish(FEW, &sha256(b"something else")).await;
    refused!(finished, Error::InvalidChecksum { .. });
    let finished = try_finish(&mut upload, &bytes).await;
    refused!(finished, Error::TarSumVersionUnsupported { .. });
}

pub(super) async fn a_finished_upload_is_unknown(case: Case) {
    for size in [0, TINY, FEW, case.part_size + FEW] {
        let bytes = case.bytes(size);
        let uuid = case.begin_closed(&bytes).await;
        finish(&mut case.resume_here(uuid).await, &bytes).await;
        case.assert_unknown(uuid).await;
    }
}

pub(super) async fn a_finished_handle_is_closed(case: Case) {
    let bytes = case.bytes(FEW);
    let mut upload = case.begin_with(&bytes).await;
    finish(&mut upload, &bytes).await;
    assert_closed(&mut upload).await;
    refused!(try_finish(&mut upload, &bytes).await, Error::UploadClosed { .. });
    case.assert_stored(&bytes).await;
}

pub(super) async fn an_upload_is_finished_elsewhere_without_another_byte(case: Case) {
    for size in [0, TINY, FEW, case.part_size] {
        let bytes = case.bytes(size);
        let uuid = case.begin_closed(&bytes).await;
        let mut upload = case.resume_elsewhere(uuid).await;
        assert_eq!(upload.offset(), size);
        let mut layer = finish(&mut upload, &bytes).await;
        assert_layer(&mut layer, &bytes).await;
        case.assert_stored(&bytes).await;
    }
}
