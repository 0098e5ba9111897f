//! Layers of a repository: linked by a finish or a mount, until they are unlinked.

use super::super::bytes::assert_same;
use super::super::case::{FEW, read_rest, sha256, sha512};
use super::Case;
use s3layers::LayerId;

pub(super) async fn a_finished_layer_is_linked_in_its_repository_alone(case: Case) {
    let id = case.push(&case.bytes(0, FEW)).await;
    case.assert_linked(&case.name, &id).await;
    case.assert_not_linked(&case.other_name, &id).await;
}

pub(super) async fn unknown_layer_is_linked_nowhere(case: Case) {
    let id = sha256(&case.bytes(0, FEW)).into();
    case.assert_not_linked(&case.name, &id).await;
    // A repository that is there makes no difference.
    case.push(&case.bytes(1, FEW)).await;
    case.assert_not_linked(&case.name, &id).await;
}

pub(super) async fn a_linked_layer_reads_as_the_same_bytes(case: Case) {
    let bytes = case.bytes(0, 100_000);
    let id = case.push(&bytes).await;
    for service in [&case.here, &case.elsewhere] {
        for _ in 0..2 {
            let mut layer = service.layer(&case.name, &id).await.unwrap();
            assert_eq!(layer.size(), 100_000);
            assert_eq!(*layer.digest(), sha256(&bytes));
            assert_same(&read_rest(&mut layer).await, &bytes, "the layer");
        }
    }
}

