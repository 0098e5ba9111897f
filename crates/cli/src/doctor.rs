//! `doctor`: what the store can do, which promises depend on it, and what to change.

use clap::Args;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::output::{Traffic, grouped};
use super::stop::Stop;
use super::store_url::Absent;
use s3layers::doctor::{Answer, Examination, Finding, ProfileChange, Severity, examine};

/// Check what the store can do
///
/// Tries everything that a push, a pull or a sweep relies on: conditional writes with concurrent
/// writers, listings, checksums, parts, each permission, the clock, lifecycle rules. Writes below
/// probe/ only, about 10 MiB, and removes it again. Then stores the result in the bucket, where every
/// later command reads it; run it again after the store was upgraded or changed. Exits with 1 if a
/// promise cannot be kept.
#[derive(Debug, Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let output = context.output;
        let store_url = &context.store_url;
        let mut stop = Stop::listen(output)?;
        let (client, config) = context.client(Absent::Create).await?;
        output.note(format_args!(
            "checking {store_url}: about 450 requests and 10 MiB"
        ));
        let examined = examine(client, config, stop.requested()).await;
        let Some(examination) = examined.map_err(|error| store_url.unusable(error))? else {
            return Err(
                Failure::new(format!("stopped before {store_url} was checked"))
                    .hint("everything written by the checks was removed; the profile is unchanged"),
            );
        };
        for finding in &examination.findings {
            let promise = finding.topic.promise();
            output.event(&Event::Check { promise, finding })?;
        }
        for line in report(&examination) {
            output.say(line)?;
        }
        output.event(&Event::of(&examination))?;
        if examination.keeps_promises() {
            return Ok(());
        }
        let broken: Vec<_> = texts(&examination, Severity::Breaks, |finding| finding.check.text);
        Err(Failure::new("the store cannot keep every promise")
            .because(Failure::new(format!("failed: {}", broken.join("; ")))))
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Check {
        promise: &'static str,
        #[serde(flatten)]
        finding: &'a Finding,
    },
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
        traffic: Traffic,
    },
}

fn texts(
    examination: &Examination,
    severity: Severity,
    text: fn(&Finding) -> &'static str,
) -> Vec<&'static str> {
    examination.of(severity).map(text).collect()
}

impl<'a> Event<'a> {
    fn of(examination: &'a Examination) -> Self {
        let ids = |severity| texts(examination, severity, |finding| finding.check.id);
        Event::Verdict {
            promises_kept: examination.keeps_promises(),
            broken: ids(Severity::Breaks),
            costs: ids(Severity::Costs),
            store: examination.store,
            server: examination.server.as_deref(),
            differences: &examination.differences,
            remarks: examination.remarks,
            profile: match examination.profile_change {
                ProfileChange::Created => "created",
                ProfileChange::Unchanged => "unchanged",
                ProfileChange::Replaced => "replaced",
                ProfileChange::ReplacedDamaged => "replaced_damaged",
                ProfileChange::NotWritten(_) => "not_written",
            },
            reads_back: examination.needs_read_back(),
            left_behind: examination.left_behind.as_deref(),
            seconds: examination.elapsed.as_secs_f64(),
            traffic: examination.usage.clone().into(),
        }
    }
}

/// A table by topics, then the verdict.
fn report(examination: &Examination) -> Vec<String> {
    let mut lines = Vec::new();
    let widths = examination
        .findings
        .iter()
        .map(|found| found.check.text.len());
    let width = widths.max().unwrap_or(0);
    for topic in examination.findings.chunk_by(|a, b| a.topic == b.topic) {
        lines.push(format!("{}:", topic[0].topic.promise()));
        for finding in topic {
            let (mark, text, detail) = (mark(finding), finding.check.text, &finding.detail);
            lines.push(format!("  {mark:<7} {text:<width$}  {detail}"));
            if !finding.consequence.is_empty() {
                lines.push(format!("          {}", finding.consequence));
            }
            if let Some(remedy) = &finding.remedy {
                lines.push(format!("          -> {remedy}"));
            }
        }
        lines.push(String::new());
    }
    lines.extend(summary(examination));
    lines
}

fn mark(finding: &Finding) -> &'static str {
    match (finding.severity, finding.answer) {
        (Severity::Ok, _) => "ok",
        (Severity::Breaks, _) => "BROKEN",
        (Severity::Costs, _) => "costs",
        (Severity::Note, Answer::Unknown) => "unknown",
        (Severity::Note, Answer::Skipped) => "skipped",
        (Severity::Note, _) => "note",
    }
}

fn summary(examination: &Examination) -> Vec<String> {
    let differs = !examination.differences.is_empty();
    let mut lines = vec![match (examination.store, &examination.server) {
        (Some(name), _) if differs => format!("store      {name}, but not as expected of it:"),
        (Some(name), _) => format!("store      {name}, and as expected of it"),
        (None, Some(server)) => format!("store      unknown; it reports the name {server:?}"),
        (None, None) => "store      unknown; it reports no name".to_owned(),
    }];
    let details = examination.differences.iter().map(String::as_str);
    let details = details.chain(examination.remarks.iter().copied());
    lines.extend(details.map(|detail| format!("           {detail}")));
    if examination.needs_read_back() {
        let why = "the store checks no checksums and no part ETags: each layer is read back before it is published";
        lines.push(format!("costs      {why}"));
    }
    lines.push(match &examination.profile_change {
        ProfileChange::Created => "profile    stored in the bucket".to_owned(),
        ProfileChange::Unchanged => "profile    unchanged in the bucket".to_owned(),
        ProfileChange::Replaced => {
            "profile    replaced in the bucket; running processes still use the old one".to_owned()
        }
        ProfileChange::ReplacedDamaged => {
            "profile    replaced in the bucket, as the old one could not be read: collections have the default times"
                .to_owned()
        }
        ProfileChange::NotWritten(why) => format!("profile    not stored: {why}"),
    });
    if let Some(why) = &examination.left_behind {
        lines.push(format!(
            "left over  objects below probe/; remove them by hand: {why}"
        ));
    }
    let usage = &examination.usage;
    lines.push(format!(
        "cost       {} requests, {} bytes up, {} down, {:.1} s",
        grouped(usage.requests()),
        grouped(usage.bytes_sent),
        grouped(usage.bytes_received),
        examination.elapsed.as_secs_f64(),
    ));
    let count = |severity| examination.of(severity).count();
    lines.push(match (count(Severity::Breaks), count(Severity::Costs)) {
        (0, 0) => "verdict    every promise can be kept".to_owned(),
        (0, costs) => {
            format!("verdict    every promise can be kept: {costs} `costs` above")
        }
        (broken, _) => format!("verdict    not every promise can be kept: {broken} BROKEN above"),
    });
    lines
}
