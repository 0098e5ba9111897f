//! Container layers in any S3-compatible object store.

#[cfg(feature = "embedded")]
pub mod embedded;
