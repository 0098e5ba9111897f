//! What follows from the phase that an upload died in.

use crate::s3::session::Phase;

/// What to do with an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepAction {
    /// It was being committed: commit it.
    Commit,
    /// It was being committed and never can be: cancelled. Its data objects go 20 hours later.
    CancelCommit,
    /// It was not touched for long: cancel and remove it.
    Remove,
    /// It was cancelled, and not all of it is gone.
    RemoveCancelled,
    /// Objects without a session, such as tails of an owner that lost the upload; or with one that is damaged.
    RemoveOrphans,
}

impl SweepAction {
    /// Of an upload that is old enough. `phase` is `None` where it has no session.
    pub(super) fn of(phase: Option<&Phase>) -> Self {
        match phase {
            None => SweepAction::RemoveOrphans,
            Some(Phase::Committing(_)) => SweepAction::Commit,
            Some(Phase::Cancelled(_)) => SweepAction::RemoveCancelled,
            Some(Phase::Open | Phase::Rejected(_)) => SweepAction::Remove,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sweep_cases() {
        let at = "2026-01-01T00:00:00Z";
        let phase = |value| serde_json::from_value::<Phase>(value).unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let committing = phase(serde_json::json!({"committing": {"at": at, "digest": digest}}));
        let cancelled = phase(serde_json::json!({"cancelled": {"at": at}}));
        for (case, phase, want) in [
            ("dead", Some(&Phase::Open), SweepAction::Remove),
            (
                "half removed",
                Some(&cancelled),
                SweepAction::RemoveCancelled,
            ),
            ("half finished", Some(&committing), SweepAction::Commit),
            ("no session", None, SweepAction::RemoveOrphans),
        ] {
            assert_eq!(SweepAction::of(phase), want, "{case}");
        }
    }
}
