//! Examines a store: what it can do, what that means for our promises, and what to change.
//!
//! Everything is tried on the real store, below `<root>/probe/<nonce>/`, and removed again. Each
//! group of questions has a file; what an answer means is decided in `plan`, which is pure.
//!
//! 1. A question ends with Yes, No, or Unknown and the reason. Silence and missing permission are
//!    no answers about anything else. A refusal proves something only after the right request was
//!    seen to succeed; what depends on another answer is not asked, and each cause is named once.
//! 2. What cannot be removed again is not written: without permission to delete or to abort, only
//!    permissions and settings are asked about.
//! 3. Whatever happens, and also when it is told to stop, what was written is removed.
//! 4. The profile in the bucket is replaced by what was found, if all of it could be asked.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use self::ask::{Ask, reason};
use self::plan::Setting;
use super::config::{ConnectError, S3Config};
use crate::clock;
use crate::error::{Error, Result};
use crate::s3::format::document::{decode, encode};
use crate::s3::format::keys::Keys;
use crate::s3::format::profile::StoreProfile;
use crate::s3::vendors::{self, Known};
use crate::s3::wire::{Api, Client, ConditionForm};
use crate::telemetry::Usage;

mod ask;
mod clean;
mod consistency;
mod parts;
mod permissions;
mod plan;
mod question;
mod races;
mod surroundings;

pub use plan::{Judgement, Weight};
pub use question::{Answer, Finding, Question, Topic};

/// What became of the profile in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileKept {
    /// There was none.
    First,
    /// It says what was found already.
    Same,
    /// It said something else, or could not be read.
    Replaced,
    /// It is as it was, because of this.
    Untouched(String),
}

/// What was found out about a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Examination {
    /// An answer to each question, in the order of [`Question::ALL`], and what it means.
    pub findings: Vec<(Finding, Judgement)>,
    /// The name of the store, if it is one that is known.
    pub store: Option<&'static str>,
    /// What the store says that it is.
    pub server: Option<String>,
    /// What is known of this store, and was found to be otherwise; one sentence each.
    pub differences: Vec<String>,
    /// What is known of this store and cannot be asked.
    pub remarks: &'static [&'static str],
    /// What a service goes by. `None` where not all of it could be asked.
    pub profile: Option<StoreProfile>,
    /// What became of the profile in the bucket.
    pub kept: ProfileKept,
    /// Why something may be left below `<root>/probe/`, where that is so.
    pub left_behind: Option<String>,
    /// The requests that it took.
    pub usage: Usage,
    /// How long it took.
    pub took: Duration,
}

impl Examination {
    /// Whether every promise can be kept.
    pub fn keeps_promises(&self) -> bool {
        self.of(Weight::Breaks).next().is_none()
    }

    /// The findings of this weight.
    pub fn of(&self, weight: Weight) -> impl Iterator<Item = &Finding> {
        let findings = self.findings.iter();
        findings.filter_map(move |(finding, judged)| (judged.weight == weight).then_some(finding))
    }

    /// Whether each layer has to be read back before it is published.
    pub fn needs_read_back(&self) -> bool {
        self.profile
            .as_ref()
            .is_some_and(StoreProfile::needs_read_back)
    }
}

