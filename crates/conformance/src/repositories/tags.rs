//! Tags: each names one manifest, and they are listed in order.

use futures_util::future::join_all;

use super::super::case::FEW;
use super::{Case, name, tag};
use s3layers::Tag;

/// In the order of their bytes.
const IN_ORDER: [&str; 12] = [
    "0", "1.0", "1.0-rc", "10", "A", "B", "_", "a", "a-b", "a.b", "a0", "ab",
];

pub(super) async fn a_tag_names_a_manifest(case: Case) {
    let digest = case.manifest(0).digest;
    case.put_tag("latest", &digest).await;
    for service in [&case.here, &case.elsewhere] {
        let named = service.tag(&case.name, &tag("latest")).await.unwrap();
        assert_eq!(named.as_ref(), Some(&digest));
        let other = service.tag(&case.other_name, &tag("latest")).await;
        assert_eq!(other.unwrap(), None);
    }
}

pub(super) async fn tag_names_the_last_digest_written(case: Case) {
    let digests = [0, 1, 1, 2, 0].map(|nth| case.manifest(nth).digest);
    for digest in digests {
        case.put_tag("latest", &digest).await;
        assert_eq!(case.get_tag("latest").await.as_ref(), Some(&digest));
    }
}

pub(super) async fn unknown_tag_is_none(case: Case) {
    assert_eq!(case.get_tag("latest").await, None);
    case.put_tag("latest-2", &case.manifest(0).digest).await;
    assert_eq!(case.get_tag("latest").await, None);
    let deleted = case.here.delete_tag(&case.name, &tag("latest")).await;
    assert!(!deleted.unwrap());
}

pub(super) async fn a_deleted_tag_is_gone_and_its_manifest_stays(case: Case) {
    let manifest = case.manifest(0);
    case.put(&manifest).await;
    case.put_tag("a", &manifest.digest).await;
    case.put_tag("b", &manifest.digest).await;
    let gone = tag("a");
    let seen = case.elsewhere.tag(&case.name, &gone).await.unwrap();
    assert_eq!(seen.as_ref(), Some(&manifest.digest));
    assert!(case.here.delete_tag(&case.name, &gone).await.unwrap());
    assert!(!case.here.delete_tag(&case.name, &gone).await.unwrap());
    assert_eq!(case.get_tag("a").await, None);
    assert_eq!(case.get_tag("b").await.as_ref(), Some(&manifest.digest));
    eventually!("a deleted tag elsewhere", None, {
 case.elsewhere.tag(&case.name, &gone).await.unwrap()
});
    let got = case.here.manifest(&case.name, &manifest.digest).await;
    assert_eq!(got.unwrap(), Some(manifest));
}

pub(super) async fn a_tag_is_moved_elsewhere_and_seen_here(case: Case) {
    let [old, new] = [0, 1].map(|nth| case.manifest(nth).digest);
    case.put_tag("latest", &old).await;
    assert_eq!(case.get_tag("latest").await.as_ref(), Some(&old));
    let latest = tag("latest");
    let moved = case.elsewhere.put_tag(&case.name, &latest, &new).await;
    moved.unwrap();
    eventually!("the tag", Some(new), case.get_tag("latest").await);
    // And back again, by the one that may remember the older state.
    case.put_tag("latest", &old).await;
    eventually!("the tag elsewhere", Some(old), {
 case.elsewhere.tag(&case.name, &latest).await.unwrap()
});
}

async fn put_all(case: &Case) -> Vec<Tag> {
    let digest = case.manifest(0).digest;
    for text in IN_ORDER.iter().rev() {
        case.put_tag(text, &digest).await;
    }
    IN_ORDER.map(tag).to_vec()
}

pub(super) async fn tags_are_listed_in_the_order_of_their_bytes_page_by_page(case: Case) {
    let want = put_all(&case).await;
    for service in [&case.here, &case.elsewhere] {
        for limit in [1, 2, 5, IN_ORDER.len(), 1000, 10_000] {
            let all = all_pages!(limit, |last| {
                let after = last.map(Tag::as_str);
                let page = service.tags(&case.name, after, limit).await;
                page.unwrap().unwrap()
            });
            assert_eq!(all, want, "{limit} at a time");
        }
    }
}

