//! An examination finds each quirk, reports its consequence, and leaves nothing but the profile.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::doctor::{Answer, Examination, ProfileChange, Severity, TOPICS, examine};
use s3layers::{ConnectError, S3Config, S3LayerService, StoreProfile};

use crate::support::answers::{Reword, reword};
use crate::support::bucket;
use crate::support::fault_client::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, DeleteObject,
    DeleteObjects, GetBucketLifecycleConfiguration, GetObject, HeadObject, ListMultipartUploads,
    ListObjectsV2, ListParts, On, Operation, Position, PutObject, UploadPart,
};
use crate::support::stores::{self, BUCKET};

/// The embedded store has no rules.
const UNKNOWN: [&str; 1] = ["nothing_expires"];

fn with(set: impl FnOnce(&mut Quirks)) -> Quirks {
    let mut quirks = Quirks::none();
    set(&mut quirks);
    quirks
}

async fn examined(store: &EmbeddedStore, http: SharedHttpClient) -> Examination {
    let client = stores::client(store, http);
    let never = std::future::pending();
    let examined = examine(client, stores::config(), never).await;
    examined.unwrap().unwrap()
}

/// The ids of the checks with this answer.
fn answered(examination: &Examination, answer: Answer) -> Vec<&'static str> {
    let findings = examination.findings.iter();
    let so = findings.filter(|finding| finding.answer == answer);
    so.map(|finding| finding.check.id).collect()
}

fn breaks(examination: &Examination) -> Vec<&'static str> {
    let broken = examination.of(Severity::Breaks);
    broken.map(|finding| finding.check.id).collect()
}

/// Everything in the bucket.
async fn left(store: &EmbeddedStore) -> Vec<String> {
    let client = stores::sdk_client(store);
    let mut left: Vec<_> = bucket::keys(&client).await.into_iter().collect();
    left.extend(bucket::multiparts(&client).await);
    left
}

#[tokio::test]
async fn complete_store_keeps_every_promise() {
    let (store, wire) = stores::with_wire().await;
    let examination = examined(&store, wire.http_client()).await;
    assert_eq!(answered(&examination, Answer::No), [""; 0]);
    assert_eq!(answered(&examination, Answer::Unknown), UNKNOWN);
    let checks = TOPICS.iter().map(|(_, checks)| checks.len());
    assert_eq!(examination.findings.len(), checks.sum::<usize>());
    assert!(examination.keeps_promises() && !examination.needs_read_back());
    assert_eq!(examination.profile, Some(StoreProfile::AWS));
    assert_eq!(examination.profile_change, ProfileChange::Created);
    assert_eq!(examination.store, Some("the embedded store of s3layers"));
    assert_eq!(examination.differences, [""; 0]);
    assert_eq!(left(&store).await, ["profile"]);
    // As the help text says.
    let requests = wire.log().len();
    assert_eq!(examination.usage.requests(), requests as u64);
    assert!((400..=600).contains(&requests), "{requests} requests");
    assert!(examination.usage.bytes_sent < 11 << 20);

    let again = examined(&store, store.http_client()).await;
    assert_eq!(again.profile_change, ProfileChange::Unchanged);
}

