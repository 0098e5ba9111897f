//! Multipart uploads: what is verified, what is listed, and which parts are taken. The one upload
//! of a real size is here: three parts, 10 MiB together.

use bytes::Bytes;

use super::ask::{Ask, Told, is_answer, pattern, reason};
use super::consistency::range_is;
use super::question::{Question, Topic};
use crate::error::{Error, Result};
use crate::s3::config::MIB;
use crate::s3::format::checksum::Crc64;
use crate::s3::format::keys::Key;
use crate::s3::probe;
use crate::s3::wire::{ApiError, CompletePart, ETag, UploadId};

/// The smallest part that is not the last, and one that R2 would not take after it.
const SIZES: [usize; 3] = [5 * MIB as usize, 5 * MIB as usize + 65_536, 1024];
/// How often a list of parts is looked at that is not yet as it should be.
const LOOKS: u32 = 3;

pub(super) async fn parts(ask: &mut Ask<'_>) {
    let asked = object_checksum(ask).await;
    ask.end(Question::ObjectChecksum, asked);
    let checksummed = checksums(ask).await;
    if ask.holds(Question::Completes) {
        large(ask, checksummed).await;
        let asked = part_replaced(ask).await;
        ask.end(Question::PartReplaced, asked);
        let asked = small_part(ask).await;
        ask.end(Question::SmallPart, asked);
        let asked = abort_again(ask).await;
        ask.end(Question::AbortAgain, asked);
    }
    let questions = Question::ALL.iter().copied();
    let topics = [Topic::Parts, Topic::Checksums];
    let all: Vec<_> = questions
        .filter(|question| topics.contains(&question.topic()))
        .collect();
    ask.depend(&all, Question::Completes);
}

/// What is verified. Whether the large upload shall carry checksums.
async fn checksums(ask: &mut Ask<'_>) -> bool {
    let found = match probe::multipart(&ask.api, &ask.key("checksums")).await {
        Ok(found) => found,
        Err(error) => {
            ask.fail(&[Question::Completes], error);
            return false;
        }
    };
    let checksummed = found.crc64nvme();
    let refuses_part = found
        .refuses_part
        .or(found.knows_crc64nvme.map(|(_, found)| {
            let unknown = format!("CRC64NVME is not known ({found})");
            (false, unknown)
        }));
    let is_completed = probe::holds(&found.completes);
    for (question, told) in [
        (Question::Completes, found.completes),
        (
            Question::PartChecksum,
            refuses_part.filter(|_| is_completed),
        ),
        (Question::WholeChecksum, found.refuses_whole),
        (Question::StalePart, found.refuses_stale_part),
        (Question::LeavesOutParts, found.leaves_out_parts),
    ] {
        if let Some(told) = told {
            ask.tell_whether(question, told);
        }
    }
    if is_completed {
        ask.depend(&[Question::WholeChecksum], Question::PartChecksum);
    }
    checksummed
}

async fn object_checksum(ask: &Ask<'_>) -> Result<Told> {
    let key = ask.key("checksum");
    let bytes = [Bytes::from_static(b"some bytes")];
    let right = Crc64::of(b"some bytes");
    if let Err(error) = ask.api.put(&key, &bytes, Some(right), None).await {
        let refused = refusal(error.into());
        return refused.map(|(_, answer)| (false, format!("the right one: {answer}")));
    }
    let wrong = Crc64::of(b"sum bytes.");
    match ask.api.put(&key, &bytes, Some(wrong), None).await {
        Ok(_) => Ok((false, "accepted".to_owned())),
        Err(error) => refusal(error.into()),
    }
}

/// A refusal is what was hoped for.
fn refusal(error: Error) -> Result<Told> {
    match (&error, is_answer(&error)) {
        (Error::Storage(storage), true) => {
            Ok((true, storage.answer().unwrap_or("refused").to_owned()))
        }
        _ => Err(error),
    }
}

/// The multipart upload that most questions are about.
struct Upload {
    key: Key,
    id: UploadId,
    parts: Vec<CompletePart>,
    whole: Option<Crc64>,
}

/// The bytes of a part, and their checksum.
fn part(index: usize) -> (Bytes, Crc64) {
    let bytes = pattern(SIZES[index], SIZES[..index].iter().sum());
    let crc64 = Crc64::of(&bytes);
    (bytes, crc64)
}

