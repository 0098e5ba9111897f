//! A declared TarSum, computed beside what else happens to the bytes.
//!
//! A few bytes can decompress to gigabytes, or stand for a hole of that size. So archives are read
//! on blocking threads, one piece after the other. The next piece is not taken before, so the
//! sender of a decompression bomb waits for it, and nothing accumulates in memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Claim;
use crate::error::{Error, Result};
use crate::id::TarSum;

/// Bytes of the input that are read between two checks whether the task was dropped.
const SLICE: usize = 64 * 1024;

/// A claim under test.
pub(crate) struct TarSumTask {
    claimed: TarSum,
    /// `None` while a thread has it, and after that thread has panicked.
    claim: Option<Box<Claim>>,
    running: Option<JoinHandle<Box<Claim>>>,
    /// Dropped with the task, so that its thread stops: a runtime that ends waits for the thread.
    alive: Arc<()>,
}

impl TarSumTask {
    /// The claim, before the first byte.
    ///
    /// # Errors
    ///
    /// `TarSumVersionUnsupported` where it could never be verified.
    pub(crate) fn new(claimed: &TarSum) -> Result<Self> {
        Ok(TarSumTask {
            claimed: claimed.clone(),
            claim: Some(Box::new(Claim::new(claimed)?)),
            running: None,
            alive: Arc::new(()),
        })
    }

    /// Begins to take these bytes. [`done`](Self::done) has to be awaited before the next ones.
    pub(crate) fn begin(&mut self, bytes: &Bytes) {
        let Some(mut claim) = self.claim.take_if(|claim| !claim.is_broken()) else {
            return;
        };
        let bytes = bytes.clone();
        let alive = Arc::downgrade(&self.alive);
        self.running = Some(spawn_blocking(move || {
            for slice in bytes.chunks(SLICE) {
                if alive.strong_count() == 0 {
                    break;
                }
                claim.update(slice);
            }
            claim
        }));
    }

    /// Waits until all bytes are taken. Cancelling changes nothing: it can be asked again.
    pub(crate) async fn done(&mut self) {
        if let Some(running) = &mut self.running {
            self.claim = running.await.ok();
            self.running = None;
        }
    }

    /// Whether the claim is right, if these were all bytes. More can come afterwards.
    pub(crate) async fn verdict(&mut self) -> Result<()> {
        self.done().await;
        if let Some(claim) = self.claim.take() {
            // Millions of entries are to be put in order.
            let verified = spawn_blocking(move || (claim.verify(), claim)).await;
            if let Ok((verdict, claim)) = verified {
                self.claim = Some(claim);
                return verdict;
            }
        }
        Err(Error::InvalidTarSum {
            claimed: self.claimed.clone(),
            reason: "the TarSum of this archive could not be computed".to_owned(),
        })
    }
}
