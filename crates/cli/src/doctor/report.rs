//! An examination, as people and as programs read it.

use serde::Serialize;

use crate::output::{Spent, grouped};
use s3layers::doctor::{Answer, Examination, Finding, Judgement, ProfileKept, Topic, Weight};

/// For programs.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// One question.
    Question(Asked<'a>),
    /// The end.
    Verdict {
        promises_kept: bool,
        broken: Vec<&'static str>,
        costs: Vec<&'static str>,
        store: Option<&'a str>,
        server: Option<&'a str>,
        differences: &'a [String],
        remarks: &'a [&'static str],
        profile: &'static str,
        reads_back: bool,
        left_behind: Option<&'a str>,
        seconds: f64,
        #[serde(flatten)]
        spent: Spent,
    },
}

#[derive(Serialize)]
pub(super) struct Asked<'a> {
    id: &'static str,
    topic: &'static str,
    question: &'static str,
    /// What we promise because of it.
    promise: &'static str,
    /// `yes`, `no`, `unknown` or `not_asked`.
    answer: &'static str,
    found: &'a str,
    /// `fine`, `note`, `costs` or `breaks`.
    weight: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    means: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(super) fn all(examination: &'a Examination) -> impl Iterator<Item = Self> {
        examination.findings.iter().map(|(finding, judged)| Asked {
            id: finding.question.id(),
            topic: topic(finding.question.topic()),
            question: finding.question.text(),
            promise: finding.question.topic().promise(),
            answer: answer(finding.answer),
            found: &finding.found,
            weight: weight(judged.weight),
            means: judged.means,
            change: judged.change.as_deref(),
        })
    }
}

impl<'a> Event<'a> {
    pub(super) fn of(examination: &'a Examination) -> Self {
        let ids = |weight| {
            let findings = examination.of(weight);
            findings.map(|finding| finding.question.id()).collect()
        };
        Event::Verdict {
            promises_kept: examination.keeps_promises(),
            broken: ids(Weight::Breaks),
            costs: ids(Weight::Costs),
            store: examination.store,
            server: examination.server.as_deref(),
            differences: &examination.differences,
            remarks: examination.remarks,
            profile: match examination.kept {
                ProfileKept::First => "first",
                ProfileKept::Same => "same",
                ProfileKept::Replaced => "replaced",
                ProfileKept::Untouched(_) => "untouched",
            },
            reads_back: examination.needs_read_back(),
            left_behind: examination.left_behind.as_deref(),
            seconds: examination.took.as_secs_f64(),
            spent: examination.usage.clone().into(),
        }
    }
}

/// For people: a table by topics, then the verdict.
pub(super) fn lines(examination: &Examination) -> Vec<String> {
    let mut lines = Vec::new();
    let width = examination.findings.iter();
    let width = width.map(|(finding, _)| finding.question.text().chars().count());
    let width = width.max().unwrap_or(0);
    let mut last = None;
    for (finding, judged) in &examination.findings {
        let about = finding.question.topic();
        if last != Some(about) {
            if last.is_some() {
                lines.push(String::new());
            }
            lines.push(format!(
                "{}: {}",
                topic(about).replace('_', " "),
                about.promise()
            ));
            last = Some(about);
        }
        lines.extend(row(finding, judged, width));
    }
    lines.push(String::new());
    lines.extend(end(examination));
    lines
}

fn row(finding: &Finding, judged: &Judgement, width: usize) -> Vec<String> {
    let (text, found) = (finding.question.text(), &finding.found);
    let mark = mark(finding.answer, judged.weight);
    let mut lines = vec![format!("  {mark:<7} {text:<width$}  {found}")];
    if !judged.means.is_empty() {
        lines.push(format!("          {}", judged.means));
    }
    if let Some(change) = &judged.change {
        lines.push(format!("          -> {change}"));
    }
    lines
}

/// What the eye looks for in the first column.
fn mark(answer: Answer, weight: Weight) -> &'static str {
    match (weight, answer) {
        (Weight::Fine, _) => "ok",
        (Weight::Breaks, _) => "BROKEN",
        (Weight::Costs, _) => "costs",
        (Weight::Note, Answer::Unknown) => "unknown",
        (Weight::Note, Answer::NotAsked) => "-",
        (Weight::Note, _) => "note",
    }
}

fn end(examination: &Examination) -> Vec<String> {
    let mut lines = vec![store(examination)];
    let more = examination.differences.iter().map(String::as_str);
    let more = more.chain(examination.remarks.iter().copied());
    lines.extend(more.map(|more| format!("           {more}")));
    if examination.needs_read_back() {
        lines.push(
            "costs      neither checksums nor part ETags are checked: each layer is read back \
             once before it is published"
                .to_owned(),
        );
    }
    lines.push(match &examination.kept {
        ProfileKept::First => "profile    stored in the bucket".to_owned(),
        ProfileKept::Same => "profile    as it was in the bucket".to_owned(),
        ProfileKept::Replaced => {
            "profile    replaced in the bucket; what runs already goes by the old one".to_owned()
        }
        ProfileKept::Untouched(why) => format!("profile    not stored: {why}"),
    });
    if let Some(why) = &examination.left_behind {
        lines.push(format!(
            "left over  something below probe/, to be removed by hand: {why}"
        ));
    }
    let usage = &examination.usage;
    lines.push(format!(
        "cost       {} requests, {} bytes up, {} down, {:.1} s",
        grouped(usage.requests()),
        grouped(usage.bytes_sent),
        grouped(usage.bytes_received),
        examination.took.as_secs_f64(),
    ));
    let broken = examination.of(Weight::Breaks).count();
    let costs = examination.of(Weight::Costs).count();
    lines.push(match (broken, costs) {
        (0, 0) => "verdict    every promise can be kept".to_owned(),
        (0, costs) => {
            format!("verdict    every promise can be kept; {costs} lines above cost more")
        }
        (broken, _) => format!("verdict    not every promise can be kept: {broken} BROKEN above"),
    });
    lines
}

fn store(examination: &Examination) -> String {
    match (examination.store, &examination.server) {
        (Some(name), _) if examination.differences.is_empty() => {
            format!("store      {name}, and as expected of it")
        }
        (Some(name), _) => format!("store      {name}, but not as expected of it:"),
        (None, Some(server)) => format!("store      not known; it calls itself {server:?}"),
        (None, None) => "store      it does not say which it is".to_owned(),
    }
}

fn topic(topic: Topic) -> &'static str {
    match topic {
        Topic::Permissions => "permissions",
        Topic::ConditionalWrites => "conditional_writes",
        Topic::Consistency => "reads_and_lists",
        Topic::Checksums => "checksums",
        Topic::Parts => "parts",
        Topic::Surroundings => "surroundings",
    }
}

fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Unknown => "unknown",
        Answer::NotAsked => "not_asked",
    }
}

fn weight(weight: Weight) -> &'static str {
    match weight {
        Weight::Fine => "fine",
        Weight::Note => "note",
        Weight::Costs => "costs",
        Weight::Breaks => "breaks",
    }
}
