//! What was found, and what follows: which promises cannot be kept, what costs more, and what to
//! change. Pure.

use super::question::{Answer, Finding, Question, Topic};
use crate::s3::format::profile::StoreProfile;

mod rules;

pub(super) use rules::{clocks, lifecycle, old_versions};

/// How much depends on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// As it should be.
    Fine,
    /// Another answer than that of Amazon S3, which is lived with.
    Note,
    /// It is lived with, and costs something.
    Costs,
    /// A promise cannot be kept.
    Breaks,
}

/// What a finding means for our promises.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Judgement {
    /// How much depends on it.
    pub weight: Weight,
    /// What follows; empty where it is fine.
    pub means: &'static str,
    /// What to do about it, where something can be done.
    pub change: Option<String>,
}

/// What has to be known to say what to change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub(super) bucket: &'a str,
    /// Empty, or ends with a slash.
    pub(super) root: &'a str,
    /// Nobody else ever writes below this root.
    pub(super) single_writer: bool,
}

impl Topic {
    /// What we promise because of what is asked.
    pub fn promise(self) -> &'static str {
        match self {
            Topic::Permissions => "every operation is allowed",
            Topic::ConditionalWrites => "two writers are told apart, at most one wins",
            Topic::Consistency => "what was acknowledged is found, by every process",
            Topic::Checksums => "a byte that differs is not published",
            Topic::Parts => "a cut upload goes on at the byte where it was",
            Topic::Surroundings => "nothing is removed behind our back",
        }
    }
}

const ANOTHER_STORE: &str = "use a store with conditional writes (Amazon S3, MinIO, R2), or update this one; a program of \
     your own can declare a single writer";
const NOT_THIS_STORE: &str = "use another store, or ask its makers";

