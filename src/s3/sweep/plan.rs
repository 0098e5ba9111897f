//! Dead, or not yet; and what follows from the phase it died in.

use std::time::Duration;

use crate::s3::upload::session::Phase;

/// What to do with an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SweepAction {
    /// It was being finished: finish it.
    Finish,
    /// Nobody has touched it for long: cancel and remove it.
    Remove,
    /// It was cancelled, and not all of it is gone.
    RemoveCancelled,
    /// Objects without a session: tails of an owner that lost the upload.
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
        Some(Phase::Sealing(_)) => SweepAction::Finish,
        Some(Phase::Cancelled) => SweepAction::RemoveCancelled,
        Some(Phase::Open | Phase::Sealed(_)) => SweepAction::Remove,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sweep_cases() {
        let old = Duration::from_secs(3600);
        let sealed = || {
            serde_json::from_value::<Phase>(serde_json::json!({"sealing": {
                "at": "2026-01-01T00:00:00Z", "data": "parts", "also": [], "unverified": []
            }}))
        };
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
                Some(Phase::Cancelled),
                old,
                Some(SweepAction::RemoveCancelled),
            ),
            (
                "half finished",
                Some(sealed().unwrap()),
                old,
                Some(SweepAction::Finish),
            ),
            (
                "being finished",
                Some(sealed().unwrap()),
                Duration::ZERO,
                None,
            ),
            ("no session", None, old, Some(SweepAction::RemoveOrphans)),
            ("about to be begun", None, Duration::ZERO, None),
        ] {
            assert_eq!(plan(phase.as_ref(), age, old), want, "{case}");
        }
    }
}
