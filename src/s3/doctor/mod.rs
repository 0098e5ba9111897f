//! Examines a store: what it can do, which promises depend on it, and what to change.
//!
//! Every [`Check`] is one statement about the store. It is tried on the real store, below
//! `<root>/probe/<nonce>/`. Each topic has a file; `bench` runs the checks.
//!
//! 1. A check ends with Yes, No, or Unknown and the reason. Silence and missing permission decide
//!    nothing else. A refusal proves something only if the right request is accepted. A check that
//!    depends on a failed one is skipped, and each cause is named once.
//! 2. Nothing is written that could not be removed: without permission to delete or to abort, only
//!    permissions and the environment are checked.
//! 3. Everything that was written is removed, also after `stop`.
//! 4. The profile in the bucket is replaced by the result, if everything that it says is known.
//!
//! The first `connect` to a bucket runs the checks that decide the profile (`probe`).

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use self::check::Bench;
use self::verdict::reason;
use super::config::{ConnectError, S3Config};
use super::vendors;
use crate::error::{Error, Result};
use crate::s3::bucket;
use crate::s3::format::document::encode;
use crate::s3::format::keys::Keys;
use crate::s3::format::profile::StoreProfile;
use crate::s3::wire::{Api, Client, ConditionForm, Listing, Payload};
use crate::telemetry::Usage;

mod check;
mod checksums;
mod conditional_writes;
mod environment;
mod parts;
mod permissions;
mod probe;
mod reads_and_lists;
mod topic;
mod verdict;

pub use check::{Check, Finding};
pub(crate) use probe::profile;
pub use topic::{Answer, Severity, Topic};

/// All checks, in the order in which they run.
pub const TOPICS: [(Topic, &[Check]); 6] = [
    (Topic::Permissions, &permissions::CHECKS),
    (Topic::ConditionalWrites, &conditional_writes::CHECKS),
    (Topic::ReadsAndLists, &reads_and_lists::CHECKS),
    (Topic::Parts, &parts::CHECKS),
    (Topic::Checksums, &checksums::CHECKS),
    (Topic::Environment, &environment::CHECKS),
];

/// Races per check, and writers per race: enough to find a store that loses one race in three.
const RACES: (usize, usize) = (20, 4);

/// What happened to the profile in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileChange {
    /// There was none; it was written.
    Created,
    /// It says the same already.
    Unchanged,
    /// It said something else, and was replaced.
    Replaced,
    /// It could not be read, and was replaced. The times of a collection are the defaults now.
    ReplacedDamaged,
    /// It was not written, for this reason.
    NotWritten(String),
}

/// The result of an examination.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Examination {
    /// A finding for each check of [`TOPICS`].
    pub findings: Vec<Finding>,
    /// The name of the store, if it is known to s3layers.
    pub store: Option<&'static str>,
    /// The name that the store reports.
    pub server: Option<String>,
    /// Differences from what is known of this store, one sentence each.
    pub differences: Vec<String>,
    /// Known properties of this store that cannot be checked.
    pub remarks: &'static [&'static str],
    /// What a service relies on; `None` if not all of it is known.
    pub profile: Option<StoreProfile>,
    /// What happened to the profile in the bucket.
    pub profile_change: ProfileChange,
    /// Why objects may be left below `<root>/probe/`, if they may.
    pub left_behind: Option<String>,
    /// The requests of the examination.
    pub usage: Usage,
    /// The duration of the examination.
    pub elapsed: Duration,
}

impl Examination {
    /// Whether every promise can be kept.
    pub fn keeps_promises(&self) -> bool {
        self.of(Severity::Breaks).next().is_none()
    }

    /// The findings of this severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.severity == severity)
    }

    /// Whether each layer has to be read back before it is published.
    pub fn needs_read_back(&self) -> bool {
        self.profile
            .as_ref()
            .is_some_and(StoreProfile::needs_read_back)
    }
}

