//! A check, the store that it runs on, and what its result means. What checks write below
//! `<root>/probe/<nonce>/` is removed.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use serde::Serialize;

use super::topic::{Answer, Severity, Topic};
use super::verdict::{Failure, Verdict, reason};
use crate::clock;
use crate::error::{Error, Result};
use crate::s3::format::checksum::Crc64;
use crate::s3::format::keys::{Key, Keys};
use crate::s3::wire::{
    Api, ApiError, ApiResult, CompletePart, ETag, Gauge, Listing, Payload, Sought, UploadId,
};

/// Without these permissions nothing is written, because it could not be removed.
const CLEANING: [&str; 2] = ["may_delete_object", "may_abort_multipart_upload"];
/// How many checks may end without an answer before the store counts as unreachable.
const MAX_SILENCES: usize = 3;
/// How often what is left is listed and removed: a listing may lag.
const CLEAN_ROUNDS: usize = 5;

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

/// The store under examination, the keys that were used, and the findings so far.
pub(super) struct Bench {
    /// With the form of conditions that the store accepts, once that is known.
    pub(super) api: Api,
    keys: Keys,
    nonce: String,
    single_writer: bool,
    /// Races per check, and writers per race.
    pub(super) races: (usize, usize),
    pub(super) findings: Vec<Finding>,
    /// The upload with which permissions are checked, once it is completed.
    pub(super) permitted: Option<Upload>,
    silences: usize,
    used: BTreeSet<Key>,
    uploads: Vec<(Key, UploadId)>,
    /// Keys at which an upload may exist whose id is not known.
    unclear: BTreeSet<Key>,
}

impl Bench {
    pub(super) fn new(api: &Api, keys: &Keys, single_writer: bool, races: (usize, usize)) -> Self {
        Bench {
            api: api.clone(),
            keys: keys.clone(),
            nonce: clock::new_nonce(),
            single_writer,
            races,
            findings: Vec::new(),
            permitted: None,
            silences: 0,
            used: BTreeSet::new(),
            uploads: Vec::new(),
            unclear: BTreeSet::new(),
        }
    }

    /// Runs one check and records the finding. An error that is returned is recorded as well.
    pub(super) async fn run(&mut self, topic: Topic, check: &'static Check) -> Result<()> {
        let needs_cleaning = !matches!(topic, Topic::Permissions | Topic::Environment);
        let unmet = CLEANING
            .into_iter()
            .filter(|_| needs_cleaning)
            .chain([check.needs])
            .find_map(|id| self.finding(id).filter(|found| found.answer != Answer::Yes));
        let (answer, detail, outcome) = if let Some(unmet) = unmet {
            // What is skipped names the first cause already.
            let detail = match unmet.answer {
                Answer::Skipped => unmet.detail.clone(),
                _ => see(unmet),
            };
            (Answer::Skipped, detail, Ok(()))
        } else {
            match (check.run)(self).await {
                Ok(detail) => (Answer::Yes, detail, Ok(())),
                Err(Failure::No(detail)) => (Answer::No, detail, Ok(())),
                Err(Failure::Unknown(detail)) => (Answer::Unknown, detail, Ok(())),
                Err(Failure::Error(error)) => {
                    let (answer, detail) = self.unanswered(topic, check, &error);
                    (answer, detail, Err(error))
                }
            }
        };
        let mut finding = check.judge(topic, answer, detail, self.single_writer);
        finding.remedy = finding.remedy.map(|remedy| {
            let remedy = remedy.replace("{bucket}", self.api.bucket());
            remedy.replace("{root}", &self.root())
        });
        self.findings.push(finding);
        outcome
    }

    /// Each cause is named once, unless more depends on this check than on the one that named it.
    fn unanswered(&self, topic: Topic, check: &Check, error: &Error) -> (Answer, String) {
        let why = reason(error);
        let is_named = |finding: &&Finding| {
            finding.severity >= check.severity_if_unknown(topic)
                && finding.detail.split(", ").any(|cause| cause == why)
        };
        match self.findings.iter().find(is_named) {
            Some(named) => (Answer::Skipped, see(named)),
            None => (Answer::Unknown, why),
        }
    }

