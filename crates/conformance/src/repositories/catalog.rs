//! Which repositories there are, and whether the storage answers.

use super::super::case::{FEW, sha256};
use super::{Case, name, tag};
use s3layers::{RepositoryName, Tag};

/// In the order of their bytes, in which `/` stands between other characters.
const IN_ORDER: [&str; 12] = [
    "a", "a--b", "a-b", "a-b/c", "a.b", "a/0", "a/b", "a/b-c/d", "a/b/c", "a0", "a_b", "b/c/d",
];

impl Case {
    async fn repositories(&self) -> Vec<RepositoryName> {
        let page = self.here.repositories(None, 1000).await.unwrap();
        assert!(!page.more);
        page.items
    }
}

async fn put_all(case: &Case) -> Vec<RepositoryName> {
    let names = IN_ORDER.map(name).to_vec();
    let digest = case.manifest(0).digest;
    for name in names.iter().rev() {
        case.here.put_tag(name, &tag("t"), &digest).await.unwrap();
    }
    names
}

pub(super) async fn repositories_are_listed_in_the_order_of_their_bytes_page_by_page(case: Case) {
    let want = put_all(&case).await;
    for service in [&case.here, &case.elsewhere] {
        for limit in [1, 2, 5, IN_ORDER.len(), 10_000] {
            let all = all_pages!(limit, |last| {
                let after = last.map(RepositoryName::as_str);
                service.repositories(after, limit).await.unwrap()
            });
            assert_eq!(all, want, "{limit} at a time");
        }
    }
}

pub(super) async fn page_begins_after_any_text_in_the_catalog(case: Case) {
    let want = put_all(&case).await;
    for after in ["", "-", "A", "a-", "a/", "a/b-", "a//", "a b", "b", "é", "zz"] {
        let page = case.here.repositories(Some(after), 100).await.unwrap();
        let rest = want.iter().filter(|name| name.as_str() > after).cloned();
        assert_eq!(page.items, rest.collect::<Vec<_>>(), "after {after:?}");
        assert!(!page.more, "after {after:?}");
    }
}

pub(super) async fn an_upload_alone_makes_no_repository(case: Case) {
    let bytes = case.bytes(0, FEW);
    let id = sha256(&bytes).into();
    let mut upload = case.here.upload(&case.name, Some(&id)).await.unwrap();
    upload.write_bytes(bytes).await.unwrap();
    upload.close().await.unwrap();
    assert_eq!(case.repositories().await, []);
    assert_eq!(case.here.tags(&case.name, None, 10).await.unwrap(), None);
    let page = case.here.repositories(None, 0).await.unwrap();
    assert_eq!((page.items.len(), page.more), (0, false));
}

pub(super) async fn each_kind_of_content_makes_a_repository(case: Case) {
    let [layers, manifests, tags] = ["l", "m", "t"].map(name);
    let manifest = case.manifest(0);
    case.push_to(&layers, &case.bytes(0, FEW)).await;
    case.here.put_manifest(&manifests, &manifest).await.unwrap();
    let put = case.here.put_tag(&tags, &tag("t"), &manifest.digest).await;
    put.unwrap();
    assert_eq!(case.repositories().await, [layers, manifests, tags]);
}

pub(super) async fn emptied_repository_is_not_listed(case: Case) {
    let subject = case.manifest(0).digest;
    let manifest = case.manifest_about(1, &subject);
    let id = case.push(&case.bytes(2, FEW)).await;
    case.put(&manifest).await;
    case.put_tag("t", &manifest.digest).await;
    assert_eq!(case.repositories().await, std::slice::from_ref(&case.name));
    assert!(case.here.unlink(&case.name, &id).await.unwrap());
    let deleted = case.here.delete_manifest(&case.name, &manifest.digest);
    assert!(deleted.await.unwrap());
    assert_eq!(case.repositories().await, []);
}

/// More than S3 lists at a time, so that the rest of it is leapt over.
pub(super) async fn a_repository_of_many_objects_is_listed_once(case: Case) {
    const TAGS: usize = 1100;
    let digest = case.manifest(0).digest;
    let names = ["a", "a-b", "a/0", "a/b", "b"].map(name);
    for name in &names {
        case.here.put_tag(name, &tag("t"), &digest).await.unwrap();
    }
    for name in [&names[0], &names[1]] {
        let tags: Vec<_> = (0..TAGS).map(|nth| tag(&format!("t{nth}"))).collect();
        for some in tags.chunks(50) {
            let puts = some.iter().map(|tag| case.here.put_tag(name, tag, &digest));
            for put in futures_util::future::join_all(puts).await {
                put.unwrap();
            }
        }
    }
    for limit in [1, 2, 3, 100] {
        let all = all_pages!(limit, |last| {
                let after = last.map(RepositoryName::as_str);
                case.here.repositories(after, limit).await.unwrap()
            });
            assert_eq!(all, names, "{limit} at a time");
    }
    let all = all_pages!(700, |last| {
        let after = last.map(Tag::as_str);
        let page = case.here.tags(&names[0], after, 700).await;
        page.unwrap().unwrap()
    });
    assert_eq!(all.len(), TAGS + 1);
}

pub(super) async fn the_storage_answers(case: Case) {
    case.here.ready().await.unwrap();
}
