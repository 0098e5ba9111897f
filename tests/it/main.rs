//! The tests that see the crate from outside, linked as one program. A file per promise.

mod cli;
mod contract;
mod embedded;
mod layout;
mod support;
