//! Container layers in any S3-compatible object store.
//!
//! A registry asks its storage for layers through [`LayerService`], [`Layer`] and [`LayerUpload`].
//! [`S3LayerService`] keeps them in a bucket, and nothing anywhere else: any number of processes
//! serve one bucket, and any of them resumes any upload.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use s3layers::embedded::EmbeddedStore;
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
//! # Rooms
//!
//! - The contract: the traits, [`Error`], [`LayerId`], [`Digest`], [`TarSum`], [`RepositoryName`], [`Tag`].
//! - [`S3LayerService`], built from an SDK client and an [`S3Config`].
//! - [`doctor`]: what a store can do, and what that means for the promises.
//! - [`MemoryLayerService`]: layers in a map, the model of the contract.
//! - `conformance` (feature): the contract as a suite, for any implementation.
//! - `embedded` (feature): an S3-compatible store in the process.
//! - `registry` (feature): a container registry over it.
//!
//! `default-features = false` gives the contract, the adapter and the model, without an HTTP
//! framework or a command line.

#![warn(unreachable_pub)]

#[macro_use]
mod text;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
mod error;
mod id;
mod memory;
mod name;
#[cfg(feature = "registry")]
pub mod registry;
mod s3;
mod service;
pub mod tarsum;
mod telemetry;

#[cfg(feature = "embedded")]
pub use embedded_s3 as embedded;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error::{Error, Result, StorageError};
pub use id::{InvalidId, InvalidTarSumText, LayerId, TarSum, TarSumVersion};
pub use memory::MemoryLayerService;
pub use name::{InvalidName, InvalidTag, RepositoryName, Tag};
#[cfg(feature = "registry")]
pub use s3::ManifestEntry;
pub use s3::doctor;
pub use s3::{
    ClientError, ClientOptions, ConfigError, ConnectError, DEFAULT_MEMORY_BUDGET,
    DEFAULT_PARALLELISM, DEFAULT_PART_SIZE, DEFAULT_PRESIGN_LIFETIME, LayerEntry, LayerInfo,
    LayerObject, LayerStat, S3Config, S3LayerService, StoreProfile, SweepAction, Swept,
    UploadEntry, UploadPhase, UploadState, client_from_env, client_over,
};
pub use service::{Layer, LayerService, LayerServiceExt, LayerUpload, Sent};
pub use telemetry::Usage;

/// The README's example is a doctest.
#[cfg(all(doctest, feature = "embedded"))]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
