//! Test equipment: a disk of limited size, or one that fails, so that these can be tested without one.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the disk of a folder can do.
#[derive(Debug)]
pub(crate) struct Space {
    /// How many more bytes can be written.
    free: AtomicU64,
    syncs_fail: AtomicBool,
}

impl Default for Space {
    fn default() -> Self {
        Self {
            free: AtomicU64::new(u64::MAX),
            syncs_fail: AtomicBool::new(false),
        }
    }
}

impl Space {
    /// From now on so many bytes can be written; `None` for any number.
    pub(crate) fn limit(&self, bytes: Option<u64>) {
        self.free
            .store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether syncs of the metadata fail from now on.
    #[cfg(test)]
    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.syncs_fail.store(fail, Ordering::Relaxed);
    }

    pub(crate) fn check_sync(&self) -> io::Result<()> {
        if self.syncs_fail.load(Ordering::Relaxed) {
            return Err(io::Error::other("the sync fails"));
        }
        Ok(())
    }

    /// Writes all bytes, or as many as there is space for and fails, as a full disk does.
    pub(crate) fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        let free = self.take(size);
        if free >= size {
            return file.write_all(bytes);
        }
        let fits = usize::try_from(free).map_err(io::Error::other)?;
        file.write_all(&bytes[..fits])?;
        Err(ErrorKind::StorageFull.into())
    }

    /// Counts bytes that are about to be written, or fails as a full disk does.
    pub(crate) fn reserve(&self, bytes: u64) -> io::Result<()> {
        if self.take(bytes) < bytes {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// A file of this size was removed, or cut off by so much.
    pub(crate) fn release(&self, bytes: u64) {
        self.change(|free| free.saturating_add(bytes));
    }

    /// Takes so many bytes, or what is left. What there was before.
    fn take(&self, bytes: u64) -> u64 {
        self.change(|free| free.saturating_sub(bytes))
    }

    /// Changes the free space, if it is limited. What there was before.
    fn change(&self, change: impl Fn(u64) -> u64) -> u64 {
        let limited = |free| (free != u64::MAX).then(|| change(free));
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, limited)
            .unwrap_or(u64::MAX)
    }
}