/// Examines the store that `config` names, and keeps the profile that was found in the bucket, where
/// the next [`connect`](super::S3LayerService::connect) goes by it. A store that no service would
/// use can be examined too. `None` where `stop` resolved first.
///
/// # Errors
///
/// [`ConnectError`]: a setting out of range; the bucket is not there, the store does not answer, or
/// nothing at all is allowed. All else is a finding.
///
/// # Cost
///
/// Some 550 requests and 10 MiB up.
///
/// # Cancellation
///
/// Leaves objects and multipart uploads below `<root>/probe/`; resolve `stop` instead.
pub async fn examine(
    client: Client,
    config: S3Config,
    stop: impl Future<Output = ()>,
) -> Result<Option<Examination>, ConnectError> {
    config.check()?;
    let keys = Keys::new(&config.root);
    let root = match config.root.as_str() {
        "" => String::new(),
        root => format!("{root}/"),
    };
    let setting = Setting {
        bucket: &config.bucket,
        root: &root,
        single_writer: config.single_writer,
    };
    let api = Api::new(client, config.bucket.clone(), None);
    let begun = Instant::now();
    let nonce = clock::new_nonce();
    let mut ask = Ask::new(&api, &keys, &nonce);
    let examined = tokio::select! {
        biased;
        () = stop => None,
        examined = ask_all(&mut ask, &root) => Some(examined),
    };
    let cleaned = clean::clean(&ask).await;
    let Some(known) = examined.transpose()? else {
        // Nobody would be told otherwise.
        return Ok(cleaned.map(|()| None)?);
    };
    let left_behind = cleaned.err().map(|error| reason(&error));
    let findings = std::mem::take(&mut ask.findings);
    let known = &known;
    let expected = StoreProfile {
        bare_etags: ask.api.conditions() == ConditionForm::Bare,
        ..vendors::expected(known.known)
    };
    let profile = plan::profile(&findings, expected);
    let kept = match &profile {
        Some(profile) => keep(&api, &keys, profile).await,
        None => ProfileKept::Untouched("not all that it says could be asked".to_owned()),
    };
    let Seen { server, known } = known.clone();
    let differences = match (known, &profile) {
        (Some(known), Some(profile)) => known.differences(profile),
        _ => Vec::new(),
    };
    let in_order = Question::ALL.iter().filter_map(|question| {
        let finding = findings.iter().find(|told| told.question == *question)?;
        Some((finding.clone(), plan::judge(finding, setting)))
    });
    Ok(Some(Examination {
        findings: in_order.collect(),
        store: known.map(|known| known.name),
        server,
        differences,
        remarks: known.map_or(&[], |known| known.remarks),
        profile,
        kept,
        left_behind,
        usage: api.telemetry().usage(),
        took: begun.elapsed(),
    }))
}

/// Who the store says that it is.
#[derive(Clone)]
struct Seen {
    server: Option<String>,
    known: Option<&'static Known>,
}

/// Asks all questions.
///
/// # Errors
///
/// Where there is no use in asking on.
async fn ask_all(ask: &mut Ask<'_>, root: &str) -> Result<Seen> {
    let listed = permissions::permissions(ask).await?;
    let server = listed.server;
    let known = vendors::identify(listed.host.as_deref(), server.as_deref());
    let missing = [Question::MayDelete, Question::MayAbort];
    let missing = missing
        .into_iter()
        .find(|question| ask.answer_to(*question) != Some(Answer::Yes));
    match missing {
        None => {
            races::conditional_writes(ask).await;
            ask.go_on()?;
            consistency::consistency(ask).await;
            ask.go_on()?;
            parts::parts(ask).await;
            ask.go_on()?;
            consistency::range_of_small(ask).await;
        }
        Some(missing) => {
            let questions = Question::ALL.iter().copied();
            let is_asked = [Topic::Permissions, Topic::Surroundings];
            let others: Vec<_> = questions
                .filter(|question| !is_asked.contains(&question.topic()))
                .collect();
            ask.depend(&others, missing);
        }
    }
    surroundings::clocks(ask).await;
    let ends_uploads = known.is_some_and(|known| known.ends_uploads);
    surroundings::rules(ask, root, ends_uploads).await;
    ask.go_on()?;
    Ok(Seen { server, known })
}

/// Replaces the profile in the bucket. A store that ignores conditions has no use for one here.
async fn keep(api: &Api, keys: &Keys, profile: &StoreProfile) -> ProfileKept {
    let key = keys.profile();
    let kept = async {
        let found = api.get_small(&key).await?;
        let stands = match found.map(|found| decode::<StoreProfile>(&key, &found.bytes)) {
            Some(Err(newer @ Error::NewerVersion { .. })) => return Err(newer),
            stands => stands.map(Result::ok),
        };
        if stands.as_ref() == Some(&Some(profile.clone())) {
            return Ok(ProfileKept::Same);
        }
        api.put(&key, &[encode(profile)?], None, None).await?;
        Ok(match stands {
            None => ProfileKept::First,
            Some(_) => ProfileKept::Replaced,
        })
    };
    let kept: Result<_> = kept.await;
    kept.unwrap_or_else(|error| ProfileKept::Untouched(reason(&error)))
}
