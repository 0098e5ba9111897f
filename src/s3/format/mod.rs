//! Everything that is stored in the bucket: keys and documents. No I/O.

pub(crate) mod checksum;
pub(crate) mod collection;
pub(crate) mod collection_times;
pub(crate) mod document;
pub(crate) mod keys;
pub(crate) mod profile;
pub(crate) mod record;
