//! What a check is, and what its result means.

use futures_core::future::BoxFuture;
use serde::Serialize;

use super::bench::{Bench, Verdict};

/// A group of checks, and the promise that depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// What the credentials may do.
    Permissions,
    /// Writes that depend on what is stored.
    ConditionalWrites,
    /// Reads and listings of what was just written.
    ReadsAndLists,
    /// Multipart uploads.
    Parts,
    /// What the store verifies.
    Checksums,
    /// The clock, and what the store removes by itself.
    Environment,
}

impl Topic {
    /// What s3layers promises if these checks pass.
    pub fn promise(self) -> &'static str {
        match self {
            Topic::Permissions => "every operation is allowed",
            Topic::ConditionalWrites => "of concurrent writers at most one succeeds",
            Topic::ReadsAndLists => "every process finds what was acknowledged",
            Topic::Parts => "an interrupted upload can be resumed",
            Topic::Checksums => "corrupt bytes are never published",
            Topic::Environment => "the store removes no layer by itself",
        }
    }
}

/// How much depends on a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As expected.
    Ok,
    /// Amazon S3 answers otherwise; s3layers works around it.
    Note,
    /// s3layers works around it at a cost.
    Costs,
    /// A promise is broken.
    Breaks,
}

/// Whether a statement holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It holds.
    Yes,
    /// It does not hold.
    No,
    /// The store gave no answer that decides it.
    Unknown,
    /// Another result makes this check meaningless.
    Skipped,
}

/// One statement about a store, how it is checked, and what follows if it does not hold.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// A stable name for programs.
    pub id: &'static str,
    /// The statement that is checked.
    pub text: &'static str,
    /// How much depends on it.
    #[serde(skip)]
    pub severity: Severity,
    /// What follows if it does not hold.
    #[serde(skip)]
    pub consequence: &'static str,
    /// What to do about it; empty if nothing can be done. `{bucket}` and `{root}` are replaced.
    #[serde(skip)]
    pub remedy: &'static str,
    /// The check that must pass before this one means anything, or empty.
    #[serde(skip)]
    pub(super) needs: &'static str,
    #[serde(skip)]
    pub(super) run: Run,
}

pub(super) type Run = for<'a> fn(&'a mut Bench) -> BoxFuture<'a, Verdict>;

pub(super) const NOT_THIS_STORE: &str = "use another store, or report it to its maintainers";

/// The result of a check.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The group of the check.
    pub topic: Topic,
    /// What was checked.
    #[serde(flatten)]
    pub check: &'static Check,
    /// Whether it holds.
    pub answer: Answer,
    /// The answer of the store, or why there is none.
    pub detail: String,
    /// How much depends on the result.
    pub severity: Severity,
    /// What follows; empty if nothing does.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub consequence: &'static str,
    /// What to do about it, if anything can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// A promise that cannot be checked counts as broken. Many stores do not report rules
    /// and versions, so that is an exception.
    pub(super) fn severity_if_unknown(&self, topic: Topic) -> Severity {
        match self.severity {
            Severity::Breaks if topic != Topic::Environment => Severity::Breaks,
            _ => Severity::Note,
        }
    }

    /// `single_writer`: no other process writes below the root.
    pub(super) fn judge(
        &'static self,
        topic: Topic,
        answer: Answer,
        detail: String,
        single_writer: bool,
    ) -> Finding {
        let is_declared = topic == Topic::ConditionalWrites && single_writer;
        let (severity, consequence, remedy) = match answer {
            Answer::Yes => (Severity::Ok, "", ""),
            Answer::No if is_declared => (
                self.severity,
                "no second process may write below the root",
                "",
            ),
            Answer::No => (self.severity, self.consequence, self.remedy),
            Answer::Unknown => match self.severity_if_unknown(topic) {
                Severity::Breaks => (Severity::Breaks, "counts as broken until it is known", ""),
                severity => (severity, "", ""),
            },
            // The other result has the severity.
            Answer::Skipped => (Severity::Note, "", ""),
        };
        Finding {
            topic,
            check: self,
            answer,
            detail,
            severity: if is_declared {
                severity.min(Severity::Costs)
            } else {
                severity
            },
            consequence,
            remedy: Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::TOPICS;
    use super::*;

    fn all() -> impl Iterator<Item = (Topic, &'static Check)> {
        TOPICS
            .iter()
            .flat_map(|(topic, checks)| checks.iter().map(move |check| (*topic, check)))
    }

    #[test]
    fn ids_are_unique_and_prerequisites_come_first() {
        let mut seen = HashSet::from([""]);
        for (_, check) in all() {
            assert!(seen.contains(check.needs), "{}", check.id);
            assert!(seen.insert(check.id), "{}", check.id);
        }
    }

    #[test]
    fn yes_is_ok_and_no_says_what_follows() {
        for (topic, check) in all() {
            let judge = |answer| check.judge(topic, answer, String::new(), false);
            let yes = judge(Answer::Yes);
            assert_eq!((yes.severity, yes.remedy), (Severity::Ok, None));
            let no = judge(Answer::No);
            assert!(no.severity > Severity::Ok && !no.consequence.is_empty());
            assert!(
                no.severity < Severity::Breaks || no.remedy.is_some(),
                "{}",
                check.id
            );
            assert!(judge(Answer::Unknown).severity > Severity::Ok);
        }
    }

    #[test]
    fn severities() {
        use Answer::{No, Unknown};
        use Severity::{Breaks, Costs, Note};
        for (case, id, answer, single_writer, want) in [
            ("no conditions", "create_conflict", No, false, Breaks),
            ("single writer", "create_conflict", No, true, Costs),
            ("two winners", "replace_race", No, false, Breaks),
            ("no answer", "replace_conflict", Unknown, false, Breaks),
            ("no checksums", "part_checksum", No, false, Note),
            ("no batches", "batch_delete", No, false, Costs),
            ("no answer", "batch_delete", Unknown, false, Note),
            ("wrong clock", "clock", No, false, Breaks),
            ("no clock", "clock", Unknown, false, Note),
            ("expiry", "nothing_expires", No, false, Breaks),
            ("rules unknown", "nothing_expires", Unknown, false, Note),
            (
                "no permission",
                "may_abort_multipart_upload",
                No,
                true,
                Breaks,
            ),
        ] {
            let found = all().find(|(_, check)| check.id == id);
            let (topic, check) = found.unwrap_or_else(|| panic!("{id}"));
            let finding = check.judge(topic, answer, String::new(), single_writer);
            assert_eq!(finding.severity, want, "{case}");
        }
    }
}
