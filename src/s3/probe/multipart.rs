//! Whether a multipart upload can be completed at all, and what the store holds it to.

use bytes::Bytes;

use super::{Told, is_answer};
use crate::error::{Error, Result};
use crate::s3::format::checksum::Crc64;
use crate::s3::format::keys::Key;
use crate::s3::wire::{Api, ApiError, CompletePart, ETag, UploadId};

const RIGHT: &[u8] = b"some bytes";
/// Of the same size.
const OTHER: &[u8] = b"same size!";
/// How often an object is read before its bytes count as wrong.
const READS: u32 = 2;

/// What a store does with multipart uploads. A refusal counts only where the right request was seen
/// to succeed, so what depends on that is `None` where it did not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Multipart {
    /// A right Complete gives the right object.
    pub(crate) completes: Option<Told>,
    /// The same, begun with CRC64NVME.
    pub(crate) knows_crc64nvme: Option<Told>,
    /// A part that differs from its checksum is refused.
    pub(crate) refuses_part: Option<Told>,
    /// Complete with another checksum than the object's is refused.
    pub(crate) refuses_whole: Option<Told>,
    /// Complete with the ETag of a part that was replaced is refused.
    pub(crate) refuses_stale_part: Option<Told>,
    /// Complete may leave out a part that was uploaded.
    pub(crate) leaves_out_parts: Option<Told>,
}

pub(crate) fn holds(told: &Option<Told>) -> bool {
    told.as_ref().is_some_and(|(holds, _)| *holds)
}

impl Multipart {
    /// Whether the store can be relied on to find a byte that differs.
    pub(crate) fn crc64nvme(&self) -> bool {
        [
            &self.knows_crc64nvme,
            &self.refuses_part,
            &self.refuses_whole,
        ]
        .into_iter()
        .all(holds)
    }
}

/// Tries at a key that is free. An object is left there. Cancelling leaves multipart uploads.
pub(crate) async fn multipart(api: &Api, key: &Key) -> Result<Multipart> {
    let mut tried = Tries {
        api,
        key,
        is_repeated: false,
    };
    let found = tried.all().await?;
    if tried.is_repeated {
        api.abort_all(key).await?;
    }
    Ok(found)
}

struct Tries<'a> {
    api: &'a Api,
    key: &'a Key,
    /// A request to begin an upload was sent more than once.
    is_repeated: bool,
}

/// An answer of the store to a request that is to be refused, or to be carried out.
enum Answer<T> {
    Done(T),
    Refused(String),
}

impl<T> Answer<T> {
    fn is_refused(&self) -> Told {
        match self {
            Answer::Done(_) => (false, "accepted".to_owned()),
            Answer::Refused(answer) => (true, answer.clone()),
        }
    }
}

fn answer<T>(result: std::result::Result<T, ApiError>) -> Result<Answer<T>> {
    match result {
        Ok(done) => Ok(Answer::Done(done)),
        // A Complete whose answer was lost may have been carried out.
        Err(error @ ApiError::NoSuchUpload(_)) => Err(error.into()),
        Err(error) if is_answer(&error) => {
            let error = error.into_storage();
            let answer = error.answer().unwrap_or("refused");
            Ok(Answer::Refused(format!("{}: {answer}", error.operation())))
        }
        Err(error) => Err(error.into()),
    }
}

