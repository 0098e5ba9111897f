#![allow(clippy::unwrap_used)]
use super::*;

const SETTING: Setting<'static> = Setting {
    bucket: "bucket",
    root: "root/",
    single_writer: false,
};

fn finding(question: Question, answer: Answer) -> Finding {
    Finding {
        question,
        answer,
        found: String::new(),
    }
}

fn all(answer: Answer) -> Vec<Finding> {
    let of = |question: &Question| finding(*question, answer);
    Question::ALL.iter().map(of).collect()
}

#[test]
fn a_yes_is_fine_and_asks_for_nothing() {
    for finding in all(Answer::Yes) {
        let judged = judge(&finding, SETTING);
        assert_eq!(judged.weight, Weight::Fine, "{finding:?}");
        assert_eq!(judged.change, None, "{finding:?}");
    }
}

#[test]
fn any_other_answer_says_what_it_means() {
    for finding in [all(Answer::No), all(Answer::Unknown)].concat() {
        let judged = judge(&finding, SETTING);
        assert!(judged.weight > Weight::Fine, "{finding:?}");
        let is_told = !judged.means.is_empty();
        assert!(is_told || finding.answer == Answer::Unknown, "{finding:?}");
        let breaks = judged.weight == Weight::Breaks && finding.answer == Answer::No;
        assert!(!breaks || judged.change.is_some(), "{finding:?}");
    }
}

#[test]
fn judgements() {
    use Answer::{No, Unknown};
    use Question as Q;
    use Weight::{Breaks, Costs, Note};
    let alone = Setting {
        single_writer: true,
        ..SETTING
    };
    for (case, question, answer, setting, want) in [
        ("no conditions", Q::CreateRefused, No, SETTING, Breaks),
        ("one writer needs none", Q::CreateRefused, No, alone, Costs),
        ("two winners", Q::ReplaceRace, No, SETTING, Breaks),
        (
            "unasked conditions",
            Q::StaleRefused,
            Unknown,
            SETTING,
            Breaks,
        ),
        ("no checksums", Q::PartChecksum, No, SETTING, Note),
        ("no batches", Q::BatchDelete, No, SETTING, Costs),
        ("a stale read", Q::ReadAfterReplace, No, SETTING, Breaks),
        ("a stale list", Q::ListAfterWrite, No, SETTING, Costs),
        ("unsorted parts", Q::PartsInOrder, No, SETTING, Note),
        ("equal parts", Q::UnequalParts, No, SETTING, Costs),
        ("an hour apart", Q::ClockSigned, No, SETTING, Breaks),
        ("no time told", Q::ClockSigned, Unknown, SETTING, Note),
        ("layers expire", Q::NothingExpires, No, SETTING, Breaks),
        ("rules not told", Q::NothingExpires, Unknown, SETTING, Note),
        ("no permission", Q::MayAbort, No, alone, Breaks),
    ] {
        let judged = judge(&finding(question, answer), setting);
        assert_eq!(judged.weight, want, "{case}");
    }
}

#[test]
fn a_missing_permission_is_told_as_a_policy_says_it() {
    for (question, want) in [
        (
            Question::MayGet,
            "allow s3:GetObject on arn:aws:s3:::bucket/root/*",
        ),
        (
            Question::MayList,
            "allow s3:ListBucket on arn:aws:s3:::bucket",
        ),
    ] {
        let judged = judge(&finding(question, Answer::No), SETTING);
        assert_eq!(judged.change.as_deref(), Some(want));
    }
}

#[test]
fn the_profile_is_what_was_found() {
    assert_eq!(
        profile(&all(Answer::Yes), StoreProfile::AWS),
        Some(StoreProfile::AWS)
    );
    let with = |question, answer| {
        let mut findings = all(Answer::Yes);
        let at = findings.iter_mut().find(|told| told.question == question);
        at.unwrap().answer = answer;
        profile(&findings, StoreProfile::AWS)
    };
    let aws = || StoreProfile::AWS;
    let lacking = |lacks: fn(&mut StoreProfile)| {
        let mut profile = aws();
        lacks(&mut profile);
        Some(profile)
    };
    for (question, want) in [
        (
            Question::CreateRace,
            lacking(|p| p.conditional_writes = false),
        ),
        (
            Question::AbsentRefused,
            lacking(|p| p.conditional_writes = false),
        ),
        (Question::WholeChecksum, lacking(|p| p.crc64nvme = false)),
        (
            Question::StalePart,
            lacking(|p| p.checks_part_etags = false),
        ),
        (Question::UnequalParts, lacking(|p| p.equal_parts = true)),
        (
            Question::StaleDeleteRefused,
            lacking(|p| p.conditional_deletes = false),
        ),
        (Question::BatchDelete, lacking(|p| p.batch_delete = false)),
        (Question::ClockClose, Some(aws())),
    ] {
        assert_eq!(with(question, Answer::No), want, "{question:?}");
    }
    assert_eq!(with(Question::BatchDelete, Answer::Unknown), None);
    assert_eq!(profile(&[], StoreProfile::AWS), None);
}
