//! Multipart uploads.

use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, Part,
};

use super::{
    Answered, Api, ApiError, ApiResult, COMPLETE_TIMEOUT, Call, CompletePart, ETag, ListedPart,
    SMALL_TIMEOUT, UploadId, to_i64, to_u64,
};
use crate::s3::format::checksum::Crc64;
use crate::s3::format::keys::Key;
use crate::s3::wire::body::Payload;
use crate::s3::wire::gauge::Gauge;
use crate::telemetry::Operation;

/// A multipart upload that was begun.
pub(crate) struct CreatedUpload {
    pub(crate) id: UploadId,
    /// An earlier attempt, whose answer was lost, may have begun another.
    pub(crate) repeated: bool,
}

impl Api {
    /// Begins a multipart upload. With `checksummed`, S3 holds every part and the whole object to
    /// the CRC64NVME that comes with them. Where it took more than one attempt, there may be
    /// [others](Self::multiparts_at).
    pub(crate) async fn create_multipart(
        &self,
        key: &Key,
        checksummed: bool,
    ) -> ApiResult<CreatedUpload> {
        let call = Call::of(Operation::CreateMultipartUpload, key.as_str());
        let Answered {
            answer, request, ..
        } = self
            .call_attempted(call, || {
                self.client
                    .create_multipart_upload()
                    .bucket(&self.bucket)
                    .key(key.as_str())
                    .set_checksum_algorithm(checksummed.then_some(ChecksumAlgorithm::Crc64Nvme))
                    .set_checksum_type(checksummed.then_some(ChecksumType::FullObject))
                    .customize()
                    .config_override(Self::settings(SMALL_TIMEOUT))
                    .send()
            })
            .await?;
        let id = answer
            .upload_id()
            .ok_or_else(|| call.incomplete("UploadId"))?;
        Ok(CreatedUpload {
            id: UploadId(id.to_owned()),
            repeated: request.attempt() > 1,
        })
    }

    /// Ends all multipart uploads at this key.
    pub(crate) async fn abort_all(&self, key: &Key) -> ApiResult<()> {
        for id in self.multiparts_at(key).await? {
            self.abort_multipart(key, &id).await?;
        }
        Ok(())
    }

    /// Uploads one part, which replaces what was uploaded under its number before. `gauge` counts
    /// the bytes sent.
    pub(crate) async fn upload_gauged_part(
        &self,
        key: &Key,
        upload_id: &UploadId,
        number: u32,
        payload: &Payload,
        crc64: Option<Crc64>,
        gauge: &Gauge,
    ) -> ApiResult<ETag> {
        let size = payload.size();
        let call = Call {
            body: size,
            ..Call::of(Operation::UploadPart, key.as_str())
        };
        let answer = self
            .call(call, || {
                let request = self
                    .client
                    .upload_part()
                    .bucket(&self.bucket)
                    .key(key.as_str())
                    .upload_id(upload_id.as_str())
                    .part_number(to_i32(number))
                    .content_length(to_i64(size))
                    .set_checksum_crc64_nvme(crc64.map(Crc64::to_base64));
                let settings = Self::settings(Self::timeout_for(size));
                let (body, is_unsigned) = payload.body(crc64.is_some(), gauge);
                let request = request.body(body).customize().config_override(settings);
                if is_unsigned {
                    request.disable_payload_signing().send()
                } else {
                    request.send()
                }
            })
            .await?;
        let etag = call.etag(answer.e_tag())?;
        gauge.arrived(size);
        Ok(etag)
    }

    /// Assembles the object, and returns how many attempts it took: Ceph RGW gives the second of them another ETag than
    /// the object has. `whole` is the checksum of all of it, where S3 shall verify it.
    pub(crate) async fn complete_counted(
        &self,
        key: &Key,
        upload_id: &UploadId,
        parts: &[CompletePart],
        whole: Option<Crc64>,
    ) -> ApiResult<(ETag, u32)> {
        let call = Call::of(Operation::CompleteMultipartUpload, key.as_str());
        let parts = parts
            .iter()
            .map(|part| {
                CompletedPart::builder()
                    .part_number(to_i32(part.number))
                    .e_tag(part.etag.quoted())
                    .set_checksum_crc64_nvme(whole.map(|_| part.crc64.to_base64()))
                    .build()
            })
            .collect();
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let Answered {
            answer, request, ..
        } = self
            .call_attempted(call, || {
                self.client
                    .complete_multipart_upload()
                    .bucket(&self.bucket)
                    .key(key.as_str())
                    .upload_id(upload_id.as_str())
                    .multipart_upload(parts.clone())
                    .set_checksum_type(whole.map(|_| ChecksumType::FullObject))
                    .set_checksum_crc64_nvme(whole.map(Crc64::to_base64))
                    .customize()
                    .config_override(Self::settings(COMPLETE_TIMEOUT))
                    .send()
            })
            .await?;
        Ok((call.etag(answer.e_tag())?, request.attempt()))
    }

