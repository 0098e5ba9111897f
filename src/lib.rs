//! Container layers in any S3-compatible object store.
//!
//! A registry asks its storage for layers through [`LayerService`], [`Layer`] and [`LayerUpload`].
//! [`S3LayerService`] keeps them in a bucket, and nothing anywhere else: any number of processes
//! serve one bucket, and any of them resumes any upload.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use embedded_s3::EmbeddedStore;
//! use s3layers::{LayerServiceExt, S3Config, S3LayerService};
//!
//! // A store inside the process; `client_from_env` reaches a real one.
//! let store = EmbeddedStore::in_memory();
//! store.create_bucket("layers").await?;
//! let (key, secret) = (store.access_key(), store.secret_key());
//! let client = s3layers::client_over(store.http_client(), "http://embedded", key, secret);
//!
//! let service = S3LayerService::connect(client, S3Config::new("layers")).await?;
//! let layer = service.push(&"library/demo".parse()?, &mut &b"some bytes"[..]).await?;
//! let mut bytes = Vec::new();
//! service.pull(&layer.digest().clone().into(), &mut bytes).await?;
//! assert_eq!(bytes, b"some bytes");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! - The contract: the traits, [`Error`], [`LayerId`], [`Digest`], [`TarSum`], [`RepositoryName`], [`Tag`].
//! - [`S3LayerService`], built from an SDK client and an [`S3Config`].
//! - [`doctor`]: what a store can do, and what that means for the promises.
//! - [`manifest`]: what a manifest names.
//! - [`MemoryLayerService`]: layers in a map, the model of the contract.
//!
//! Member crates of the workspace build on it: `s3layers-registry` (a container registry),
//! `embedded-s3` (an S3-compatible store inside the process), `s3layers-conformance` (the contract
//! as a suite), and `s3layers-cli` (the program).

#![warn(unreachable_pub)]

#[doc(hidden)]
pub mod clock;
mod contract;
mod error;
mod id;
mod locks;
pub mod manifest;
mod memory;
mod name;
mod pace;
mod s3;
pub use aws_sdk_s3;

mod tar_sum_claim;
mod telemetry;

pub use contract::{
    Layer, LayerService, LayerServiceExt, LayerUpload, Manifest, Page, Referrer, ReferrerKey,
    RepositoryService, UploadProgress,
};
pub use error::{Error, Result, StorageError, StorageErrorKind};
pub use id::{InvalidId, InvalidTarSumText, LayerId, TarSum, TarSumVersion};
pub use memory::MemoryLayerService;
pub use name::{InvalidName, InvalidTag, RepositoryName, Tag};
pub use s3::doctor;
pub use s3::{
    BrokenImage, CheckOptions, CheckReport, CheckVerdict, ClientEnvironment, ClientError,
    ClientOptions, CollectError, CollectOptions, CollectReport, CollectionTimes, ConfigError,
    ConnectError, CredentialSource, DEFAULT_MEMORY_BUDGET, DEFAULT_PARALLELISM, DEFAULT_PART_SIZE,
    DEFAULT_PRESIGN_LIFETIME, Defect, DefectKind, DefectSeverity, LayerEntry, LayerInfo,
    LayerObject, LayerStat, PoolLoad, ReadShare, S3Config, S3LayerService, ServiceStatus,
    StoreProfile, SweepAction, SweptUpload, UploadEntry, UploadPhase, UploadState,
    client_environment, client_from_env, client_over,
};
pub use s3::{
    ManifestEntry, RemovedRepository, RepositorySpace, RestoreError, RestoreReport, RunError,
    Space, TrashEntry, TrashReference,
};
pub use s3layers_tarsum as tarsum;
pub use s3layers_tarsum::{Algorithm, Digest, Hasher, InvalidDigest, is_lower_hex};
pub use telemetry::{Usage, UsageCounter};

/// The README's example is a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
