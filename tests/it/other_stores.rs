//! Stores that do not answer as Amazon S3 does: each is used as it is, or refused for the true reason.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_runtime_api::client::http::{
    HttpConnector as _, HttpConnectorFuture, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::doctor::{Answer, Examination, Severity, examine};
use s3layers::{ConnectError, Error, LayerService as _, Manifest, S3LayerService, StoreProfile};
use s3layers_registry::RepositoryService;
use tokio::io::AsyncWriteExt as _;

use crate::hostile::{assert_reads, live};
use crate::support::answers::{Reword, reword};
use crate::support::bytes::{ramp, sha256};
use crate::support::interceptor::{self, Handle};
use crate::support::stores::{self, PART, name};

/// Answers some requests itself.
type Rule = Arc<dyn Fn(&HttpRequest) -> Option<(u16, &'static str)> + Send + Sync>;

#[derive(Clone)]
struct Refusing(Rule);

impl fmt::Debug for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusing")
    }
}

impl Handle for Refusing {
    fn handle(&self, store: SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
        match (self.0)(&request) {
            Some((status, code)) => {
                let body = format!("<Error><Code>{code}</Code></Error>");
                HttpConnectorFuture::ready(Ok(answer(status, body)))
            }
            None => store.call(request),
        }
    }
}

fn answer(status: u16, body: String) -> HttpResponse {
    let answer = http::Response::builder().status(status);
    let answer = answer.body(SdkBody::from(body)).unwrap();
    HttpResponse::try_from(answer).unwrap()
}

fn refusing(
    store: &EmbeddedStore,
    rule: impl Fn(&HttpRequest) -> Option<(u16, &'static str)> + Send + Sync + 'static,
) -> SharedHttpClient {
    interceptor::client(store.http_client(), Refusing(Arc::new(rule)))
}

fn is_conditional_put(request: &HttpRequest) -> bool {
    let header = |name| request.headers().get(name).is_some();
    request.method() == "PUT" && (header("if-match") || header("if-none-match"))
}

fn is_complete(request: &HttpRequest) -> bool {
    request.method() == "POST" && request.uri().contains("uploadId=")
}

async fn connect(
    store: &EmbeddedStore,
    http: &SharedHttpClient,
) -> Result<S3LayerService, ConnectError> {
    S3LayerService::connect(stores::client(store, http.clone()), stores::config()).await
}

async fn examined(store: &EmbeddedStore, http: SharedHttpClient) -> Examination {
    let client = stores::client(store, http);
    let examined = examine(client, stores::config(), std::future::pending()).await;
    examined.unwrap().unwrap()
}

fn breaks(examination: &Examination) -> Vec<&'static str> {
    let broken = examination.of(Severity::Breaks);
    broken.map(|finding| finding.check.id).collect()
}

fn unlike(examination: &Examination, answer: Answer) -> Vec<&'static str> {
    let findings = examination.findings.iter();
    let so = findings.filter(|finding| finding.answer == answer);
    so.map(|finding| finding.check.id).collect()
}

/// Ceph RGW compares If-Match with the ETag as it stands, without quotes.
#[tokio::test]
async fn etag_in_a_condition_is_sent_bare_where_a_quoted_one_is_refused() {
    let store = stores::in_memory().await;
    let literal = |request: &HttpRequest| {
        let etag = request.headers().get("if-match")?;
        let is_quoted = request.method() == "PUT" && etag.starts_with('"');
        is_quoted.then_some((412, "PreconditionFailed"))
    };
    let http = refusing(&store, literal);
    live(&http, &store).await;
    let service = connect(&store, &http).await.unwrap();
    assert!(service.profile().bare_etags && service.profile().conditional_writes);

    let examination = examined(&store, http).await;
    assert_eq!(breaks(&examination), [""; 0]);
    assert_eq!(examination.profile.as_ref(), Some(service.profile()));
}

