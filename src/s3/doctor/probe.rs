//! The checks that decide the profile, run by the first `connect` to a bucket and root. Costs about
//! ninety small requests, and leaves nothing but the profile.

use super::check::Bench;
use super::topic::{Answer, Topic};
use super::{TOPICS, profile_of};
use crate::error::{Error, Result};
use crate::s3::config::ConnectError;
use crate::s3::format::document::{decode, encode};
use crate::s3::format::keys::Keys;
use crate::s3::format::profile::StoreProfile;
use crate::s3::vendors;
use crate::s3::wire::{Api, Condition, Put};

/// Besides those of conditional writes. Unequal parts would take 10 MiB; see [`vendors`].
const CHECKS: [&str; 7] = [
    "conditional_delete",
    "batch_delete",
    "complete",
    "part_checksum",
    "whole_checksum",
    "part_etag",
    "partial_complete",
];
/// Fewer than an examination has, because each first connect waits for them.
const RACES: (usize, usize) = (3, 3);

/// The profile that the bucket holds, or, unless it must exist, a new one, which is then written there.
///
/// # Errors
///
/// [`ConnectError::Absent`] if it must exist and does not, and [`ConnectError::NoMultipart`] if no
/// multipart upload can be completed; no profile is written then.
pub(crate) async fn profile(
    api: &Api,
    keys: &Keys,
    must_exist: bool,
) -> Result<StoreProfile, ConnectError> {
    let key = keys.profile();
    if let Some(found) = api.get_small(&key).await.map_err(Error::from)? {
        return Ok(decode(&key, &found.bytes)?);
    }
    if must_exist {
        let key = key.to_string();
        return Err(ConnectError::Absent { key });
    }
    let mut bench = Bench::new(api, keys, false, RACES);
    let probed = probe(&mut bench).await;
    let cleaned = bench.clean().await;
    let profile = probed?;
    cleaned?;
    tracing::info!(key = %key, bucket = api.bucket(), "probed the store for its profile");
    let api = api.with_conditions(profile.conditions(false));
    let put = api.put_if(&key, encode(&profile)?, Condition::Absent);
    match put.await.map_err(Error::from)? {
        Put::Held(other) => Ok(decode(&key, &other.bytes)?),
        Put::Written(_) | Put::Gone => Ok(profile),
    }
}

async fn probe(bench: &mut Bench) -> Result<StoreProfile, ConnectError> {
    for (topic, checks) in TOPICS {
        for check in checks {
            if topic == Topic::ConditionalWrites || CHECKS.contains(&check.id) {
                bench.run(topic, check).await?;
            }
        }
    }
    if let Some(found) = bench.finding("complete")
        && found.answer == Answer::No
    {
        let answer = found.detail.clone();
        return Err(ConnectError::NoMultipart { answer });
    }
    let vendor = match bench.listing().await {
        Ok(listing) => vendors::of(&listing),
        Err(error) if error.storage().is_retryable() => return Err(Error::from(error).into()),
        Err(_) => None,
    };
    let key = bench.key("profile");
    let undecided = || Error::damaged(&key, "a check has no result".to_owned());
    Ok(profile_of(bench, vendors::expected(vendor)).ok_or_else(undecided)?)
}
