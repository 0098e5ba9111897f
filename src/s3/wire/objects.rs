//! Whole objects: PUT, GET, HEAD, DELETE.

use std::error::Error as StdError;
use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, Delete, ObjectIdentifier};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{
    Answered, Api, ApiError, ApiResult, Call, Condition, ConditionForm, ETag, ObjectInfo,
    RangeBody, SMALL_TIMEOUT, SmallObject, Written, http_range, to_i64, to_system_time, to_u64,
};
use crate::clock::{self, Moment};
use crate::error::StorageErrorKind;
use crate::s3::format::checksum::Crc64;
use crate::s3::format::keys::Key;
use crate::s3::wire::body::Payload;
use crate::s3::wire::gauge::Gauge;
use crate::s3::wire::large::Turn;
use crate::s3::wire::retry::pause;
use crate::telemetry::Operation;

/// No document of ours comes near this size, in bytes; a larger object is none of ours.
const MAX_DOCUMENT: u64 = 64 * 1024 * 1024;

const NO_CONDITIONS: &str =
    "the store has no conditional writes: use another store, or declare a single writer";
/// How often HEAD and GET are asked while they contradict each other: the object may just have come.
const HEADS: u32 = 3;

impl Api {
    /// Writes an object whose condition holds. What an unclear end means is for
    /// [`put_if`](Self::put_if) to find out.
    pub(crate) async fn put(
        &self,
        key: &Key,
        payload: &Payload,
        crc64: Option<Crc64>,
        condition: Option<Condition<'_>>,
    ) -> ApiResult<ETag> {
        let (size, payload) = (payload.size(), || payload.clone());
        let written = self.put_counted(key, size, payload, crc64, condition, None);
        Ok(written.await?.0)
    }

    /// As [`put`](Self::put), with a payload of this size for each attempt, and how many there were. None is signed
    /// after `until`.
    pub(super) async fn put_counted(
        &self,
        key: &Key,
        size: u64,
        payload: impl Fn() -> Payload,
        crc64: Option<Crc64>,
        condition: Option<Condition<'_>>,
        until: Option<(Moment, Duration)>,
    ) -> ApiResult<(ETag, u32)> {
        let call = Call {
            body: size,
            ..Call::of(Operation::PutObject, key.as_str())
        };
        let holds = || async move {
            match condition {
                // The attempt before may have taken effect, or was refused: a refusal that comes
                // before the whole body was sent is lost where the server then closes the connection.
                Some(condition) => Ok(condition.holds(self.head(key).await?.as_ref())),
                None => Ok(true),
            }
        };
        let send = || {
            let request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(key.as_str())
                .content_length(to_i64(size))
                .set_checksum_crc64_nvme(crc64.map(Crc64::to_base64));
            let request = match condition.filter(|_| self.form != ConditionForm::Unsent) {
                None => request,
                Some(Condition::Absent) => request.if_none_match("*"),
                Some(Condition::Matches(etag)) => request.if_match(self.if_match(etag)),
            };
            let settings = Self::settings(Self::timeout_for(size));
            let (body, is_unsigned) = payload().body(crc64.is_some(), &Gauge::default());
            let request = request.body(body).customize().config_override(settings);
            if is_unsigned {
                request.disable_payload_signing().send()
            } else {
                request.send()
            }
        };
        let sent = self.call_while(call, send, until, holds).await;
        let sent = sent.map_err(|error| match error {
            ApiError::NotImplemented(error) if condition.is_some() => {
                ApiError::NotImplemented(error.advised(Some(NO_CONDITIONS.to_owned())))
            }
            error => error,
        })?;
        Ok((call.etag(sent.answer.e_tag())?, sent.request.attempt()))
    }