/// Backblaze B2 and s3proxy answer 501 to what they do not know.
#[tokio::test]
async fn conditional_write_that_is_not_implemented_is_refused_by_name() {
    let store = stores::in_memory().await;
    let unknown =
        |request: &HttpRequest| is_conditional_put(request).then_some((501, "NotImplemented"));
    let http = refusing(&store, unknown);
    let refused = connect(&store, &http).await;
    assert!(
        matches!(refused, Err(ConnectError::NoConditionalWrites)),
        "{refused:?}"
    );
    let examination = examined(&store, http.clone()).await;
    assert_eq!(breaks(&examination), ["create"]);
    let found = &examination.of(Severity::Breaks).next().unwrap().detail;
    assert_eq!(found, "501 NotImplemented");
    assert_eq!(
        examination.profile_change,
        s3layers::doctor::ProfileChange::Unchanged
    );

    // With the wrong setting the error names the reason and the remedy.
    let client = stores::client(&store, http);
    let config = stores::config().profile(StoreProfile::AWS);
    let service = S3LayerService::connect(client, config).await.unwrap();
    let refused = service.upload(&name(), None).await.map(drop).unwrap_err();
    let s3layers::Error::Storage(refused) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        refused
            .advice()
            .unwrap()
            .contains("declare a single writer")
    );
}

/// The process has no id of its own, but its uploads have.
#[tokio::test]
async fn single_writer_sends_no_conditions_and_keeps_its_own_uploads_apart() {
    let store = stores::in_memory().await;
    let conditions = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&conditions);
    let counted = move |request: &HttpRequest| {
        seen.fetch_add(usize::from(is_conditional_put(request)), Ordering::Relaxed);
        None
    };
    let client = stores::client(&store, refusing(&store, counted));
    let mut profile = StoreProfile::AWS;
    profile.conditional_writes = false;
    let config = stores::config().profile(profile).single_writer(true);
    let service = S3LayerService::connect(client, config).await.unwrap();

    let bytes = ramp(1, PART + 1000);
    let push = async || {
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload.finish(PART + 1000, &sha256(&bytes)).await.unwrap();
    };
    tokio::join!(push(), push(), push());
    service.wait_for_background().await;
    assert_reads(&service, &bytes).await;
    let id = sha256(&bytes).into();
    let again = service.upload(&name(), Some(&id)).await;
    assert!(matches!(again, Err(s3layers::Error::LayerExists { .. })));
    assert_eq!(conditions.load(Ordering::Relaxed), 0);
    // Of three uploads of one layer, the data of one is kept.
    let keys = crate::support::bucket::keys(&stores::sdk_client(&store)).await;
    let data = keys.iter().filter(|key| key.starts_with("data/"));
    assert_eq!(data.count(), 1, "{keys:?}");
}

/// s3proxy answers 501 to a header that is not needed.
#[tokio::test]
async fn complete_sends_no_object_size() {
    let store = stores::in_memory().await;
    let unknown = |request: &HttpRequest| {
        let size = request.headers().get("x-amz-mp-object-size");
        size.map(|_| (501, "NotImplemented"))
    };
    live(&refusing(&store, unknown), &store).await;
}

#[tokio::test]
async fn store_that_completes_no_multipart_upload_is_refused() {
    let store = stores::in_memory().await;
    let http = refusing(&store, |request| {
        is_complete(request).then_some((400, "InvalidPart"))
    });
    match connect(&store, &http).await {
        Err(ConnectError::NoMultipart { answer }) => {
            assert_eq!(answer, "CompleteMultipartUpload: 400 InvalidPart");
        }
        other => panic!("{other:?}"),
    }
    let examination = examined(&store, http).await;
    assert_eq!(breaks(&examination), ["complete"]);
    let not_asked = unlike(&examination, Answer::Skipped);
    for question in [
        "part_etag",
        "whole_checksum",
        "unequal_parts",
        "part_replaced",
    ] {
        assert!(not_asked.contains(&question), "{question:?}: {not_asked:?}");
    }
    assert_eq!(examination.profile, None);
}

