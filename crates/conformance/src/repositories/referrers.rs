//! Referrers: the manifests that have another one as their subject.

use super::Case;
use s3layers::{Digest, Manifest, Referrer};

fn descriptor(manifest: &Manifest) -> Referrer {
    Referrer {
        digest: manifest.digest.clone(),
        media_type: manifest.media_type.clone(),
        size: manifest.bytes.len() as u64,
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
    }
}

impl Case {
    async fn referrers(&self, subject: &Digest) -> Vec<Referrer> {
        let page = self.here.referrers(&self.name, subject, None, None, 100, usize::MAX).await;
        let page = page.unwrap();
        assert!(!page.more);
        page.items
    }
}

pub(super) async fn a_manifest_is_among_the_referrers_of_its_subject(case: Case) {
    let subject = case.manifest(0);
    let typed = case.manifest_about(1, &subject.digest);
    let plain = Manifest {
        artifact_type: None,
        annotations: [].into(),
        ..case.manifest_about(2, &subject.digest)
    };
    for manifest in [typed, plain] {
        case.put(&manifest).await;
        for service in [&case.here, &case.elsewhere] {
            let page = service.referrers(&case.name, &subject.digest, None, None, 10, usize::MAX).await;
            let page = page.unwrap();
            assert!(page.items.contains(&descriptor(&manifest)), "{page:?}");
        }
    }
}

pub(super) async fn a_manifest_without_referrers_has_none(case: Case) {
    let (subject, other) = (case.manifest(0), case.manifest(1));
    assert_eq!(case.referrers(&subject.digest).await, []);
    case.put(&subject).await;
    case.put(&case.manifest_about(2, &other.digest)).await;
    assert_eq!(case.referrers(&subject.digest).await, []);
}

pub(super) async fn referrers_are_listed_in_order_page_by_page(case: Case) {
    // The subject need not be there.
    let subject = case.manifest(0).digest;
    let mut want = Vec::new();
    for nth in 1..=7 {
        let manifest = case.manifest_about(nth, &subject);
        case.put(&manifest).await;
        want.push(descriptor(&manifest));
    }
    want.sort_by_key(Referrer::key);
    for service in [&case.here, &case.elsewhere] {
        for limit in [1, 2, 7, 1000] {
            let all = all_pages!(limit, |last| {
                let after = last.map(Referrer::key);
                let page = service.referrers(&case.name, &subject, None, after.as_ref(), limit, usize::MAX);
                page.await.unwrap()
            });
            assert_eq!(all, want, "{limit} at a time");
        }
    }
}

pub(super) async fn referrers_are_filtered_by_artifact_type(case: Case) {
    let subject = case.manifest(0).digest;
    let mut want = Vec::new();
    for (nth, artifact_type) in (1..).zip(["a/b", "a/c", "a/b", "a/c", "a/b"]) {
        let manifest = Manifest {
            artifact_type: Some(artifact_type.to_owned()),
            ..case.manifest_about(nth, &subject)
        };
        case.put(&manifest).await;
        want.extend((artifact_type == "a/b").then(|| descriptor(&manifest)));
    }
    want.sort_by_key(Referrer::key);
    for service in [&case.here, &case.elsewhere] {
        for limit in [1, 2, 100] {
            let all = all_pages!(limit, |last| {
                let after = last.map(Referrer::key);
                let page = service.referrers(&case.name, &subject, Some("a/b"), after.as_ref(), limit, usize::MAX);
                page.await.unwrap()
            });
            assert_eq!(all, want, "{limit} at a time");
        }
        let none = service.referrers(&case.name, &subject, Some("a"), None, 100, usize::MAX).await;
        assert_eq!(none.unwrap().items, []);
    }
}

pub(super) async fn a_page_of_referrers_weighs_no_more_than_asked_or_has_one(case: Case) {
    let subject = case.manifest(0).digest;
    let mut want = Vec::new();
    for nth in 1..=7 {
        let mut manifest = case.manifest_about(nth, &subject);
        let text = "a".repeat(usize::try_from(nth % 3).unwrap() * 1000);
        manifest.annotations.insert("text".to_owned(), text);
        case.put(&manifest).await;
        want.push(descriptor(&manifest));
    }
    want.sort_by_key(Referrer::key);
    for weight in [0, 1500, 3500, 1_000_000] {
        let all = all_pages!(7, |last| {
            let after = last.map(Referrer::key);
            let page = case.here.referrers(&case.name, &subject, None, after.as_ref(), 7, weight);
            let page = page.await.unwrap();
            let sum: usize = page.items.iter().map(Referrer::weight).sum();
            let one = page.items.len() == 1;
            assert!(sum <= weight || one, "a page of {weight} has {sum}");
            page
        });
        assert_eq!(all, want, "{weight} at a time");
    }
}

pub(super) async fn a_deleted_manifest_refers_no_more(case: Case) {
    let subject = case.manifest(0).digest;
    let (gone, stays) = (
        case.manifest_about(1, &subject),
        case.manifest_about(2, &subject),
    );
    case.put(&gone).await;
    case.put(&stays).await;
    let deleted = case.here.delete_manifest(&case.name, &gone.digest).await;
    assert!(deleted.unwrap());
    assert_eq!(case.referrers(&subject).await, [descriptor(&stays)]);
    eventually!("elsewhere", vec![descriptor(&stays)], {
 let page = case.elsewhere.referrers(&case.name, &subject, None, None, 10, usize::MAX);
        page.await.unwrap().items
});
}

pub(super) async fn the_referrers_of_a_deleted_manifest_stay(case: Case) {
    let subject = case.manifest(0);
    let about = case.manifest_about(1, &subject.digest);
    case.put(&subject).await;
    case.put(&about).await;
    let deleted = case.here.delete_manifest(&case.name, &subject.digest);
    assert!(deleted.await.unwrap());
    let want = [descriptor(&about)];
    assert_eq!(case.referrers(&subject.digest).await, want);
}

pub(super) async fn a_referrer_put_again_is_one_referrer(case: Case) {
    let subject = case.manifest(0).digest;
    let about = case.manifest_about(1, &subject);
    case.put(&about).await;
    case.put(&about).await;
    let again = Manifest {
        media_type: "application/vnd.example".to_owned(),
        ..about
    };
    case.put(&again).await;
    assert_eq!(case.referrers(&subject).await, [descriptor(&again)]);
}

pub(super) async fn referrers_are_of_one_repository(case: Case) {
    let subject = case.manifest(0).digest;
    case.put(&case.manifest_about(1, &subject)).await;
    let page = case.here.referrers(&case.other_name, &subject, None, None, 10, usize::MAX);
    assert_eq!(page.await.unwrap().items, []);
}
