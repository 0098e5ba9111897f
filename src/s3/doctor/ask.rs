//! What every question is asked with, and how an answer becomes a finding.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

use super::plan;
use super::question::{Answer, Finding, Question};
use crate::error::{Error, Result};
use crate::s3::format::keys::{Key, Keys};
use crate::s3::wire::{Api, ApiResult, UploadId};

/// Keys of one examination, all below one prefix, and what was found so far.
pub(super) struct Ask<'a> {
    /// With the form of conditions that the store takes, once that is known.
    pub(super) api: Api,
    keys: &'a Keys,
    nonce: &'a str,
    pub(super) findings: Vec<Finding>,
    /// Where something was, or may have been, written.
    used: Mutex<BTreeSet<Key>>,
    begun: Mutex<Vec<(Key, UploadId)>>,
    /// Why questions were left unanswered by the store, each repeated as often as any request is.
    silences: Vec<Error>,
    /// What kept questions from being asked, each with the question that names it.
    causes: Vec<(String, Question)>,
}

pub(super) use crate::s3::probe::Told;

impl<'a> Ask<'a> {
    pub(super) fn new(api: &Api, keys: &'a Keys, nonce: &'a str) -> Self {
        Ask {
            api: api.clone(),
            keys,
            nonce,
            findings: Vec::new(),
            used: Mutex::default(),
            begun: Mutex::default(),
            silences: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// A key to write to.
    pub(super) fn key(&self, name: &str) -> Key {
        let key = self.keys.probe(self.nonce, name);
        locked(&self.used).insert(key.clone());
        key
    }

    /// The keys that were given out.
    pub(super) fn used(&self) -> Vec<Key> {
        locked(&self.used).iter().cloned().collect()
    }

    /// Begins a multipart upload.
    pub(super) async fn begin(&self, key: &Key, checksummed: bool) -> ApiResult<UploadId> {
        let created = self.api.create_multipart(key, checksummed).await?;
        locked(&self.begun).push((key.clone(), created.id.clone()));
        Ok(created.id)
    }

    /// The multipart uploads that were begun.
    pub(super) fn begun(&self) -> Vec<(Key, UploadId)> {
        locked(&self.begun).clone()
    }

    /// What all its keys begin with, and another word.
    pub(super) fn prefix(&self, rest: &str) -> String {
        self.keys.probe(self.nonce, rest).as_str().to_owned()
    }

    pub(super) fn tell(&mut self, question: Question, answer: Answer, found: impl Into<String>) {
        self.findings.push(Finding {
            question,
            answer,
            found: found.into(),
        });
    }

    pub(super) fn tell_whether(&mut self, question: Question, (holds, found): Told) {
        let answer = if holds { Answer::Yes } else { Answer::No };
        self.tell(question, answer, found);
    }

    /// The end of a question: an error means that it could not be asked.
    pub(super) fn end(&mut self, question: Question, told: Result<Told>) {
        match told {
            Ok(told) => self.tell_whether(question, told),
            Err(error) => self.fail(&[question], error),
        }
    }

    /// None of these could be asked, because of one error.
    pub(super) fn fail(&mut self, questions: &[Question], error: Error) {
        self.give_up(questions, &reason(&error));
        if error.is_retryable() {
            self.silences.push(error);
        }
    }

    /// None of these could be asked. The reason is given once, to the question that most depends on.
    pub(super) fn give_up(&mut self, questions: &[Question], why: &str) {
        let weight = |question: &Question| plan::weight_of_unknown(*question);
        let heaviest = questions.iter().map(weight).max();
        let before = self.causes.iter().find(|(cause, _)| cause == why);
        let before = before.map(|(_, question)| *question);
        let before = before.filter(|question| Some(plan::weight_of_no(*question)) >= heaviest);
        let first = questions.iter().copied();
        let mut first = first.filter(|question| Some(weight(question)) == heaviest);
        let Some(cause) = before.or_else(|| first.next()) else {
            return;
        };
        if before.is_none() {
            self.tell(cause, Answer::Unknown, why);
            self.caused(why, cause);
        }
        self.depend(questions, cause);
    }

    /// This question names the reason for which others may not be asked.
    pub(super) fn caused(&mut self, why: &str, question: Question) {
        self.causes.push((why.to_owned(), question));
    }

    /// Those that have no answer yet are not asked, because of another answer.
    pub(super) fn depend(&mut self, questions: &[Question], on: Question) {
        for &question in questions {
            if self.answer_to(question).is_none() {
                let why = format!("not asked; see \"{}\"", on.text());
                self.tell(question, Answer::NotAsked, why);
            }
        }
    }

    /// Of these, those that have no answer yet are not asked, because of the last one that has.
    pub(super) fn leave_out(&mut self, questions: &[Question]) {
        let mut told = questions.iter().rev().copied();
        if let Some(last) = told.find(|question| self.answer_to(*question).is_some()) {
            self.depend(questions, last);
        }
    }

    pub(super) fn holds(&self, question: Question) -> bool {
        self.answer_to(question) == Some(Answer::Yes)
    }

    /// An error where there is no use in asking on.
    pub(super) fn go_on(&mut self) -> Result<()> {
        match self.silences.len() {
            0..=2 => Ok(()),
            _ => self.silences.pop().map_or(Ok(()), Err),
        }
    }

    pub(super) fn answer_to(&self, question: Question) -> Option<Answer> {
        let finding = self.findings.iter().find(|told| told.question == question);
        finding.map(|finding| finding.answer)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Why something could not be asked, on one line: the operation and the answer, or what else went
/// wrong.
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
    match error.contains(&last) {
        true => error,
        false => format!("{error}: {last}"),
    }
}

/// Whether the store gave an answer that an error of ours stands for: neither silence nor missing
/// permission.
pub(super) fn is_answer(error: &Error) -> bool {
    !error.is_retryable() && !error.is_permission()
}

/// The part of a pattern that begins at `from`. Its period divides no size of a part, so a part at
/// another place is seen.
pub(super) fn pattern(size: usize, from: usize) -> Bytes {
    let period: Vec<u8> = (0..251).collect();
    let skipped = from % period.len();
    let whole = period.repeat((skipped + size).div_ceil(period.len()));
    Bytes::from(whole).slice(skipped..skipped + size)
}