#[tokio::test]
async fn store_without_multipart_uploads_is_refused_for_that() {
    let store = stores::in_memory().await;
    let http = refusing(&store, |request| {
        let is_about_uploads = request.uri().contains("uploads");
        is_about_uploads.then_some((501, "NotImplemented"))
    });
    match connect(&store, &http).await {
        Err(ConnectError::NoMultipart { .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// A client of HTTP with a fault of its own.
#[tokio::test]
async fn part_whose_task_panicked_is_no_conflict() {
    let store = stores::in_memory().await;
    let http = refusing(&store, |request| {
        assert!(
            !request.uri().contains("partNumber="),
            "a fault of the client"
        );
        None
    });
    let client = stores::client(&store, http);
    let config = stores::config().profile(StoreProfile::AWS);
    let service = S3LayerService::connect(client, config).await.unwrap();
    let mut upload = service.upload(&name(), None).await.unwrap();
    let sent = async {
        upload.write_all(&ramp(1, 2 * PART)).await?;
        upload.flush().await
    };
    let error = s3layers::Error::from_io(sent.await.unwrap_err());
    assert!(matches!(error, s3layers::Error::Storage(_)), "{error}");
}

/// An emulator that refuses every write in one way is said to do so once.
#[tokio::test]
async fn one_cause_is_named_once() {
    let store = stores::in_memory().await;
    let http = refusing(&store, |request| {
        (request.method() == "PUT" && !request.uri().contains("partNumber="))
            .then_some((400, "InvalidArgument"))
    });
    let examination = examined(&store, http).await;
    let broken = breaks(&examination);
    assert!(broken.len() <= 2, "{broken:?}");
}

/// A store that reports success to the losers of races, after some that it refuses.
#[derive(Clone, Debug)]
struct Losing {
    refused_first: usize,
    losers: Arc<AtomicUsize>,
}

impl Losing {
    fn after(refused_first: usize, store: &EmbeddedStore) -> SharedHttpClient {
        let losing = Losing {
            refused_first,
            losers: Arc::default(),
        };
        interceptor::client(store.http_client(), losing)
    }
}

impl Handle for Losing {
    fn handle(&self, store: SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
        let is_race = is_conditional_put(&request) && request.uri().contains("race");
        let Losing {
            refused_first,
            losers,
        } = self.clone();
        HttpConnectorFuture::new(async move {
            let answer = store.call(request).await?;
            let is_lost = is_race && answer.status().as_u16() == 412;
            if !is_lost || losers.fetch_add(1, Ordering::Relaxed) < refused_first {
                return Ok(answer);
            }
            let answer = http::Response::builder()
                .status(200)
                .header("etag", "\"e\"");
            let answer = answer.body(SdkBody::empty()).unwrap();
            Ok(HttpResponse::try_from(answer).unwrap())
        })
    }
}

/// Ten losers are refused first: those of three rounds.
#[tokio::test]
async fn store_that_loses_one_race_in_three_is_found() {
    let store = stores::in_memory().await;
    let examination = examined(&store, Losing::after(10, &store)).await;
    assert_eq!(breaks(&examination), ["create_race"]);
}

/// As S3Mock does.
#[tokio::test]
async fn store_where_every_racer_wins_is_refused_by_connect() {
    let store = stores::in_memory().await;
    let refused = connect(&store, &Losing::after(0, &store)).await;
    assert!(
        matches!(refused, Err(ConnectError::NoConditionalWrites)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn server_header_of_amazon_is_believed_of_its_own_hosts_only() {
    struct Amazon;

    impl Reword for Amazon {
        fn header(&self, name: &str, value: &str) -> String {
            match name {
                "server" => "AmazonS3".to_owned(),
                _ => value.to_owned(),
            }
        }
    }

    let store = stores::in_memory().await;
    let http = reword(store.http_client(), Amazon);
    let examination = examined(&store, http).await;
    assert_eq!(examination.store, None);
    assert_eq!(examination.server.as_deref(), Some("AmazonS3"));
}

/// The parts of R2 have one size, which no small request would show.
#[tokio::test]
async fn parts_of_r2_are_known_by_its_host() {
    let store = stores::in_memory().await;
    let client = stores::sdk_client(&store);
    let config = client.config().to_builder();
    let config = config.endpoint_url("http://0123.r2.cloudflarestorage.com");
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let service = S3LayerService::connect(client, stores::config()).await;
    assert!(service.unwrap().profile().equal_parts);
}

/// Ceph RGW completes an upload with all of its parts only. What an owner that died has sent and not
/// recorded is then at the end of the object, and not part of the layer.
#[tokio::test]
async fn parts_that_cannot_be_left_out_are_no_part_of_the_layer() {
    for checksummed in [true, false] {
        let mut quirks = Quirks::none();
        quirks.complete_needs_all_parts = true;
        quirks.ignore_checksums = !checksummed;
        let store = stores::in_memory().await.with_quirks(quirks);
        live(&store.http_client(), &store).await;
        let size = 3 * PART + 100_000;
        let bytes = ramp(6, size);
        let mut upload = {
            let service = connect(&store, &store.http_client()).await.unwrap();
            assert!(!service.profile().partial_complete);
            assert_eq!(service.profile().crc64nvme, checksummed);
            service.upload(&name(), None).await.unwrap()
        };
        let first = PART as usize + 1000;
        upload.write_bytes(bytes.slice(..first)).await.unwrap();
        upload.close().await.unwrap();
        let uuid = upload.uuid();

        // Of an owner that dies, parts of other bytes have arrived and are not recorded.
        let dying = connect(&store, &store.http_client()).await.unwrap();
        let mut older = dying.resume(&name(), None, uuid).await.unwrap();
        older.write_bytes(ramp(9, 2 * PART)).await.unwrap();
        older.flush().await.unwrap();

        let heir = connect(&store, &store.http_client()).await.unwrap();
        let mut newer = heir.resume(&name(), None, uuid).await.unwrap();
        assert_eq!(newer.offset(), first as u64);
        newer.write_bytes(bytes.slice(first..)).await.unwrap();
        newer.finish(size, &sha256(&bytes)).await.unwrap();
        assert_reads(&heir, &bytes).await;
        let afresh = connect(&store, &store.http_client()).await.unwrap();
        assert!(afresh.exists(&sha256(&bytes).into()).await.unwrap());
        assert_reads(&afresh, &bytes).await;
        drop(older);
    }
}

/// The parts are not those that were named, and will not be the next time, so the client can send
/// the layer again.
#[tokio::test]
async fn complete_that_is_refused_for_a_checksum_ends_the_upload() {
    let store = stores::in_memory().await;
    let http = refusing(&store, |request| {
        is_complete(request).then_some((400, "BadDigest"))
    });
    let client = stores::client(&store, http);
    let config = stores::config().profile(StoreProfile::AWS);
    let service = S3LayerService::connect(client, config).await.unwrap();
    let bytes = ramp(7, PART + 1000);
    let id = sha256(&bytes).into();
    let mut upload = service.upload(&name(), Some(&id)).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let refused = upload.finish(PART + 1000, &sha256(&bytes)).await.map(drop);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    service.upload(&name(), Some(&id)).await.unwrap();
}

/// Listings of another order, with entries twice, or without an end.
struct Lying(fn(String) -> String);

impl Reword for Lying {
    fn text(&self, request: &str, text: String) -> String {
        if request.contains("list-type=2") {
            (self.0)(text)
        } else {
            text
        }
    }
}

/// The `<Contents>` of a listing, the text before them, and the text behind.
fn entries(text: &str) -> Option<(String, Vec<String>, String)> {
    let first = text.find("<Contents>")?;
    let last = text.rfind("</Contents>")? + "</Contents>".len();
    let entries = text[first..last].split_inclusive("</Contents>");
    let entries = entries.map(str::to_owned).collect();
    Some((text[..first].to_owned(), entries, text[last..].to_owned()))
}

#[tokio::test]
async fn listing_that_repeats_or_mis_orders_leaves_nothing_out() {
    let reversed = |text: String| match entries(&text) {
        Some((head, mut entries, tail)) => {
            entries.reverse();
            head + &entries.concat() + &entries.concat() + &tail
        }
        None => text,
    };
    let (store, service) = stores::with_service().await;
    let registry: &dyn RepositoryService = &service;
    let digest = sha256(b"manifest");
    for tag in ["a", "b", "c"] {
        let tag = tag.parse().unwrap();
        registry.put_tag(&name(), &tag, &digest).await.unwrap();
    }
    let http = reword(store.http_client(), Lying(reversed));
    let client = stores::client(&store, http);
    let lied_to = S3LayerService::connect(client, stores::config())
        .await
        .unwrap();
    let registry: &dyn RepositoryService = &lied_to;
    let page = registry.tags(&name(), None, 10).await.unwrap();
    let tags: Vec<_> = page
        .unwrap()
        .items
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(tags, ["a", "b", "c"]);
}

/// A page that does not say that it is the last one is no proof that there is nothing more.
#[tokio::test]
async fn listing_that_does_not_say_whether_it_ends_is_an_error() {
    let store = stores::in_memory().await;
    stores::service(&store).await;
    let silent = |text: String| text.replace("<IsTruncated>false</IsTruncated>", "");
    let http = reword(store.http_client(), Lying(silent));
    let service = connect(&store, &http).await.unwrap();
    let swept = stores::swept(&service, Duration::ZERO, true).await;
    assert!(swept.is_err(), "{swept:?}");
}

/// The first page of every listing has no keys, and says that there are more.
struct EmptyFirst;

impl Reword for EmptyFirst {
    fn text(&self, request: &str, text: String) -> String {
        if !request.contains("list-type=2") || request.contains("continuation-token") {
            return text;
        }
        let Some((head, _, tail)) = entries(&text) else {
            return text;
        };
        let text = (head + &tail).replace("<IsTruncated>false", "<IsTruncated>true");
        // That of the embedded store for a place before all keys.
        let token = "<NextContinuationToken>IA</NextContinuationToken>";
        match text.split_once("<NextContinuationToken>") {
            Some((before, rest)) => {
                let (_, after) = rest.split_once("</NextContinuationToken>").unwrap();
                format!("{before}{token}{after}")
            }
            None => text.replace(
                "</ListBucketResult>",
                &format!("{token}</ListBucketResult>"),
            ),
        }
    }
}

/// S3 may answer with fewer keys than there are, and with none.
#[tokio::test]
async fn empty_page_is_not_the_last_one() {
    let (store, service) = stores::with_service().await;
    let digest = sha256(b"subject");
    let manifest = |number: u32| {
        let bytes = Bytes::from(format!(r#"{{"number":{number}}}"#));
        Manifest {
            digest: sha256(&bytes),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            bytes,
            subject: Some(digest.clone()),
            artifact_type: None,
            annotations: [].into(),
        }
    };
    for number in 0..3 {
        let manifest = manifest(number);
        service.put_manifest(&name(), &manifest).await.unwrap();
        let tag = format!("t{number}").parse().unwrap();
        service
            .put_tag(&name(), &tag, &manifest.digest)
            .await
            .unwrap();
    }
    let http = reword(store.http_client(), EmptyFirst);
    let service = connect(&store, &http).await.unwrap();
    let everything = async {
        let tags = service.tags(&name(), None, 2).await.unwrap().unwrap();
        assert_eq!((tags.items.len(), tags.more), (2, true));
        let named = service.repositories(None, 10).await.unwrap();
        assert_eq!(named.items, [name()]);
        let name = name();
        let referrers = service.referrers(&name, &digest, None, None, 10, 1 << 20);
        assert_eq!(referrers.await.unwrap().items.len(), 3);
        let deleted = service.delete_manifest(&name, &manifest(0).digest).await;
        assert!(deleted.unwrap());
    };
    tokio::time::timeout(Duration::from_secs(60), everything)
        .await
        .unwrap();
    let service = stores::service(&store).await;
    let tags = service.tags(&name(), None, 10).await.unwrap().unwrap();
    assert_eq!(tags.items.len(), 2, "that of the deleted manifest is gone");
    assert_eq!(
        service.repositories(None, 10).await.unwrap().items,
        [name()]
    );
}

#[tokio::test]
async fn listing_without_an_end_is_an_error() {
    let endless = |text: String| {
        let text = text.replace("<IsTruncated>false", "<IsTruncated>true");
        let token = "<NextContinuationToken>again</NextContinuationToken></ListBucketResult>";
        text.replace("</ListBucketResult>", token)
    };
    let store = stores::in_memory().await;
    stores::service(&store).await;
    let http = reword(store.http_client(), Lying(endless));
    let service = connect(&store, &http).await.unwrap();
    let swept = stores::swept(&service, Duration::ZERO, true).await;
    assert!(swept.is_err(), "{swept:?}");
}
