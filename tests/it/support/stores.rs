//! The embedded store as the adapter sees it, and processes over it.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use embedded_s3::EmbeddedStore;
use futures_util::TryStreamExt as _;
use s3layers::SweptUpload;
use s3layers::{Error, LayerService as _, LayerServiceExt as _, RepositoryName};
use s3layers::{S3Config, S3LayerService, StoreProfile};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::bytes::{assert_same, ramp, sha256};
use super::fault_client::FaultClient;

/// The bucket that every embedded store of the tests has.
pub const BUCKET: &str = "layers";

/// The smallest part that S3 takes, in bytes: the tests have many.
pub const PART: u64 = 5 * 1024 * 1024;

/// A layer of at most so many bytes has no data object.
pub const INLINE_LIMIT: u64 = 16 * 1024;

/// The repository that most uploads go to.
pub fn name() -> RepositoryName {
    "library/demo".parse().unwrap()
}

/// An empty store in memory, with its bucket.
pub async fn in_memory() -> EmbeddedStore {
    with_bucket(EmbeddedStore::in_memory()).await
}

pub async fn with_bucket(store: EmbeddedStore) -> EmbeddedStore {
    store.create_bucket(BUCKET).await.unwrap();
    store
}

/// A client of the store; `http` is its connector, or a wrapper of it.
pub fn client(store: &EmbeddedStore, http: SharedHttpClient) -> Client {
    let credentials = Credentials::new(store.access_key(), store.secret_key(), None, None, "tests");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url("http://embedded")
        .force_path_style(true)
        .credentials_provider(credentials)
        .http_client(http)
        .build();
    Client::from_conf(config)
}

/// A client of the store, past the library.
pub fn sdk_client(store: &EmbeddedStore) -> Client {
    client(store, store.http_client())
}

/// The settings of most tests: small parts, and a budget of a few of them.
pub fn config() -> S3Config {
    S3Config::new(BUCKET)
        .part_size(PART)
        .memory_budget(16 * PART)
}

/// One more process over the store.
pub async fn service(store: &EmbeddedStore) -> S3LayerService {
    let client = sdk_client(store);
    S3LayerService::connect(client, config()).await.unwrap()
}

/// A process that reaches the store over this wire. It needs no request to begin.
pub async fn connect(store: &EmbeddedStore, wire: &FaultClient) -> S3LayerService {
    let client = client(store, wire.http_client());
    let config = config().profile(StoreProfile::AWS);
    S3LayerService::connect(client, config).await.unwrap()
}

/// An empty store in memory, and a process over it.
pub async fn with_service() -> (EmbeddedStore, S3LayerService) {
    let store = in_memory().await;
    let service = service(&store).await;
    (store, service)
}

/// An empty store in memory, and a wire to it, for processes whose requests are counted or fail.
pub async fn with_wire() -> (EmbeddedStore, FaultClient) {
    let store = in_memory().await;
    let wire = FaultClient::over(store.http_client());
    (store, wire)
}

/// An empty store in memory, and a process that reaches it over this wire.
pub async fn connected() -> (EmbeddedStore, FaultClient, S3LayerService) {
    let store = in_memory().await;
    let (wire, service) = over_wire(&store).await;
    (store, wire, service)
}

/// One more process over the store, and its wire.
pub async fn over_wire(store: &EmbeddedStore) -> (FaultClient, S3LayerService) {
    let wire = FaultClient::over(store.http_client());
    let service = connect(store, &wire).await;
    (wire, service)
}

/// An empty store in a folder, without a bucket.
pub async fn in_folder() -> (TempDir, EmbeddedStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    (folder, store)
}

/// What a sweep does with each upload.
pub async fn swept(
    service: &S3LayerService,
    older_than: Duration,
    dry_run: bool,
) -> Result<Vec<SweptUpload>, Error> {
    service.sweep(older_than, dry_run).try_collect().await
}

/// A layer with these bytes is there, for a process that knows nothing of it.
pub async fn assert_served(store: &EmbeddedStore, bytes: &[u8]) {
    let mut got = Vec::new();
    let id = sha256(bytes).into();
    service(store).await.pull(&id, &mut got).await.unwrap();
    assert_same(&got, bytes, "the layer");
}

/// An owner that has taken bytes, and ends without a close.
pub async fn abandon(service: &S3LayerService, uuid: Uuid) {
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    upload.write_bytes(ramp(99, 10)).await.unwrap();
    upload.flush().await.unwrap();
}

/// Of everything, however young.
pub async fn sweep(service: &S3LayerService) -> Result<(), Error> {
    for swept in swept(service, Duration::ZERO, false).await? {
        swept.outcome?;
    }
    Ok(())
}
