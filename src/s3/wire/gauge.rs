//! How much of a part has left, attempt by attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contract::UploadProgress;

/// Counts the bytes of one part into those of the whole upload, each of them once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge {
    sent: UploadProgress,
    /// The first bytes of the part, which were counted before.
    counted: u64,
    /// Bytes of the part that left in the present attempt.
    left: Arc<AtomicU64>,
}

impl Gauge {
    /// For a part whose first `counted` bytes are in `sent` already.
    pub(crate) fn new(sent: UploadProgress, counted: u64) -> Self {
        Gauge {
            sent,
            counted,
            left: Arc::default(),
        }
    }

    /// An attempt begins: what another one sent does not count.
    pub(super) fn begin(&self) {
        let left = self.left.swap(0, Ordering::Relaxed);
        self.sent.rewind(left.saturating_sub(self.counted));
    }

    /// So many bytes have left.
    pub(super) fn moved(&self, bytes: u64) {
        let before = self.left.fetch_add(bytes, Ordering::Relaxed);
        let after = (before + bytes).saturating_sub(self.counted);
        self.sent.add(after - before.saturating_sub(self.counted));
    }

    /// The part has arrived, all `size` bytes of it.
    pub(crate) fn arrived(&self, size: u64) {
        self.begin();
        self.moved(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_counts_once_however_often_it_is_sent() {
        let sent = UploadProgress::from_offset(107);
        let gauge = Gauge::new(sent.clone(), 7);
        for (case, bytes, want) in [
            ("counted before", 5, 107),
            ("some of them", 5, 110),
            ("new", 10, 120),
        ] {
            gauge.moved(bytes);
            assert_eq!(sent.bytes(), want, "{case}");
        }
        gauge.begin();
        assert_eq!(sent.bytes(), 107, "once more");
        gauge.moved(20);
        gauge.arrived(50);
        assert_eq!(sent.bytes(), 150);
    }
}
