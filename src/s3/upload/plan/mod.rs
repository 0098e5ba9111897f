//! The decisions of an upload, apart from carrying them out: no clock, no store, no waiting.

pub(crate) mod cut;
pub(crate) mod finish;
pub(crate) mod part_size;
pub(crate) mod resume;
