//! Stores with bad habits, and stores that fail in the middle: each is used without believing it, or
//! refused by name.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use bytes::Bytes;
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::{ConnectError, Error, LayerId, LayerService as _, S3LayerService, StoreProfile};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::support::answers::{Reword, reword};
use crate::support::bytes::{assert_same, ramp, sha256};
use crate::support::fault_client::{
    CompleteMultipartUpload, FaultClient, On, PutObject, UploadPart,
};
use crate::support::stores::{self, BUCKET, PART, name};
use crate::support::{bucket, cases};

/// Three parts and a tail.
const SIZE: u64 = 3 * PART + 100_000;

fn with(set: impl FnOnce(&mut Quirks)) -> Quirks {
    let mut quirks = Quirks::none();
    set(&mut quirks);
    quirks
}

/// What a first process finds out about the store itself.
pub async fn probe(http: &SharedHttpClient, store: &EmbeddedStore) -> S3LayerService {
    let client = stores::client(store, http.clone());
    let connected = S3LayerService::connect(client, stores::config()).await;
    connected.unwrap()
}

/// An upload whose process dies, which the next process resumes and the last one finishes; it is
/// read, and leaves nothing else.
pub async fn live(http: &SharedHttpClient, store: &EmbeddedStore) {
    let bytes = ramp(3, SIZE);
    let first = probe(http, store).await;
    let mut upload = first.upload(&name(), None).await.unwrap();
    let cut = 2 * PART + 70_000;
    upload
        .write_bytes(bytes.slice(..cut as usize))
        .await
        .unwrap();
    upload.close().await.unwrap();
    let uuid = upload.uuid();

    let second = probe(http, store).await;
    let mut upload = second.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(upload.offset(), cut);
    upload
        .write_bytes(bytes.slice(cut as usize..))
        .await
        .unwrap();
    upload.close().await.unwrap();

    let third = probe(http, store).await;
    let mut upload = third.resume(&name(), None, uuid).await.unwrap();
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    let small = ramp(4, 9000);
    let mut upload = third.upload(&name(), None).await.unwrap();
    upload.write_bytes(small.clone()).await.unwrap();
    upload.finish(9000, &sha256(&small)).await.unwrap();
    for layer in [&bytes, &small] {
        assert_reads(&first, layer).await;
    }
    stores::sweep(&third).await.unwrap();
    let client = stores::client(store, http.clone());
    let keys = bucket::keys(&client).await;
    let over = keys.iter().find(|key| key.starts_with("uploads/"));
    assert_eq!(over, None, "left over");
    assert_eq!(bucket::multiparts(&client).await, [""; 0]);
}

pub async fn assert_reads(service: &S3LayerService, bytes: &Bytes) {
    let mut layer = service.fetch(&sha256(bytes).into()).await.unwrap();
    let mut got = Vec::new();
    layer.read_to_end(&mut got).await.unwrap();
    assert_same(&got, bytes, "the layer");
}

#[tokio::test]
async fn etags_that_are_no_md5() {
    let store = stores::in_memory().await;
    let store = store.with_quirks(with(|quirks| quirks.opaque_etags = true));
    live(&store.http_client(), &store).await;
}

#[tokio::test]
async fn pages_that_are_short_and_out_of_order() {
    let store = stores::in_memory().await;
    let store = store.with_quirks(with(|quirks| quirks.small_unsorted_pages = true));
    live(&store.http_client(), &store).await;
}

#[tokio::test]
async fn a_second_complete_that_is_unknown() {
    let store = stores::in_memory().await;
    let store = store.with_quirks(with(|quirks| {
        quirks.second_complete_is_no_such_upload = true;
        quirks.list_uploads_by_exact_key = true;
    }));
    live(&store.http_client(), &store).await;
}