async fn large(ask: &mut Ask<'_>, checksummed: bool) {
    let questions = [
        Question::PartsListed,
        Question::PartsInOrder,
        Question::UploadsListed,
        Question::UploadsListedBelow,
        Question::UnequalParts,
        Question::CompleteAgain,
        Question::ChecksumTold,
    ];
    let upload = match begin(ask, checksummed).await {
        Ok(upload) => upload,
        Err(error) => return ask.fail(&questions, error),
    };
    let listed = parts_listed(ask, &upload).await;
    ask.end(Question::PartsListed, listed);
    let order = parts_in_order(ask, &upload).await;
    ask.end(Question::PartsInOrder, order);
    uploads_listed(ask, &upload).await;

    let Upload { key, id, .. } = &upload;
    let completed = ask
        .api
        .complete_multipart(key, id, &upload.parts, upload.whole)
        .await;
    match completed.map_err(Error::from) {
        Ok(etag) => {
            let taken = (true, "5 MiB and 64 KiB after 5 MiB".to_owned());
            ask.tell_whether(Question::UnequalParts, taken);
            let again = complete_again(ask, &upload, &etag).await;
            ask.end(Question::CompleteAgain, again);
            completed_object(ask, &upload).await;
        }
        Err(error) => {
            let told = match is_answer(&error) {
                true => Ok((false, reason(&error))),
                false => Err(error),
            };
            ask.end(Question::UnequalParts, told);
            ask.depend(
                &[Question::CompleteAgain, Question::ChecksumTold],
                Question::UnequalParts,
            );
        }
    }
}

/// Sends three parts, the last one first.
async fn begin(ask: &Ask<'_>, checksummed: bool) -> Result<Upload> {
    let key = ask.key("parts");
    let id = ask.begin(&key, checksummed).await?;
    let mut parts = Vec::new();
    let mut whole = Crc64::of(b"");
    for index in [2, 0, 1] {
        let (bytes, crc64) = part(index);
        let number = index as u32 + 1;
        let sum = checksummed.then_some(crc64);
        let etag = ask
            .api
            .upload_part(&key, &id, number, &[bytes], sum)
            .await?;
        parts.push(CompletePart {
            number,
            etag,
            crc64,
        });
    }
    parts.sort_by_key(|part| part.number);
    for part in &parts {
        whole = whole.then(part.crc64);
    }
    Ok(Upload {
        key,
        id,
        parts,
        whole: checksummed.then_some(whole),
    })
}

async fn parts_listed(ask: &Ask<'_>, upload: &Upload) -> Result<Told> {
    for look in 1..=LOOKS {
        let listed = ask.api.list_parts(&upload.key, &upload.id).await?;
        let listed = listed.unwrap_or_default();
        let sizes = listed.iter().map(|part| part.size);
        if sizes.eq(SIZES.map(|size| size as u64)) {
            let etags = listed.iter().map(|part| &part.etag);
            return Ok(match etags.eq(upload.parts.iter().map(|part| &part.etag)) {
                true if look == 1 => (true, "3 of 3".to_owned()),
                true => (false, format!("only at look {look}")),
                false => (false, "with other ETags".to_owned()),
            });
        }
    }
    Ok((false, format!("not within {LOOKS} looks")))
}

async fn parts_in_order(ask: &Ask<'_>, upload: &Upload) -> Result<Told> {
    let mut numbers = ask.api.part_numbers(&upload.key, &upload.id, 2).await?;
    if numbers == [1, 2, 3] {
        return Ok((true, "in pages of two".to_owned()));
    }
    let found = format!("pages of two give {numbers:?}");
    numbers.sort_unstable();
    Ok((false, found))
}

async fn uploads_listed(ask: &mut Ask<'_>, upload: &Upload) {
    let told = |is: bool| (is, if is { "listed" } else { "not listed" }.to_owned());
    let at_key = ask.api.multiparts_at(&upload.key).await;
    let at_key = at_key.map(|ids| told(ids.contains(&upload.id)));
    ask.end(Question::UploadsListed, at_key.map_err(Into::into));
    let below = ask.api.multiparts_below(&ask.prefix("")).await;
    let below = below.map(|uploads| told(uploads.iter().any(|(_, id)| *id == upload.id)));
    ask.end(Question::UploadsListedBelow, below.map_err(Into::into));
}

