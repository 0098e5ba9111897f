//! A bucket whose clock can be set forward, and clients that push images to it as registries do.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use bytes::Bytes;
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::clock::Moment;
use s3layers::{
    Algorithm, CollectError, CollectOptions, CollectReport, Digest, Error, LayerId,
    LayerService as _, LayerServiceExt as _, Manifest, RepositoryName, RepositoryService as _,
    RunError, S3LayerService, StoreProfile,
};

use crate::support::bytes::{ramp, sha256};
use crate::support::fault_client::{DeleteObject, FaultClient, Operation, PutObject};
use crate::support::store_clock::StoreClock;
use crate::support::stores::{BUCKET, name};
use crate::support::{bucket, stores};

const HOUR: Duration = Duration::from_secs(3600);

pub fn hours(hours: u32) -> Duration {
    HOUR * hours
}

/// How a store removes a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Delete,
    /// The store ignores the condition of a DELETE, as MinIO does.
    Tombstone,
}

impl By {
    pub fn operation(self) -> Operation {
        match self {
            By::Delete => DeleteObject,
            By::Tombstone => PutObject,
        }
    }
}

pub const BOTH: [By; 2] = [By::Delete, By::Tombstone];

pub struct Site {
    pub store: EmbeddedStore,
    pub clock: StoreClock,
    by: By,
}

/// An image of one layer.
#[derive(Clone, Debug)]
pub struct Image {
    pub layer: Bytes,
    pub manifest: Manifest,
    /// That of the digest by which the manifest names the layer.
    pub algorithm: Algorithm,
}

impl Image {
    /// With a layer of so many bytes.
    pub fn new(seed: u32, size: u64) -> Self {
        Image::named_by(Algorithm::Sha256, seed, size)
    }

    pub fn named_by(algorithm: Algorithm, seed: u32, size: u64) -> Self {
        let layer = ramp(seed, size);
        let digest = Digest::of(algorithm, &layer);
        Image {
            manifest: manifest(&digest, size),
            layer,
            algorithm,
        }
    }

    pub fn id(&self) -> LayerId {
        Digest::of(self.algorithm, &self.layer).into()
    }
}

pub fn manifest(layer: &Digest, size: u64) -> Manifest {
    let bytes = Bytes::from(format!(
        r#"{{"schemaVersion":2,"layers":[{{"digest":"{layer}","size":{size}}}]}}"#
    ));
    Manifest {
        digest: sha256(&bytes),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        bytes,
        subject: None,
        artifact_type: None,
        annotations: [].into(),
    }
}

impl Site {
    pub async fn new(by: By) -> Self {
        let mut quirks = Quirks::none();
        quirks.ignore_delete_conditions = by == By::Tombstone;
        Site {
            store: stores::in_memory().await.with_quirks(quirks),
            clock: StoreClock::default(),
            by,
        }
    }

    pub fn http_client(&self) -> SharedHttpClient {
        self.clock.http_client(self.store.http_client())
    }

    /// One more process.
    pub async fn process(&self) -> S3LayerService {
        self.process_over(self.http_client()).await
    }

    pub async fn process_over(&self, http: SharedHttpClient) -> S3LayerService {
        let mut profile = StoreProfile::AWS;
        profile.conditional_deletes = self.by == By::Delete;
        let client = stores::client(&self.store, http);
        let config = stores::config().profile(profile);
        S3LayerService::connect(client, config).await.unwrap()
    }

    pub async fn process_over_faults(&self) -> (S3LayerService, FaultClient) {
        let faults = FaultClient::over(self.http_client());
        (self.process_over(faults.http_client()).await, faults)
    }

    /// Sees the bucket as it is.
    pub fn client(&self) -> Client {
        stores::client(&self.store, self.http_client())
    }

