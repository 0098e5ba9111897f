//! Images that clients have deleted, brought back before their bytes are gone; repositories that are
//! removed; bytes that are counted.

use s3layers::{
    Algorithm, Digest, Manifest, RepositoryService as _, RestoreError, S3LayerService,
    TrashReference,
};

use super::site::{BOTH, By, Image, Site, hours, pull, push, push_layer, put_manifest};
use crate::support::bytes::sha256;
use crate::support::fault_client::{DeleteObject, GetObject, ListObjectsV2, On, PutObject};
use crate::support::stores::{BUCKET, PART, name};

fn by_tag() -> TrashReference {
    TrashReference::Tag("latest".parse().unwrap())
}

async fn delete(service: &S3LayerService, digest: &Digest) {
    assert!(service.delete_manifest(&name(), digest).await.unwrap());
}

async fn tagged(service: &S3LayerService) -> Option<Digest> {
    let tag = "latest".parse().unwrap();
    service.tag(&name(), &tag).await.unwrap()
}

/// At each step of the collection, until the data is removed; by the tag and by the digest.
#[tokio::test]
async fn deleted_image_is_restored_until_its_bytes_are_gone() {
    let steps: [(&[u32], bool); 5] = [
        (&[], true),
        (&[73], true),
        (&[73, 21], true),
        (&[73, 21, 19], true),
        (&[73, 21, 21], false),
    ];
    for by in BOTH {
        for size in [1_000, PART + 1] {
            for (passes, can_be_restored) in steps {
                let case = format!("{by:?}, {size} bytes, {passes:?}");
                let site = Site::new(by).await;
                let service = site.process().await;
                let image = Image::new(1, size);
                push(&service, &name(), &image).await;
                // Old: it is condemned at once when it was deleted.
                let digest = &image.manifest.digest;
                if let Some((first, _)) = passes.split_first() {
                    site.clock.advance(hours(*first));
                }
                delete(&service, digest).await;
                assert_eq!(tagged(&service).await, None);
                site.collect().await;
                for time in passes.iter().skip(1) {
                    site.collect_after(hours(*time)).await;
                }
                let by_digest = TrashReference::Digest(digest.clone());
                let reference = if size > 1_000 { by_tag() } else { by_digest };
                let restored = service.restore(&name(), &reference).await;
                if !can_be_restored {
                    let error = restored.unwrap_err();
                    assert!(
                        matches!(error, RestoreError::Unknown | RestoreError::Gone { .. }),
                        "{case}: {error}"
                    );
                    assert!(service.manifest(&name(), digest).await.unwrap().is_none());
                    continue;
                }
                let restored = restored.unwrap();
                assert_eq!(restored.tags.len(), 1, "{case}");
                assert_eq!(tagged(&service).await.as_ref(), Some(digest));
                assert_eq!(service.trash(None).await.unwrap(), []);
                for time in [1, 73, 21, 21, 21] {
                    site.collect_after(hours(time)).await;
                }
                assert!(pull(&service, &name(), &image).await, "{case}");
            }
        }
    }
}

/// Its links are young, so that its bytes are freed later than those of an old one.
#[tokio::test]
async fn image_that_is_deleted_soon_after_its_push_is_restored_until_its_bytes_are_gone() {
    for by in BOTH {
        for passes in [&[0, 62, 11][..], &[0, 62, 11, 20], &[0, 62, 11, 20, 19]] {
            let site = Site::new(by).await;
            let service = site.process().await;
            let image = Image::new(1, PART + 1);
            push(&service, &name(), &image).await;
            site.clock.advance(hours(1));
            delete(&service, &image.manifest.digest).await;
            for time in passes {
                site.collect_after(hours(*time)).await;
            }
            service.restore(&name(), &by_tag()).await.unwrap();
            assert!(pull(&service, &name(), &image).await, "{by:?}, {passes:?}");
        }
    }
}