async fn complete_again(ask: &Ask<'_>, upload: &Upload, etag: &ETag) -> Result<Told> {
    let Upload { key, id, parts, .. } = upload;
    match ask
        .api
        .complete_multipart(key, id, parts, upload.whole)
        .await
    {
        Ok(again) if again == *etag => Ok((true, "200, the same ETag".to_owned())),
        Ok(_) => Ok((false, "200, another ETag".to_owned())),
        Err(error) => refusal(error.into()).map(|(_, answer)| (false, answer)),
    }
}

/// HEAD and a range over the seam of two parts.
async fn completed_object(ask: &mut Ask<'_>, upload: &Upload) {
    let head = match ask.api.head(&upload.key).await {
        Ok(Some(head)) => head,
        Ok(None) => {
            let gone = (false, "the object is not found".to_owned());
            return ask.tell_whether(Question::ChecksumTold, gone);
        }
        Err(error) => return ask.end(Question::ChecksumTold, Err(error.into())),
    };
    let told = match (&head.crc64, upload.whole) {
        (Some(told), Some(whole)) if whole.is(told) => (true, "the right one".to_owned()),
        (Some(_), Some(_)) => (false, "another one".to_owned()),
        (None, _) => (false, "none".to_owned()),
        (Some(_), None) => (false, "one that was not sent".to_owned()),
    };
    ask.tell_whether(Question::ChecksumTold, told);
    let from = SIZES[0] - 500;
    let want = pattern(1000, from);
    let read = range_is(ask, &upload.key, &head.etag, from as u64, &want).await;
    ask.end(Question::RangeRead, read);
}

async fn part_replaced(ask: &Ask<'_>) -> Result<Told> {
    let (api, key) = (&ask.api, ask.key("replaced"));
    let id = ask.begin(&key, false).await?;
    let (first, second): (&[u8], &[u8]) = (b"the first", b"the second one");
    let segments = [Bytes::copy_from_slice(first)];
    api.upload_part(&key, &id, 1, &segments, None).await?;
    let segments = [Bytes::copy_from_slice(second)];
    let etag = match api.upload_part(&key, &id, 1, &segments, None).await {
        Ok(etag) => etag,
        Err(error) => return refusal(error.into()).map(|(_, answer)| (false, answer)),
    };
    let parts = [CompletePart {
        number: 1,
        etag,
        crc64: Crc64::of(second),
    }];
    match api.complete_multipart(&key, &id, &parts, None).await {
        Ok(_) => {}
        Err(error) => return refusal(error.into()).map(|(_, answer)| (false, answer)),
    }
    let found = api.get_small(&key).await?;
    Ok(match found.is_some_and(|found| found.bytes == second) {
        true => (true, "the second was completed".to_owned()),
        false => (false, "not the second was completed".to_owned()),
    })
}

async fn small_part(ask: &Ask<'_>) -> Result<Told> {
    let (api, key) = (&ask.api, ask.key("small"));
    let id = ask.begin(&key, false).await?;
    let mut parts = Vec::new();
    for number in [1, 2] {
        let bytes = pattern(1000, 0);
        let crc64 = Crc64::of(&bytes);
        let etag = match api.upload_part(&key, &id, number, &[bytes], None).await {
            Ok(etag) => etag,
            Err(error) => return refusal(error.into()),
        };
        parts.push(CompletePart {
            number,
            etag,
            crc64,
        });
    }
    match api.complete_multipart(&key, &id, &parts, None).await {
        Ok(_) => Ok((false, "taken".to_owned())),
        Err(error) => refusal(error.into()),
    }
}

async fn abort_again(ask: &Ask<'_>) -> Result<Told> {
    let (api, key) = (&ask.api, ask.key("aborted"));
    let id = ask.begin(&key, false).await?;
    api.abort_known(&key, &id).await.map_err(Error::from)?;
    match api.abort_known(&key, &id).await {
        Ok(()) => Ok((true, "done".to_owned())),
        Err(ApiError::NoSuchUpload(error) | ApiError::NoSuchKey(error)) => {
            Ok((true, error.answer().unwrap_or("unknown").to_owned()))
        }
        Err(error) => refusal(error.into()).map(|(_, answer)| (false, answer)),
    }
}
