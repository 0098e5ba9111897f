//! An examination finds each bad habit, says what it means, and leaves nothing but the profile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::doctor::{Answer, Examination, ProfileKept, Question as Q, Weight, examine};
use s3layers::{ConnectError, S3Config, S3LayerService, StoreProfile};

use crate::support::answers::{Reword, reword};
use crate::support::bucket;
use crate::support::stores::{self, BUCKET};
use crate::support::wire::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, DeleteObject,
    DeleteObjects, GetBucketLifecycleConfiguration, GetObject, HeadObject, ListMultipartUploads,
    ListObjectsV2, ListParts, On, Operation, PutObject, UploadPart, Wire,
};

/// What no embedded store tells: it has neither rules nor versions.
const NOT_TOLD: [Q; 2] = [Q::NothingExpires, Q::OldVersions];

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

/// The questions that were answered so.
fn answered(examination: &Examination, answer: Answer) -> Vec<Q> {
    let findings = examination.findings.iter();
    let so = findings.filter(|(finding, _)| finding.answer == answer);
    so.map(|(finding, _)| finding.question).collect()
}

fn breaks(examination: &Examination) -> Vec<Q> {
    let broken = examination.of(Weight::Breaks);
    broken.map(|finding| finding.question).collect()
}

/// Everything in the bucket.
async fn left(store: &EmbeddedStore) -> Vec<String> {
    let client = stores::client(store, store.http_client());
    let mut left: Vec<_> = bucket::keys(&client).await.into_iter().collect();
    left.extend(bucket::multiparts(&client).await);
    left
}

#[tokio::test]
async fn a_store_that_does_all_keeps_every_promise() {
    let store = stores::in_memory().await;
    let wire = Wire::over(store.http_client());
    let examination = examined(&store, wire.http_client()).await;
    assert_eq!(answered(&examination, Answer::No), []);
    assert_eq!(answered(&examination, Answer::Unknown), NOT_TOLD);
    let asked: BTreeSet<_> = examination
        .findings
        .iter()
        .map(|(f, _)| f.question.id())
        .collect();
    assert_eq!(asked.len(), Q::ALL.len());
    assert!(examination.keeps_promises() && !examination.needs_read_back());
    assert_eq!(examination.profile, Some(StoreProfile::AWS));
    assert_eq!(examination.kept, ProfileKept::First);
    assert_eq!(examination.store, Some("the embedded store of s3layers"));
    assert_eq!(examination.differences, [""; 0]);
    assert_eq!(left(&store).await, ["profile"]);
    // What its help says of its price.
    let requests = wire.log().len();
    assert_eq!(examination.usage.requests(), requests as u64);
    assert!((400..=600).contains(&requests), "{requests} requests");
    assert!(examination.usage.bytes_sent < 11 << 20);

    let again = examined(&store, store.http_client()).await;
    assert_eq!(again.kept, ProfileKept::Same);
}

