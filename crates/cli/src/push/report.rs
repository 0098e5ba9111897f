//! How far an upload is, for programs.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use uuid::Uuid;

use super::What;
use super::item::Item;
use s3layers::Sent;

/// How often progress is reported with `--json`.
const PROGRESS: Duration = Duration::from_millis(500);

/// How far an upload is, as it was reported last.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Bytes that it has taken.
    offset: u64,
    /// Bytes that have left.
    pub(super) sent: u64,
}

impl Report {
    pub(super) fn new(offset: u64, sent: &Sent) -> Self {
        // A few that were sent before may count twice.
        let sent = sent.bytes().min(offset);
        Report { offset, sent }
    }

    /// Prints an event, if that has changed.
    pub(super) fn update(&mut self, item: &Item<'_>, uuid: Uuid, now: Report) {
        if *self == now {
            return;
        }
        *self = now;
        // A failure to print comes again with an event that matters.
        let _ = item.event(What::Progress {
            uuid,
            offset: now.offset,
            sent: now.sent,
            spent: item.spent(),
        });
    }
}

pub(super) fn ticks() -> Interval {
    let mut tick = interval(PROGRESS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
