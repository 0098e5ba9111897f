//! Verification of a claimed TarSum, for every implementation of `finish`.

use std::error::Error as _;

use crate::error::{Error, Result};
use crate::id::{TarSum, TarSumVersion};
use s3layers_tarsum::{BrokenArchive, TarSummer};

mod task;

pub(crate) use task::TarSumTask;

/// Why version 0 is computed and not believed: the registry of the time refused it as well.
const COUNTS_TIMES: &str = "version 0 counts modification times; expected tarsum.v1";

/// The claim that an archive has this TarSum, while the archive arrives.
#[derive(Debug)]
pub(crate) struct Claim {
    claimed: TarSum,
    summer: TarSummer,
}

impl Claim {
    /// The claim, before the first byte.
    ///
    /// # Errors
    ///
    /// `TarSumVersionUnsupported` where it could never be verified.
    pub(crate) fn new(claimed: &TarSum) -> Result<Self> {
        let unsupported = |reason| Error::TarSumVersionUnsupported {
            tar_sum: claimed.clone(),
            reason,
        };
        if *claimed.version() == TarSumVersion::V0 {
            return Err(unsupported(COUNTS_TIMES));
        }
        let summer =
            TarSummer::for_tar_sum(claimed).map_err(|error| unsupported(error.reason()))?;
        Ok(Claim {
            claimed: claimed.clone(),
            summer,
        })
    }

    /// Takes the next bytes. It may take as long as [`TarSummer::update`] does.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.summer.update(bytes);
    }

    /// Whether it is certain already that the claim is wrong.
    pub(crate) fn is_broken(&self) -> bool {
        self.summer.error().is_some()
    }

    /// Whether the claim is right, if these were all bytes. More can come afterwards.
    ///
    /// # Errors
    ///
    /// `InvalidTarSum`, which names the TarSum of the archive, or where it is broken.
    pub(crate) fn verify(&self) -> Result<()> {
        let reason = match self.summer.tar_sum() {
            Ok(computed) if computed == self.claimed => return Ok(()),
            Ok(computed) => format!("its archive is {computed}"),
            Err(broken) => one_line(&broken),
        };
        Err(Error::InvalidTarSum {
            claimed: self.claimed.clone(),
            reason,
        })
    }
}

/// The fault, its offset, and the decompressor's message, on one line.
fn one_line(broken: &BrokenArchive) -> String {
    match broken.source() {
        Some(source) => format!("{broken}: {source}"),
        None => broken.to_string(),
    }
}
