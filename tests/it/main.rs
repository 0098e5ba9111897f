//! The tests that see the crate from outside, linked as one program.

mod contract;
mod layout;
