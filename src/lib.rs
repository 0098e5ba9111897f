//! Container layers in any S3-compatible object store.

#![warn(unreachable_pub)]

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod id;
mod memory;
mod name;
mod s3;
mod service;
pub mod tarsum;
mod telemetry;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error::{Error, Result, StorageError};
pub use id::{InvalidId, InvalidTarSumText, LayerId, TarSum, TarSumVersion};
pub use memory::MemoryLayerService;
pub use name::{InvalidName, RepositoryName};
pub use s3::{
    ClientOptions, ConfigError, ConnectError, DEFAULT_MEMORY_BUDGET, DEFAULT_PARALLELISM,
    DEFAULT_PART_SIZE, DEFAULT_PRESIGN_LIFETIME, S3Config, S3LayerService, StoreProfile,
    SweepAction, Swept, client_from_env,
};
pub use service::{Layer, LayerService, LayerServiceExt, LayerUpload};
pub use telemetry::Usage;