/// However far apart the passes are, the bytes go first.
#[tokio::test]
async fn trash_is_forgotten_after_its_bytes_are_freed() {
    for apart in [1, 12, 19, 24, 36, 100] {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        let image = Image::new(1, PART + 1);
        push(&service, &name(), &image).await;
        delete(&service, &image.manifest.digest).await;
        let (mut freed, mut kept) = (0, 1);
        for _ in 0..4 + 8 * 24 / apart {
            let report = site.collect_after(hours(apart)).await;
            assert!(freed + kept > 0, "{apart} hours apart: {report:?}");
            freed += report.layers_freed;
            kept = service.trash(None).await.unwrap().len() as u64;
        }
        assert_eq!((freed, kept), (1, 0), "{apart} hours apart");
    }
}

/// A manifest that cannot be read keeps all links of its repository.
#[tokio::test]
async fn image_can_be_restored_for_a_month_while_its_links_are_kept() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let image = Image::new(1, PART + 1);
    push(&service, &name(), &image).await;
    let key = format!(
        "repositories/{}/_manifests/sha256/{}",
        name(),
        "0".repeat(64)
    );
    let damaged = site.client().put_object().bucket(BUCKET).key(key);
    damaged.body(b"x".to_vec().into()).send().await.unwrap();
    for (days, is_restored) in [(30, true), (34, false)] {
        delete(&service, &image.manifest.digest).await;
        for _ in 0..days {
            site.collect_after(hours(24)).await;
        }
        let restored = service.restore(&name(), &by_tag()).await;
        assert_eq!(restored.is_ok(), is_restored, "{days} days: {restored:?}");
        assert!(service.layer(&name(), &image.id()).await.is_ok());
    }
}

#[tokio::test]
async fn tag_that_names_another_image_by_now_stays() {
    let site = Site::new(By::Tombstone).await;
    let service = site.process().await;
    let [old, new] = [1, 2].map(|seed| Image::new(seed, 1_000));
    push(&service, &name(), &old).await;
    delete(&service, &old.manifest.digest).await;
    push(&service, &name(), &new).await;
    let restored = service.restore(&name(), &by_tag()).await.unwrap();
    assert_eq!((restored.tags.len(), restored.taken_tags.len()), (0, 1));
    assert_eq!(tagged(&service).await, Some(new.manifest.digest.clone()));
    assert!(pull(&service, &name(), &old).await);
}

/// It has removed nothing yet, and the operator has seen that the image is in the trash.
#[tokio::test]
async fn image_that_is_restored_while_it_is_being_deleted_keeps_its_tag() {
    for by in BOTH {
        let site = Site::new(by).await;
        let service = site.process().await;
        let image = Image::new(1, 1_000);
        push(&service, &name(), &image).await;
        let digest = image.manifest.digest.clone();
        let (deleting, wire) = site.process_over_faults().await;
        let removal = match by {
            By::Delete => On::every(DeleteObject),
            By::Tombstone => On::every(PutObject),
        };
        let removal = wire.hold(removal.key_contains("/_tags/"));
        let deletion =
            tokio::spawn(async move { deleting.delete_manifest(&name(), &digest).await });
        removal.reached_by(1).await;
        let restored = service.restore(&name(), &by_tag()).await.unwrap();
        assert_eq!(restored.tags.len(), 1, "{by:?}");
        removal.open();
        deletion.await.unwrap().unwrap();
        assert_eq!(tagged(&service).await, Some(image.manifest.digest.clone()));
        assert!(pull(&service, &name(), &image).await, "{by:?}");
    }
}

