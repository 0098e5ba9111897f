//! What clocks and lifecycle rules mean. Pure.

use std::time::Duration;

use crate::s3::doctor::ask::Told;
use crate::s3::doctor::question::Question;
use crate::s3::wire::LifecycleRule;

/// A signature of another time is refused.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
const SIGNED_WITHIN: Duration = Duration::from_secs(15 * 60);
const CLOSE: Duration = Duration::from_secs(60);
/// A rule that ends uploads earlier ends some that are merely slow, in days.
const WEEK: u32 = 7;

pub(in crate::s3::doctor) fn clocks(apart: Duration, is_behind: bool) -> [(Question, Told); 2] {
    let found = match (apart.as_secs(), is_behind) {
        (0, _) => "less than a second apart".to_owned(),
        (seconds, true) => format!("the store's is {seconds} s behind"),
        (seconds, false) => format!("the store's is {seconds} s ahead"),
    };
    [
        (
            Question::ClockSigned,
            (apart < SIGNED_WITHIN, found.clone()),
        ),
        (Question::ClockClose, (apart < CLOSE, found)),
    ]
}

/// Whether a rule is about anything that we keep. What is below `probe/` is of no value.
fn touches(rule: &LifecycleRule, root: &str) -> bool {
    let prefix = rule.prefix.as_str();
    let is_of_probes = prefix.starts_with(&format!("{root}probe/"));
    (root.starts_with(prefix) || prefix.starts_with(root)) && !is_of_probes
}

fn ids<'a>(rules: impl Iterator<Item = &'a LifecycleRule>) -> String {
    let ids: Vec<_> = rules.map(|rule| format!("{:?}", rule.id)).collect();
    ids.join(", ")
}

/// `root` is empty, or ends with a slash. `ends_uploads`: the store is known to do so without a
/// rule.
pub(in crate::s3::doctor) fn lifecycle(
    rules: &[LifecycleRule],
    root: &str,
    ends_uploads: bool,
) -> [(Question, Told); 3] {
    let ours = || rules.iter().filter(|rule| touches(rule, root));
    let deadly = ids(ours().filter(|rule| rule.expires || rule.archives));
    let expires = match (deadly.as_str(), ours().count()) {
        ("", 0) => (true, "no rule touches what is ours".to_owned()),
        ("", _) => (true, "no rule does".to_owned()),
        (deadly, _) => (false, format!("rule {deadly}")),
    };
    let days = ours().filter_map(|rule| rule.aborts_after_days).min();
    let (kept, removed) = match days {
        None if ends_uploads => {
            let itself = "no rule; the store does it by itself";
            ((true, "no rule".to_owned()), (true, itself.to_owned()))
        }
        None => ((true, "no rule".to_owned()), (false, "no rule".to_owned())),
        Some(days) => {
            let after = format!("after {days} days");
            ((days >= WEEK, after.clone()), (true, after))
        }
    };
    [
        (Question::NothingExpires, expires),
        (Question::UploadsKept, kept),
        (Question::StraysRemoved, removed),
    ]
}

/// In a bucket that keeps versions.
pub(in crate::s3::doctor) fn old_versions(rules: &[LifecycleRule], root: &str) -> Told {
    let removing =
        |rule: &&LifecycleRule| rule.removes_old_versions && root.starts_with(rule.prefix.as_str());
    match ids(rules.iter().filter(removing)).as_str() {
        "" => (
            false,
            "versions are kept, and no rule removes them".to_owned(),
        ),
        ids => (true, format!("rule {ids} removes them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, set: impl FnOnce(&mut LifecycleRule)) -> LifecycleRule {
        let mut rule = LifecycleRule {
            id: "r".to_owned(),
            prefix: prefix.to_owned(),
            ..LifecycleRule::default()
        };
        set(&mut rule);
        rule
    }

    #[test]
    fn rules_that_eat_layers_or_uploads() {
        let expires = |rule: &mut LifecycleRule| rule.expires = true;
        let aborts = |days| move |rule: &mut LifecycleRule| rule.aborts_after_days = Some(days);
        for (case, rules, root, want) in [
            ("none", vec![], "", [true, true, false]),
            (
                "all expires",
                vec![rule("", expires)],
                "a/",
                [false, true, false],
            ),
            (
                "ours expires",
                vec![rule("a/", expires)],
                "a/",
                [false, true, false],
            ),
            (
                "the root is within",
                vec![rule("a", expires)],
                "a/b/",
                [false, true, false],
            ),
            (
                "within the root",
                vec![rule("a/data/", expires)],
                "a/",
                [false, true, false],
            ),
            (
                "another's expires",
                vec![rule("logs/", expires)],
                "a/",
                [true, true, false],
            ),
            (
                "a neighbour's",
                vec![rule("a/b/", expires)],
                "a/c/",
                [true, true, false],
            ),
            (
                "probes expire",
                vec![rule("a/probe/", expires)],
                "a/",
                [true, true, false],
            ),
            (
                "archived",
                vec![rule("", |rule| rule.archives = true)],
                "",
                [false, true, false],
            ),
            ("a day", vec![rule("", aborts(1))], "", [true, false, true]),
            ("a week", vec![rule("", aborts(7))], "", [true, true, true]),
            (
                "the shorter one",
                vec![rule("", aborts(30)), rule("", aborts(2))],
                "",
                [true, false, true],
            ),
            (
                "of another root",
                vec![rule("b/", aborts(1))],
                "a/",
                [true, true, false],
            ),
        ] {
            let got = lifecycle(&rules, root, false).map(|(_, (holds, _))| holds);
            assert_eq!(got, want, "{case}");
        }
        let by_itself = lifecycle(&[], "", true).map(|(_, (holds, _))| holds);
        assert_eq!(
            by_itself,
            [true, true, true],
            "the store ends uploads by itself"
        );
    }

    #[test]
    fn old_versions_go_where_a_rule_covers_all_of_the_root() {
        let removes = |rule: &mut LifecycleRule| rule.removes_old_versions = true;
        for (rules, want) in [
            (vec![], false),
            (vec![rule("", removes)], true),
            (vec![rule("a/", removes)], true),
            (vec![rule("a/data/", removes)], false),
            (vec![rule("", |rule| rule.expires = true)], false),
        ] {
            assert_eq!(old_versions(&rules, "a/").0, want, "{rules:?}");
        }
    }

    #[test]
    fn clocks_by_the_quarter_of_an_hour() {
        for (seconds, want) in [
            (0, [true, true]),
            (59, [true, true]),
            (60, [true, false]),
            (899, [true, false]),
            (900, [false, false]),
        ] {
            let got = clocks(Duration::from_secs(seconds), true).map(|(_, (holds, _))| holds);
            assert_eq!(got, want, "{seconds} s");
        }
    }
}
