//! Container layers in any S3-compatible object store.
