//! Declared ids. One upload at a time claims an id in a repository, for as long as it lives.

use std::sync::Arc;

use futures_util::future::join_all;
use uuid::Uuid;

use super::case::{Case, FEW, assert_layer, finish, refused, sha256, sha512, tar_sum, try_finish};
use s3layers::{Error, LayerId};

impl Case {
    /// Panics unless a second upload of `id` is sent to the first one, here and elsewhere.
    async fn assert_claimed(&self, id: &LayerId, by: Uuid) {
        for service in [&self.here, &self.elsewhere] {
            let second = service.upload(&self.name, Some(id)).await;
            refused!(second, Error::UploadInProgress { name, id: existing, uuid }
                if name == self.name && existing == *id && uuid == by);
        }
    }
}

pub(super) async fn a_second_upload_of_a_declared_id_is_in_progress_and_can_be_resumed(
    case: Case,
) {
    let bytes = case.bytes(FEW);
    let other_bytes = case.other_bytes(1, FEW);
    let sum = LayerId::from(tar_sum("tarsum.v1"));
    let ids = [
        (LayerId::from(sha256(&bytes)), Some(&bytes)),
        (LayerId::from(sha512(&other_bytes)), Some(&other_bytes)),
        (sum, None),
    ];
    for (id, bytes) in ids {
        let first = case.claim(&id).await;
        case.assert_claimed(&id, first.uuid()).await;
        let mut second = case.elsewhere.resume(&case.name, Some(&id), first.uuid()).await.unwrap();
        assert_eq!(second.tar_sum(), id.as_tar_sum());
        if let Some(bytes) = bytes {
            second.write_bytes(bytes.clone()).await.unwrap();
            finish(&mut second, bytes).await;
            case.assert_stored(bytes).await;
        }
    }
}

pub(super) async fn a_declared_id_that_is_stored_is_layer_exists(case: Case) {
    let bytes = case.bytes(FEW);
    let mut upload = case.begin_with(&bytes).await;
    upload.finish(FEW, &sha512(&bytes)).await.unwrap();
    for id in [LayerId::from(sha256(&bytes)), sha512(&bytes).into()] {
        case.assert_exists(&id).await;
    }
}

pub(super) async fn uploads_that_declare_nothing_claim_nothing(case: Case) {
    let bytes = case.bytes(FEW);
    let id = sha256(&bytes).into();
    let undeclared = case.begin().await;
    let claimant = case.claim(&id).await;
    case.begin().await;
    case.assert_claimed(&id, claimant.uuid()).await;
    assert_ne!(undeclared.uuid(), claimant.uuid());
}

pub(super) async fn another_repository_or_another_id_is_free(case: Case) {
    let bytes = case.bytes(FEW);
    let id = LayerId::from(sha256(&bytes));
    let mut first = case.claim(&id).await;
    let other_id = sha512(&bytes).into();
    let other = case.elsewhere.upload(&case.name, Some(&other_id)).await;
    assert_ne!(other.unwrap().uuid(), first.uuid());
    let mut second = case.elsewhere.upload(&case.other_name, Some(&id)).await.unwrap();
    assert_ne!(second.uuid(), first.uuid());

    // Both bring the same bytes to their end, and the second one gets the layer of the first.
    first.write_bytes(bytes.clone()).await.unwrap();
    second.write_bytes(bytes.clone()).await.unwrap();
    finish(&mut first, &bytes).await;
    let mut layer = finish(&mut second, &bytes).await;
    assert_eq!(*layer.name(), case.name);
    assert_layer(&mut layer, &bytes).await;
}

pub(super) async fn claim_outlives_a_close_and_a_drop(case: Case) {
    let id = sha256(&case.bytes(FEW)).into();
    let mut upload = case.claim(&id).await;
    let uuid = upload.uuid();
    upload.write_bytes(case.bytes(10)).await.unwrap();
    upload.close().await.unwrap();
    case.assert_claimed(&id, uuid).await;
    drop(upload);
    case.assert_claimed(&id, uuid).await;
    let mut upload = case.resume_elsewhere(uuid).await;
    upload.write_bytes(case.bytes(10)).await.unwrap();
    drop(upload);
    case.assert_claimed(&id, uuid).await;
}

