//! Uploads.
pub(crate) mod plan;
pub(crate) mod session;
