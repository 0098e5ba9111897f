//! Asks a store what it can do, by trying. Costs some sixty small requests, once for a bucket and
//! root; leaves nothing behind but the profile.
//!
//! [`doctor`](super::doctor) asks the same, and much more, whenever a person wants to know.

use super::config::ConnectError;
use crate::clock;
use crate::error::{Error, Result};
use crate::s3::format::document::{decode, encode};
use crate::s3::format::keys::{Key, Keys};
use crate::s3::format::profile::StoreProfile;
use crate::s3::vendors;
use crate::s3::wire::{Api, ApiError, Condition, ConditionForm, Put, Sought};

mod conditions;
mod multipart;
mod races;

pub(crate) use conditions::{conditional_deletes, conditions};
pub(crate) use multipart::{holds, multipart};
pub(crate) use races::{Race, Rounds, race};

/// Whether a statement holds, and what the store did.
pub(crate) type Told = (bool, String);

/// Few, since each first connect waits for them; `doctor` has more.
const ROUNDS: Rounds = Rounds {
    rounds: 3,
    writers: 3,
};

/// The profile that the bucket holds, or a fresh one, which is then kept there.
///
/// # Errors
///
/// [`ConnectError::NoMultipart`] where no multipart upload can be completed; no profile is kept then.
pub(crate) async fn profile(
    api: &Api,
    keys: &Keys,
) -> std::result::Result<StoreProfile, ConnectError> {
    let key = keys.profile();
    if let Some(found) = api.get_small(&key).await.map_err(Error::from)? {
        return Ok(decode(&key, &found.bytes)?);
    }
    let mut used = Vec::new();
    let probed = probe(api, keys, &mut used).await;
    let batched = api.delete_all(&used, true).await.is_ok();
    if !batched {
        api.delete_all(&used, false).await.map_err(Error::from)?;
    }
    let profile = StoreProfile {
        batch_delete: batched,
        ..probed?
    };
    tracing::info!(?profile, bucket = api.bucket(), "probed the store");
    let api = api.with_conditions(profile.conditions(false));
    let put = api.put_if(&key, encode(&profile)?, Condition::Absent);
    match put.await.map_err(Error::from)? {
        Put::Held(other) => Ok(decode(&key, &other.bytes)?),
        Put::Written(_) | Put::Gone => Ok(profile),
    }
}

/// `used`: keys at which objects are left.
async fn probe(
    api: &Api,
    keys: &Keys,
    used: &mut Vec<Key>,
) -> std::result::Result<StoreProfile, ConnectError> {
    let nonce = clock::new_nonce();
    let mut key = |name: &str| {
        let key = keys.probe(&nonce, name);
        used.push(key.clone());
        key
    };
    let conditions = conditions(api, &key("document"), &key("absent")).await?;
    let mut conditional_writes = conditions.all_hold();
    let conditional = api.with_conditions(conditions.form);
    for (name, kind) in [("create", Race::Create), ("replace", Race::Replace)] {
        if conditional_writes {
            let keys: Vec<Key> = (0..ROUNDS.rounds)
                .map(|round| key(&format!("{name}-{round}")))
                .collect();
            let raced = race(&conditional, |round| keys[round].clone(), kind, ROUNDS).await?;
            conditional_writes = raced.0;
        }
    }
    let conditional_deletes = conditional_deletes(&conditional, &key("removed")).await?;
    let multipart = multipart(api, &key("object")).await?;
    if let Some((false, answer)) = multipart.completes {
        return Err(ConnectError::NoMultipart { answer });
    }
    let known = known(api, keys).await?;
    Ok(StoreProfile {
        conditional_writes,
        conditional_deletes,
        bare_etags: conditions.form == ConditionForm::Bare,
        crc64nvme: multipart.crc64nvme(),
        checks_part_etags: holds(&multipart.refuses_stale_part),
        partial_complete: holds(&multipart.leaves_out_parts),
        ..vendors::expected(known)
    })
}

/// Which store it is, as far as a listing shows.
async fn known(api: &Api, keys: &Keys) -> Result<Option<&'static vendors::Known>> {
    match api
        .list_as(keys.profile().as_str(), &Sought::default())
        .await
    {
        Ok(listed) => Ok(vendors::identify(
            listed.host.as_deref(),
            listed.server.as_deref(),
        )),
        Err(error) if is_answer(&error) || error.storage().is_permission() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the store gave an answer: neither silence nor missing permission.
pub(crate) fn is_answer(error: &ApiError) -> bool {
    let error = error.storage();
    !error.is_retryable() && !error.is_permission()
}
