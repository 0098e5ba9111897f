//! Container layers in any S3-compatible object store.

mod clock;
mod digest;
mod error;
mod id;
mod name;
mod s3;
mod service;
mod telemetry;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error::{Error, Result, StorageError};
pub use id::{InvalidId, InvalidTarSumText, LayerId, TarSum, TarSumVersion};
pub use name::{InvalidName, RepositoryName};
pub use service::{Layer, LayerService, LayerServiceExt, LayerUpload};
