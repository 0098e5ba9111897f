//! Works on the bucket as a whole: lists and describes what it holds, removes abandoned uploads.

mod bounded_list;
pub(crate) mod check;
pub(crate) mod collector;
pub(crate) mod inventory;
mod marks;
pub(crate) mod run_error;
pub(crate) mod space;
pub(crate) mod sweep;