/// Children of an index that were deleted too come back with it, also where the first attempt is interrupted.
#[tokio::test]
async fn index_is_restored_with_its_children() {
    let site = Site::new(By::Delete).await;
    let (service, faults) = site.process_over_faults().await;
    let image = Image::new(1, 1_000);
    push(&service, &name(), &image).await;
    let child = &image.manifest.digest;
    let bytes = format!(r#"{{"manifests":[{{"digest":"{child}","size":1}}]}}"#);
    let index = Manifest {
        digest: sha256(bytes.as_bytes()),
        bytes: bytes.into(),
        ..image.manifest.clone()
    };
    service.put_manifest(&name(), &index).await.unwrap();
    delete(&service, &index.digest).await;
    delete(&service, child).await;
    let reference = TrashReference::Digest(index.digest.clone());
    for refused in ["/_tags/", "/_manifests/"] {
        faults.fault(On::every(PutObject).key_contains(refused).status(403));
        let error = service.restore(&name(), &reference).await.unwrap_err();
        assert!(matches!(error, RestoreError::Failed(_)), "{error}");
        faults.clear_faults();
    }
    let restored = service.restore(&name(), &reference).await.unwrap();
    assert_eq!(restored.named, std::slice::from_ref(child));
    assert_eq!(restored.tags.len(), 1);
    assert!(pull(&service, &name(), &image).await);
    assert_eq!(tagged(&service).await.as_ref(), Some(child));
}

#[tokio::test]
async fn what_is_not_in_the_trash_is_unknown_and_changes_nothing() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let image = Image::new(1, 1_000);
    push(&service, &name(), &image).await;
    delete(&service, &image.manifest.digest).await;
    let before = site.keys().await;
    let other = "library/other".parse().unwrap();
    let unknown = TrashReference::Digest(sha256(b"unknown"));
    for (name, reference) in [(name(), unknown), (other, by_tag())] {
        let error = service.restore(&name, &reference).await.unwrap_err();
        assert!(matches!(error, RestoreError::Unknown), "{error}");
    }
    assert_eq!(site.keys().await, before);
    assert_eq!(service.empty_trash(hours(1)).await.unwrap(), 0);
    assert_eq!(service.empty_trash(hours(0)).await.unwrap(), 1);
    let error = service.restore(&name(), &by_tag()).await.unwrap_err();
    assert!(matches!(error, RestoreError::Unknown), "{error}");
}

