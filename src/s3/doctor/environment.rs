//! The clock of the store, and what the bucket removes by itself.

use std::time::{Duration, SystemTime};

use super::check::{Bench, Check};
use super::topic::Severity;
use super::verdict::{Failure, Verdict, no};
use crate::clock;
use crate::s3::vendors;
use crate::s3::wire::{LifecycleRule, Versioning};

pub(super) const CHECKS: [Check; 5] = [
    Check {
        id: "clock",
        text: "clocks are close enough for signatures",
        severity: Severity::Breaks,
        consequence: "signed requests and URLs are refused as too old or from the future",
        remedy: "set the clock of this machine (NTP), or that of the store",
        needs: "",
        run: |bench| Box::pin(clocks(bench)),
    },
    Check {
        id: "nothing_expires",
        text: "no rule removes or archives layers",
        severity: Severity::Breaks,
        consequence: "layers vanish, or cannot be read, after some days",
        remedy: "remove the rule, or limit its prefix to other keys than {root}*",
        needs: "",
        run: |bench| Box::pin(async { no_expiry(&bench.api.lifecycle().await?, &bench.root()) }),
    },
    Check {
        id: "uploads_kept",
        text: "no rule aborts uploads within a week",
        severity: Severity::Costs,
        consequence: "an upload that is not finished by then loses its parts",
        remedy: "give the rule 7 days or more",
        needs: "",
        run: |bench| Box::pin(async { uploads_kept(&bench.api.lifecycle().await?, &bench.root()) }),
    },
    Check {
        id: "uploads_cleaned",
        text: "a rule aborts forgotten uploads",
        severity: Severity::Note,
        consequence: "multipart uploads that no session names are billed permanently",
        remedy: "add a rule AbortIncompleteMultipartUpload with 7 days",
        needs: "",
        run: |bench| Box::pin(uploads_cleaned(bench)),
    },
    Check {
        id: "old_versions",
        text: "replaced objects are removed",
        severity: Severity::Costs,
        consequence: "every write of an upload's session is kept, and billed",
        remedy: "add a rule NoncurrentVersionExpiration, or suspend versioning; Object Lock keeps versions until their date",
        needs: "",
        run: |bench| Box::pin(old_versions(bench)),
    },
];

/// A signature of another time is refused.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
const SIGNED_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Days after which a rule may abort an upload: earlier, it aborts some that are merely slow.
const WEEK: u32 = 7;

async fn clocks(bench: &mut Bench) -> Verdict {
    let before = clock::now();
    let listed = bench.listing().await?;
    let after = clock::now();
    let Some(date) = listed.date else {
        let detail = "the store does not report its time";
        return Err(Failure::Unknown(detail.to_owned()));
    };
    let (skew, is_behind) = skew(before, after, date);
    let detail = match (skew.as_secs(), is_behind) {
        (0, _) => "less than a second apart".to_owned(),
        (seconds, true) => format!("the store's is {seconds} s behind"),
        (seconds, false) => format!("the store's is {seconds} s ahead"),
    };
    if skew < SIGNED_WITHIN {
        Ok(detail)
    } else {
        no(detail)
    }
}

/// The difference of the store's clock from ours, which showed `before` and `after` around the
/// request, and whether the store is behind. A `Date` has whole seconds, rounded down.
fn skew(before: SystemTime, after: SystemTime, date: SystemTime) -> (Duration, bool) {
    let end = date + Duration::from_secs(1);
    match (before.duration_since(end), date.duration_since(after)) {
        (Ok(behind), _) => (behind, true),
        (_, Ok(ahead)) => (ahead, false),
        _ => (Duration::ZERO, false),
    }
}

/// The rules that affect objects below `root`, which is empty or ends with a slash. Objects below
/// `probe/` have no value.
fn relevant<'a>(
    rules: &'a [LifecycleRule],
    root: &'a str,
) -> impl Iterator<Item = &'a LifecycleRule> {
    rules.iter().filter(move |rule| {
        let prefix = rule.prefix.as_str();
        let is_of_probes = prefix.starts_with(&format!("{root}probe/"));
        (root.starts_with(prefix) || prefix.starts_with(root)) && !is_of_probes
    })
}

fn ids<'a>(rules: impl Iterator<Item = &'a LifecycleRule>) -> String {
    let ids: Vec<_> = rules.map(|rule| format!("{:?}", rule.id)).collect();
    ids.join(", ")
}

fn no_expiry(rules: &[LifecycleRule], root: &str) -> Verdict {
    let expiring = relevant(rules, root).filter(|rule| rule.expires || rule.archives);
    match ids(expiring).as_str() {
        "" => Ok("no rule does".to_owned()),
        ids => no(format!("rule {ids}")),
    }
}