pub(super) async fn page_begins_after_any_text(case: Case) {
    let want = put_all(&case).await;
    for after in ["", "-", "1", "1.0-", "A~", "a", "a-", "a b", "é", "a/", "zz"] {
        let page = case.here.tags(&case.name, Some(after), 100).await;
        let page = page.unwrap().unwrap();
        let rest: Vec<_> = want.iter().filter(|tag| tag.as_str() > after).cloned().collect();
        assert_eq!(page.items, rest, "after {after:?}");
        assert!(!page.more, "after {after:?}");
    }
}

pub(super) async fn tags_of_an_unknown_repository_are_none(case: Case) {
    let tags = case.here.tags(&case.name, None, 10).await.unwrap();
    assert_eq!(tags, None);
    // A repository whose name is a prefix of it, or begins with it, does not make it known.
    for near in ["conformance", "conformance/one/more", "conformance/one-more"] {
        case.push_to(&name(near), &case.bytes(0, FEW)).await;
    }
    let tags = case.here.tags(&case.name, None, 10).await.unwrap();
    assert_eq!(tags, None);
}

pub(super) async fn a_repository_of_layers_or_manifests_has_no_tags_but_is_known(case: Case) {
    case.push(&case.bytes(0, FEW)).await;
    let manifest = case.manifest(0);
    let put = case.here.put_manifest(&case.other_name, &manifest).await;
    put.unwrap();
    for name in [&case.name, &case.other_name] {
        for service in [&case.here, &case.elsewhere] {
            let page = service.tags(name, None, 10).await.unwrap();
            let page = page.unwrap_or_else(|| panic!("{name} is unknown"));
            assert_eq!((page.items.len(), page.more), (0, false));
        }
    }
}

pub(super) async fn a_repository_that_was_emptied_is_unknown(case: Case) {
    let manifest = case.manifest(0);
    let id = case.push(&case.bytes(1, FEW)).await;
    case.put(&manifest).await;
    case.put_tag("a", &manifest.digest).await;
    assert!(case.here.unlink(&case.name, &id).await.unwrap());
    assert!(
        case.here
            .tags(&case.name, None, 10)
            .await
            .unwrap()
            .is_some()
    );
    let deleted = case.here.delete_manifest(&case.name, &manifest.digest);
    assert!(deleted.await.unwrap());
    let tags = case.here.tags(&case.name, None, 10).await.unwrap();
    assert_eq!(tags, None);
}

pub(super) async fn tags_of_nested_repositories_do_not_mix(case: Case) {
    let digest = case.manifest(0).digest;
    let names = ["a", "a/b", "a-b", "a/b/c"].map(name);
    for (nth, name) in names.iter().enumerate() {
        let own = tag(&format!("tag-{nth}"));
        case.here.put_tag(name, &own, &digest).await.unwrap();
    }
    for (nth, name) in names.iter().enumerate() {
        let page = case.here.tags(name, None, 10).await.unwrap().unwrap();
        assert_eq!(page.items, [tag(&format!("tag-{nth}"))], "{name}");
    }
}

pub(super) async fn concurrent_tag_writes_all_succeed(case: Case) {
    let digest = case.manifest(0).digest;
    let tags: Vec<_> = (100..130).map(|nth| tag(&format!("t{nth}"))).collect();
    let services = [&case.here, &case.elsewhere];
    let puts = tags.iter().zip(services.iter().cycle());
    let puts = puts.map(|(tag, service)| service.put_tag(&case.name, tag, &digest));
    for put in join_all(puts).await {
        put.unwrap();
    }
    let page = case.here.tags(&case.name, None, 100).await.unwrap();
    assert_eq!(page.unwrap().items, tags);
}

pub(super) async fn one_of_two_concurrent_tag_writers_wins(case: Case) {
    let digests = [0, 1].map(|nth| case.manifest(nth).digest);
    let latest = tag("latest");
    for _ in 0..5 {
        let (one, other) = tokio::join!(
            case.here.put_tag(&case.name, &latest, &digests[0]),
            case.elsewhere.put_tag(&case.name, &latest, &digests[1]),
        );
        one.unwrap();
        other.unwrap();
        eventually!("both see the same", true, {
 let there = case.elsewhere.tag(&case.name, &latest).await.unwrap();
            let here = case.get_tag("latest").await;
            here == there && digests.contains(here.as_ref().unwrap())
});
    }
}
