//! The tests that see the crate from outside, linked as one program. A file per promise.

mod contract;
mod embedded;
mod embedded_doors;
mod embedded_folder;
mod layout;
mod support;
mod tarsum;
