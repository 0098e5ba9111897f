//! Whether wrong checksums of parts and of the whole are refused, and wrong part ETags.

use bytes::Bytes;

use crate::error::Result;
use crate::s3::api::{Api, ApiError, CompletePart, UploadId};
use crate::s3::checksum::Crc64;
use crate::s3::keys::Key;

/// What a store holds a multipart upload to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checksums {
    /// An upload can be begun with CRC64NVME.
    pub(crate) knows_crc64nvme: bool,
    /// A part that differs from its checksum is refused, and one that does not is taken.
    pub(crate) refuses_part: bool,
    /// Complete with another checksum than the object's is refused.
    pub(crate) refuses_whole: bool,
    /// Complete with the ETag of a part that was replaced is refused.
    pub(crate) refuses_stale_part: bool,
}

impl Checksums {
    /// Whether the store can be relied on to find a byte that differs.
    pub(crate) fn all_hold(self) -> bool {
        self.knows_crc64nvme && self.refuses_part && self.refuses_whole
    }
}

/// Tries at a key that is free. A store that refuses too little leaves an object there.
pub(crate) async fn checksums(api: &Api, key: &Key) -> Result<Checksums> {
    let mut found = Checksums::default();
    let mut repeated = false;
    match api.create_multipart(key, true).await {
        Ok(created) => {
            found.knows_crc64nvme = true;
            ask_of_parts(api, key, &created.id, &mut found).await?;
            api.abort_multipart(key, &created.id).await?;
            repeated |= created.repeated;
        }
        // The store does not know the algorithm.
        Err(error) => refused(error)?,
    }
    let checksummed = found.all_hold();
    let created = api.create_multipart(key, checksummed).await?;
    let id = created.id;
    found.refuses_stale_part = refuses_stale_part(api, key, &id, checksummed).await?;
    api.abort_multipart(key, &id).await?;
    if repeated || created.repeated {
        api.abort_all(key).await?;
    }
    Ok(found)
}

/// A refusal is an answer; no answer, and no permission, are none. Nor is an upload that is gone: a
/// Complete whose answer was lost may have been carried out.
fn refused(error: ApiError) -> Result<()> {
    match error {
        ApiError::Other(error) if error.is_retryable() || error.is_permission() => {
            Err(error.into())
        }
        ApiError::NoSuchUpload(error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Stops at the first answer that shows that checksums cannot be relied on.
async fn ask_of_parts(api: &Api, key: &Key, id: &UploadId, found: &mut Checksums) -> Result<()> {
    let bytes = [Bytes::from_static(b"some bytes")];
    let (right, wrong) = (Crc64::of(b"some bytes"), Crc64::of(b"sum bytes."));
    match api.upload_part(key, id, 1, &bytes, Some(wrong)).await {
        Ok(_) => return Ok(()),
        Err(error) => refused(error)?,
    }
    let etag = match api.upload_part(key, id, 1, &bytes, Some(right)).await {
        Ok(etag) => etag,
        Err(error) => return refused(error),
    };
    found.refuses_part = true;
    let parts = [CompletePart {
        number: 1,
        etag,
        crc64: right,
    }];
    match api.complete_multipart(key, id, &parts, Some(wrong)).await {
        Ok(_) => {}
        Err(error) => {
            refused(error)?;
            found.refuses_whole = true;
        }
    }
    Ok(())
}

async fn refuses_stale_part(
    api: &Api,
    key: &Key,
    id: &UploadId,
    checksummed: bool,
) -> Result<bool> {
    let upload = async |bytes: &'static [u8]| {
        let crc64 = Crc64::of(bytes);
        let segments = [Bytes::from_static(bytes)];
        let etag = api.upload_part(key, id, 1, &segments, checksummed.then_some(crc64));
        Ok::<_, ApiError>((etag.await?, crc64))
    };
    let (stale, _) = upload(b"some bytes").await?;
    let (_, crc64) = upload(b"same size!").await?;
    let parts = [CompletePart {
        number: 1,
        etag: stale,
        crc64,
    }];
    let whole = checksummed.then_some(crc64);
    match api.complete_multipart(key, id, &parts, whole).await {
        Ok(_) => Ok(false),
        Err(error) => refused(error).map(|()| true),
    }
}