    /// Every key but tombstones and what a collection keeps for itself.
    pub async fn keys(&self) -> Vec<String> {
        let keys = bucket::keys(&self.client()).await;
        let is_ours = |key: &String| !key.starts_with("gc/") && key != "profile";
        let mut all = Vec::new();
        for key in keys.into_iter().filter(is_ours) {
            let is_tombstone = bucket::get(&self.client(), &key).await.len() == 96;
            if !is_tombstone {
                all.push(key);
            }
        }
        all
    }

    /// The link of a layer by its SHA-256 in [`name`].
    fn own_link(image: &Image) -> String {
        let digest = sha256(&image.layer);
        format!("repositories/{}/_layers/sha256/{}", name(), digest.hex())
    }

    pub async fn delete_own_link(&self, image: &Image) {
        let delete = self.client().delete_object().bucket(BUCKET);
        delete.key(Self::own_link(image)).send().await.unwrap();
    }

    pub async fn damage_own_link(&self, image: &Image) {
        let put = self.client().put_object().bucket(BUCKET);
        let put = put.key(Self::own_link(image)).body(Bytes::new().into());
        put.send().await.unwrap();
    }

    pub async fn collect(&self) -> CollectReport {
        collect(&self.process().await).await.unwrap()
    }

    /// So much later.
    pub async fn collect_after(&self, time: Duration) -> CollectReport {
        self.clock.advance(time);
        self.collect().await
    }
}

/// A pass that may remove everything.
pub async fn collect(
    service: &S3LayerService,
) -> Result<CollectReport, RunError<CollectReport, CollectError>> {
    let options = CollectOptions {
        max_share: 1.0,
        ..CollectOptions::default()
    };
    service.collect(&options).await
}

/// Stores the layer without its manifest.
pub async fn push_layer(service: &S3LayerService, name: &RepositoryName, image: &Image) {
    match image.algorithm {
        Algorithm::Sha512 => {
            push_by_sha512(service, name, &image.layer).await;
        }
        _ => {
            service.push(name, &mut &image.layer[..]).await.unwrap();
            service.wait_for_background().await;
        }
    }
}

/// Stores the layer under its SHA-512.
pub async fn push_by_sha512(
    service: &S3LayerService,
    name: &RepositoryName,
    bytes: &Bytes,
) -> Digest {
    let digest = Digest::of(Algorithm::Sha512, bytes);
    let id = digest.clone().into();
    let mut upload = service.upload(name, Some(&id)).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(bytes.len() as u64, &digest).await.unwrap();
    service.wait_for_background().await;
    digest
}

/// Stores the manifest if its layer is here, as a registry does. Whether it is.
pub async fn put_manifest(
    service: &S3LayerService,
    name: &RepositoryName,
    image: &Image,
) -> Result<bool, Error> {
    let since = Moment::now();
    if service.confirm_layer(name, &image.id()).await?.is_none() {
        return Ok(false);
    }
    let put = service.put_confirmed_manifest(name, &image.manifest, since);
    put.await?;
    Ok(true)
}

/// Stores layer, manifest and tag.
pub async fn push(service: &S3LayerService, name: &RepositoryName, image: &Image) {
    push_layer(service, name, image).await;
    assert!(put_manifest(service, name, image).await.unwrap());
    let tag = "latest".parse().unwrap();
    let put = service.put_tag(name, &tag, &image.manifest.digest);
    put.await.unwrap();
}

/// Reads the layer as a client of the repository does.
pub async fn pull(service: &S3LayerService, name: &RepositoryName, image: &Image) -> bool {
    use futures_util::TryStreamExt as _;
    let manifest = service.manifest(name, &image.manifest.digest).await;
    if manifest.unwrap().is_none() {
        return false;
    }
    let Ok(layer) = service.layer(name, &image.id()).await else {
        return false;
    };
    let pieces: Result<Vec<_>, _> = layer.into_stream().try_collect().await;
    pieces.is_ok_and(|pieces| pieces.concat() == image.layer)
        && service.exists(&image.id()).await.unwrap()
}
