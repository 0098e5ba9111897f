//! Digests, TarSums and ids of layers.
//!
//! From the root of the repository (what is found goes to the first folder):
//!
//! ```text
//! mkdir -p fuzz/corpus/ids
//! cargo +nightly fuzz run ids fuzz/corpus/ids tests/fixtures/fuzz/ids \
//!     -- -max_total_time=60 -malloc_limit_mb=64 -max_len=8192
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/it/fuzzed/checks.rs"]
#[allow(dead_code, reason = "each target has one check of them")]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::ids(bytes));