/// Publishes bytes by their SHA-512, and gives both ids.
async fn push_by_sha512(case: &Case, nth: u64) -> [LayerId; 2] {
    let bytes = case.bytes(nth, FEW);
    let mut upload = case.here.upload(&case.name, None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(FEW, &sha512(&bytes)).await.unwrap();
    [sha256(&bytes).into(), sha512(&bytes).into()]
}

pub(super) async fn a_layer_is_linked_under_every_id_that_it_was_finished_with(case: Case) {
    for id in push_by_sha512(&case, 0).await {
        case.assert_linked(&case.name, &id).await;
    }
    // Stored already, and not by this id.
    case.push(&case.bytes(1, FEW)).await;
    for id in push_by_sha512(&case, 1).await {
        case.assert_linked(&case.name, &id).await;
    }
}

pub(super) async fn the_same_bytes_pushed_to_another_repository_are_linked_there(case: Case) {
    let bytes = case.bytes(0, FEW);
    let id = case.push(&bytes).await;
    case.push_to(&case.other_name, &bytes).await;
    case.assert_linked(&case.name, &id).await;
    case.assert_linked(&case.other_name, &id).await;
}

pub(super) async fn a_layer_is_mounted_from_another_repository(case: Case) {
    let id = case.push(&case.bytes(0, FEW)).await;
    let from = Some(&case.name);
    for service in [&case.here, &case.elsewhere] {
        assert!(service.mount(&case.other_name, &id, from).await.unwrap());
    }
    case.assert_linked(&case.other_name, &id).await;
    // Each has its own link.
    assert!(case.here.unlink(&case.name, &id).await.unwrap());
    case.assert_linked(&case.other_name, &id).await;
    case.assert_not_linked(&case.name, &id).await;
}

pub(super) async fn mount_from_a_repository_without_the_layer_returns_false(case: Case) {
    let id = case.push(&case.bytes(0, FEW)).await;
    let [third, fourth] = ["conformance/three", "conformance/four"].map(super::name);
    let mounted = case.here.mount(&third, &id, Some(&fourth)).await;
    assert!(!mounted.unwrap(), "stored, but not linked there");
    case.assert_not_linked(&third, &id).await;
    let never = sha256(&case.bytes(1, FEW)).into();
    let mounted = case.here.mount(&third, &never, Some(&case.name)).await;
    assert!(!mounted.unwrap(), "not stored");
}

pub(super) async fn any_stored_layer_is_mounted_without_a_source(case: Case) {
    let id = case.push(&case.bytes(0, FEW)).await;
    assert!(
        case.elsewhere
            .mount(&case.other_name, &id, None)
            .await
            .unwrap()
    );
    case.assert_linked(&case.other_name, &id).await;
    let never = sha256(&case.bytes(1, FEW)).into();
    let mounted = case.here.mount(&case.other_name, &never, None).await;
    assert!(!mounted.unwrap());
    case.assert_not_linked(&case.other_name, &never).await;
}

pub(super) async fn mounting_twice_is_as_mounting_once(case: Case) {
    let id = case.push(&case.bytes(0, FEW)).await;
    for from in [Some(&case.name), None, Some(&case.other_name)] {
        let mounted = case.here.mount(&case.other_name, &id, from).await;
        assert!(mounted.unwrap(), "from {from:?}");
    }
    case.assert_linked(&case.other_name, &id).await;
    assert!(case.here.unlink(&case.other_name, &id).await.unwrap());
    case.assert_not_linked(&case.other_name, &id).await;
}

pub(super) async fn a_layer_is_mounted_under_its_other_id(case: Case) {
    for (layer, mounted_by) in [(0, 0), (1, 1)] {
        let ids = push_by_sha512(&case, layer).await;
        let from = Some(&case.name);
        let mounted = case.here.mount(&case.other_name, &ids[mounted_by], from);
        assert!(mounted.await.unwrap());
        for id in &ids {
            case.assert_linked(&case.other_name, id).await;
        }
    }
}

pub(super) async fn an_unlinked_layer_is_unknown_there_and_its_bytes_stay(case: Case) {
    let bytes = case.bytes(0, FEW);
    let id = case.push(&bytes).await;
    case.push_to(&case.other_name, &bytes).await;
    assert!(case.here.unlink(&case.name, &id).await.unwrap());
    case.assert_not_linked(&case.name, &id).await;
    case.assert_linked(&case.other_name, &id).await;
    assert!(case.here.unlink(&case.other_name, &id).await.unwrap());
    assert!(case.here.exists(&id).await.unwrap(), "its bytes stay");
}

pub(super) async fn unlinking_an_absent_link_returns_false(case: Case) {
    let id = case.push(&case.bytes(0, FEW)).await;
    assert!(!case.here.unlink(&case.other_name, &id).await.unwrap());
    assert!(case.here.unlink(&case.name, &id).await.unwrap());
    for service in [&case.here, &case.elsewhere] {
        assert!(!service.unlink(&case.name, &id).await.unwrap(), "again");
    }
}

pub(super) async fn a_layer_is_unlinked_under_all_its_ids(case: Case) {
    for nth in [0, 1] {
        // Published by this id first, or by the other one.
        if nth == 1 {
            case.push(&case.bytes(nth, FEW)).await;
        }
        let ids = push_by_sha512(&case, nth).await;
        assert!(case.here.unlink(&case.name, &ids[nth as usize]).await.unwrap());
        for id in ids {
            case.assert_not_linked(&case.name, &id).await;
        }
    }
}

pub(super) async fn unlinked_layer_can_be_linked_again(case: Case) {
    let bytes = case.bytes(0, FEW);
    let id = case.push(&bytes).await;
    assert!(case.here.unlink(&case.name, &id).await.unwrap());
    case.push(&bytes).await;
    case.assert_linked(&case.name, &id).await;
    assert!(case.here.unlink(&case.name, &id).await.unwrap());
    assert!(case.here.mount(&case.name, &id, None).await.unwrap());
    case.assert_linked(&case.name, &id).await;
}

pub(super) async fn another_instance_forgets_an_unlinked_layer(case: Case) {
    let id = case.push(&case.bytes(0, FEW)).await;
    case.assert_linked(&case.name, &id).await;
    assert!(case.elsewhere.unlink(&case.name, &id).await.unwrap());
    let what = "an unlinked layer is linked here";
    eventually!(what, false, {
 super::is_linked(&case.here, &case.name, &id).await
});
}