/// The store verifies no checksums or ETags, so every published layer was read back.
#[tokio::test]
async fn checksums_that_are_ignored() {
    let store = stores::in_memory().await;
    let store = store.with_quirks(with(|quirks| {
        quirks.ignore_checksums = true;
        quirks.ignore_part_etags = true;
    }));
    let wire = FaultClient::over(store.http_client());
    let service = probe(&wire.http_client(), &store).await;
    assert!(!service.profile().crc64nvme && !service.profile().checks_part_etags);
    live(&wire.http_client(), &store).await;

    // Another writer replaces a part; such a store completes what was never sent to us.
    let bytes = ramp(5, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.close().await.unwrap();
    replace_part(&store, 2).await;
    let finished = upload_again(&service, upload.uuid(), &bytes).await;
    assert!(finished.is_err(), "{finished:?}");
    assert!(!service.exists(&sha256(&bytes).into()).await.unwrap());
}

/// LocalStack (2026.3) and Ceph believe their own list of parts, while one that arrives in the middle
/// of Complete replaces what is put together. An owner that was replaced at work may do so.
#[tokio::test]
async fn late_part_of_a_replaced_owner_changes_nothing_on_a_store_that_checks_nothing() {
    let store = stores::in_memory().await;
    let store = store.with_quirks(with(|quirks| {
        quirks.ignore_checksums = true;
        quirks.ignore_part_etags = true;
    }));
    let wire = FaultClient::over(store.http_client());
    let client = stores::client(&store, wire.http_client());
    let believing = stores::config().profile(StoreProfile::AWS);
    let service = S3LayerService::connect(client, believing).await.unwrap();

    let bytes = ramp(6, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    let first = PART as usize + 1000;
    upload.write_bytes(bytes.slice(..first)).await.unwrap();
    upload.close().await.unwrap();
    let uuid = upload.uuid();
    let mut older = service.resume(&name(), None, uuid).await.unwrap();
    let rest = bytes.slice(first..);
    older.write_bytes(rest.slice(..1000)).await.unwrap();
    older.flush().await.unwrap();
    // The newer owner freezes what is recorded. A part that comes before that is not part of it.
    let gate = wire.hold(On::nth(CompleteMultipartUpload, 1));
    let mut newer = service.resume(&name(), None, uuid).await.unwrap();
    let writes = async {
        newer.write_bytes(rest).await.unwrap();
        newer.flush().await.unwrap();
    };
    let late = async {
        gate.reached_by(1).await;
        let frozen = multipart(&store).await;
        send_part(&store, &frozen, 2).await.unwrap();
        gate.open();
        frozen
    };
    let ((), frozen) = tokio::join!(writes, late);
    // One that comes later is refused, and the new owner's parts have another key.
    assert_ne!(multipart(&store).await, frozen);
    let late = send_part(&store, &frozen, 2).await.unwrap_err();
    assert_eq!(late, "NoSuchUpload");
    newer.finish(SIZE, &sha256(&bytes)).await.unwrap();
    assert_reads(&service, &bytes).await;
}

/// A client that knows the id of a multipart upload can replace its parts.
async fn replace_part(store: &EmbeddedStore, number: i32) {
    let upload = multipart(store).await;
    send_part(store, &upload, number).await.unwrap();
}

/// The key and the id of the one multipart upload.
async fn multipart(store: &EmbeddedStore) -> (String, String) {
    let client = stores::sdk_client(store);
    let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
    let listed = listed.unwrap();
    let [upload] = listed.uploads() else {
        panic!("{listed:?}");
    };
    let (key, id) = (upload.key().unwrap(), upload.upload_id().unwrap());
    (key.to_owned(), id.to_owned())
}

/// Sends other bytes as a part; the code of a refusal.
async fn send_part(
    store: &EmbeddedStore,
    (key, id): &(String, String),
    number: i32,
) -> Result<(), String> {
    use aws_sdk_s3::error::ProvideErrorMetadata as _;

    let client = stores::sdk_client(store);
    let part = client.upload_part().bucket(BUCKET).key(key).upload_id(id);
    let part = part.part_number(number).body(ramp(99, PART).into());
    let sent = part.send().await.map(drop);
    sent.map_err(|error| error.code().unwrap_or_default().to_owned())
}

async fn upload_again(service: &S3LayerService, uuid: Uuid, bytes: &Bytes) -> Result<(), Error> {
    let mut upload = service.resume(&name(), None, uuid).await?;
    upload.finish(SIZE, &sha256(bytes)).await.map(drop)
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_refused_unless_one_writer_is_declared() {
    let store = stores::in_memory().await;
    let store = store.with_quirks(with(|quirks| quirks.ignore_conditions = true));
    let connect = |config| S3LayerService::connect(stores::sdk_client(&store), config);
    let refused = connect(stores::config()).await;
    assert!(matches!(refused, Err(ConnectError::NoConditionalWrites)));
    let service = connect(stores::config().single_writer(true)).await.unwrap();
    let bytes = ramp(6, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(SIZE, &sha256(&bytes)).await.unwrap();
    assert_reads(&service, &bytes).await;
}

#[tokio::test]
async fn a_store_that_lets_if_match_create_is_refused() {
    let store = stores::in_memory().await;
    let store = store.with_quirks(with(|quirks| quirks.if_match_absent_succeeds = true));
    let client = stores::sdk_client(&store);
    let refused = S3LayerService::connect(client, stores::config()).await;
    assert!(matches!(refused, Err(ConnectError::NoConditionalWrites)));
}

/// ETags as some stores write them in headers and listings.
struct Unquoted;

impl Reword for Unquoted {
    fn header(&self, name: &str, value: &str) -> String {
        match name {
            "etag" => value.trim_matches('"').to_owned(),
            _ => value.to_owned(),
        }
    }

    fn text(&self, _: &str, text: String) -> String {
        text.replace("&quot;", "")
    }
}

#[tokio::test]
async fn etags_without_quotes() {
    let store = stores::in_memory().await;
    live(&reword(store.http_client(), Unquoted), &store).await;
}

/// The store's clock is wrong by so many seconds, in its dates as in its listings. Less than a quarter
/// of an hour: a signature is not older.
struct Skewed(i64);

impl Skewed {
    fn shifted(&self, time: &str, format: DateTimeFormat) -> String {
        let time = DateTime::from_str(time, format).unwrap();
        let shifted = DateTime::from_secs(time.secs() + self.0);
        shifted.fmt(format).unwrap()
    }
}

impl Reword for Skewed {
    fn header(&self, name: &str, value: &str) -> String {
        match name {
            "date" | "last-modified" => self.shifted(value, DateTimeFormat::HttpDate),
            _ => value.to_owned(),
        }
    }

    fn text(&self, _: &str, text: String) -> String {
        let mut pieces = text.split("<LastModified>");
        let mut shifted = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (time, rest) = piece.split_once('<').unwrap();
            let time = self.shifted(time, DateTimeFormat::DateTime);
            shifted += &format!("<LastModified>{time}<{rest}");
        }
        shifted
    }
}

#[tokio::test]
async fn a_clock_that_is_minutes_away() {
    for seconds in [-600, 600] {
        let store = stores::in_memory().await;
        let skewed = reword(store.http_client(), Skewed(seconds));
        live(&skewed, &store).await;
        let service = probe(&skewed, &store).await;
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.close().await.unwrap();
        let swept = stores::swept(&service, Duration::from_secs(300), false)
            .await
            .unwrap();
        assert!(swept.is_empty(), "{seconds} s: {swept:?}");
        let swept = stores::swept(&service, Duration::ZERO, false)
            .await
            .unwrap();
        assert_eq!(swept.len(), 1, "{seconds} s");
    }
}

/// The first listing of an upload does not have its last part yet.
#[derive(Default)]
struct Lagging {
    listings: AtomicUsize,
}

impl Reword for Lagging {
    fn text(&self, request: &str, text: String) -> String {
        let is_listing = request.starts_with("GET ") && request.contains("uploadId=");
        if !is_listing || self.listings.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            return text;
        }
        let Some(last) = text.rfind("<Part>") else {
            return text;
        };
        let end = text.rfind("</Part>").unwrap() + "</Part>".len();
        text[..last].to_owned() + &text[end..]
    }
}

#[tokio::test]
async fn a_list_of_parts_that_lags_behind() {
    let store = stores::in_memory().await;
    let lagging = reword(store.http_client(), Lagging::default());
    live(&lagging, &store).await;
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_vanishes_is_no_absent_layer() {
    let (store, _, service) = stores::connected().await;
    let bytes = ramp(7, SIZE);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.slice(..100_000)).await.unwrap();
    let client = stores::sdk_client(&store);
    for key in bucket::keys(&client).await {
        let deleted = client.delete_object().bucket(BUCKET).key(key).send().await;
        deleted.unwrap();
    }
    client.delete_bucket().bucket(BUCKET).send().await.unwrap();

    let id: LayerId = sha256(&bytes).into();
    let is_storage = |error: &Error| matches!(error, Error::Storage(_));
    assert!(is_storage(&service.exists(&id).await.unwrap_err()));
    assert!(is_storage(&service.fetch(&id).await.map(drop).unwrap_err()));
    let begun = service.upload(&name(), None).await.map(drop);
    assert!(is_storage(&begun.unwrap_err()));
    let resumed = service.resume(&name(), None, upload.uuid()).await;
    assert!(is_storage(&resumed.map(drop).unwrap_err()));
    assert!(is_storage(&upload.close().await.unwrap_err()));
    let swept = stores::swept(&service, Duration::ZERO, false).await;
    assert!(is_storage(&swept.unwrap_err()));
}

/// The store is lost at each request in turn. What was acknowledged is there when it comes back.
#[tokio::test(start_paused = true)]
async fn a_permission_that_is_lost_in_the_middle_costs_nothing_that_was_acknowledged() {
    for (case, denied) in [
        ("parts", On::every(UploadPart)),
        ("sessions", On::every(PutObject).key_ends("/session")),
        ("records", On::every(PutObject).key_contains("layers/")),
    ] {
        let (_, wire, service) = stores::connected().await;
        let bytes = ramp(8, SIZE);
        let mut upload = service.upload(&name(), None).await.unwrap();
        let uuid = upload.uuid();
        let stored = PART + 100_000;
        let first = bytes.slice(..stored as usize);
        upload.write_bytes(first).await.unwrap();
        upload.close().await.unwrap();

        wire.fault(denied.status(403));
        let failed = append_and_finish(&service, uuid, &bytes).await;
        assert!(failed.unwrap_err().is_permission(), "{case}");
        assert!(
            !service.exists(&sha256(&bytes).into()).await.unwrap(),
            "{case}"
        );

        wire.clear_faults();
        let upload = service.resume(&name(), None, uuid).await.unwrap();
        assert!(upload.offset() >= stored, "{case}: {}", upload.offset());
        drop(upload);
        let finished = append_and_finish(&service, uuid, &bytes).await;
        finished.unwrap_or_else(|error| panic!("{case}: {}", cases::chain(&error)));
        assert_reads(&service, &bytes).await;
    }
}

async fn append_and_finish(
    service: &S3LayerService,
    uuid: Uuid,
    bytes: &Bytes,
) -> Result<(), Error> {
    let mut upload = service.resume(&name(), None, uuid).await?;
    let rest = bytes.slice(upload.offset() as usize..);
    if !rest.is_empty() {
        upload.write_bytes(rest).await?;
    }
    upload.finish(SIZE, &sha256(bytes)).await.map(drop)
}