/// The days after which a rule aborts uploads.
fn abort_days(rules: &[LifecycleRule], root: &str) -> Option<u32> {
    relevant(rules, root)
        .filter_map(|rule| rule.aborts_after_days)
        .min()
}

fn uploads_kept(rules: &[LifecycleRule], root: &str) -> Verdict {
    match abort_days(rules, root) {
        Some(days) if days < WEEK => no(format!("after {days} days")),
        Some(days) => Ok(format!("after {days} days")),
        None => Ok("no rule".to_owned()),
    }
}

async fn uploads_cleaned(bench: &mut Bench) -> Verdict {
    let rules = bench.api.lifecycle().await?;
    match abort_days(&rules, &bench.root()) {
        Some(days) => Ok(format!("after {days} days")),
        None if vendors::of(&bench.listing().await?).is_some_and(|vendor| vendor.ends_uploads) => {
            Ok("no rule; the store does it by itself".to_owned())
        }
        None => no("no rule"),
    }
}

async fn old_versions(bench: &mut Bench) -> Verdict {
    if bench.api.versioning().await? == Versioning::Never {
        return Ok("the bucket keeps no versions".to_owned());
    }
    versions_removed(&bench.api.lifecycle().await?, &bench.root())
}

/// In a bucket that keeps versions.
fn versions_removed(rules: &[LifecycleRule], root: &str) -> Verdict {
    let removing = rules
        .iter()
        .filter(|rule| rule.removes_old_versions && root.starts_with(rule.prefix.as_str()));
    match ids(removing).as_str() {
        "" => no("versions are kept, and no rule removes them"),
        ids => Ok(format!("rule {ids} removes them")),
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
    fn rules_that_remove_layers_or_uploads() {
        let expires = |prefix| vec![rule(prefix, |rule| rule.expires = true)];
        let aborts = |prefix, days| rule(prefix, |rule| rule.aborts_after_days = Some(days));
        for (case, rules, root, want) in [
            ("none", vec![], "", (true, true, None)),
            ("all expires", expires(""), "a/", (false, true, None)),
            ("the root expires", expires("a/"), "a/", (false, true, None)),
            (
                "the root is within",
                expires("a"),
                "a/b/",
                (false, true, None),
            ),
            (
                "within the root",
                expires("a/data/"),
                "a/",
                (false, true, None),
            ),
            (
                "another root expires",
                expires("logs/"),
                "a/",
                (true, true, None),
            ),
            (
                "a neighbour expires",
                expires("a/b/"),
                "a/c/",
                (true, true, None),
            ),
            (
                "probes expire",
                expires("a/probe/"),
                "a/",
                (true, true, None),
            ),
            (
                "archived",
                vec![rule("", |rule| rule.archives = true)],
                "",
                (false, true, None),
            ),
            ("a day", vec![aborts("", 1)], "", (true, false, Some(1))),
            ("a week", vec![aborts("", 7)], "", (true, true, Some(7))),
            (
                "the shorter one",
                vec![aborts("", 30), aborts("", 2)],
                "",
                (true, false, Some(2)),
            ),
            (
                "of another root",
                vec![aborts("b/", 1)],
                "a/",
                (true, true, None),
            ),
        ] {
            let kept = no_expiry(&rules, root).is_ok();
            let uploads = uploads_kept(&rules, root).is_ok();
            assert_eq!((kept, uploads, abort_days(&rules, root)), want, "{case}");
        }
    }

    #[test]
    fn old_versions_are_removed_by_a_rule_for_all_of_the_root() {
        let removes = |prefix| vec![rule(prefix, |rule| rule.removes_old_versions = true)];
        for (rules, want) in [
            (vec![], false),
            (removes(""), true),
            (removes("a/"), true),
            (removes("a/data/"), false),
            (vec![rule("", |rule| rule.expires = true)], false),
        ] {
            assert_eq!(versions_removed(&rules, "a/").is_ok(), want, "{rules:?}");
        }
    }

    #[test]
    fn skew_is_what_the_request_cannot_explain() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        for (case, before, after, date, want) in [
            ("the same second", 100_200, 100_300, 100_000, (0, false)),
            ("a slow request", 100_000, 103_000, 102_000, (0, false)),
            ("behind", 100_500, 100_600, 90_000, (9_500, true)),
            ("ahead", 100_500, 100_600, 110_000, (9_400, false)),
        ] {
            let (skew, is_behind) = skew(at(before), at(after), at(date));
            assert_eq!((skew.as_millis() as u64, is_behind), want, "{case}");
        }
    }
}
