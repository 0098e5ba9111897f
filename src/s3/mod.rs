//! The adapter: layers in an S3-compatible object store.
//!
//! All state is in the bucket. Any number of processes serve one bucket, and any of them resumes
//! any upload.
//!
//! ```text
//! <root>/profile                              what the store can do, as probed once
//! <root>/probe/<nonce>/…                      what a probe or an examination tries, and removes
//! <root>/data/<2 hex>/<uuid>.<n>              bytes of a layer, completed from a multipart upload
//! <root>/data/<2 hex>/<uuid>.whole-<nonce>    bytes of a layer that fitted one PutObject
//! <root>/layers/sha256/<2 hex>/<hex>          layer record: segments or inline bytes
//! <root>/layers/<other id>/<2 hex>/<hex>      alias: the record under another id
//! <root>/uploads/<uuid>/session               the upload session, the one object that changes
//! <root>/uploads/<uuid>/tail/<offset>-<nonce> bytes that do not fill a part yet
//! <root>/repositories/<escaped>/_claims/…     which upload brings a declared id here
//! <root>/repositories/<escaped>/_layers/…     the layer is linked here; repeats the record
//! <root>/repositories/<escaped>/_manifests/…  a manifest
//! <root>/repositories/<escaped>/_tags/<tag>   which manifest a tag names
//! <root>/repositories/<escaped>/_referrers/…  by subject and artifact type: which manifests refer to it
//! <root>/names/<flat>                         the repository exists, or was emptied
//! ```
//!
//! 1. Bytes never move: an upload is completed at a key that holds its UUID, and publishing is one
//!    small conditional PUT of the record.
//! 2. Every key is written once, or under a condition.
//! 3. An unclear conditional write is settled by reading ([`wire`]).
//! 4. No data is deleted unless a session just read or written does not name it, and no link, tag,
//!    manifest or referrer unless it is still the document that was read
//!    ([`Store::remove`](bucket::Store::remove)).
//! 5. A stored document has a version, a checksum of its own and its own key's id ([`format::document`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use crate::contract::{Layer, LayerService, LayerUpload};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::telemetry::Usage;
use bucket::Store;
use read::S3Layer;
use upload::SessionCache;

mod bucket;
mod budget;
mod commit;
mod config;
pub mod doctor;
mod format;
mod keyed_lock;
mod maintenance;
mod name_path;
mod names;
mod publish;
mod read;
mod relay;
mod repositories;
mod secret;
mod session;
mod upload;
mod vendors;
mod wire;

pub use budget::PoolLoad;
pub use config::{
    ConfigError, ConnectError, DEFAULT_MEMORY_BUDGET, DEFAULT_PARALLELISM, DEFAULT_PART_SIZE,
    DEFAULT_PRESIGN_LIFETIME, S3Config,
};
pub use format::collection_times::CollectionTimes;
pub use format::profile::StoreProfile;
pub use maintenance::check::{
    BrokenImage, CheckOptions, CheckReport, CheckVerdict, Defect, DefectKind, DefectSeverity,
    ReadShare,
};
pub use maintenance::collector::{CollectError, CollectOptions, CollectReport};
pub use maintenance::inventory::{
    LayerEntry, LayerInfo, LayerObject, LayerStat, UploadEntry, UploadPhase, UploadState,
};
pub use maintenance::run_error::RunError;
pub use maintenance::space::{RepositorySpace, Space};
pub use maintenance::sweep::{SweepAction, SweptUpload};
pub use repositories::{
    ManifestEntry, RemovedRepository, RestoreError, RestoreReport, TrashEntry, TrashReference,
};
pub use wire::{
    ClientEnvironment, ClientError, ClientOptions, CredentialSource, client_environment,
    client_from_env, client_over,
};

/// A [`LayerService`] over a bucket. Clones share one client, one byte budget and one set of
/// counters.
#[derive(Clone, Debug)]
pub struct S3LayerService {
    store: Arc<Store>,
    sessions: Arc<SessionCache>,
}