impl Tries<'_> {
    async fn all(&mut self) -> Result<Multipart> {
        let mut found = Multipart::default();
        let with_checksums = self.completes(true).await?;
        found.knows_crc64nvme = Some(with_checksums.clone());
        let plainly = match with_checksums {
            (true, _) => with_checksums,
            (false, _) => self.completes(false).await?,
        };
        let completes = plainly.0;
        found.completes = Some(plainly);
        if !completes {
            return Ok(found);
        }
        if holds(&found.knows_crc64nvme) {
            self.wrong_checksums(&mut found).await?;
        }
        let checksummed = found.crc64nvme();
        found.refuses_stale_part = Some(self.stale_part(checksummed).await?);
        found.leaves_out_parts = Some(self.part_left_out(checksummed).await?);
        Ok(found)
    }

    async fn begin(&mut self, checksummed: bool) -> Result<Answer<UploadId>> {
        let created = self.api.create_multipart(self.key, checksummed).await;
        if let Ok(created) = &created {
            self.is_repeated |= created.repeated;
        }
        answer(created.map(|created| created.id))
    }

    /// Sends a part that is right.
    async fn part(
        &self,
        id: &UploadId,
        number: u32,
        bytes: &'static [u8],
        checksummed: bool,
    ) -> Result<Answer<CompletePart>> {
        let crc64 = Crc64::of(bytes);
        let segments = [Bytes::from_static(bytes)];
        let sum = checksummed.then_some(crc64);
        let sent = self.api.upload_part(self.key, id, number, &segments, sum);
        let part = |etag: ETag| CompletePart {
            number,
            etag,
            crc64,
        };
        answer(sent.await.map(part))
    }

    /// A part that an upload like this was seen to take before.
    async fn known_part(
        &self,
        id: &UploadId,
        number: u32,
        bytes: &'static [u8],
        checksummed: bool,
    ) -> Result<CompletePart> {
        match self.part(id, number, bytes, checksummed).await? {
            Answer::Done(part) => Ok(part),
            Answer::Refused(answer) => Err(self.odd(answer)),
        }
    }

    async fn known_upload(&mut self, checksummed: bool) -> Result<UploadId> {
        match self.begin(checksummed).await? {
            Answer::Done(id) => Ok(id),
            Answer::Refused(answer) => Err(self.odd(answer)),
        }
    }

    /// The same request was carried out a moment ago.
    fn odd(&self, answer: String) -> Error {
        let why = format!("{answer}, to a request that it has carried out before");
        Error::damaged(self.key, why)
    }

    async fn complete(
        &self,
        id: &UploadId,
        parts: &[CompletePart],
        whole: Option<Crc64>,
    ) -> Result<Answer<ETag>> {
        answer(
            self.api
                .complete_multipart(self.key, id, parts, whole)
                .await,
        )
    }

    /// Whether an upload that does everything right ends with the right object.
    async fn completes(&mut self, checksummed: bool) -> Result<Told> {
        let id = match self.begin(checksummed).await? {
            Answer::Done(id) => id,
            Answer::Refused(answer) => return Ok((false, answer)),
        };
        let part = match self.part(&id, 1, RIGHT, checksummed).await? {
            Answer::Done(part) => part,
            Answer::Refused(answer) => {
                self.api.abort_multipart(self.key, &id).await?;
                return Ok((false, answer));
            }
        };
        let whole = checksummed.then_some(part.crc64);
        let parts = [part];
        let completed = self.api.complete_multipart(self.key, &id, &parts, whole);
        let refused = match completed.await {
            Ok(_) | Err(ApiError::NoSuchUpload(_)) => None,
            completed => match answer(completed)? {
                Answer::Done(_) => None,
                Answer::Refused(answer) => Some(answer),
            },
        };
        if let Some(answer) = refused {
            self.api.abort_multipart(self.key, &id).await?;
            return Ok((false, answer));
        }
        Ok(if self.holds_right_bytes().await? {
            (true, "completed".to_owned())
        } else {
            let answer = "accepted, and the object is absent or has other bytes";
            (false, answer.to_owned())
        })
    }

    /// Reads again after a wrong answer: a bit may have flipped in the answer only.
    async fn holds_right_bytes(&self) -> Result<bool> {
        for _ in 0..READS {
            let object = self.api.get_small(self.key).await?;
            if object.is_some_and(|object| object.bytes == RIGHT) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn wrong_checksums(&mut self, found: &mut Multipart) -> Result<()> {
        let id = self.known_upload(true).await?;
        let segments = [Bytes::from_static(RIGHT)];
        let wrong = Crc64::of(OTHER);
        let sent = self
            .api
            .upload_part(self.key, &id, 1, &segments, Some(wrong));
        let refused = answer(sent.await)?.is_refused();
        let is_refused = refused.0;
        found.refuses_part = Some(refused);
        if is_refused {
            let part = self.known_part(&id, 1, RIGHT, true).await?;
            let completed = self.complete(&id, &[part], Some(wrong)).await?;
            found.refuses_whole = Some(completed.is_refused());
        }
        Ok(self.api.abort_multipart(self.key, &id).await?)
    }

    async fn stale_part(&mut self, checksummed: bool) -> Result<Told> {
        let id = self.known_upload(checksummed).await?;
        let stale = self.known_part(&id, 1, RIGHT, checksummed).await?;
        let now = self.known_part(&id, 1, OTHER, checksummed).await?;
        let parts = [CompletePart {
            etag: stale.etag,
            ..now.clone()
        }];
        let whole = checksummed.then_some(now.crc64);
        let told = self.complete(&id, &parts, whole).await?.is_refused();
        self.api.abort_multipart(self.key, &id).await?;
        Ok(told)
    }

    async fn part_left_out(&mut self, checksummed: bool) -> Result<Told> {
        let id = self.known_upload(checksummed).await?;
        let part = self.known_part(&id, 1, RIGHT, checksummed).await?;
        self.known_part(&id, 2, OTHER, checksummed).await?;
        let whole = checksummed.then_some(part.crc64);
        let told = match self.complete(&id, &[part], whole).await? {
            Answer::Done(_) => (true, "completed without it".to_owned()),
            Answer::Refused(answer) => (false, answer),
        };
        self.api.abort_multipart(self.key, &id).await?;
        Ok(told)
    }
}