#[tokio::test]
async fn image_of_which_a_layer_is_gone_stays_deleted_with_all_of_its_links() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let [kept, gone] = [1, 2].map(|seed| Image::new(seed, 1_000));
    push_layer(&service, &name(), &kept).await;
    let layers = [&kept, &gone].map(|image| format!(r#"{{"digest":"{}"}}"#, image.id()));
    let bytes = format!(r#"{{"layers":[{}]}}"#, layers.join(","));
    let manifest = Manifest {
        digest: sha256(bytes.as_bytes()),
        bytes: bytes.into(),
        ..kept.manifest.clone()
    };
    service.put_manifest(&name(), &manifest).await.unwrap();
    delete(&service, &manifest.digest).await;
    assert!(service.unlink(&name(), &kept.id()).await.unwrap());
    let before = site.keys().await;
    let reference = TrashReference::Digest(manifest.digest);
    match service.restore(&name(), &reference).await {
        Err(RestoreError::Gone { digests }) => assert_eq!(digests, [sha256(&gone.layer)]),
        other => panic!("{other:?}"),
    }
    assert_eq!(site.keys().await, before);
}

/// Its image that is whole stays deleted as well, and can be restored alone.
#[tokio::test]
async fn index_of_which_an_image_is_gone_stays_deleted() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    let [kept, gone] = [1, 2].map(|seed| Image::new(seed, 1_000));
    push(&service, &name(), &kept).await;
    service.put_manifest(&name(), &gone.manifest).await.unwrap();
    let names = [&kept, &gone].map(|image| format!(r#"{{"digest":"{}"}}"#, image.manifest.digest));
    let bytes = format!(r#"{{"manifests":[{}]}}"#, names.join(","));
    let index = Manifest {
        digest: sha256(bytes.as_bytes()),
        bytes: bytes.into(),
        ..kept.manifest.clone()
    };
    service.put_manifest(&name(), &index).await.unwrap();
    for manifest in [&index, &kept.manifest, &gone.manifest] {
        delete(&service, &manifest.digest).await;
    }
    let before = site.keys().await;
    let restore = async |digest: &Digest| {
        let reference = TrashReference::Digest(digest.clone());
        service.restore(&name(), &reference).await
    };
    match restore(&index.digest).await {
        Err(RestoreError::Gone { digests }) => {
            assert_eq!(digests, std::slice::from_ref(&gone.manifest.digest));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(site.keys().await, before);
    restore(&kept.manifest.digest).await.unwrap();
    assert!(pull(&service, &name(), &kept).await);
}

/// Another repository whose name begins with this one has its own.
#[tokio::test]
async fn removed_repository_leaves_others_and_can_be_restored() {
    for by in BOTH {
        let site = Site::new(by).await;
        let service = site.process().await;
        let [image, deeper] = [1, 2].map(|seed| Image::new(seed, 1_000));
        let below = format!("{}/deeper", name()).parse().unwrap();
        push(&service, &name(), &image).await;
        push(&service, &below, &deeper).await;
        push_layer(&service, &name(), &Image::new(3, 1_000)).await;
        let removed = service.remove_repository(&name()).await.unwrap();
        assert_eq!((removed.manifests, removed.layers), (1, 2));
        let page = service.repositories(None, 10).await.unwrap();
        assert_eq!(page.items, std::slice::from_ref(&below), "{by:?}");
        assert!(pull(&service, &below, &deeper).await);
        service.restore(&name(), &by_tag()).await.unwrap();
        assert!(pull(&service, &name(), &image).await);
    }
}

/// Eight levels of two indexes, each of which names both of the next level; the last ones name a layer that is gone.
#[tokio::test]
async fn restore_looks_once_for_what_is_gone() {
    let site = Site::new(By::Delete).await;
    let (service, faults) = site.process_over_faults().await;
    let image = Image::new(1, 1_000);
    let mut names = vec![format!(r#"{{"digest":"{}"}}"#, image.id())];
    let (mut list, mut all) = ("layers", Vec::new());
    for level in 0..8 {
        let indexes: Vec<_> = (0..2)
            .map(|nth| {
                let bytes = format!(r#"{{"{list}":[{}],"a":"{level}.{nth}"}}"#, names.join(","));
                Manifest {
                    digest: sha256(bytes.as_bytes()),
                    bytes: bytes.into(),
                    ..image.manifest.clone()
                }
            })
            .collect();
        let digests = indexes.iter().map(|index| &index.digest);
        names = digests
            .map(|digest| format!(r#"{{"digest":"{digest}"}}"#))
            .collect();
        list = "manifests";
        all.extend(indexes);
    }
    for manifest in &all {
        service.put_manifest(&name(), manifest).await.unwrap();
        delete(&service, &manifest.digest).await;
    }
    faults.reset();
    let reference = TrashReference::Digest(all[15].digest.clone());
    let error = service.restore(&name(), &reference).await.unwrap_err();
    assert!(matches!(error, RestoreError::Gone { .. }), "{error}");
    let requests = faults.log().len();
    assert!(requests < 16 * 8, "{requests}");
}

/// A list from the first key returns all tombstones again.
#[tokio::test]
async fn repository_is_listed_a_few_times_while_it_is_removed() {
    let site = Site::new(By::Tombstone).await;
    let (service, faults) = site.process_over_faults().await;
    for seed in 0..64 {
        push_layer(&service, &name(), &Image::new(seed, 1_000)).await;
    }
    faults.reset();
    let removed = service.remove_repository(&name()).await.unwrap();
    assert_eq!(removed.layers, 64);
    // All keys, tags, entries at the end; and manifests, for each sixteen links.
    let lists = faults.count(ListObjectsV2);
    assert!(lists <= 10, "{lists}");
    let page = service.repositories(None, 10).await.unwrap();
    assert_eq!(page.items, []);
}

/// While the first of 40 manifests is removed, an image of a layer that was linked before, and an index of the last
/// manifest.
#[tokio::test]
async fn image_pushed_while_its_repository_is_removed_stays_whole() {
    let name = name();
    for by in BOTH {
        let site = Site::new(by).await;
        let service = site.process().await;
        let mut images: Vec<_> = (0..40).map(|seed| Image::new(seed, 1_000)).collect();
        for image in &images {
            push(&service, &name, image).await;
        }
        images.sort_by_key(|image| image.manifest.digest.hex().to_owned());
        let (first, last) = (&images[0], &images[39]);
        let pushed = |text: String| Manifest {
            digest: sha256(text.as_bytes()),
            bytes: text.into(),
            ..first.manifest.clone()
        };
        let (layer, child) = (first.id(), &last.manifest.digest);
        let again = Image {
            manifest: pushed(format!(r#"{{"layers":[{{"digest":"{layer}"}}],"a":1}}"#)),
            ..first.clone()
        };
        let index = pushed(format!(r#"{{"manifests":[{{"digest":"{child}"}}]}}"#));
        let tag = "again".parse().unwrap();
        let (remover, faults) = site.process_over_faults().await;
        let removal = faults.hold(On::nth(GetObject, 1).key_contains("/_manifests/"));
        let push = async {
            removal.reached_by(1).await;
            assert!(put_manifest(&service, &name, &again).await.unwrap());
            let put = service.put_tag(&name, &tag, &again.manifest.digest);
            put.await.unwrap();
            service.put_manifest(&name, &index).await.unwrap();
            removal.open();
        };
        let (removed, ()) = tokio::join!(remover.remove_repository(&name), push);
        let removed = removed.unwrap();
        assert!(pull(&service, &name, &again).await, "{by:?}: {removed:?}");
        assert!(pull(&service, &name, last).await, "{by:?}: {removed:?}");
        let named = service.tag(&name, &tag).await.unwrap();
        assert_eq!(named.as_ref(), Some(&again.manifest.digest));
        assert_eq!((removed.manifests, removed.layers), (39, 38), "{by:?}");
        let removed = service.remove_repository(&name).await.unwrap();
        assert_eq!((removed.manifests, removed.layers), (3, 2), "{by:?}");
        let page = service.repositories(None, 10).await.unwrap();
        assert_eq!(page.items, [], "{by:?}");
    }
}

#[tokio::test]
async fn bytes_are_counted_by_repository() {
    let site = Site::new(By::Tombstone).await;
    let service = site.process().await;
    let other = "library/other".parse().unwrap();
    let [own, shared, lost] = [1_000, 20_000, 300_000].map(|size| Image::new(size as u32, size));
    for image in [&own, &shared] {
        push(&service, &name(), image).await;
    }
    push(&service, &other, &shared).await;
    push_layer(&service, &other, &lost).await;
    assert!(service.unlink(&other, &lost.id()).await.unwrap());
    let space = service.space().await.unwrap();
    let usage = space.repositories.iter();
    let usage: Vec<_> = usage
        .map(|one| (one.name.to_string(), one.layers, one.bytes, one.own_bytes))
        .collect();
    let want = [
        (name().to_string(), 2, 21_000, 1_000),
        (other.to_string(), 1, 20_000, 0),
    ];
    assert_eq!(usage, want);
    assert_eq!((space.layers, space.bytes), (3, 321_000));
    assert_eq!((space.unused_layers, space.unused_bytes), (1, 300_000));
    assert_eq!((space.removed_layers, space.tombstones), (0, 1));
    // A layer by another id that a manifest names, and one of an image that was deleted.
    let by_sha512 = Image::named_by(Algorithm::Sha512, 4, 40_000);
    let deleted = Image::new(5, 50_000);
    for image in [&by_sha512, &deleted] {
        push(&service, &name(), image).await;
    }
    let name = name();
    let delete = service.delete_manifest(&name, &deleted.manifest.digest);
    assert!(delete.await.unwrap());
    let space = service.space().await.unwrap();
    assert_eq!((space.unused_layers, space.unused_bytes), (2, 350_000));
    // One that a manifest names stays, also without a link.
    let unlinked = Image::new(6, 60_000);
    push(&service, &name, &unlinked).await;
    assert!(service.unlink(&name, &unlinked.id()).await.unwrap());
    let space = service.space().await.unwrap();
    assert_eq!((space.unused_layers, space.unused_bytes), (2, 350_000));
    // A manifest that cannot be read may need all of its repository.
    let key = format!("_manifests/sha256/{}", own.manifest.digest.hex());
    let key = format!("repositories/{name}/{key}");
    let client = site.client();
    let damage = client.put_object().bucket(BUCKET).key(key);
    damage.body(b"x".to_vec().into()).send().await.unwrap();
    let space = service.space().await.unwrap();
    assert_eq!((space.unused_layers, space.unused_bytes), (1, 300_000));
    site.collect_after(hours(25)).await;
    site.collect_after(hours(21)).await;
    let space = service.space().await.unwrap();
    assert_eq!((space.removed_layers, space.removed_bytes), (1, 300_000));
}