impl S3LayerService {
    /// A service over the bucket that `config` names, reached through `client`, whose own settings
    /// stay as they are: retries, timeouts and checksums of our requests are set request by
    /// request. See [`client_from_env`] for a client.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: a setting out of range; a store that ignores conditional writes, unless a
    /// single writer was declared; a store that could not be asked.
    ///
    /// # Cost
    ///
    /// One request, or none where the configuration brings a profile; about ninety more where the
    /// bucket has none yet.
    ///
    /// # Cancellation
    ///
    /// A probe that was under way may leave small objects below `<root>/probe/`.
    pub async fn connect(
        client: aws_sdk_s3::Client,
        config: S3Config,
    ) -> Result<Self, ConnectError> {
        config.check()?;
        let api = wire::Api::new(client, config.bucket, config.presign_endpoint);
        let keys = format::keys::Keys::new(&config.root);
        let profile = match config.profile {
            Some(profile) => profile,
            None => doctor::profile(&api, &keys, config.must_exist).await?,
        };
        if !profile.conditional_writes && !config.single_writer {
            return Err(ConnectError::NoConditionalWrites);
        }
        if let Some(fault) = profile.collection.fault() {
            return Err(ConnectError::CollectionTimes { fault });
        }
        let api = api.with_conditions(profile.conditions(config.single_writer));
        Ok(S3LayerService {
            store: Arc::new(Store {
                api,
                keys,
                profile,
                budget: budget::Budget::new(config.memory_budget),
                memory_budget: config.memory_budget,
                part_size: config.part_size,
                parallelism: config.parallelism,
                presign_lifetime: config.presign_lifetime,
                looks: bucket::looks::no_looks(),
                names: bucket::markers::Names::default(),
                commits: keyed_lock::KeyedLock::default(),
                background: bucket::background(),
            }),
            sessions: Arc::default(),
        })
    }

    /// What the store can do.
    pub fn profile(&self) -> &StoreProfile {
        &self.store.profile
    }

    /// The largest layer that an upload begun now can hold, in bytes: 10,000 parts of the sizes that
    /// [`S3Config::part_size`] and [`S3Config::memory_budget`] lead to, and no more than one object of
    /// the store. Makes no request.
    pub fn max_layer_size(&self) -> u64 {
        upload::schedule(&self.store).max_size()
    }

    /// The requests made and bytes moved since the service was built.
    pub fn usage(&self) -> Usage {
        self.store.api.telemetry().usage()
    }

    /// What an operator should know of besides [`usage`](Self::usage). Makes no request.
    pub fn status(&self) -> ServiceStatus {
        let (telemetry, budget) = (self.store.api.telemetry(), &self.store.budget);
        ServiceStatus {
            background: telemetry.background(),
            events: telemetry.events(),
            uploads: budget.uploads.load(),
            readers: budget.readers.load(),
            writes: budget.writes_in_flight(),
        }
    }

    /// A secret of 64 characters that all processes which use this bucket share: the first one that
    /// asks stores it. Everyone who may read the bucket can read it.
    ///
    /// # Errors
    ///
    /// [`Storage`](Error::Storage); `Damaged`, `NewerVersion` about what is stored.
    ///
    /// # Cost
    ///
    /// 1 request; 2 the first time.
    ///
    /// # Cancellation
    ///
    /// The secret may have been stored.
    pub async fn shared_secret(&self) -> Result<String> {
        secret::shared(&self.store).await
    }

    /// Waits for the removals that finished uploads have left to the background. A process that ends
    /// earlier leaves them to a [sweep](Self::sweep).
    ///
    /// # Cancellation
    ///
    /// The removals continue.
    pub async fn wait_for_background(&self) {
        self.store.background.wait().await;
    }

