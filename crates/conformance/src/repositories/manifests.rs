//! Manifests: kept byte for byte, with what the client said of them.

use super::super::case::{FEW, sha256, sha512};
use super::{Case, manifest_of};
use s3layers::Manifest;
use s3layers::clock::Moment;

pub(super) async fn manifest_is_returned_unchanged(case: Case) {
    let plain = Manifest {
        annotations: [].into(),
        ..case.manifest(0)
    };
    let full = case.manifest_about(1, &plain.digest);
    for manifest in [plain, full] {
        case.put(&manifest).await;
        for service in [&case.here, &case.elsewhere] {
            for _ in 0..2 {
                let got = service.manifest(&case.name, &manifest.digest).await;
                assert_eq!(got.unwrap().as_ref(), Some(&manifest));
            }
        }
    }
}

/// As a registry stores one: it looks at the layers first.
pub(super) async fn manifest_of_a_confirmed_layer_is_stored(case: Case) {
    let since = Moment::now();
    let id = case.push(&case.bytes(0, FEW)).await;
    let layer = case.elsewhere.confirm_layer(&case.name, &id).await.unwrap();
    assert!(layer.is_some_and(|layer| layer.size() == FEW));
    let elsewhere = case.here.confirm_layer(&case.other_name, &id).await;
    assert!(elsewhere.unwrap().is_none(), "not linked there");
    let manifest = case.manifest(0);
    let put = case.elsewhere.put_confirmed_manifest(&case.name, &manifest, since);
    put.await.unwrap();
    let got = case.here.manifest(&case.name, &manifest.digest).await;
    assert_eq!(got.unwrap().as_ref(), Some(&manifest));
    assert!(case.here.unlink(&case.name, &id).await.unwrap());
    let gone = case.elsewhere.confirm_layer(&case.name, &id).await;
    assert!(gone.unwrap().is_none());
}

pub(super) async fn a_large_manifest_comes_back(case: Case) {
    let manifest = manifest_of(case.bytes(0, 4 * 1024 * 1024));
    case.put(&manifest).await;
    let got = case.elsewhere.manifest(&case.name, &manifest.digest).await;
    assert!(got.unwrap() == Some(manifest), "4 MiB");
}

pub(super) async fn a_manifest_is_found_by_its_sha512(case: Case) {
    let mut manifest = case.manifest(0);
    manifest.digest = sha512(&manifest.bytes);
    case.put(&manifest).await;
    let got = case.elsewhere.manifest(&case.name, &manifest.digest).await;
    assert_eq!(got.unwrap().as_ref(), Some(&manifest));
    let by_other = sha256(&manifest.bytes);
    let got = case.here.manifest(&case.name, &by_other).await;
    assert_eq!(got.unwrap(), None, "it was not put by that one");
}

pub(super) async fn unknown_manifest_is_none(case: Case) {
    let digest = case.manifest(0).digest;
    let got = case.here.manifest(&case.name, &digest).await;
    assert_eq!(got.unwrap(), None);
}

pub(super) async fn a_manifest_is_in_its_repository_alone(case: Case) {
    let manifest = case.manifest(0);
    case.put(&manifest).await;
    let got = case.here.manifest(&case.other_name, &manifest.digest).await;
    assert_eq!(got.unwrap(), None);
}

pub(super) async fn a_manifest_put_again_takes_the_new_media_type(case: Case) {
    let manifest = case.manifest(0);
    case.put(&manifest).await;
    case.put(&manifest).await;
    let got = case.here.manifest(&case.name, &manifest.digest).await;
    assert_eq!(got.unwrap().as_ref(), Some(&manifest));
    let again = Manifest {
        media_type: "application/vnd.docker.distribution.manifest.v2+json".to_owned(),
        ..manifest
    };
    case.put(&again).await;
    let got = case.here.manifest(&case.name, &again.digest).await;
    assert_eq!(got.unwrap().as_ref(), Some(&again));
    eventually!("elsewhere", Some(again.clone()), {
        let got = case.elsewhere.manifest(&case.name, &again.digest).await;
        got.unwrap()
    });
}

pub(super) async fn a_deleted_manifest_is_gone_here_and_elsewhere(case: Case) {
    let (gone, stays) = (case.manifest(0), case.manifest(1));
    for manifest in [&gone, &stays] {
        case.put(manifest).await;
        // So that it is remembered there.
        let got = case.elsewhere.manifest(&case.name, &manifest.digest).await;
        assert_eq!(got.unwrap().as_ref(), Some(manifest));
    }
    let deleted = case.here.delete_manifest(&case.name, &gone.digest).await;
    assert!(deleted.unwrap());
    let got = case.here.manifest(&case.name, &gone.digest).await;
    assert_eq!(got.unwrap(), None);
    eventually!("a deleted manifest elsewhere", None, {
 let got = case.elsewhere.manifest(&case.name, &gone.digest).await;
        got.unwrap()
});
    let got = case.elsewhere.manifest(&case.name, &stays.digest).await;
    assert_eq!(got.unwrap(), Some(stays));
}

pub(super) async fn a_deleted_manifest_takes_its_tags_along(case: Case) {
    let (gone, stays) = (case.manifest(0), case.manifest(1));
    case.put(&gone).await;
    case.put(&stays).await;
    for (tag, manifest) in [("a", &gone), ("b", &stays), ("c", &gone), ("d", &stays)] {
        case.put_tag(tag, &manifest.digest).await;
    }
    case.put_tag("d", &gone.digest).await;
    case.put_tag("d", &stays.digest).await;
    let elsewhere = &case.elsewhere;
    let deleted = elsewhere.delete_manifest(&case.name, &gone.digest).await;
    assert!(deleted.unwrap());
    for (tag, want) in [("a", None), ("b", Some(&stays)), ("c", None), ("d", Some(&stays))] {
        let want = want.map(|manifest| manifest.digest.clone());
        eventually!(tag, want, case.get_tag(tag).await);
    }
    let left = elsewhere.tags(&case.name, None, 10).await.unwrap().unwrap();
    assert_eq!(left.items, ["b", "d"].map(super::tag));
}

pub(super) async fn deleting_an_absent_manifest_returns_false(case: Case) {
    let manifest = case.manifest(0);
    let (name, digest) = (&case.name, &manifest.digest);
    assert!(!case.here.delete_manifest(name, digest).await.unwrap());
    case.put(&manifest).await;
    let other = case.here.delete_manifest(&case.other_name, digest).await;
    assert!(!other.unwrap());
    assert!(case.here.delete_manifest(name, digest).await.unwrap());
    assert!(!case.here.delete_manifest(name, digest).await.unwrap());
}

pub(super) async fn a_deleted_manifest_can_be_put_again(case: Case) {
    let manifest = case.manifest(0);
    for _ in 0..3 {
        case.put(&manifest).await;
        let got = case.here.manifest(&case.name, &manifest.digest).await;
        assert_eq!(got.unwrap().as_ref(), Some(&manifest));
        let deleted = case.here.delete_manifest(&case.name, &manifest.digest);
        assert!(deleted.await.unwrap());
        let got = case.here.manifest(&case.name, &manifest.digest).await;
        assert_eq!(got.unwrap(), None);
    }
}
