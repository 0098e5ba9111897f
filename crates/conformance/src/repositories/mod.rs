//! The second contract as a suite: what every [`RepositoryService`] must do beside what it does as
//! a [`LayerService`](s3layers::LayerService). It is stamped and listed as the suite of layers is.
//!
//! What another instance has written is waited for, some seconds: an instance may remember what it
//! has read for that long. What an instance has written itself, it must see at once.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::NamedCase as Named;
use super::bytes::ramp;
use super::case::{seed_of, sha256};
use s3layers::{Digest, Error, LayerId, Manifest, RepositoryName, RepositoryService, Tag};

/// What the suite is run on: two instances of one implementation over the same storage, as two
/// processes would have them.
pub struct Subject {
    /// The instance that most of a case happens on.
    pub here: Arc<dyn RepositoryService>,
    /// The other one.
    pub elsewhere: Arc<dyn RepositoryService>,
}

/// A case of the suite. It panics where the implementation does not keep the promise.
pub type NamedCase = Named<Subject>;

/// How long another instance may take to see what this one has done.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
/// How long to wait before it is asked again.
const ASKED_AGAIN: Duration = Duration::from_millis(100);

/// Repeats a read until it returns the expected value, and panics after a timeout.
macro_rules! eventually {
    ($what:expr, $want:expr, $ask:expr $(,)?) => {{
        let (want, patience) = ($want, $crate::repositories::Patience::begin());
        loop {
            let got = $ask;
            if got == want {
                break;
            }
            patience.wait($what, &got, &want).await;
        }
    }};
}

/// Reads a listing page by page, `$last` being the last item so far, and panics where a page is
/// not what it should be.
macro_rules! all_pages {
    ($limit:expr, |$last:ident| $page:expr) => {{
        let mut all = Vec::new();
        loop {
            let $last = all.last();
            let page = $page;
            let (got, limit) = (page.items.len(), $limit);
            assert!(got <= limit, "a page of {limit} has {got}");
            all.extend(page.items);
            if !page.more {
                break all;
            }
            assert!(got > 0, "a page that promises more has nothing");
        }
    }};
}

/// One case at work.
struct Case {
    here: Arc<dyn RepositoryService>,
    elsewhere: Arc<dyn RepositoryService>,
    /// The repository that a case uses, where it needs one only.
    name: RepositoryName,
    other_name: RepositoryName,
    seed: u64,
}

impl Case {
    fn new(title: &'static str, subject: Subject) -> Self {
        Case {
            here: subject.here,
            elsewhere: subject.elsewhere,
            name: name("conformance/one"),
            other_name: name("conformance/two"),
            seed: seed_of(title),
        }
    }

    /// `len` bytes of this case's content, the `nth`.
    fn bytes(&self, nth: u64, len: u64) -> Bytes {
        ramp(self.seed.wrapping_add(nth * 0x1_0001) & 0xff_ffff, len)
    }

    /// Publishes `bytes` in a repository.
    async fn push_to(&self, name: &RepositoryName, bytes: &Bytes) -> LayerId {
        let mut upload = self.here.upload(name, None).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        let digest = sha256(bytes);
        upload.finish(bytes.len() as u64, &digest).await.unwrap();
        digest.into()
    }

    /// Publishes `bytes` in [`name`](Self::name).
    async fn push(&self, bytes: &Bytes) -> LayerId {
        self.push_to(&self.name, bytes).await
    }

    /// A manifest of this case, the `nth`.
    fn manifest(&self, nth: u64) -> Manifest {
        manifest_of(self.bytes(nth, 300 + nth))
    }

    /// One that refers to another.
    fn manifest_about(&self, nth: u64, subject: &Digest) -> Manifest {
        Manifest {
            subject: Some(subject.clone()),
            artifact_type: Some(format!("application/vnd.conformance.{nth}")),
            ..self.manifest(nth)
        }
    }

    async fn put(&self, manifest: &Manifest) {
        self.here.put_manifest(&self.name, manifest).await.unwrap();
    }

    async fn put_tag(&self, text: &str, digest: &Digest) {
        self.here
            .put_tag(&self.name, &tag(text), digest)
            .await
            .unwrap();
    }

    async fn get_tag(&self, text: &str) -> Option<Digest> {
        self.here.tag(&self.name, &tag(text)).await.unwrap()
    }

    /// Panics unless the layer is found in the repository, here, and elsewhere soon.
    async fn assert_linked(&self, name: &RepositoryName, id: &LayerId) {
        assert!(is_linked(&self.here, name, id).await, "{id} in {name}");
        let what = format!("{id} is linked in {name} elsewhere");
        eventually!(&what, true, { is_linked(&self.elsewhere, name, id).await });
    }