/// What a No means: its weight, what follows, and what to change.
fn no(question: Question) -> (Weight, &'static str, &'static str) {
    use Question as Q;
    use Weight::{Breaks, Costs, Note};
    match question {
        Q::MayPut => (Breaks, "nothing can be stored", ""),
        Q::MayGet => (Breaks, "no layer can be read, and no upload resumed", ""),
        Q::MayDelete => (
            Breaks,
            "finished and cancelled uploads leave objects behind",
            "",
        ),
        Q::MayList => (
            Breaks,
            "an absent object cannot be told from a forbidden one, and nothing is listed or swept",
            "",
        ),
        Q::MayAbort => (
            Breaks,
            "cancelled uploads keep their parts, which are billed",
            "",
        ),
        Q::MayListParts => (Breaks, "no upload with parts can be resumed", ""),
        Q::MayListUploads => (
            Breaks,
            "an upload that was cut while its first part was begun cannot be resumed",
            "",
        ),

        Q::CreateTaken => (
            Breaks,
            "no record and no session can be written",
            ANOTHER_STORE,
        ),
        Q::CreateRefused => (
            Breaks,
            "two uploads of one layer overwrite each other's record",
            ANOTHER_STORE,
        ),
        Q::ReplaceTaken => (Breaks, "no upload can go on", ANOTHER_STORE),
        Q::StaleRefused => (
            Breaks,
            "an upload that another process took over is written on unnoticed, and mixes",
            ANOTHER_STORE,
        ),
        Q::AbsentRefused => (
            Breaks,
            "an upload that was cancelled comes back with its next write",
            ANOTHER_STORE,
        ),
        Q::CreateRace | Q::ReplaceRace => (
            Breaks,
            "two writers can both be told that they won, and mix",
            ANOTHER_STORE,
        ),

        Q::ReadAfterWrite => (
            Breaks,
            "a layer that was just pushed may not be found",
            NOT_THIS_STORE,
        ),
        Q::ReadAfterReplace => (
            Breaks,
            "a resume may read an old state, and lose acknowledged bytes",
            NOT_THIS_STORE,
        ),
        Q::ReadAfterDelete => (
            Breaks,
            "what was removed may be served, and a cancelled upload resumed",
            NOT_THIS_STORE,
        ),
        Q::ListAfterWrite => (
            Costs,
            "a new tag or repository is missing from lists for a while",
            "sweep with an --older-than of days",
        ),
        Q::ListAfterDelete => (
            Costs,
            "a removed tag or repository stays in lists for a while",
            "",
        ),
        Q::ListOrder => (
            Breaks,
            "lists of tags and repositories that come in pages leave some out",
            NOT_THIS_STORE,
        ),
        Q::ListPages => (
            Breaks,
            "sweeps and lists of more than a page leave some out",
            NOT_THIS_STORE,
        ),
        Q::ListLevels => (
            Breaks,
            "the catalog leaves repositories out",
            NOT_THIS_STORE,
        ),
        Q::RangeRead => (Breaks, "no layer can be read", NOT_THIS_STORE),
        Q::ChangedRefused => (
            Note,
            "an object that someone replaced is noticed by its checksums only",
            "",
        ),
        Q::StaleDeleteRefused => (
            Note,
            "each removed tag, manifest and link leaves a tombstone of some hundred bytes",
            "",
        ),
        Q::BatchDelete => (
            Costs,
            "removing an upload takes a request for each object",
            "",
        ),

        Q::ObjectChecksum => (
            Note,
            "a layer below one part is protected on its way by its signed hash alone",
            "",
        ),
        Q::PartChecksum => (
            Note,
            "a part is protected on its way by its signed hash alone",
            "",
        ),
        Q::WholeChecksum => (
            Note,
            "the whole is verified by the ETags of its parts, or by reading it",
            "",
        ),
        Q::ChecksumTold => (
            Note,
            "where the answer to a Complete is lost, the object is read once",
            "",
        ),
        Q::StalePart => (
            Note,
            "a late part of another process is found by the checksum of the whole, or by reading it",
            "",
        ),

        Q::Completes => (
            Breaks,
            "no layer of more than one part can be stored",
            NOT_THIS_STORE,
        ),
        Q::LeavesOutParts => (
            Note,
            "the object of a layer whose upload was cut can have some bytes more",
            "",
        ),
        Q::PartsListed => (Costs, "a resume may take two looks", ""),
        Q::PartsInOrder => (Note, "we sort them", ""),
        Q::PartReplaced => (
            Breaks,
            "an upload that was cut between a part and its record cannot go on",
            NOT_THIS_STORE,
        ),
        Q::UnequalParts => (
            Costs,
            "all parts of an upload get one size, so one of unknown size ends at 156 GiB",
            "",
        ),
        Q::SmallPart => (Note, "none of ours is so small", ""),
        Q::CompleteAgain => (Note, "we look for the object first", ""),
        Q::AbortAgain => (Note, "a cancel may have to be repeated", ""),
        Q::UploadsListed => (
            Costs,
            "a multipart upload whose answer was lost is not found, and is billed until a rule \
             ends it",
            "",
        ),
        Q::UploadsListedBelow => (
            Note,
            "we ask by whole keys; other tools may not see them",
            "",
        ),

        Q::ClockSigned => (
            Breaks,
            "signed requests and URLs are refused as too old or from the future",
            "set the clock of this machine (NTP), or that of the store",
        ),
        Q::ClockClose => (
            Note,
            "ages are told by the store's clock, logs by ours",
            "set the clock of this machine (NTP), or that of the store",
        ),
        Q::NothingExpires => (
            Breaks,
            "layers vanish, or cannot be read, after some days",
            "remove the rule, or limit its prefix to what is not ours",
        ),
        Q::UploadsKept => (
            Costs,
            "an upload that is not finished by then loses its parts",
            "give the rule 7 days or more",
        ),
        Q::StraysRemoved => (
            Note,
            "a multipart upload that nobody can name any more is billed for ever",
            "add a rule AbortIncompleteMultipartUpload with 7 days",
        ),
        Q::OldVersions => (
            Costs,
            "every write of an upload's session is kept, and billed",
            "add a rule NoncurrentVersionExpiration, or suspend versioning",
        ),
    }
}