    /// Runs all checks of a topic.
    ///
    /// # Errors
    ///
    /// The third time that the store gives no answer.
    pub(super) async fn run_all(&mut self, topic: Topic, checks: &'static [Check]) -> Result<()> {
        for check in checks {
            if let Err(error) = self.run(topic, check).await
                && error.is_retryable()
            {
                self.silences += 1;
                if self.silences == MAX_SILENCES {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    pub(super) fn finding(&self, id: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check.id == id)
    }

    pub(super) fn answer(&self, id: &str) -> Option<Answer> {
        self.finding(id).map(|finding| finding.answer)
    }

    /// A key to write to; it is removed at the end.
    pub(super) fn key(&mut self, name: &str) -> Key {
        let key = self.keys.probe(&self.nonce, name);
        self.used.insert(key.clone());
        key
    }

    /// The prefix of all keys, and `rest`.
    pub(super) fn prefix(&self, rest: &str) -> String {
        self.keys.probe(&self.nonce, rest).as_str().to_owned()
    }

    /// The prefix of the service: empty, or with a slash at its end.
    pub(super) fn root(&self) -> String {
        let profile = self.keys.profile();
        let path = profile.as_str();
        path.strip_suffix("profile").unwrap_or(path).to_owned()
    }

    /// A listing of the bucket, with what its headers say about the store.
    pub(super) async fn listing(&self) -> ApiResult<Listing> {
        self.api.list_as(&self.prefix(""), &Sought::default()).await
    }

    /// Writes an object without a condition.
    pub(super) async fn put(&self, key: &Key, bytes: &'static [u8]) -> ApiResult<ETag> {
        let payload = Payload::of(&[Bytes::from_static(bytes)]);
        self.api.put(key, &payload, None, None).await
    }

    /// Begins a multipart upload; it is aborted at the end.
    pub(super) async fn begin(&mut self, name: &str, checksummed: bool) -> ApiResult<Upload> {
        let key = self.key(name);
        self.unclear.insert(key.clone());
        let created = match self.api.create_multipart(&key, checksummed).await {
            Err(refused @ ApiError::NotImplemented(_)) => {
                self.unclear.remove(&key);
                return Err(refused);
            }
            created => created?,
        };
        if !created.repeated {
            self.unclear.remove(&key);
        }
        let id = created.id;
        self.uploads.push((key.clone(), id.clone()));
        Ok(Upload {
            api: self.api.clone(),
            key,
            id,
            checksummed,
        })
    }

    /// Removes everything that the checks wrote, and what a listing shows besides.
    ///
    /// # Errors
    ///
    /// The first failure; everything else was tried, unless the store does not answer.
    pub(super) async fn clean(&self) -> Result<()> {
        let mut outcome = Ok(());
        if self.used.is_empty() {
            return outcome;
        }
        for (key, id) in &self.uploads {
            keep_first(&mut outcome, self.api.abort_multipart(key, id).await)?;
        }
        // A missing permission is a finding already.
        if self.answer("may_list_bucket_multipart_uploads") != Some(Answer::No) {
            for key in &self.unclear {
                keep_first(&mut outcome, self.api.abort_all(key).await)?;
            }
        }
        let batched = self.answer("batch_delete") == Some(Answer::Yes);
        let used: Vec<_> = self.used.iter().cloned().collect();
        keep_first(
            &mut outcome,
            self.api.delete_all(&used, batched, None).await,
        )?;
        for _ in 0..CLEAN_ROUNDS {
            let left = self.listing().await.unwrap_or_default().keys;
            if left.is_empty() {
                break;
            }
            keep_first(&mut outcome, self.api.delete_all(&left, false, None).await)?;
        }
        outcome
    }
}

fn see(finding: &Finding) -> String {
    format!("see \"{}\"", finding.check.text)
}

/// Keeps the first failure, and returns one that shows that the store does not answer.
fn keep_first(outcome: &mut Result<()>, next: ApiResult<()>) -> Result<()> {
    match next.map_err(Error::from) {
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) if outcome.is_ok() => *outcome = Err(error),
        _ => {}
    }
    Ok(())
}

/// A multipart upload of a check.
pub(super) struct Upload {
    pub(super) api: Api,
    pub(super) key: Key,
    pub(super) id: UploadId,
    checksummed: bool,
}

impl Upload {
    /// Sends a part with its right checksum.
    pub(super) async fn part(
        &self,
        number: u32,
        bytes: impl Into<Bytes>,
    ) -> ApiResult<CompletePart> {
        let bytes = bytes.into();
        let crc64 = Crc64::of(&bytes);
        self.part_as(number, bytes, crc64).await
    }

    /// Sends a part with this checksum, if the upload has checksums.
    pub(super) async fn part_as(
        &self,
        number: u32,
        bytes: impl Into<Bytes>,
        crc64: Crc64,
    ) -> ApiResult<CompletePart> {
        let payload = Payload::of(&[bytes.into()]);
        let sum = self.checksummed.then_some(crc64);
        let (api, gauge) = (&self.api, Gauge::default());
        let sent = api.upload_gauged_part(&self.key, &self.id, number, &payload, sum, &gauge);
        Ok(CompletePart {
            number,
            etag: sent.await?,
            crc64,
        })
    }

    /// Completes the object with the checksum of these parts.
    pub(super) async fn complete(&self, parts: &[CompletePart]) -> ApiResult<ETag> {
        let whole = parts
            .iter()
            .fold(Crc64::of(b""), |whole, part| whole.then(part.crc64));
        self.complete_as(parts, whole).await
    }

    /// Completes the object with this checksum, if the upload has checksums.
    pub(super) async fn complete_as(
        &self,
        parts: &[CompletePart],
        whole: Crc64,
    ) -> ApiResult<ETag> {
        let whole = self.checksummed.then_some(whole);
        let completed = self.api.complete_counted(&self.key, &self.id, parts, whole);
        Ok(completed.await?.0)
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