#[tokio::test]
async fn each_quirk_is_found_and_weighed() {
    type Case = (&'static str, fn(&mut Quirks), &'static [Q], bool);
    let cases: [Case; 10] = [
        (
            "ignore_conditions",
            |quirks| quirks.ignore_conditions = true,
            &[Q::CreateRefused, Q::StaleDeleteRefused],
            false,
        ),
        (
            "ignore_delete_conditions",
            |quirks| quirks.ignore_delete_conditions = true,
            &[Q::StaleDeleteRefused],
            true,
        ),
        (
            "if_match_absent_succeeds",
            |quirks| quirks.if_match_absent_succeeds = true,
            &[Q::AbsentRefused],
            false,
        ),
        (
            "ignore_checksums",
            |quirks| quirks.ignore_checksums = true,
            &[Q::ObjectChecksum, Q::PartChecksum, Q::ChecksumTold],
            true,
        ),
        (
            "complete_needs_all_parts",
            |quirks| quirks.complete_needs_all_parts = true,
            &[Q::LeavesOutParts],
            true,
        ),
        (
            "ignore_part_etags",
            |quirks| quirks.ignore_part_etags = true,
            &[Q::StalePart],
            true,
        ),
        (
            "list_uploads_by_exact_key",
            |quirks| quirks.list_uploads_by_exact_key = true,
            &[Q::UploadsListedBelow],
            true,
        ),
        (
            "second_complete_is_no_such_upload",
            |quirks| quirks.second_complete_is_no_such_upload = true,
            &[Q::CompleteAgain],
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
            &[Q::PartsInOrder],
            true,
        ),
    ];
    for (quirk, set, lacks, keeps) in cases {
        let store = stores::in_memory().await.with_quirks(with(set));
        let examination = examined(&store, store.http_client()).await;
        assert_eq!(answered(&examination, Answer::No), lacks, "{quirk}");
        assert_eq!(answered(&examination, Answer::Unknown), NOT_TOLD, "{quirk}");
        assert_eq!(examination.keeps_promises(), keeps, "{quirk}");
        let mut broken = if keeps { Vec::new() } else { lacks.to_vec() };
        broken.retain(|question| *question != Q::StaleDeleteRefused);
        assert_eq!(breaks(&examination), broken, "{quirk}");
        assert_eq!(left(&store).await, ["profile"], "{quirk}");
        // The service that comes after it goes by what was found.
        let client = stores::client(&store, store.http_client());
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
async fn a_store_that_verifies_nothing_is_read_back() {
    let quirks = with(|quirks| {
        quirks.ignore_checksums = true;
        quirks.ignore_part_etags = true;
    });
    let store = stores::in_memory().await.with_quirks(quirks);
    let examination = examined(&store, store.http_client()).await;
    assert!(examination.keeps_promises() && examination.needs_read_back());
}

#[tokio::test]
async fn a_single_writer_needs_no_conditions() {
    let quirks = with(|quirks| quirks.ignore_conditions = true);
    let store = stores::in_memory().await.with_quirks(quirks);
    let client = stores::client(&store, store.http_client());
    let config = stores::config().single_writer(true);
    let examined = examine(client, config, std::future::pending()).await;
    assert!(examined.unwrap().unwrap().keeps_promises());
}

/// "A store that loses a capability after an upgrade" is mended by asking again.
#[tokio::test]
async fn the_profile_of_an_older_store_is_replaced() {
    let store = stores::in_memory().await;
    let before = stores::service(&store).await;
    assert!(before.profile().crc64nvme);
    let store = store.with_quirks(with(|quirks| quirks.ignore_checksums = true));
    let stale = stores::service(&store).await;
    assert!(
        stale.profile().crc64nvme,
        "the profile in the bucket is believed"
    );
    let examination = examined(&store, store.http_client()).await;
    assert_eq!(examination.kept, ProfileKept::Replaced);
    let expected =
        "checksums by CRC64NVME: not found, and expected of the embedded store of s3layers";
    assert_eq!(examination.differences, [expected]);
    assert!(!stores::service(&store).await.profile().crc64nvme);
}

#[tokio::test]
async fn a_missing_permission_is_named_and_all_else_is_asked() {
    let cases: [(Operation, Q); 12] = [
        (PutObject, Q::MayPut),
        (CreateMultipartUpload, Q::MayPut),
        (UploadPart, Q::MayPut),
        (CompleteMultipartUpload, Q::MayPut),
        (GetObject, Q::MayGet),
        (HeadObject, Q::MayGet),
        (DeleteObject, Q::MayDelete),
        (DeleteObjects, Q::MayDelete),
        (ListObjectsV2, Q::MayList),
        (AbortMultipartUpload, Q::MayAbort),
        (ListParts, Q::MayListParts),
        (ListMultipartUploads, Q::MayListUploads),
    ];
    for (operation, question) in cases {
        let store = stores::in_memory().await;
        let wire = Wire::over(store.http_client());
        wire.fault(On::every(operation).status(403));
        let examination = examined(&store, wire.http_client()).await;
        assert_eq!(
            answered(&examination, Answer::No),
            [question],
            "{operation:?}"
        );
        assert!(!examination.keeps_promises());
        let mut rows = examination.findings.iter();
        let row = rows.find(|(finding, _)| finding.question == question);
        let (finding, judged) = row.unwrap();
        let refused = format!("{operation:?}: 403");
        assert!(finding.found.starts_with(&refused), "{finding:?}");
        let change = judged.change.as_deref().unwrap();
        let action = format!("allow {} on arn:aws:s3:::{BUCKET}", question.text());
        assert!(change.starts_with(&action), "{change}");

        let left = left(&store).await;
        let is_left = |key: &String| key != "profile";
        match question {
            // What could not be removed is what the permissions themselves were tried with.
            Q::MayDelete => {
                assert!(
                    left.iter().filter(|key| is_left(key)).count() <= 2,
                    "{left:?}"
                );
            }
            Q::MayAbort => assert_eq!(left, [""; 0], "{operation:?}"),
            _ => assert!(!left.iter().any(is_left), "{operation:?}: {left:?}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_removed_is_told() {
    let store = stores::in_memory().await;
    let wire = Wire::over(store.http_client());
    wire.fault(On::every(DeleteObject).status(403));
    wire.fault(On::every(DeleteObjects).status(403));
    let examination = examined(&store, wire.http_client()).await;
    let told = examination.left_behind.unwrap();
    assert!(told.contains("403 AccessDenied"), "{told}");
    assert!(matches!(examination.kept, ProfileKept::Untouched(_)));
    assert!(
        left(&store)
            .await
            .iter()
            .all(|key| key.starts_with("probe/"))
    );
}

#[tokio::test]
async fn a_store_that_lets_nobody_in_is_an_error() {
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
    let client = stores::client(&store, store.http_client());
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
async fn a_store_that_falls_silent_is_an_error_and_not_forty_findings() {
    let store = stores::in_memory().await;
    let wire = Wire::over(store.http_client());
    wire.fault(On::from(60).status(503));
    let client = stores::client(&store, wire.http_client());
    let examined = examine(client, stores::config(), std::future::pending()).await;
    match examined {
        Err(ConnectError::Store(error)) => assert!(error.is_retryable(), "{error:?}"),
        other => panic!("{other:?}"),
    }
}

/// One refusal that a repetition mends changes no answer.
#[tokio::test(start_paused = true)]
async fn a_hiccup_changes_no_answer() {
    for operation in [
        PutObject,
        GetObject,
        UploadPart,
        ListObjectsV2,
        DeleteObject,
    ] {
        for nth in [1, 3] {
            let store = stores::in_memory().await;
            let wire = Wire::over(store.http_client());
            wire.fault(On::nth(operation, nth).status(503));
            wire.fault(On::nth(operation, nth + 3).lose_answer());
            let examination = examined(&store, wire.http_client()).await;
            let case = format!("{operation:?} {nth}");
            assert_eq!(answered(&examination, Answer::No), [], "{case}");
            assert_eq!(answered(&examination, Answer::Unknown), NOT_TOLD, "{case}");
            assert_eq!(left(&store).await, ["profile"], "{case}");
        }
    }
}

#[tokio::test]
async fn told_to_stop_it_removes_what_it_wrote() {
    for operation in [UploadPart, ListParts, CompleteMultipartUpload] {
        let store = stores::in_memory().await;
        let wire = Wire::over(store.http_client());
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

/// The store's clock is wrong by so many seconds.
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
async fn clocks_that_are_apart() {
    for (seconds, lacks) in [
        (-30, &[][..]),
        (120, &[Q::ClockClose]),
        (-120, &[Q::ClockClose]),
        (800, &[Q::ClockClose]),
    ] {
        let store = stores::in_memory().await;
        let http = reword(store.http_client(), Skewed(seconds));
        let examination = examined(&store, http).await;
        assert_eq!(answered(&examination, Answer::No), lacks, "{seconds} s");
        assert!(examination.keeps_promises(), "{seconds} s");
    }
}

/// Lists leave out their last object, as often as this says.
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
async fn lists_that_lag_are_lived_with_and_lists_that_lie_are_not() {
    let store = stores::in_memory().await;
    let http = reword(store.http_client(), Lagging(2.into()));
    let examination = examined(&store, http).await;
    assert_eq!(answered(&examination, Answer::No), [Q::ListAfterWrite]);
    let found = &examination.of(Weight::Costs).next().unwrap().found;
    assert_eq!(found, "only at look 3");
    assert!(examination.keeps_promises());

    let store = stores::in_memory().await;
    let http = reword(store.http_client(), Lagging(usize::MAX.into()));
    let examination = examined(&store, http).await;
    let broken = breaks(&examination);
    assert!(
        broken.contains(&Q::ListPages) && broken.contains(&Q::ListLevels),
        "{broken:?}"
    );
}

#[tokio::test]
async fn a_reader_gone_blind_is_found() {
    // No HEAD, so neither the checksum nor the large object can be looked at.
    let store = stores::in_memory().await;
    let wire = Wire::over(store.http_client());
    wire.fault(On::every(HeadObject).status(403));
    let examination = examined(&store, wire.http_client()).await;
    let not_asked = answered(&examination, Answer::NotAsked);
    assert!(not_asked.contains(&Q::ChecksumTold), "{not_asked:?}");
    let known = answered(&examination, Answer::Yes);
    assert!(
        known.contains(&Q::RangeRead),
        "a small object serves: {known:?}"
    );
}

#[tokio::test]
async fn rules_that_may_not_be_asked_about_are_no_broken_promise() {
    let store = stores::in_memory().await;
    let wire = Wire::over(store.http_client());
    wire.fault(On::every(GetBucketLifecycleConfiguration).status(403));
    let examination = examined(&store, wire.http_client()).await;
    assert!(examination.keeps_promises());
    let row = examination.of(Weight::Note).next().unwrap();
    assert_eq!(
        row.found,
        "GetBucketLifecycleConfiguration: 403 AccessDenied"
    );
}

/// Settings are checked as those of a service are.
#[tokio::test]
async fn a_setting_out_of_range_is_named() {
    let store = stores::in_memory().await;
    let client = stores::client(&store, store.http_client());
    let config = S3Config::new(BUCKET).root("a//b");
    let refused = examine(client, config, std::future::pending()).await;
    assert!(
        matches!(refused, Err(ConnectError::Config(_))),
        "{refused:?}"
    );
}