#[tokio::test]
async fn each_quirk_is_found() {
    type Case = (&'static str, fn(&mut Quirks), &'static [&'static str], bool);
    let cases: [Case; 10] = [
        (
            "ignore_conditions",
            |quirks| quirks.ignore_conditions = true,
            &["create_conflict", "conditional_delete"],
            false,
        ),
        (
            "ignore_delete_conditions",
            |quirks| quirks.ignore_delete_conditions = true,
            &["conditional_delete"],
            true,
        ),
        (
            "if_match_absent_succeeds",
            |quirks| quirks.if_match_absent_succeeds = true,
            &["replace_absent"],
            false,
        ),
        (
            "ignore_checksums",
            |quirks| quirks.ignore_checksums = true,
            &["object_checksum", "part_checksum"],
            true,
        ),
        (
            "complete_needs_all_parts",
            |quirks| quirks.complete_needs_all_parts = true,
            &["partial_complete"],
            true,
        ),
        (
            "ignore_part_etags",
            |quirks| quirks.ignore_part_etags = true,
            &["part_etag"],
            true,
        ),
        (
            "list_uploads_by_exact_key",
            |quirks| quirks.list_uploads_by_exact_key = true,
            &[],
            true,
        ),
        (
            "second_complete_is_no_such_upload",
            |quirks| quirks.second_complete_is_no_such_upload = true,
            &[],
            true,
        ),
        (
            "opaque_etags",
            |quirks| quirks.opaque_etags = true,
            &[],
            true,
        ),
        (
            "small_unsorted_pages",
            |quirks| quirks.small_unsorted_pages = true,
            &[],
            true,
        ),
    ];
    for (quirk, set, lacks, keeps) in cases {
        let store = stores::in_memory().await.with_quirks(with(set));
        let examination = examined(&store, store.http_client()).await;
        assert_eq!(answered(&examination, Answer::No), lacks, "{quirk}");
        assert_eq!(answered(&examination, Answer::Unknown), UNKNOWN, "{quirk}");
        assert_eq!(examination.keeps_promises(), keeps, "{quirk}");
        let mut broken = if keeps { Vec::new() } else { lacks.to_vec() };
        broken.retain(|question| *question != "conditional_delete");
        assert_eq!(breaks(&examination), broken, "{quirk}");
        assert_eq!(left(&store).await, ["profile"], "{quirk}");
        // The next service uses the profile.
        let client = stores::sdk_client(&store);
        match S3LayerService::connect(client, stores::config()).await {
            Ok(service) => {
                assert!(keeps, "{quirk}");
                assert_eq!(
                    Some(service.profile()),
                    examination.profile.as_ref(),
                    "{quirk}"
                );
            }
            Err(ConnectError::NoConditionalWrites) => assert!(!keeps, "{quirk}"),
            Err(error) => panic!("{quirk}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn store_that_verifies_nothing_needs_readback() {
    let quirks = with(|quirks| {
        quirks.ignore_checksums = true;
        quirks.ignore_part_etags = true;
    });
    let store = stores::in_memory().await.with_quirks(quirks);
    let examination = examined(&store, store.http_client()).await;
    assert!(examination.keeps_promises() && examination.needs_read_back());
}

#[tokio::test]
async fn single_writer_needs_no_conditions() {
    let quirks = with(|quirks| quirks.ignore_conditions = true);
    let store = stores::in_memory().await.with_quirks(quirks);
    let client = stores::sdk_client(&store);
    let config = stores::config().single_writer(true);
    let examined = examine(client, config, std::future::pending()).await;
    let examination = examined.unwrap().unwrap();
    assert!(examination.keeps_promises());
    let costs = examination.of(Severity::Costs).next().unwrap();
    assert_eq!(costs.check.id, "create_conflict");
    // One is declared already.
    assert_eq!(costs.remedy, None);
}

/// A store may lose a capability with an upgrade.
#[tokio::test]
async fn stale_profile_is_replaced() {
    let store = stores::in_memory().await;
    let before = stores::service(&store).await;
    assert!(before.profile().crc64nvme);
    let store = store.with_quirks(with(|quirks| quirks.ignore_checksums = true));
    let stale = stores::service(&store).await;
    assert!(
        stale.profile().crc64nvme,
        "the profile in the bucket is used"
    );
    let examination = examined(&store, store.http_client()).await;
    assert_eq!(examination.profile_change, ProfileChange::Replaced);
    let expected =
        "checksums by CRC64NVME: not found, and expected of the embedded store of s3layers";
    assert_eq!(examination.differences, [expected]);
    assert!(!stores::service(&store).await.profile().crc64nvme);
}

/// Else what an operator has set in it would be lost.
#[tokio::test]
async fn profile_that_is_read_wrong_once_is_not_replaced() {
    let (store, wire) = stores::with_wire().await;
    examined(&store, wire.http_client()).await;
    let flipped = On::nth(GetObject, 1).key_ends("profile");
    wire.fault(flipped.flip_bit(Position::Middle));
    let again = examined(&store, wire.http_client()).await;
    assert_eq!(again.profile_change, ProfileChange::Unchanged);
}

#[tokio::test]
async fn missing_permission_is_named_once() {
    let cases: [(Operation, &str); 12] = [
        (PutObject, "may_put_object"),
        (CreateMultipartUpload, "may_put_object"),
        (UploadPart, "may_put_object"),
        (CompleteMultipartUpload, "may_put_object"),
        (GetObject, "may_get_object"),
        (HeadObject, "may_get_object"),
        (DeleteObject, "may_delete_object"),
        (DeleteObjects, "may_delete_object"),
        (ListObjectsV2, "may_list_bucket"),
        (AbortMultipartUpload, "may_abort_multipart_upload"),
        (ListParts, "may_list_multipart_upload_parts"),
        (ListMultipartUploads, "may_list_bucket_multipart_uploads"),
    ];
    for (operation, id) in cases {
        let (store, wire) = stores::with_wire().await;
        wire.fault(On::every(operation).status(403));
        let examination = examined(&store, wire.http_client()).await;
        assert_eq!(answered(&examination, Answer::No), [id], "{operation:?}");
        assert!(!examination.keeps_promises());
        let mut rows = examination.findings.iter();
        let finding = rows.find(|finding| finding.check.id == id).unwrap();
        let refused = format!("{operation:?}: 403");
        assert!(finding.detail.starts_with(&refused), "{finding:?}");
        let remedy = finding.remedy.as_deref().unwrap();
        let action = format!("allow {} on arn:aws:s3:::{BUCKET}", finding.check.text);
        assert!(remedy.starts_with(&action), "{remedy}");

        let left = left(&store).await;
        let is_left = |key: &String| key != "profile";
        match id {
            // Only the objects of the permission checks are left.
            "may_delete_object" => {
                assert!(
                    left.iter().filter(|key| is_left(key)).count() <= 2,
                    "{left:?}"
                );
            }
            "may_abort_multipart_upload" => assert_eq!(left, [""; 0], "{operation:?}"),
            _ => assert!(!left.iter().any(is_left), "{operation:?}: {left:?}"),
        }
    }
}

#[tokio::test]
async fn objects_left_behind_are_reported() {
    let (store, wire) = stores::with_wire().await;
    wire.fault(On::every(DeleteObject).status(403));
    wire.fault(On::every(DeleteObjects).status(403));
    let examination = examined(&store, wire.http_client()).await;
    let why = examination.left_behind.unwrap();
    assert!(why.contains("403 AccessDenied"), "{why}");
    assert!(matches!(
        examination.profile_change,
        ProfileChange::NotWritten(_)
    ));
    assert!(
        left(&store)
            .await
            .iter()
            .all(|key| key.starts_with("probe/"))
    );
}

#[tokio::test]
async fn wrong_keys_and_missing_bucket_are_errors() {
    let store = stores::in_memory().await;
    let client = stores::client(
        &store.clone().with_keys("ours", "other"),
        store.http_client(),
    );
    let refused = examine(client, stores::config(), std::future::pending()).await;
    match refused {
        Err(ConnectError::Store(error)) => assert!(error.is_permission(), "{error:?}"),
        other => panic!("{other:?}"),
    }
    let client = stores::sdk_client(&store);
    let absent = examine(client, S3Config::new("absent"), std::future::pending()).await;
    match absent {
        Err(ConnectError::Store(s3layers::Error::Storage(error))) => {
            assert!(error.is_no_such_bucket(), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(left(&store).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn silent_store_is_an_error() {
    let (store, wire) = stores::with_wire().await;
    wire.fault(On::from(60).status(503));
    let client = stores::client(&store, wire.http_client());
    let examined = examine(client, stores::config(), std::future::pending()).await;
    match examined {
        Err(ConnectError::Store(error)) => assert!(error.is_retryable(), "{error:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn transient_failure_changes_no_answer() {
    for operation in [
        PutObject,
        GetObject,
        UploadPart,
        ListObjectsV2,
        DeleteObject,
    ] {
        for nth in [1, 3] {
            let (store, wire) = stores::with_wire().await;
            wire.fault(On::nth(operation, nth).status(503));
            wire.fault(On::nth(operation, nth + 3).lose_answer());
            let examination = examined(&store, wire.http_client()).await;
            let case = format!("{operation:?} {nth}");
            assert_eq!(answered(&examination, Answer::No), [""; 0], "{case}");
            assert_eq!(answered(&examination, Answer::Unknown), UNKNOWN, "{case}");
            assert_eq!(left(&store).await, ["profile"], "{case}");
        }
    }
}

#[tokio::test]
async fn stopped_examination_removes_its_objects() {
    for operation in [UploadPart, ListParts, CompleteMultipartUpload] {
        let (store, wire) = stores::with_wire().await;
        // The first of each is that of the permissions.
        let gate = wire.hold(On::nth(operation, 2));
        let client = stores::client(&store, wire.http_client());
        let stop = async {
            gate.reached_by(1).await;
            assert!(!left(&store).await.is_empty(), "it has written");
        };
        let stopped = examine(client, stores::config(), stop).await.unwrap();
        assert!(stopped.is_none(), "{operation:?}");
        assert_eq!(left(&store).await, [""; 0], "{operation:?}");
    }
}

/// The store's clock is wrong by this many seconds.
struct Skewed(i64);

impl Reword for Skewed {
    fn header(&self, name: &str, value: &str) -> String {
        if name != "date" {
            return value.to_owned();
        }
        let time = DateTime::from_str(value, DateTimeFormat::HttpDate).unwrap();
        let skewed = DateTime::from_secs(time.secs() + self.0);
        skewed.fmt(DateTimeFormat::HttpDate).unwrap()
    }
}

#[tokio::test]
async fn clock_skew_is_reported() {
    for (seconds, direction) in [(120, "ahead"), (-120, "behind"), (800, "ahead")] {
        let store = stores::in_memory().await;
        let http = reword(store.http_client(), Skewed(seconds));
        let examination = examined(&store, http).await;
        let mut findings = examination.findings.iter();
        let clock = findings
            .find(|finding| finding.check.id == "clock")
            .unwrap();
        assert_eq!(clock.answer, Answer::Yes, "{seconds} s");
        assert!(clock.detail.ends_with(direction), "{seconds} s: {clock:?}");
        assert!(examination.keeps_promises(), "{seconds} s");
    }
}

/// The first listings leave out their last object, this many of them.
struct Lagging(AtomicUsize);

impl Reword for Lagging {
    fn text(&self, request: &str, text: String) -> String {
        let is_of_list = request.contains("list-type=2") && request.contains("%2Flist%2F");
        let last = text.rfind("<Contents>");
        let (true, Some(last)) = (is_of_list, last) else {
            return text;
        };
        let left = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_err() {
            return text;
        }
        let end = text.rfind("</Contents>").unwrap() + "</Contents>".len();
        text[..last].to_owned() + &text[end..]
    }
}

#[tokio::test(start_paused = true)]
async fn lagging_listing_costs_and_incomplete_listing_breaks() {
    let store = stores::in_memory().await;
    let http = reword(store.http_client(), Lagging(2.into()));
    let examination = examined(&store, http).await;
    assert_eq!(answered(&examination, Answer::No), ["list_after_write"]);
    let found = &examination.of(Severity::Costs).next().unwrap().detail;
    assert_eq!(found, "only at look 3");
    assert!(examination.keeps_promises());

    let store = stores::in_memory().await;
    let http = reword(store.http_client(), Lagging(usize::MAX.into()));
    let examination = examined(&store, http).await;
    assert_eq!(breaks(&examination), ["list_pages"]);
}

#[tokio::test]
async fn forbidden_lifecycle_rules_break_no_promise() {
    let (store, wire) = stores::with_wire().await;
    wire.fault(On::every(GetBucketLifecycleConfiguration).status(403));
    let examination = examined(&store, wire.http_client()).await;
    assert!(examination.keeps_promises());
    let row = examination.of(Severity::Note).next().unwrap();
    assert_eq!(
        row.detail,
        "GetBucketLifecycleConfiguration: 403 AccessDenied"
    );
}

#[tokio::test]
async fn setting_out_of_range_is_an_error() {
    let store = stores::in_memory().await;
    let client = stores::sdk_client(&store);
    let config = S3Config::new(BUCKET).root("a//b");
    let refused = examine(client, config, std::future::pending()).await;
    assert!(
        matches!(refused, Err(ConnectError::Config(_))),
        "{refused:?}"
    );
}
