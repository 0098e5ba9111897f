//! The store's clock, and what the bucket does to objects by itself.

use std::time::{Duration, SystemTime};

use super::ask::Ask;
use super::plan;
use super::question::{Answer, Question};
use crate::clock;
use crate::s3::wire::{Sought, Versioning};

pub(super) async fn clocks(ask: &mut Ask<'_>) {
    let before = clock::now();
    let listed = ask.api.list_as(&ask.prefix(""), &Sought::default()).await;
    let after = clock::now();
    let questions = [Question::ClockSigned, Question::ClockClose];
    match listed.map(|listed| listed.date) {
        Ok(Some(date)) => {
            let (apart, is_behind) = apart(before, after, date);
            for (question, told) in plan::clocks(apart, is_behind) {
                ask.tell_whether(question, told);
            }
        }
        Ok(None) => ask.give_up(&questions, "the store does not tell its time"),
        Err(error) => ask.fail(&questions, error.into()),
    }
}

/// How far the store's clock is from ours, which said `before` and `after` around the request; and
/// whether it is the store that is behind. A `Date` has whole seconds, the rest is cut off.
fn apart(before: SystemTime, after: SystemTime, date: SystemTime) -> (Duration, bool) {
    let end = date + Duration::from_secs(1);
    match (before.duration_since(end), date.duration_since(after)) {
        (Ok(behind), _) => (behind, true),
        (_, Ok(ahead)) => (ahead, false),
        _ => (Duration::ZERO, false),
    }
}

/// `ends_uploads`: the store is known to do so without a rule.
pub(super) async fn rules(ask: &mut Ask<'_>, root: &str, ends_uploads: bool) {
    let rules = match ask.api.lifecycle().await {
        Ok(rules) => {
            for (question, told) in plan::lifecycle(&rules, root, ends_uploads) {
                ask.tell_whether(question, told);
            }
            Some(rules)
        }
        Err(error) => {
            let questions = [
                Question::NothingExpires,
                Question::UploadsKept,
                Question::StraysRemoved,
            ];
            ask.fail(&questions, error.into());
            None
        }
    };
    let kept = Question::OldVersions;
    match (ask.api.versioning().await, rules) {
        (Ok(Versioning::Never), _) => {
            ask.tell(kept, Answer::Yes, "the bucket keeps no versions");
        }
        (Ok(_), Some(rules)) => ask.tell_whether(kept, plan::old_versions(&rules, root)),
        (Ok(_), None) => ask.tell(kept, Answer::Unknown, "versions are kept, rules not told"),
        (Err(error), _) => ask.fail(&[kept], error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_apart_by_what_the_request_cannot_explain() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        for (case, before, after, date, want) in [
            ("the same second", 100_200, 100_300, 100_000, (0, false)),
            ("a slow request", 100_000, 103_000, 102_000, (0, false)),
            ("behind", 100_500, 100_600, 90_000, (9_500, true)),
            ("ahead", 100_500, 100_600, 110_000, (9_400, false)),
        ] {
            let (apart, is_behind) = apart(at(before), at(after), at(date));
            assert_eq!((apart.as_millis() as u64, is_behind), want, "{case}");
        }
    }
}