/// Examines the store that `config` names, and writes the resulting profile into the bucket, where
/// the next [`connect`](super::S3LayerService::connect) reads it. `None` if `stop` resolved first.
///
/// # Errors
///
/// [`ConnectError`]: a setting out of range; no such bucket, no answer, or no permission at all.
/// Everything else is a finding.
///
/// # Cost
///
/// About 450 requests and 10 MiB up.
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
    let api = Api::new(client, config.bucket.clone(), None);
    let begun = Instant::now();
    let mut bench = Bench::new(&api, &keys, config.single_writer, RACES);
    let examined = tokio::select! {
        biased;
        () = stop => None,
        examined = check_all(&mut bench) => Some(examined),
    };
    let cleaned = bench.clean().await;
    let Some(listing) = examined.transpose()? else {
        cleaned?;
        return Ok(None);
    };
    let vendor = vendors::of(&listing);
    let profile = profile_of(&bench, vendors::expected(vendor));
    let profile_change = match &profile {
        Some(profile) => write_profile(&api, &keys, profile).await,
        None => ProfileChange::NotWritten("not everything that it says is known".to_owned()),
    };
    let differences = match (vendor, &profile) {
        (Some(vendor), Some(profile)) => vendor.differences(profile),
        _ => Vec::new(),
    };
    Ok(Some(Examination {
        findings: bench.findings,
        store: vendor.map(|vendor| vendor.name),
        server: listing.server,
        differences,
        remarks: vendor.map_or(&[], |vendor| vendor.remarks),
        profile,
        profile_change,
        left_behind: cleaned.err().map(|error| reason(&error)),
        usage: api.telemetry().usage(),
        elapsed: begun.elapsed(),
    }))
}

/// Runs all checks. Returns a listing, whose headers say which store it is.
///
/// # Errors
///
/// No such bucket, no answer, or no permission at all.
async fn check_all(bench: &mut Bench) -> Result<Listing> {
    let listing = match bench.listing().await.map_err(Error::from) {
        Ok(listing) => listing,
        Err(Error::Storage(error)) if error.is_no_such_bucket() || error.is_retryable() => {
            return Err(Error::Storage(error));
        }
        Err(_) => Default::default(),
    };
    for (topic, checks) in TOPICS {
        bench.run_all(topic, checks).await?;
        if topic == Topic::Permissions
            && !bench
                .findings
                .iter()
                .any(|found| found.answer == Answer::Yes)
        {
            bench.listing().await?;
        }
    }
    Ok(listing)
}

/// The profile that the findings make; `None` if not all of it is known. `expected`: the values of
/// what was not checked.
fn profile_of(bench: &Bench, expected: StoreProfile) -> Option<StoreProfile> {
    let holds = |id: &str| match bench.answer(id)? {
        Answer::Yes => Some(true),
        Answer::No => Some(false),
        Answer::Unknown | Answer::Skipped => None,
    };
    // One No decides, whether or not the others are known.
    let all_hold = |ids: &mut dyn Iterator<Item = &str>| {
        let answers: Vec<_> = ids.map(holds).collect();
        if answers.contains(&Some(false)) {
            Some(false)
        } else {
            (!answers.contains(&None)).then_some(true)
        }
    };
    Some(StoreProfile {
        conditional_writes: all_hold(&mut conditional_writes::CHECKS.iter().map(|check| check.id))?,
        bare_etags: bench.api.conditions() == ConditionForm::Bare,
        conditional_deletes: holds("conditional_delete")?,
        crc64nvme: all_hold(&mut ["part_checksum", "whole_checksum"].into_iter())?,
        checks_part_etags: holds("part_etag")?,
        equal_parts: match bench.answer("unequal_parts") {
            None => expected.equal_parts,
            Some(_) => !holds("unequal_parts")?,
        },
        partial_complete: holds("partial_complete")?,
        batch_delete: holds("batch_delete")?,
        ..expected
    })
}

/// Writes the profile without a condition: a store may have none.
async fn write_profile(api: &Api, keys: &Keys, profile: &StoreProfile) -> ProfileChange {
    let key = keys.profile();
    let write = async {
        let read = bucket::read::<StoreProfile>(api, &key).await?;
        let stored = read.map(|read| read.document.ok());
        let mut profile = profile.clone();
        if let Some(Some(stored)) = &stored {
            profile.collection = stored.collection;
        }
        if stored.as_ref() == Some(&Some(profile.clone())) {
            return Ok(ProfileChange::Unchanged);
        }
        let payload = Payload::of(&[encode(&profile)?]);
        api.put(&key, &payload, None, None).await?;
        Ok(match stored {
            None => ProfileChange::Created,
            Some(Some(_)) => ProfileChange::Replaced,
            Some(None) => ProfileChange::ReplacedDamaged,
        })
    };
    let written: Result<_> = write.await;
    written.unwrap_or_else(|error| ProfileChange::NotWritten(reason(&error)))
}