    /// A small object, whole; `None` where there is none. It is read again from its start where the
    /// body breaks off.
    pub(crate) async fn get_small(&self, key: &Key) -> ApiResult<Option<SmallObject>> {
        let call = Call::of(Operation::GetObject, key.as_str());
        let begun = Instant::now();
        let (mut broken, mut drawn) = (0, None::<(u64, Turn)>);
        loop {
            let since_first = begun.elapsed();
            let Answered {
                answer,
                request,
                seen,
            } = match self.begin_small(call).await {
                Ok(answered) => answered,
                Err(ApiError::NoSuchKey(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let etag = call.etag(answer.e_tag())?;
            let written = Written {
                at: answer.last_modified().map(to_system_time),
                answered_at: seen.date,
            };
            let length =
                to_u64(answer.content_length()).ok_or_else(|| call.incomplete("Content-Length"))?;
            if length > MAX_DOCUMENT {
                let why = format!("it has {length} bytes, which is none of ours");
                let error = call.failed(StorageErrorKind::Other, why);
                return Err(ApiError::InvalidRange(error));
            }
            // An answer that waits for its turn may break off meanwhile.
            let turn = match drawn.take().filter(|(size, _)| *size >= length) {
                Some((_, turn)) => turn,
                None => self.large.read(length).await,
            };
            let body = RangeBody::new(answer.body, request);
            let limit = Self::timeout_for(length);
            let failure = match tokio::time::timeout(limit, collect(body, length)).await {
                Ok(Ok(bytes)) => {
                    return Ok(Some(SmallObject {
                        bytes,
                        etag,
                        written,
                        turn,
                    }));
                }
                Ok(Err(failure)) => failure,
                Err(elapsed) => elapsed.into(),
            };
            drop(turn);
            broken += 1;
            match pause(broken, since_first, false, clock::jitter()) {
                Some(pause) => {
                    tokio::time::sleep(pause).await;
                    drawn = Some((length, self.large.read(length).await));
                }
                None => {
                    let error = call.failed(StorageErrorKind::Unavailable, failure);
                    return Err(ApiError::Other(error.after(broken, begun.elapsed())));
                }
            }
        }
    }

    async fn begin_small(&self, call: Call<'_>) -> ApiResult<Answered<GetObjectOutput>> {
        let send = || {
            self.client
                .get_object()
                .bucket(&self.bucket)
                .key(call.key)
                .customize()
                .config_override(Self::settings(SMALL_TIMEOUT))
                .send()
        };
        self.call_attempted(call, send).await
    }

    /// What is known of an object; `None` where there is none. The 404 of a HEAD has no body, so a
    /// proxy could have sent it; nothing is removed or replaced on that word before a GET confirms it.
    ///
    /// # Cost
    ///
    /// 1 request; where there is none, 2.
    pub(crate) async fn head(&self, key: &Key) -> ApiResult<Option<ObjectInfo>> {
        for _ in 0..HEADS {
            if let Some(info) = self.head_unconfirmed(key).await? {
                return Ok(Some(info));
            }
            if self.is_absent(key).await? {
                return Ok(None);
            }
        }
        let why = "HEAD answers 404, and GET finds the object";
        let call = Call::of(Operation::HeadObject, key.as_str());
        Err(ApiError::Other(
            call.failed(StorageErrorKind::Unavailable, why),
        ))
    }

    /// Whether S3 itself says that there is no such object.
    async fn is_absent(&self, key: &Key) -> ApiResult<bool> {
        match self.get_range(key, 0..1, None).await {
            Err(ApiError::NoSuchKey(_)) => Ok(true),
            // Of the others, it is empty, or the store ignores the range.
            Ok(_) | Err(ApiError::InvalidRange(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn head_unconfirmed(&self, key: &Key) -> ApiResult<Option<ObjectInfo>> {
        let call = Call::of(Operation::HeadObject, key.as_str());
        let sent = self.call(call, || {
            self.client
                .head_object()
                .bucket(&self.bucket)
                .key(key.as_str())
                .checksum_mode(ChecksumMode::Enabled)
                .customize()
                .config_override(Self::settings(SMALL_TIMEOUT))
                .send()
        });
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(ApiError::NoSuchKey(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let etag = call.etag(answer.e_tag())?;
        let size =
            to_u64(answer.content_length()).ok_or_else(|| call.incomplete("Content-Length"))?;
        // A composite checksum, which ends in `-<parts>` at AWS, is not one of the object's bytes.
        let is_composite = answer.checksum_type() == Some(&ChecksumType::Composite);
        let crc64 = answer
            .checksum_crc64_nvme()
            .filter(|sum| !is_composite && !sum.contains('-'));
        Ok(Some(ObjectInfo {
            size,
            etag,
            crc64: crc64.map(str::to_owned),
        }))
    }

    /// Begins to read a range of an object that must still have this ETag; none is given for one that is never
    /// overwritten. The caller checks that all of it arrives.
    pub(crate) async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> ApiResult<RangeBody> {
        let call = Call::of(Operation::GetObject, key.as_str());
        let Answered {
            answer, request, ..
        } = self
            .call_attempted(call, || {
                self.client
                    .get_object()
                    .bucket(&self.bucket)
                    .key(key.as_str())
                    .range(http_range(&range))
                    .set_if_match(etag.map(|etag| self.if_match(etag)))
                    .customize()
                    .config_override(Self::settings(SMALL_TIMEOUT))
                    .send()
            })
            .await?;
        // A store may ignore the condition.
        let received = answer.e_tag().map(ETag::parse);
        if let (Some(asked), Some(received)) = (etag, received)
            && received != *asked
        {
            let why = format!("{asked} was asked for, {received} came");
            let error = call.failed(StorageErrorKind::Other, why);
            return Err(ApiError::Precondition(error));
        }
        // Or the range, and would hand out bytes of another place. Without a word about it, all bytes
        // of the object came.
        let received = match answer.content_range() {
            Some(header) => parse_content_range(header),
            None => to_u64(answer.content_length()).map(|length| 0..length),
        };
        if received != Some(range.start..range.end) {
            let why = format!(
                "bytes {}-{} were asked for, {:?} of {:?} bytes came",
                range.start,
                range.end - 1,
                answer.content_range(),
                answer.content_length(),
            );
            let error = call.failed(StorageErrorKind::Other, why);
            return Err(ApiError::InvalidRange(error));
        }
        Ok(RangeBody::new(answer.body, request))
    }

    /// Removes an object, or finds that it is gone. Not for documents that another process may
    /// write: see [`delete_if`](Self::delete_if).
    pub(crate) async fn delete(&self, key: &Key) -> ApiResult<()> {
        self.delete_matching(key, None, None).await
    }

    pub(super) async fn delete_matching(
        &self,
        key: &Key,
        etag: Option<&ETag>,
        until: Option<(Moment, Duration)>,
    ) -> ApiResult<()> {
        let call = Call::of(Operation::DeleteObject, key.as_str());
        let send = || {
            self.client
                .delete_object()
                .bucket(&self.bucket)
                .key(key.as_str())
                .set_if_match(etag.map(|etag| self.if_match(etag)))
                .customize()
                .config_override(Self::settings(SMALL_TIMEOUT))
                .send()
        };
        match self.call_until(call, send, until).await {
            Ok(_) | Err(ApiError::NoSuchKey(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes several objects, in one request where the store can. None is signed after `until`.
    pub(crate) async fn delete_all(
        &self,
        keys: &[Key],
        batched: bool,
        until: Option<(Moment, Duration)>,
    ) -> ApiResult<()> {
        if !batched || keys.len() < 2 {
            for key in keys {
                self.delete_matching(key, None, until).await?;
            }
            return Ok(());
        }
        for batch in keys.chunks(1000) {
            self.delete_batch(batch, until).await?;
        }
        Ok(())
    }

    async fn delete_batch(&self, keys: &[Key], until: Option<(Moment, Duration)>) -> ApiResult<()> {
        let call = Call::of(Operation::DeleteObjects, keys[0].as_str());
        let refused = |why: String| ApiError::Other(call.failed(StorageErrorKind::Other, why));
        let objects = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(key.as_str()).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refused(error.to_string()))?;
        let delete = Delete::builder()
            .set_objects(Some(objects))
            .quiet(true)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        let send = || {
            self.client
                .delete_objects()
                .bucket(&self.bucket)
                .delete(delete.clone())
                .customize()
                .config_override(Self::settings(SMALL_TIMEOUT))
                .send()
        };
        let answer = self.call_until(call, send, until).await?;
        // One that was throttled is repeated on its own, as any request is.
        for failed in answer.errors() {
            match failed.code() {
                Some("NoSuchKey") => {}
                code => match keys.iter().find(|key| Some(key.as_str()) == failed.key()) {
                    Some(key) => self.delete_matching(key, None, until).await?,
                    None => return Err(refused(format!("{:?}: {code:?}", failed.key()))),
                },
            }
        }
        Ok(())
    }
}

/// A body that has to have this many bytes.
async fn collect(mut body: RangeBody, size: u64) -> Result<Bytes, Box<dyn StdError + Send + Sync>> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(size)?);
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    if bytes.len() as u64 == size {
        Ok(bytes.freeze())
    } else {
        Err("the body is not as long as was said".into())
    }
}

/// `bytes 0-9/100` as a range with an exclusive end.
fn parse_content_range(header: &str) -> Option<Range<u64>> {
    let (range, _) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (header, want) in [
            ("bytes 0-9/100", Some(0..10)),
            ("bytes 5-5/*", Some(5..6)),
            ("bytes */100", None),
            ("0-9/100", None),
            ("bytes 0-18446744073709551615/1", None),
        ] {
            assert_eq!(parse_content_range(header), want, "{header}");
        }
    }
}
