//! S3
pub(crate) mod api;
mod budget;
pub(crate) mod checksum;
mod config;
mod document;
pub(crate) mod keys;
mod probe;
mod profile;
mod read;
mod record;
mod store;
mod upload;
