//! The tests that see the crate from outside, linked as one program. A file per promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a failed unwrap is a failed test; and one program has no outside"
)]

mod checkpoint;
mod contract;
mod crash;
mod embedded;
mod embedded_doors;
mod embedded_folder;
mod faults;
mod forgery;
mod layout;
mod leftovers;
mod sealed;
mod support;