    /// Aborts a multipart upload, or finds that there is none.
    pub(crate) async fn abort_multipart(&self, key: &Key, upload_id: &UploadId) -> ApiResult<()> {
        let call = Call::of(Operation::AbortMultipartUpload, key.as_str());
        let sent = self.call(call, || {
            self.client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(key.as_str())
                .upload_id(upload_id.as_str())
                .customize()
                .config_override(Self::settings(SMALL_TIMEOUT))
                .send()
        });
        match sent.await {
            Ok(_) | Err(ApiError::NoSuchUpload(_) | ApiError::NoSuchKey(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All parts that S3 holds, by number; `None` where there is no such upload. A part that was
    /// replaced can be listed twice (SeaweedFS). Pages by what
    /// S3 says, not by how full a page is: MinIO's pages have other sizes than AWS's.
    pub(crate) async fn list_parts(
        &self,
        key: &Key,
        upload_id: &UploadId,
    ) -> ApiResult<Option<Vec<ListedPart>>> {
        let call = Call::of(Operation::ListParts, key.as_str());
        let mut parts = Vec::new();
        let mut marker = None;
        loop {
            let sent = self.call(call, || {
                self.client
                    .list_parts()
                    .bucket(&self.bucket)
                    .key(key.as_str())
                    .upload_id(upload_id.as_str())
                    .set_part_number_marker(marker.clone())
                    .customize()
                    .config_override(Self::settings(SMALL_TIMEOUT))
                    .send()
            });
            let page = match sent.await {
                Ok(page) => page,
                Err(ApiError::NoSuchUpload(_) | ApiError::NoSuchKey(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let missing = |what| call.incomplete(what);
            for part in page.parts() {
                let part = listed_part(part);
                parts.push(part.ok_or_else(|| missing("number, size or ETag of a part"))?);
            }
            if !page.is_truncated().ok_or_else(|| missing("IsTruncated"))? {
                break;
            }
            let next = page.next_part_number_marker().map(str::to_owned);
            if next.is_none() || next == marker {
                return Err(missing("next page, though it has more parts"));
            }
            marker = next;
        }
        parts.sort_by_key(|part| part.number);
        Ok(Some(parts))
    }

    /// The multipart uploads under way at exactly this key.
    pub(crate) async fn multiparts_at(&self, key: &Key) -> ApiResult<Vec<UploadId>> {
        let call = Call::of(Operation::ListMultipartUploads, key.as_str());
        let (mut ids, mut after) = (Vec::new(), None::<(String, String)>);
        loop {
            let (key_marker, id_marker) = after.clone().unzip();
            let request = || {
                self.client
                    .list_multipart_uploads()
                    .bucket(&self.bucket)
                    .prefix(key.as_str())
                    .set_key_marker(key_marker.clone())
                    .set_upload_id_marker(id_marker.clone())
                    .customize()
                    .config_override(Self::settings(SMALL_TIMEOUT))
                    .send()
            };
            let page = self.call(call, request).await?;
            let uploads = page.uploads().iter();
            let at_key = uploads.filter(|upload| upload.key() == Some(key.as_str()));
            let found = at_key.filter_map(|upload| upload.upload_id());
            ids.extend(found.map(|id| UploadId(id.to_owned())));
            let is_truncated = page.is_truncated == Some(true);
            let next = page.next_key_marker.zip(page.next_upload_id_marker);
            if is_truncated && next.is_none() {
                let what = "next page, though it has more uploads";
                return Err(call.incomplete(what));
            }
            // Longer keys follow.
            let next = next.filter(|(next, _)| is_truncated && next == key.as_str());
            if next.is_none() || next == after {
                return Ok(ids);
            }
            after = next;
        }
    }
}

fn to_i32(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn listed_part(part: &Part) -> Option<ListedPart> {
    Some(ListedPart {
        number: u32::try_from(part.part_number()?).ok()?,
        size: to_u64(part.size())?,
        etag: ETag::parse(part.e_tag()?),
        crc64: part.checksum_crc64_nvme().map(str::to_owned),
    })
}
