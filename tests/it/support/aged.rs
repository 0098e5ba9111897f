//! A store in which everything is old.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use embedded_s3::EmbeddedStore;
use s3layers::{S3LayerService, SweptUpload};

use super::answers::{Reword, reword};
use super::stores;

/// More than the data of a cancelled commit is kept.
const AGE_SECONDS: i64 = 21 * 3600;

/// Listings as they will be after that time.
struct Aged;

impl Reword for Aged {
    fn text(&self, _: &str, text: String) -> String {
        let mut pieces = text.split("<LastModified>");
        let mut aged = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (time, rest) = piece.split_once('<').unwrap();
            let time = DateTime::from_str(time, DateTimeFormat::DateTime).unwrap();
            let time = DateTime::from_secs(time.secs() - AGE_SECONDS);
            let time = time.fmt(DateTimeFormat::DateTime).unwrap();
            aged += &format!("<LastModified>{time}<{rest}");
        }
        aged
    }
}

/// A sweep as of 21 hours from now.
pub async fn sweep(store: &EmbeddedStore) -> Vec<SweptUpload> {
    sweep_by(client(store, store.http_client())).await
}

/// A client for [`sweep_by`].
pub fn client(store: &EmbeddedStore, http: SharedHttpClient) -> Client {
    stores::client(store, reword(http, Aged))
}

/// As [`sweep`].
pub async fn sweep_by(client: Client) -> Vec<SweptUpload> {
    let service = S3LayerService::connect(client, stores::config());
    let service = service.await.unwrap();
    let swept = stores::swept(&service, std::time::Duration::ZERO, false).await;
    let swept = swept.unwrap();
    service.wait_for_background().await;
    for one in &swept {
        assert!(one.outcome.is_ok(), "{one:?}");
    }
    swept
}
