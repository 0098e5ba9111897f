//! Runs checks on a store, below `<root>/probe/<nonce>/`, and removes what they wrote.

use std::collections::BTreeSet;
use std::error::Error as StdError;

use bytes::Bytes;

use super::check::{Answer, Check, Finding, Topic};
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

/// How a check ended: the answer that shows that the statement holds, or why there is no such answer.
pub(super) type Verdict = std::result::Result<String, Failure>;

/// Why a check did not pass.
pub(super) enum Failure {
    /// The statement does not hold.
    No(String),
    /// The store does not provide what would decide it.
    Unknown(String),
    /// No answer to a request that the check needs.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::Error(error.into())
    }
}

/// The statement does not hold.
pub(super) fn no(detail: impl Into<String>) -> Verdict {
    Err(Failure::No(detail.into()))
}

/// Whether the statement holds, with the detail for either case.
pub(super) fn holds(is_so: bool, yes: impl Into<String>, other: impl Into<String>) -> Verdict {
    if is_so { Ok(yes.into()) } else { no(other) }
}

/// The result of a request that must be refused: the answer, or a No if it was accepted.
pub(super) fn refused<T>(result: ApiResult<T>) -> Verdict {
    match result {
        Ok(_) => no("accepted"),
        // A Complete whose answer was lost may have taken effect.
        Err(error) if is_answer(&error) && !matches!(error, ApiError::NoSuchUpload(_)) => {
            Ok(error.storage().answer().unwrap_or("refused").to_owned())
        }
        Err(error) => Err(error.into()),
    }
}

/// The result of a request with nothing wrong: a refusal is a No.
pub(super) fn accepted<T>(result: ApiResult<T>) -> std::result::Result<T, Failure> {
    result.map_err(|error| {
        if is_answer(&error) && !matches!(error, ApiError::NoSuchUpload(_)) {
            Failure::No(reason(&error.into()))
        } else {
            error.into()
        }
    })
}

/// Whether the store answered: there was an answer, and it was not a missing permission.
pub(super) fn is_answer(error: &ApiError) -> bool {
    !error.storage().is_retryable() && !error.storage().is_permission()
}

/// An error on one line: the operation and its answer, or the error and its cause.
pub(super) fn reason(error: &Error) -> String {
    if let Error::Storage(storage) = error
        && let Some(answer) = storage.answer()
    {
        return format!("{}: {answer}", storage.operation());
    }
    let mut last: &dyn StdError = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let (error, last) = (error.to_string(), last.to_string());
    if error.ends_with(&last) {
        error
    } else {
        format!("{error}: {last}")
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
        keep_first(&mut outcome, self.api.delete_all(&used, batched).await)?;
        for _ in 0..CLEAN_ROUNDS {
            let left = self.listing().await.unwrap_or_default().keys;
            if left.is_empty() {
                break;
            }
            keep_first(&mut outcome, self.api.delete_all(&left, false).await)?;
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