    /// Removes what dead uploads left behind: multipart uploads, sessions, claims, tails and
    /// unpublished data that were not touched for `older_than`, by the store's clock. An upload
    /// that was being committed is committed, or cancelled where it never can be: its bytes are lost or damaged, its id
    /// is wrong, or S3 refuses to complete its parts. After any other failure the next sweep tries again. The data of a commit
    /// that was cancelled is removed by a sweep 20 hours later, unless it was published after all. An upload
    /// that receives bytes writes its session every ten minutes at least, so an hour spares all but
    /// clients that were silent for as long. With `dry_run` nothing is changed.
    ///
    /// Looks at uploads only: data without an upload is published, with few exceptions. Works on 16 uploads at a time
    /// while the stream is polled: requests that wait for a poll run into their time limits.
    ///
    /// # Errors
    ///
    /// [`Storage`](Error::Storage) where the listing failed, as the last item. What could not be removed
    /// is an item like the others, and does not keep them.
    ///
    /// # Cost
    ///
    /// 1 request for each thousand objects of uploads, and 4 to 6 for each upload that is removed.
    ///
    /// # Cancellation
    ///
    /// Stops between two uploads or within one; another sweep continues there.
    pub fn sweep(
        &self,
        older_than: Duration,
        dry_run: bool,
    ) -> BoxStream<'static, Result<SweptUpload>> {
        let service = self.clone();
        maintenance::sweep::sweep(Arc::clone(&self.store), older_than, dry_run)
            .inspect_ok(move |swept| service.sessions.forget(&service.store.keys, swept.uuid))
            .boxed()
    }

    /// Removes links that no manifest names, and layers that no link names, and gives their bytes back:
    /// one pass. Each step waits long enough for every push that relies on what it removes, so bytes are
    /// free some passes, and two days, after their image was deleted. Any number of collections can run
    /// at once, beside pushes. A push within a day and a half of the last answer that its layers are
    /// here is never refused because of one.
    ///
    /// The removal of a layer that no manifest ever names begins 3 days after its push.
    ///
    /// # Errors
    ///
    /// [`CollectError`]: the store cannot be collected, or a request failed. With a report of what was done before.
    ///
    /// # Cost
    ///
    /// 1 request for each thousand objects below `repositories/`, `layers/sha256/` and `uploads/`, once more for
    /// those below `repositories/` where links are removed; 1 for each open upload and each repository, and 1 for each manifest that
    /// no collection has read before. For each layer that goes 12, over all passes.
    /// In memory some 70 MiB at most; 10 where 100,000 layers are in use.
    ///
    /// # Cancellation
    ///
    /// Stops between two requests; another collection continues.
    pub async fn collect(
        &self,
        options: &CollectOptions,
    ) -> Result<CollectReport, RunError<CollectReport, CollectError>> {
        maintenance::collector::collect(&self.store, options).await
    }
}

/// What a service did and has now, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// The requests that no [`UsageCounter`](crate::UsageCounter) has counted.
    pub background: Usage,
    /// Incidents, each by its name: blocks that were read again, links that were rescued.
    pub events: BTreeMap<&'static str, u64>,
    /// The memory of uploads.
    pub uploads: PoolLoad,
    /// The memory of readers.
    pub readers: PoolLoad,
    /// Requests in flight that carry bytes of layers.
    pub writes: usize,
}

#[async_trait]
impl LayerService for S3LayerService {
    async fn exists(&self, id: &LayerId) -> Result<bool> {
        let Some(layer) = self.store.layer(id).await? else {
            return Ok(false);
        };
        Ok(bucket::presence::present(&self.store, &layer)
            .await?
            .is_some())
    }

    async fn fetch(&self, id: &LayerId) -> Result<Box<dyn Layer>> {
        let layer = self.store.layer(id).await?;
        let layer = layer.ok_or_else(|| Error::LayerUnknown { id: id.clone() })?;
        Ok(Box::new(S3Layer::new(
            Arc::clone(&self.store),
            Arc::new(layer),
        )))
    }

    async fn upload(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
    ) -> Result<Box<dyn LayerUpload>> {
        let upload = upload::begin(&self.store, &self.sessions, name, id).await?;
        Ok(Box::new(upload))
    }

    async fn resume(
        &self,
        name: &RepositoryName,
        id: Option<&LayerId>,
        uuid: Uuid,
    ) -> Result<Box<dyn LayerUpload>> {
        let upload = upload::resume(&self.store, &self.sessions, name, id, uuid).await?;
        Ok(Box::new(upload))
    }
}
