//! Dead, or not yet; and what follows from the phase it died in.

use std::time::Duration;

use crate::s3::session::Phase;

/// What to do with an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepAction {
    /// It was being committed: commit it.
    Commit,
    /// It was being committed and never can be: cancelled. Its bytes go 20 hours later.
    CancelCommit,
    /// It was not touched for long: cancel and remove it.
    Remove,
    /// It was cancelled, and not all of it is gone.
    RemoveCancelled,
    /// Objects without a session, such as tails of an owner that lost the upload; or with one that is damaged.
    RemoveOrphans,
}

/// `None` where it is left alone. `age` is that of the youngest object below the upload; `phase`
/// is `None` where it has no session.
pub(super) fn plan(
    phase: Option<&Phase>,
    age: Duration,
    older_than: Duration,
) -> Option<SweepAction> {
    if age < older_than {
        return None;
    }
    Some(match phase {
        None => SweepAction::RemoveOrphans,
        Some(Phase::Committing(_)) => SweepAction::Commit,
        Some(Phase::Cancelled(_)) => SweepAction::RemoveCancelled,
        Some(Phase::Open | Phase::Rejected(_)) => SweepAction::Remove,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sweep_cases() {
        let old = Duration::from_secs(3600);
        let at = "2026-01-01T00:00:00Z";
        let phase = |value| serde_json::from_value::<Phase>(value).unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let committing = || phase(serde_json::json!({"committing": {"at": at, "digest": digest}}));
        let cancelled = || phase(serde_json::json!({"cancelled": {"at": at}}));
        for (case, phase, age, want) in [
            (
                "live",
                Some(Phase::Open),
                old - Duration::from_secs(1),
                None,
            ),
            ("dead", Some(Phase::Open), old, Some(SweepAction::Remove)),
            (
                "half removed",
                Some(cancelled()),
                old,
                Some(SweepAction::RemoveCancelled),
            ),
            (
                "half finished",
                Some(committing()),
                old,
                Some(SweepAction::Commit),
            ),
            ("being finished", Some(committing()), Duration::ZERO, None),
            ("no session", None, old, Some(SweepAction::RemoveOrphans)),
            ("about to be begun", None, Duration::ZERO, None),
        ] {
            assert_eq!(plan(phase.as_ref(), age, old), want, "{case}");
        }
    }
}
