//! The tests that see the crate from outside, linked as one program. A file per promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a failed unwrap is a failed test; and one program has no outside"
)]

mod budget;
mod contract;
mod crash;
mod damage;
mod embedded;
mod faults;
mod fixtures;
mod layout;
mod model;
mod reading;
mod requests;
mod support;
mod sweep;