    /// Panics unless the layer is unknown in the repository, here, and elsewhere soon.
    async fn assert_not_linked(&self, name: &RepositoryName, id: &LayerId) {
        assert!(!is_linked(&self.here, name, id).await, "{id} in {name}");
        let what = format!("{id} is linked in {name} elsewhere");
        eventually!(&what, false, { is_linked(&self.elsewhere, name, id).await });
    }
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn manifest_of(bytes: Bytes) -> Manifest {
    Manifest {
        digest: sha256(&bytes),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        bytes,
        subject: None,
        artifact_type: None,
        annotations: [("org.example.key".to_owned(), "valüe".to_owned())].into(),
    }
}

async fn is_linked(
    service: &Arc<dyn RepositoryService>,
    name: &RepositoryName,
    id: &LayerId,
) -> bool {
    match service.layer(name, id).await {
        Ok(_) => true,
        Err(Error::LayerUnknown { id: stored }) if stored == *id => false,
        Err(error) => panic!("{id} in {name}: {error:?}"),
    }
}

/// How long an answer of another instance is waited for.
struct Patience(Instant);

impl Patience {
    fn begin() -> Self {
        Patience(Instant::now())
    }

    /// Waits a little, and panics when that was too often.
    async fn wait<T: Debug>(&self, what: &str, got: T, want: T) {
        let is_late = self.0.elapsed() > SEEN_WITHIN;
        assert!(!is_late, "{what}: still {got:?}, expected {want:?}");
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}

cases! { $ __conformance_repository_suite in repositories::run;
    links: [
        a_finished_layer_is_linked_in_its_repository_alone,
        unknown_layer_is_linked_nowhere,
        a_linked_layer_reads_as_the_same_bytes,
        a_layer_is_linked_under_every_id_that_it_was_finished_with,
        the_same_bytes_pushed_to_another_repository_are_linked_there,
        a_layer_is_mounted_from_another_repository,
        mount_from_a_repository_without_the_layer_returns_false,
        any_stored_layer_is_mounted_without_a_source,
        mounting_twice_is_as_mounting_once,
        a_layer_is_mounted_under_its_other_id,
        an_unlinked_layer_is_unknown_there_and_its_bytes_stay,
        unlinking_an_absent_link_returns_false,
        a_layer_is_unlinked_under_all_its_ids,
        unlinked_layer_can_be_linked_again,
        another_instance_forgets_an_unlinked_layer,
    ],
    manifests: [
        manifest_is_returned_unchanged,
        manifest_of_a_confirmed_layer_is_stored,
        a_large_manifest_comes_back,
        a_manifest_is_found_by_its_sha512,
        unknown_manifest_is_none,
        a_manifest_is_in_its_repository_alone,
        a_manifest_put_again_takes_the_new_media_type,
        a_deleted_manifest_is_gone_here_and_elsewhere,
        a_deleted_manifest_takes_its_tags_along,
        deleting_an_absent_manifest_returns_false,
        a_deleted_manifest_can_be_put_again,
    ],
    tags: [
        a_tag_names_a_manifest,
        tag_names_the_last_digest_written,
        unknown_tag_is_none,
        a_deleted_tag_is_gone_and_its_manifest_stays,
        a_tag_is_moved_elsewhere_and_seen_here,
        tags_are_listed_in_the_order_of_their_bytes_page_by_page,
        page_begins_after_any_text,
        tags_of_an_unknown_repository_are_none,
        a_repository_of_layers_or_manifests_has_no_tags_but_is_known,
        a_repository_that_was_emptied_is_unknown,
        tags_of_nested_repositories_do_not_mix,
        concurrent_tag_writes_all_succeed,
        one_of_two_concurrent_tag_writers_wins,
    ],
    referrers: [
        a_manifest_is_among_the_referrers_of_its_subject,
        a_manifest_without_referrers_has_none,
        referrers_are_listed_in_order_page_by_page,
        referrers_are_filtered_by_artifact_type,
        a_page_of_referrers_weighs_no_more_than_asked_or_has_one,
        a_deleted_manifest_refers_no_more,
        the_referrers_of_a_deleted_manifest_stay,
        a_referrer_put_again_is_one_referrer,
        referrers_are_of_one_repository,
    ],
    catalog: [
        repositories_are_listed_in_the_order_of_their_bytes_page_by_page,
        page_begins_after_any_text_in_the_catalog,
        an_upload_alone_makes_no_repository,
        each_kind_of_content_makes_a_repository,
        emptied_repository_is_not_listed,
        a_repository_of_many_objects_is_listed_once,
        the_storage_answers,
    ],
    uploads: [
        upload_resumes_at_the_acknowledged_offset,
        many_resumes_at_acknowledged_offsets_are_one_layer,
        resume_at_another_offset_returns_the_stored_one,
        an_upload_of_another_repository_is_unknown,
        ended_upload_becomes_unknown,
        bytes_of_another_writer_are_never_overwritten,
        resuming_at_an_offset_does_not_disturb_the_writer,
        overtaken_writer_gets_a_conflict,
    ],
}
