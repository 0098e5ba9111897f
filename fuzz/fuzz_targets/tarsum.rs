//! Any bytes, in chunks of any length: no panic, and one sum or none.
//!
//! From the root of the repository, with the archives of the tests as seeds (what is found goes to
//! the first folder). `cargo test` changes the same seeds for some seconds, without looking for what
//! a change reaches: `tests/it/tarsum/seeds.rs`.
//!
//! ```text
//! mkdir -p fuzz/corpus/tarsum
//! cargo +nightly fuzz run tarsum fuzz/corpus/tarsum \
//!     tests/fixtures/tarsum/edge tests/fixtures/tarsum/compressed -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use s3layers::tarsum::TarSummer;
use s3layers::{Algorithm, TarSumVersion};

/// Holes cost time without a byte of input, which is no finding.
const HOLES: u64 = 1 << 20;

fn summer() -> Option<TarSummer> {
    let summer = TarSummer::new(TarSumVersion::V1, Algorithm::Sha256).ok()?;
    Some(summer.entry_limit(1000).hole_limit(HOLES))
}

fuzz_target!(|bytes: &[u8]| {
    let (Some(mut whole), Some(mut cut)) = (summer(), summer()) else {
        return;
    };
    whole.update(bytes);
    // The pieces depend on the bytes, so that they can be found to matter.
    let len = bytes.last().map_or(1, |&last| usize::from(last) + 1);
    for piece in bytes.chunks(len) {
        cut.update(piece);
        let _ = cut.tar_sum();
    }
    assert_eq!(whole.tar_sum().ok(), cut.tar_sum().ok());
});
