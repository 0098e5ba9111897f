//! The tests that see the crate from outside, linked as one program. A file per promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and lives in real time"
)]

mod aws;
mod bomb;
mod budget;
mod cancelled;
mod checkpoint;
mod cli;
mod cli_auth;
mod cli_doctor;
mod cli_folder;
mod cli_gc;
mod cli_inventory;
mod cli_manual;
mod cli_pull;
mod cli_push;
mod cli_serve;
mod cli_settings;
mod cli_tarsum;
mod cli_terminal;
mod collector;
mod collector_protocol;
mod committing;
mod contract;
mod copied;
mod crash;
mod damage;
mod doctor;
mod embedded;
mod embedded_access;
mod embedded_disk;
mod embedded_doors;
mod embedded_folder;
mod embedded_listings;
mod embedded_trailers;
mod faults;
mod fixtures;
mod forgery;
mod fuzzed;
mod hostile;
mod inventory;
mod kills;
mod leftovers;
mod memory_model;
mod model;
mod names;
mod other_stores;
mod progress;
mod reading;
mod registry;
mod requests;
mod rescue;
mod schedules;
mod secrets;
mod segments;
mod session_cache;
mod spill;
mod support;
mod suspended;
mod sweep;
mod takeover;
mod tarsum;
