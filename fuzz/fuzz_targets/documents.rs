//! Stored documents that are others than were written: sessions, records, manifests, tags.
//!
//! From the root of the repository (what is found goes to the first folder):
//!
//! ```text
//! mkdir -p fuzz/corpus/documents
//! cargo +nightly fuzz run documents fuzz/corpus/documents tests/fixtures/fuzz/documents \
//!     -- -max_total_time=60 -malloc_limit_mb=64 -max_len=8192
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/it/fuzzed/checks.rs"]
#[allow(dead_code, reason = "each target has one check of them")]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::documents(bytes));
