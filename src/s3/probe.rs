//! Asks a store what it can do, by trying. Costs some fifteen small requests, once for a bucket
//! and root; leaves nothing behind but the profile.

use bytes::Bytes;

use super::api::{Api, ApiError, CompletePart, Condition, Put, UploadId};
use super::checksum::Crc64;
use super::document::{decode, encode};
use super::keys::{Key, Keys};
use super::profile::StoreProfile;
use crate::clock;
use crate::error::Result;

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
    let conditional_writes = holds_conditions(api, &document, keys.probe(&nonce, "absent")).await?;
    let (crc64nvme, checks_part_etags) = holds_checksums(api, &object).await?;
    let batch_delete = api
        .delete_all(&[document.clone(), object.clone()], true)
        .await
        .is_ok();
    if !batch_delete {
        api.delete_all(&[document, object], false).await?;
    }
    Ok(StoreProfile {
        conditional_writes,
        crc64nvme,
        checks_part_etags,
        batch_delete,
        ..StoreProfile::AWS
    })
}

/// Whether a conditional write is refused when it has to be.
async fn holds_conditions(api: &Api, key: &Key, absent: Key) -> Result<bool> {
    let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    let Put::Written(first) = api.put_if(key, one.clone(), Condition::Absent).await? else {
        return Ok(false);
    };
    let refuses_present = matches!(
        api.put_if(key, two.clone(), Condition::Absent).await?,
        Put::Held(_)
    );
    let replaces = matches!(
        api.put_if(key, two.clone(), Condition::Matches(&first))
            .await?,
        Put::Written(_)
    );
    let refuses_stale = matches!(
        api.put_if(key, one.clone(), Condition::Matches(&first))
            .await?,
        Put::Held(_)
    );
    // Older MinIO lets If-Match on an absent key succeed.
    let refuses_absent = matches!(
        api.put_if(&absent, one, Condition::Matches(&first)).await?,
        Put::Gone
    );
    if !refuses_absent {
        api.delete(&absent).await?;
    }
    Ok(refuses_present && replaces && refuses_stale && refuses_absent)
}

/// Whether wrong part checksums and wrong whole ones are refused, and whether wrong part ETags
/// are.
async fn holds_checksums(api: &Api, key: &Key) -> Result<(bool, bool)> {
    let bytes = [Bytes::from_static(b"some bytes")];
    let (right, wrong) = (Crc64::of(b"some bytes"), Crc64::of(b"sum bytes."));
    let mut repeated = false;
    let checksummed = match api.create_multipart(key, true).await {
        Ok(created) => {
            let id = created.id;
            let holds = holds_part_checksums(api, key, &id, &bytes, right, wrong).await?;
            api.abort_multipart(key, &id).await?;
            repeated |= created.repeated;
            holds
        }
        // The store does not know the algorithm.
        Err(ApiError::Other(error)) if !error.is_retryable() && !error.is_permission() => false,
        Err(error) => return Err(error.into()),
    };
    let created = api.create_multipart(key, checksummed).await?;
    let id = created.id;
    let crc64 = checksummed.then_some(right);
    let stale = api.upload_part(key, &id, 1, &bytes, crc64).await?;
    let other = [Bytes::from_static(b"same size!")];
    let other_crc = Crc64::of(b"same size!");
    api.upload_part(key, &id, 1, &other, checksummed.then_some(other_crc))
        .await?;
    let parts = [CompletePart {
        number: 1,
        etag: stale,
        crc64: other_crc,
    }];
    let whole = checksummed.then_some(other_crc);
    let checks_etags = match api.complete_multipart(key, &id, &parts, whole).await {
        Ok(_) => false,
        Err(ApiError::InvalidPart(_)) => true,
        Err(ApiError::Other(error)) if !error.is_retryable() && !error.is_permission() => true,
        Err(error) => return Err(error.into()),
    };
    api.abort_multipart(key, &id).await?;
    if repeated || created.repeated {
        api.abort_others(key, &id).await?;
    }
    Ok((checksummed, checks_etags))
}

/// Whether a part that differs from its checksum is refused, and an object that does.
async fn holds_part_checksums(
    api: &Api,
    key: &Key,
    id: &UploadId,
    bytes: &[Bytes],
    right: Crc64,
    wrong: Crc64,
) -> Result<bool> {
    let refused = |error: ApiError| match error {
        ApiError::Other(error) if error.is_retryable() || error.is_permission() => Err(error),
        _ => Ok(()),
    };
    match api.upload_part(key, id, 1, bytes, Some(wrong)).await {
        Ok(_) => return Ok(false),
        Err(error) => refused(error)?,
    }
    let etag = match api.upload_part(key, id, 1, bytes, Some(right)).await {
        Ok(etag) => etag,
        Err(error) => return refused(error).map(|()| false).map_err(Into::into),
    };
    let parts = [CompletePart {
        number: 1,
        etag,
        crc64: right,
    }];
    match api.complete_multipart(key, id, &parts, Some(wrong)).await {
        Ok(_) => Ok(false),
        Err(error) => Ok(refused(error).map(|()| true)?),
    }
}
