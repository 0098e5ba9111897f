//! What ends an upload without a layer.

use super::case::{
    Case, FEW, assert_closed, assert_over, finish, refused, sha256, try_finish,
};
use s3layers::Error;

pub(super) async fn a_cancelled_upload_is_unknown(case: Case) {
    let bytes = case.bytes(FEW);
    let mut upload = case.begin_with(&bytes).await;
    upload.cancel().await.unwrap();
    case.assert_unknown(upload.uuid()).await;
    case.assert_absent(sha256(&bytes)).await;
}

pub(super) async fn an_upload_of_no_bytes_can_be_cancelled(case: Case) {
    let mut upload = case.begin().await;
    upload.cancel().await.unwrap();
    case.assert_unknown(upload.uuid()).await;
}

pub(super) async fn an_upload_of_several_parts_can_be_cancelled(case: Case) {
    let bytes = case.bytes(2 * case.part_size + FEW);
    let mut open = case.begin_with(&bytes).await;
    open.cancel().await.unwrap();
    case.assert_unknown(open.uuid()).await;

    let uuid = case.begin_closed(&bytes).await;
    case.resume_elsewhere(uuid).await.cancel().await.unwrap();
    case.assert_unknown(uuid).await;
    case.assert_absent(sha256(&bytes)).await;
}

pub(super) async fn the_same_bytes_can_be_uploaded_after_a_cancel(case: Case) {
    let bytes = case.bytes(FEW);
    let mut first = case.begin_with(&bytes).await;
    first.cancel().await.unwrap();
    let mut second = case.begin().await;
    assert_ne!(second.uuid(), first.uuid());
    assert_eq!(second.offset(), 0);
    second.write_bytes(bytes.clone()).await.unwrap();
    case.finish_stored(&mut second, &bytes).await;
}

pub(super) async fn a_cancelled_handle_is_closed(case: Case) {
    let bytes = case.bytes(FEW);
    let mut upload = case.begin_with(&bytes).await;
    upload.cancel().await.unwrap();
    assert_closed(&mut upload).await;
}

pub(super) async fn an_upload_can_be_cancelled_from_another_handle(case: Case) {
    let bytes = case.bytes(FEW);
    let mut writer = case.begin_with(&bytes).await;
    let uuid = writer.uuid();
    case.resume_elsewhere(uuid).await.cancel().await.unwrap();
    case.assert_unknown(uuid).await;
    assert_over(try_finish(&mut writer, &bytes).await);
    case.assert_absent(sha256(&bytes)).await;
    case.assert_unknown(uuid).await;
}

pub(super) async fn a_second_cancel_is_upload_unknown(case: Case) {
    let mut first = case.begin().await;
    let cancelled = first.uuid();
    let mut second = case.resume_elsewhere(cancelled).await;
    first.cancel().await.unwrap();
    refused!(second.cancel().await, Error::UploadUnknown { uuid } if uuid == cancelled);
}

pub(super) async fn cancelling_a_finished_upload_leaves_the_layer_alone(case: Case) {
    let bytes = case.bytes(case.part_size + FEW);
    let uuid = case.begin_closed(&bytes).await;
    let mut late = case.resume_elsewhere(uuid).await;
    finish(&mut case.resume_here(uuid).await, &bytes).await;
    assert_over(late.cancel().await);
    case.assert_stored(&bytes).await;
}

pub(super) async fn cancelling_leaves_other_uploads_alone(case: Case) {
    let bytes = case.bytes(FEW);
    let published = case.other_bytes(1, FEW);
    case.publish(&published).await;
    let uuid = case.begin_closed(&bytes).await;
    // One of the same bytes as the running upload, one of the same bytes as the layer.
    for bytes in [&bytes, &published] {
        let cancelled = case.begin_closed(bytes).await;
        case.resume_here(cancelled).await.cancel().await.unwrap();
    }
    case.assert_stored(&published).await;
    finish(&mut case.resume_elsewhere(uuid).await, &bytes).await;
    case.assert_stored(&bytes).await;
}
