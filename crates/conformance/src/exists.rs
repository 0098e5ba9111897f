//! What is stored, and what is not.

use super::case::{Case, FEW, TINY, assert_layer, finish, refused, sha256, sha512, tar_sum};
use s3layers::{Error, LayerId};

/// An id of each kind.
fn ids(bytes: &[u8]) -> [LayerId; 3] {
    [
        sha256(bytes).into(),
        sha512(bytes).into(),
        tar_sum("tarsum.v1").into(),
    ]
}

pub(super) async fn unknown_layer_does_not_exist(case: Case) {
    for id in ids(&case.bytes(FEW)) {
        assert!(!case.here.exists(&id).await.unwrap(), "{id}");
        assert!(!case.elsewhere.exists(&id).await.unwrap(), "{id}");
    }
}

pub(super) async fn fetching_an_unknown_layer_is_layer_unknown(case: Case) {
    for id in ids(&case.bytes(FEW)) {
        let fetched = case.here.fetch(&id).await;
        refused!(fetched, Error::LayerUnknown { id: stored } if stored == id);
    }
}

pub(super) async fn a_finished_layer_is_found_here_and_elsewhere(case: Case) {
    let bytes = case.bytes(FEW);
    case.publish(&bytes).await;
    let id = sha256(&bytes).into();
    for service in [&case.here, &case.elsewhere] {
        assert!(service.exists(&id).await.unwrap());
        assert_layer(&mut service.fetch(&id).await.unwrap(), &bytes).await;
    }
}

pub(super) async fn unfinished_upload_is_not_a_layer(case: Case) {
    let bytes = case.bytes(case.part_size + FEW);
    let id = LayerId::from(sha256(&bytes));
    let mut upload = case.here.upload(&case.name, Some(&id)).await.unwrap();
    case.assert_absent(id.clone()).await;
    upload.write_bytes(bytes.clone()).await.unwrap();
    case.assert_absent(id.clone()).await;
    upload.close().await.unwrap();
    case.assert_absent(id).await;
    case.finish_stored(&mut case.resume_here(upload.uuid()).await, &bytes).await;
}

pub(super) async fn a_layer_is_found_by_both_digests_after_a_sha512_finish(case: Case) {
    for size in [0, TINY, FEW, case.part_size + 1] {
        let bytes = case.bytes(size);
        let mut upload = case.begin_with(&bytes).await;
        let layer = upload.finish(size, &sha512(&bytes)).await;
        assert_layer(&mut layer.unwrap(), &bytes).await;
        for id in [LayerId::from(sha256(&bytes)), sha512(&bytes).into()] {
            assert!(case.here.exists(&id).await.unwrap(), "{size} bytes, {id}");
            let mut layer = case.elsewhere.fetch(&id).await.unwrap();
            assert_layer(&mut layer, &bytes).await;
        }
    }
}

pub(super) async fn a_layer_is_found_by_its_declared_sha512(case: Case) {
    let bytes = case.bytes(FEW);
    let id = LayerId::from(sha512(&bytes));
    let mut upload = case.claim_with(&id, &bytes).await;
    finish(&mut upload, &bytes).await;
    assert!(case.elsewhere.exists(&id).await.unwrap());
    assert_layer(&mut case.elsewhere.fetch(&id).await.unwrap(), &bytes).await;
    case.assert_stored(&bytes).await;
}

pub(super) async fn a_declared_sha256_finished_by_sha512_is_found_by_both(case: Case) {
    let bytes = case.bytes(FEW);
    let declared = LayerId::from(sha256(&bytes));
    let mut upload = case.here.upload(&case.name, Some(&declared)).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(FEW, &sha512(&bytes)).await.unwrap();
    for id in [declared, sha512(&bytes).into()] {
        assert!(case.elsewhere.exists(&id).await.unwrap(), "{id}");
        assert_layer(&mut case.elsewhere.fetch(&id).await.unwrap(), &bytes).await;
    }
}
