//! What becomes of one link and of one record. Pure; `tests/it/collector_protocol` has the protocol.

use std::time::Duration;

use crate::s3::format::collection_times::CollectionTimes;
use crate::s3::format::record::RecordState;

/// What is known of a link that no manifest names by its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkFacts {
    pub(super) is_condemned: bool,
    /// A manifest names it by another of its ids.
    pub(super) is_named: bool,
    /// Between its last write and the beginning of the listing that shows which manifests there are.
    pub(super) age: Duration,
    /// How long before that the oldest open upload of the repository began.
    pub(super) upload_began: Option<Duration>,
}

/// What becomes of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkAction {
    Keep,
    Condemn,
    /// Back to live.
    Restore,
    Remove,
}

pub(super) fn link(facts: LinkFacts, times: &CollectionTimes) -> LinkAction {
    let LinkFacts {
        is_condemned,
        is_named,
        age,
        upload_began,
    } = facts;
    if is_named {
        return if is_condemned {
            LinkAction::Restore
        } else {
            LinkAction::Keep
        };
    }
    let age_of_live = age.saturating_sub(upload_began.unwrap_or_default());
    let is_waited_for = |began: Duration| age <= began + times.wait();
    match is_condemned {
        false if age_of_live > times.link_age() => LinkAction::Condemn,
        true if age < times.wait() => LinkAction::Keep,
        true if upload_began.is_some_and(is_waited_for) => LinkAction::Restore,
        true => LinkAction::Remove,
        false => LinkAction::Keep,
    }
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordAction {
    Keep,
    Condemn,
    /// From condemned to dead, unless it is used after all.
    Kill,
    /// From dead to purging, then its data and the record go.
    Purge,
    /// It was purging: its data and the record go.
    Finish,
}

/// Of a record that no link was listed for. `age`: between its last write and the beginning of the listing that shows which
/// links there are.
pub(super) fn record(state: &RecordState, age: Duration, times: &CollectionTimes) -> RecordAction {
    match state {
        RecordState::Live if age >= times.record_age() => RecordAction::Condemn,
        RecordState::Condemned { .. } if age >= times.wait() => RecordAction::Kill,
        RecordState::Dead { .. } if age >= times.kept() => RecordAction::Purge,
        RecordState::Purging { .. } => RecordAction::Finish,
        _ => RecordAction::Keep,
    }
}

/// What is left to do for a layer of a [`DeadBatch`](crate::s3::format::collection::DeadBatch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeadAction {
    /// Its record is dead, or may become so: the record says when its data goes.
    Wait,
    /// Another record stands there, or none: the data goes.
    RemoveData,
    /// Nothing.
    Settled,
}

/// `state`: that of the record, where it still has this content. `age`: of the batch.
pub(super) fn dead(
    state: Option<&RecordState>,
    has_session: bool,
    age: Duration,
    times: &CollectionTimes,
) -> DeadAction {
    match state {
        Some(RecordState::Dead { .. } | RecordState::Purging { .. }) => DeadAction::Wait,
        // Its record may be about to be set to dead.
        Some(_) if age < times.wait() => DeadAction::Wait,
        Some(_) => DeadAction::Settled,
        None if has_session || age < times.kept() => DeadAction::Wait,
        None => DeadAction::RemoveData,
    }
}

/// Fewer are never too many: a repository of a few layers loses most of them at once.
const FEW: u64 = 10;

/// Whether this share is more than a collection removes without `max_share`.
pub(super) fn is_too_many(some: u64, all: u64, max_share: f64) -> bool {
    some > FEW && some as f64 > all as f64 * max_share
}

/// By which share a listing may be shorter than the last one.
const MAX_LOSS: f64 = 0.1;

/// Whether a listing has so much less than the last one that it is not believed.
pub(super) fn is_too_short(now: u64, last: u64) -> bool {
    is_too_many(last.saturating_sub(now), last, MAX_LOSS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const TIMES: CollectionTimes = CollectionTimes::DEFAULT;

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * HOUR)
    }

    #[test]
    fn links() {
        use LinkAction::*;
        let live = |age, upload_began: Option<u64>| LinkFacts {
            is_condemned: false,
            is_named: false,
            age: hours(age),
            upload_began: upload_began.map(hours),
        };
        let condemned = |age, upload_began| LinkFacts {
            is_condemned: true,
            ..live(age, upload_began)
        };
        let named = |facts| LinkFacts {
            is_named: true,
            ..facts
        };
        for (case, facts, want) in [
            ("young", live(72, None), Keep),
            ("old", live(73, None), Condemn),
            ("old, named by another id", named(live(73, None)), Keep),
            ("old, but not when an upload began", live(80, Some(8)), Keep),
            ("old when an upload began", live(81, Some(8)), Condemn),
            ("condemned", condemned(19, None), Keep),
            ("condemned long ago", condemned(20, None), Remove),
            (
                "condemned, named by another id",
                named(condemned(1, None)),
                Restore,
            ),
            ("an upload began since", condemned(21, Some(5)), Restore),
            (
                "an upload began within W before",
                condemned(21, Some(30)),
                Restore,
            ),
            (
                "an upload began within W after",
                condemned(21, Some(1)),
                Restore,
            ),
            ("an upload began long after", condemned(22, Some(1)), Remove),
        ] {
            assert_eq!(link(facts, &TIMES), want, "{case}");
        }
    }

    #[test]
    fn records() {
        use RecordAction::*;
        let nonce = || "n".to_owned();
        let [live, condemned] = [RecordState::Live, RecordState::Condemned { nonce: nonce() }];
        let [dead, purging] = [
            RecordState::Dead { nonce: nonce() },
            RecordState::Purging { nonce: nonce() },
        ];
        for (case, state, age, want) in [
            ("young", &live, 23, Keep),
            ("old", &live, 24, Condemn),
            ("condemned", &condemned, 19, Keep),
            ("condemned long ago", &condemned, 20, Kill),
            ("dead", &dead, 19, Keep),
            ("dead long ago", &dead, 20, Purge),
            ("purging", &purging, 0, Finish),
        ] {
            assert_eq!(record(state, hours(age), &TIMES), want, "{case}");
        }
    }

    #[test]
    fn layers_that_were_set_to_dead() {
        use DeadAction::*;
        let dead_state = RecordState::Dead {
            nonce: "n".to_owned(),
        };
        for (case, state, has_session, age, want) in [
            ("dead", Some(&dead_state), false, 100, Wait),
            ("not dead yet", Some(&RecordState::Live), false, 19, Wait),
            ("restored", Some(&RecordState::Live), false, 20, Settled),
            ("replaced", None, false, 19, Wait),
            ("replaced long ago", None, false, 20, RemoveData),
            ("a session has the data", None, true, 20, Wait),
        ] {
            assert_eq!(dead(state, has_session, hours(age), &TIMES), want, "{case}");
        }
    }

    #[test]
    fn shares() {
        for (some, all, is_too_many_want) in [
            (10, 10, false),
            (11, 11, true),
            (20, 100, false),
            (21, 100, true),
            (0, 0, false),
        ] {
            assert_eq!(
                is_too_many(some, all, 0.2),
                is_too_many_want,
                "{some} of {all}"
            );
        }
        assert!(!is_too_short(90, 100));
        assert!(is_too_short(89, 100));
        assert!(!is_too_short(200, 100));
    }
}
