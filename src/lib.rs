//! Container layers in any S3-compatible object store.

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
mod error;
mod id;
mod memory;
mod name;
mod service;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error::{Error, Result, StorageError};
pub use id::{InvalidId, InvalidTarSumText, LayerId, TarSum, TarSumVersion};
pub use memory::MemoryLayerService;
pub use name::{InvalidName, RepositoryName};
pub use service::{Layer, LayerService, LayerServiceExt, LayerUpload};
