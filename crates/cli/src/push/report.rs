//! The progress of an upload, as events.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use uuid::Uuid;

use super::item::{Item, What};
use s3layers::UploadProgress;

/// How often progress is reported with `--json`.
const PROGRESS: Duration = Duration::from_millis(500);

/// The progress that was reported last.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Bytes that were written to it.
    offset: u64,
    /// Bytes that were sent.
    pub(super) sent: u64,
}

impl Report {
    pub(super) fn new(offset: u64, sent: &UploadProgress) -> Self {
        // Some that were sent before may count twice.
        let sent = sent.bytes().min(offset);
        Report { offset, sent }
    }

    /// Prints an event, if the progress has changed.
    pub(super) fn update(&mut self, item: &Item<'_>, uuid: Uuid, now: Report) {
        if *self == now {
            return;
        }
        *self = now;
        // A failure to print shows again with a later event.
        let _ = item.event(What::Progress {
            uuid,
            offset: now.offset,
            sent: now.sent,
            traffic: item.traffic(),
        });
    }
}

pub(super) fn ticks() -> Interval {
    let mut tick = interval(PROGRESS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
