//! Bytes that are uploaded more than once. The first layer stays, and later uploads return it.

use std::time::Duration;

use futures_util::future::join_all;

use super::case::{Case, FEW, TINY, assert_layer, finish, sha256, sha512};

/// Longer than the resolution of the clocks of stores and processes.
const A_WHILE: Duration = Duration::from_millis(20);

pub(super) async fn the_same_bytes_twice_are_the_first_layer(case: Case) {
    for size in [0, TINY, FEW, case.part_size + FEW] {
        let bytes = case.bytes(size);
        let first = case.publish(&bytes).await;
        tokio::time::sleep(A_WHILE).await;
        let mut second = case.publish(&bytes).await;
        assert_eq!(second.created_at(), first.created_at());
        assert_layer(&mut second, &bytes).await;
        case.assert_stored(&bytes).await;
    }
}

pub(super) async fn the_same_bytes_in_another_repository_are_the_first_layer(case: Case) {
    let bytes = case.bytes(FEW);
    let first = case.publish(&bytes).await;
    tokio::time::sleep(A_WHILE).await;
    let mut upload = case.elsewhere.upload(&case.other_name, None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let mut second = finish(&mut upload, &bytes).await;
    assert_eq!(*second.name(), case.name);
    assert_eq!(second.created_at(), first.created_at());
    assert_layer(&mut second, &bytes).await;
    case.assert_stored(&bytes).await;
}

pub(super) async fn the_same_bytes_under_a_new_digest_are_found_by_it(case: Case) {
    let bytes = case.bytes(FEW);
    let first = case.publish(&bytes).await;
    let mut upload = case.begin_with(&bytes).await;
    let second = upload.finish(FEW, &sha512(&bytes)).await.unwrap();
    assert_eq!(second.created_at(), first.created_at());
    assert_eq!(*second.digest(), sha256(&bytes));
    let id = sha512(&bytes).into();
    assert!(case.elsewhere.exists(&id).await.unwrap());
    let mut found = case.elsewhere.fetch(&id).await.unwrap();
    assert_eq!(found.created_at(), first.created_at());
    assert_layer(&mut found, &bytes).await;
    case.assert_stored(&bytes).await;
}

pub(super) async fn the_same_bytes_finished_at_once_are_one_layer(case: Case) {
    let bytes = case.bytes(FEW);
    let mut finishing = Vec::new();
    for service in [&case.here, &case.elsewhere, &case.here, &case.elsewhere] {
        let mut upload = service.upload(&case.name, None).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        let bytes = bytes.clone();
        finishing.push(async move { finish(&mut upload, &bytes).await });
    }
    let finishing = finishing.into_iter().map(tokio::spawn);
    let layers = join_all(finishing).await;
    let stored = case.here.fetch(&sha256(&bytes).into()).await.unwrap();
    for layer in layers {
        let mut layer = layer.unwrap();
        assert_eq!(layer.created_at(), stored.created_at());
        assert_layer(&mut layer, &bytes).await;
    }
    case.assert_stored(&bytes).await;
}
