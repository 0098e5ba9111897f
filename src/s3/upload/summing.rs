//! A declared TarSum, computed beside what else happens to the bytes.
//!
//! A few bytes can decompress to gigabytes, or stand for a hole of that size. So archives are read
//! on threads where that holds up nobody, one piece after the other: the next one is not taken
//! before, so whoever sends a bomb waits for it, and nothing piles up in memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::writer::Writer;
use crate::error::{Error, Result};
use crate::id::{LayerId, TarSum};
use crate::tarsum::Claim;

/// Bytes of the input that are read before it is asked whether the sum is still wanted.
const SLICE: usize = 64 * 1024;

/// A claim under test.
pub(super) struct Summing {
    claimed: TarSum,
    /// `None` while a thread has it, and for ever if that thread panics.
    claim: Option<Box<Claim>>,
    running: Option<JoinHandle<Box<Claim>>>,
    /// Whoever is dropped wants no more of it: a runtime that ends would wait for the thread.
    wanted: Arc<()>,
}

impl Summing {
    /// The claim, before the first byte.
    ///
    /// # Errors
    ///
    /// `TarSumVersionUnsupported` where it could never be verified.
    pub(super) fn of(claimed: &TarSum) -> Result<Self> {
        Ok(Summing {
            claimed: claimed.clone(),
            claim: Some(Box::new(Claim::new(claimed)?)),
            running: None,
            wanted: Arc::new(()),
        })
    }

    /// Begins to take these bytes. [`done`](Self::done) has to be awaited before the next ones.
    pub(super) fn begin(&mut self, bytes: &Bytes) {
        let Some(mut claim) = self.claim.take_if(|claim| !claim.is_broken()) else {
            return;
        };
        let bytes = bytes.clone();
        let wanted = Arc::downgrade(&self.wanted);
        self.running = Some(spawn_blocking(move || {
            for slice in bytes.chunks(SLICE) {
                if wanted.strong_count() == 0 {
                    break;
                }
                claim.update(slice);
            }
            claim
        }));
    }

    /// Waits until all bytes are taken. Cancelling changes nothing: it can be asked again.
    pub(super) async fn done(&mut self) {
        if let Some(running) = &mut self.running {
            self.claim = running.await.ok();
            self.running = None;
        }
    }

    /// Whether the claim is right, if these were all bytes. More can come afterwards.
    pub(super) async fn verdict(&mut self) -> Result<()> {
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
            reason: "the reader of archives failed at its archive".to_owned(),
        })
    }
}

impl Writer {
    /// What is known of the TarSum that was declared; `None` where none was, or where this handle
    /// has not seen all bytes.
    pub(super) async fn tar_sum(&mut self) -> Option<Result<()>> {
        let tar_sum = self.declared.as_ref().and_then(LayerId::as_tar_sum)?;
        // What nobody can verify need not be read back first.
        if let Err(unsupported) = Claim::new(tar_sum) {
            return Some(Err(unsupported));
        }
        match &mut self.summing {
            Some(summing) => Some(summing.verdict().await),
            None => None,
        }
    }

    /// Waits until the archive is read as far as bytes were taken. Memory that others want by then
    /// is given back, for it can be long.
    pub(super) async fn summed(&mut self) -> Result<()> {
        while let Some(summing) = &mut self.summing {
            tokio::select! {
                biased;
                () = summing.done() => return Ok(()),
                () = super::task::wanted_back(self.reservation.as_ref()) => {}
            }
            self.give_back().await?;
        }
        Ok(())
    }
}
