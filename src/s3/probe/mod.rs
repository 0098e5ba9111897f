//! Asks a store what it can do, by trying. Costs some fifteen small requests, once for a bucket
//! and root; leaves nothing behind but the profile.
//!
//! [`doctor`](super::doctor) asks the same, and much more, whenever a person wants to know.

use super::api::{Api, Condition, Put};
use super::document::{decode, encode};
use super::keys::Keys;
use super::profile::StoreProfile;
use crate::clock;
use crate::error::Result;

mod checksums;
mod conditions;

pub(crate) use checksums::checksums;
pub(crate) use conditions::conditions;

/// The profile that the bucket holds, or a fresh one, which is then kept there.
pub(crate) async fn profile(api: &Api, keys: &Keys) -> Result<StoreProfile> {
    let key = keys.profile();
    if let Some(found) = api.get_small(&key).await? {
        return decode(&key, &found.bytes);
    }
    let profile = probe(api, keys).await?;
    tracing::info!(?profile, bucket = api.bucket(), "probed the store");
    match api
        .put_if(&key, encode(&profile)?, Condition::Absent)
        .await?
    {
        Put::Held(other) => decode(&key, &other.bytes),
        Put::Written(_) | Put::Gone => Ok(profile),
    }
}

async fn probe(api: &Api, keys: &Keys) -> Result<StoreProfile> {
    let nonce = clock::new_nonce();
    let document = keys.probe(&nonce, "document");
    let object = keys.probe(&nonce, "object");
    let conditions = conditions(api, &document, &keys.probe(&nonce, "absent")).await?;
    let checksums = checksums(api, &object).await?;
    let batch_delete = api
        .delete_all(&[document.clone(), object.clone()], true)
        .await
        .is_ok();
    if !batch_delete {
        api.delete_all(&[document, object], false).await?;
    }
    Ok(StoreProfile {
        conditional_writes: conditions.all_hold(),
        crc64nvme: checksums.all_hold(),
        checks_part_etags: checksums.refuses_stale_part,
        batch_delete,
        ..StoreProfile::AWS
    })
}
