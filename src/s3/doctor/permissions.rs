//! Each operation that the adapter needs, tried once: which permission is missing is told by the
//! name that a policy gives it.

use bytes::Bytes;

use super::ask::{Ask, reason};
use super::question::{Answer, Question};
use crate::error::{Error, Result};
use crate::s3::format::checksum::Crc64;
use crate::s3::wire::{ApiError, ApiResult, CompletePart, Listing, Sought};

/// How the operations of one permission were answered.
#[derive(Default)]
struct Tried {
    allowed: bool,
    refused: Vec<String>,
    unclear: Vec<String>,
    first_refusal: Option<Error>,
}

/// Tries every operation. What a list told besides: the store's clock and name.
///
/// # Errors
///
/// Where the bucket is not there, the store does not answer, or nothing at all is allowed.
pub(super) async fn permissions(ask: &mut Ask<'_>) -> Result<Listing> {
    let listed = ask.api.list_as(&ask.prefix(""), &Sought::default()).await;
    if let Err(error) = &listed {
        let error = error.storage();
        if error.is_no_such_bucket() || error.is_retryable() {
            return listed.map_err(Error::from);
        }
    }
    let mut tried: [(Question, Tried); 7] = [
        Question::MayPut,
        Question::MayGet,
        Question::MayDelete,
        Question::MayList,
        Question::MayAbort,
        Question::MayListParts,
        Question::MayListUploads,
    ]
    .map(|question| (question, Tried::default()));
    let [put, get, delete, list, abort, list_parts, list_uploads] =
        tried.each_mut().map(|(_, tried)| tried);
    let listing = list.note(listed).unwrap_or_default();
    let api = ask.api.clone();
    let api = &api;

    let key = ask.key("may");
    let bytes = [Bytes::from_static(b"may I?")];
    // Without a condition: some stores have none.
    let written = api.put(&key, &bytes, None, None).await;
    put.note(written);
    get.note(api.get_small(&key).await);
    get.note(api.head(&key).await);

    let created = ask.begin(&key, false).await;
    if let Some(id) = put.note(created) {
        let id = &id;
        let crc64 = Crc64::of(&bytes[0]);
        let part = api.upload_part(&key, id, 1, &bytes, None).await;
        let part = put.note(part);
        list_parts.note(api.list_parts(&key, id).await);
        list_uploads.note(api.multiparts_at(&key).await);
        if let Some(etag) = part {
            let parts = [CompletePart {
                number: 1,
                etag,
                crc64,
            }];
            let completed = api.complete_multipart(&key, id, &parts, None).await;
            put.note(completed);
        }
        // Of one that is complete, it is as unknown as any: the permission is looked at first.
        abort.note(api.abort_multipart(&key, id).await);
    }
    delete.note(api.delete(&key).await);
    let batch = [key.clone(), ask.key("may-too")];
    delete.note(api.delete_all(&batch, true).await);

    if tried.iter().all(|(_, tried)| !tried.allowed)
        && let Some(error) = tried
            .iter_mut()
            .find_map(|(_, one)| one.first_refusal.take())
    {
        return Err(error);
    }
    for (question, tried) in tried {
        for refusal in &tried.refused {
            ask.caused(refusal, question);
        }
        let (answer, found) = tried.judged();
        ask.tell(question, answer, found);
    }
    Ok(listing)
}

impl Tried {
    /// Any answer about the object or the upload shows that the operation is allowed.
    fn note<T>(&mut self, result: ApiResult<T>) -> Option<T> {
        match result {
            Ok(done) => {
                self.allowed = true;
                return Some(done);
            }
            Err(ApiError::Other(error)) => {
                let error = Error::from(error);
                if error.is_permission() {
                    self.refused.push(reason(&error));
                    self.first_refusal.get_or_insert(error);
                } else {
                    self.unclear.push(reason(&error));
                }
            }
            Err(_) => self.allowed = true,
        }
        None
    }

    fn judged(self) -> (Answer, String) {
        if !self.refused.is_empty() {
            return (Answer::No, self.refused.join(", "));
        }
        match self.allowed {
            true => (Answer::Yes, "allowed".to_owned()),
            false if self.unclear.is_empty() => (
                Answer::Unknown,
                "needs an upload, which was refused".to_owned(),
            ),
            false => (Answer::Unknown, self.unclear.join(", ")),
        }
    }
}