/// What could not be asked cannot be promised, unless we can do without.
fn unknown(question: Question) -> (Weight, &'static str) {
    match no(question).0 {
        Weight::Breaks if question == Question::NothingExpires => {
            (Weight::Note, "whether a rule removes layers is not known")
        }
        // Amazon S3 and its like all have clocks.
        Weight::Breaks if question == Question::ClockSigned => {
            (Weight::Note, "ages are told by the clock of this machine")
        }
        Weight::Breaks => (Weight::Breaks, "what could not be asked cannot be promised"),
        _ => (Weight::Note, ""),
    }
}

/// How much depends on a question that could not be asked.
pub(super) fn weight_of_unknown(question: Question) -> Weight {
    unknown(question).0
}

/// How much depends on a question whose statement does not hold.
pub(super) fn weight_of_no(question: Question) -> Weight {
    no(question).0
}

pub(super) fn judge(finding: &Finding, setting: Setting<'_>) -> Judgement {
    let question = finding.question;
    let (weight, means, change) = match finding.answer {
        Answer::Yes => (Weight::Fine, "", String::new()),
        Answer::No => {
            let (weight, means, change) = no(question);
            (weight, means, change.to_owned())
        }
        Answer::Unknown => {
            let (weight, means) = unknown(question);
            (weight, means, String::new())
        }
        // The other answer has the weight.
        Answer::NotAsked => (Weight::Note, "", String::new()),
    };
    let is_condition = question.topic() == Topic::ConditionalWrites;
    let weight = match weight {
        Weight::Breaks if is_condition && setting.single_writer => Weight::Costs,
        weight => weight,
    };
    let change = match (question.topic(), finding.answer) {
        (Topic::Permissions, Answer::No) => permit(question, setting),
        _ => change,
    };
    Judgement {
        weight,
        means,
        change: Some(change).filter(|change| !change.is_empty()),
    }
}

/// As a policy of IAM says it.
fn permit(question: Question, setting: Setting<'_>) -> String {
    let Setting { bucket, root, .. } = setting;
    let action = question.text();
    match question {
        Question::MayList | Question::MayListUploads => {
            format!("allow {action} on arn:aws:s3:::{bucket}")
        }
        _ => format!("allow {action} on arn:aws:s3:::{bucket}/{root}*"),
    }
}

/// The profile that the findings make; `None` where not all of it could be asked. `known`: what the
/// findings do not tell.
pub(super) fn profile(findings: &[Finding], known: StoreProfile) -> Option<StoreProfile> {
    let holds = |question| {
        let finding = findings.iter().find(|told| told.question == question)?;
        match finding.answer {
            Answer::Yes => Some(true),
            Answer::No => Some(false),
            Answer::Unknown | Answer::NotAsked => None,
        }
    };
    // One that does not hold decides, whether the others were asked or not.
    let all_hold = |questions: &[Question]| {
        let answers = questions.iter().map(|question| holds(*question));
        let answers: Vec<_> = answers.collect();
        if answers.contains(&Some(false)) {
            return Some(false);
        }
        answers
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(|_| true)
    };
    let questions = Question::ALL.iter().copied();
    let conditions: Vec<_> = questions
        .filter(|question| question.topic() == Topic::ConditionalWrites)
        .collect();
    Some(StoreProfile {
        conditional_writes: all_hold(&conditions)?,
        conditional_deletes: holds(Question::StaleDeleteRefused)?,
        crc64nvme: all_hold(&[Question::PartChecksum, Question::WholeChecksum])?,
        checks_part_etags: holds(Question::StalePart)?,
        equal_parts: !holds(Question::UnequalParts)?,
        partial_complete: holds(Question::LeavesOutParts)?,
        batch_delete: holds(Question::BatchDelete)?,
        ..known
    })
}

#[cfg(test)]
mod tests;
