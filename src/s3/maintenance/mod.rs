//! Works on the bucket as a whole: lists and describes what it holds, removes abandoned uploads.

pub(crate) mod collector;
pub(crate) mod inventory;
pub(crate) mod space;
pub(crate) mod sweep;