pub(super) async fn a_claim_outlives_a_failed_finish(case: Case) {
    let bytes = case.bytes(FEW);
    let id = sha256(&bytes).into();
    let mut upload = case.claim(&id).await;
    upload.write_bytes(bytes.slice(..10)).await.unwrap();
    refused!(try_finish(&mut upload, &bytes).await, Error::InvalidLength { .. });
    case.assert_claimed(&id, upload.uuid()).await;
    let part = bytes.slice(..10);
    refused!(try_finish(&mut upload, &part).await, Error::InvalidChecksum { .. });
    case.assert_claimed(&id, upload.uuid()).await;
    upload.write_bytes(bytes.slice(10..)).await.unwrap();
    case.finish_stored(&mut upload, &bytes).await;
}

pub(super) async fn a_claim_ends_with_a_cancel(case: Case) {
    let bytes = case.bytes(FEW);
    let ids = [
        LayerId::from(tar_sum("tarsum.v1")),
        sha256(&bytes).into(),
    ];
    for id in ids {
        let mut first = case.claim(&id).await;
        first.cancel().await.unwrap();
        let second = case.elsewhere.upload(&case.name, Some(&id)).await;
        let second = second.unwrap();
        assert_ne!(second.uuid(), first.uuid());
        case.assert_claimed(&id, second.uuid()).await;
        case.resume_here(second.uuid()).await.cancel().await.unwrap();
    }
    let mut third = case.claim(&sha256(&bytes).into()).await;
    third.write_bytes(bytes.clone()).await.unwrap();
    case.finish_stored(&mut third, &bytes).await;
}

pub(super) async fn a_claim_ends_with_a_finish(case: Case) {
    let bytes = case.bytes(FEW);
    let id = LayerId::from(sha256(&bytes));
    let mut upload = case.claim_with(&id, &bytes).await;
    finish(&mut upload, &bytes).await;
    case.assert_exists(&id).await;
    case.assert_unknown(upload.uuid()).await;
}

pub(super) async fn one_of_many_concurrent_claims_wins(case: Case) {
    let bytes = case.bytes(FEW);
    let id = LayerId::from(sha256(&bytes));
    let mut uploads = Vec::new();
    for nth in 0..8 {
        let (name, id) = (case.name.clone(), id.clone());
        let service = if nth % 2 == 0 { &case.here } else { &case.elsewhere };
        let service = Arc::clone(service);
        uploads.push(tokio::spawn(async move { service.upload(&name, Some(&id)).await }));
    }
    let mut winner = None;
    let mut existing = Vec::new();
    for outcome in join_all(uploads).await {
        match outcome.unwrap() {
            Ok(upload) => assert!(winner.replace(upload).is_none(), "two uploads claim one id"),
            Err(Error::UploadInProgress { uuid, .. }) => existing.push(uuid),
            Err(other) => panic!("refused with {other:?}"),
        }
    }
    let mut winner = winner.expect("one of the uploads should have begun");
    assert_eq!(existing, vec![winner.uuid(); 7]);
    winner.write_bytes(bytes.clone()).await.unwrap();
    case.finish_stored(&mut winner, &bytes).await;
}

pub(super) async fn bytes_published_without_a_claim_do_not_stop_the_claimant(case: Case) {
    let bytes = case.bytes(FEW);
    let id = LayerId::from(sha256(&bytes));
    let mut claimant = case.claim(&id).await;
    let first = case.publish(&bytes).await;
    let again = case.elsewhere.upload(&case.name, Some(&id)).await;
    refused!(again, Error::LayerExists { id: existing } if existing == id);
    claimant.write_bytes(bytes.clone()).await.unwrap();
    let layer = finish(&mut claimant, &bytes).await;
    assert_eq!(layer.created_at(), first.created_at());
    case.assert_stored(&bytes).await;
}
