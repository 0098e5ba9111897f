//! A commit that was cancelled, and of which a driver published something after all: the sweep that
//! removes what is left of the upload completes the layer instead.

use aws_sdk_s3::Client;
use bytes::Bytes;
use s3layers::{Error, LayerId, LayerService as _, S3LayerService};
use s3layers_registry::RepositoryService as _;
use std::collections::BTreeSet;
use tokio::io::AsyncReadExt as _;

use crate::collector::site::{By, Site, hours};
use crate::support::bucket;
use crate::support::bytes::{assert_same, ramp, sha256};
use crate::support::fault_client::{GetObject, On, PutObject};
use crate::support::stores::{self, BUCKET, PART, name};

const SIZE: u64 = PART + 1000;

/// Which of its documents a driver has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Published {
    Record,
    Link,
}

const EITHER: [Published; 2] = [Published::Record, Published::Link];

/// An upload that was cancelled 21 hours ago.
struct Cancelled {
    site: Site,
    client: Client,
    bytes: Bytes,
    id: LayerId,
}

impl Cancelled {
    async fn new(published: Published) -> Self {
        let site = Site::new(By::Delete).await;
        let client = site.client();
        let bytes = ramp(1, SIZE);
        let (service, wire) = site.process_over_faults().await;
        let mut upload = service.upload(&name(), None).await.unwrap();
        let uuid = upload.uuid();
        upload.write_bytes(bytes.clone()).await.unwrap();
        let session = format!("uploads/{uuid}/session");
        wire.fault(On::every(PutObject).key_contains("/_layers/").status(403));
        let ended = upload.finish(SIZE, &sha256(&bytes)).await.map(drop);
        assert!(ended.unwrap_err().is_permission());
        drop(upload);
        if published == Published::Link {
            // The session, brought back after the whole commit, whose record is lost.
            let document = bucket::get(&client, &session).await;
            let elsewhere = site.process().await;
            stores::sweep(&elsewhere).await.unwrap();
            elsewhere.wait_for_background().await;
            let put = client.put_object().bucket(BUCKET).key(&session);
            put.body(document.into()).send().await.unwrap();
            let record = Self::record(&bytes);
            let delete = client.delete_object().bucket(BUCKET).key(record);
            delete.send().await.unwrap();
            wire.fault(On::every(PutObject).key_contains("layers/").status(403));
        }
        let document = bucket::get(&client, &session).await;
        service.cancel_upload(uuid).await.unwrap();
        assert_ne!(bucket::get(&client, &session).await, document);
        site.clock.advance(hours(21));
        let id = sha256(&bytes).into();
        Cancelled {
            site,
            client,
            bytes,
            id,
        }
    }

    fn record(bytes: &Bytes) -> String {
        let digest = sha256(bytes);
        format!("layers/sha256/{}/{}", &digest.hex()[..2], digest.hex())
    }

    async fn keys(&self) -> BTreeSet<String> {
        bucket::keys(&self.client).await
    }

    /// The layer is found by its digest and in its repository, and nothing of the upload is left.
    async fn assert_whole(&self, service: &S3LayerService, case: &str) {
        let layers = [
            service.fetch(&self.id).await.unwrap(),
            service.layer(&name(), &self.id).await.unwrap(),
        ];
        for mut layer in layers {
            let mut got = Vec::new();
            layer.read_to_end(&mut got).await.unwrap();
            assert_same(&got, &self.bytes, case);
        }
        let keys = self.keys().await;
        let is_upload = |key: &String| key.starts_with("uploads/");
        assert!(!keys.iter().any(is_upload), "{case}: {keys:?}");
    }
}

async fn sweep(service: &S3LayerService) -> Result<(), Error> {
    let swept = stores::sweep(service).await;
    service.wait_for_background().await;
    swept
}

#[tokio::test(start_paused = true)]
async fn record_or_link_that_was_published_after_the_cancel_is_completed_by_the_other() {
    for published in EITHER {
        let cancelled = Cancelled::new(published).await;
        let keys = cancelled.keys().await;
        let has = |part: &str| keys.iter().any(|key| key.contains(part));
        let record = Cancelled::record(&cancelled.bytes);
        assert_eq!(has(&record), published == Published::Record);
        assert_eq!(has("/_layers/"), published == Published::Link);
        let service = cancelled.site.process().await;
        sweep(&service).await.unwrap();
        let case = format!("{published:?}");
        cancelled.assert_whole(&service, &case).await;
    }
}

/// What the store does not say is not absence.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_cancelled_commit_is_removed_while_its_documents_cannot_be_read() {
    for published in EITHER {
        // No link has this in its key.
        let digest = sha256(&ramp(1, SIZE));
        let record: &str = format!("layers/sha256/{}/", &digest.hex()[..2]).leak();
        for (part, status) in [
            (record, 403),
            (record, 500),
            ("/_layers/", 403),
            ("/_layers/", 500),
        ] {
            let case = format!("{published:?}, {status} of {part}");
            let cancelled = Cancelled::new(published).await;
            let (service, wire) = cancelled.site.process_over_faults().await;
            let before = cancelled.keys().await;
            wire.fault(On::every(GetObject).key_contains(part).status(status));
            let failed = sweep(&service).await.unwrap_err();
            assert_eq!(failed.is_permission(), status == 403, "{case}: {failed}");
            assert_eq!(failed.is_retryable(), status == 500, "{case}: {failed}");
            assert_eq!(cancelled.keys().await, before, "{case}");
            wire.clear_faults();
            sweep(&service).await.unwrap();
            cancelled.assert_whole(&service, &case).await;
        }
    }
}
