//! TarSum: the values of the original, broken archives, and independence of the length of chunks
//! and of the compression.

#![allow(clippy::unwrap_used, clippy::panic)]

pub(crate) mod archive;
mod broken;
pub(crate) mod compressed;
mod pieces;
mod seeds;
mod vectors;

use s3layers::tarsum::{BrokenArchive, TarSummer};
use s3layers::{Algorithm, TarSum, TarSumVersion};

/// A summer of version 1, the one that layers were named by.
fn summer() -> TarSummer {
    TarSummer::new(TarSumVersion::V1, Algorithm::Sha256).unwrap()
}

fn sum(bytes: &[u8]) -> Result<TarSum, BrokenArchive> {
    let mut summer = summer();
    summer.update(bytes);
    summer.finish()
}

#[test]
fn a_summer_may_move_between_threads() {
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    is_send_and_sync(&summer());
}
