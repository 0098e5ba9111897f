//! Bringing a sealed upload's bytes into one object, or finding that they are there.

use std::time::Duration;

use tokio::time::Instant;

use super::plan::finish::{Completed, judge_completed};
use super::plan::resume::{Resume, plan_resume};
use super::remove::remove_lost;
use super::session::Session;
use super::stored::Stored;
use crate::error::{Error, Result};
use crate::s3::api::{ApiError, CompletePart, ETag, UploadId};
use crate::s3::keys::Key;
use crate::s3::store::Store;

/// How long a driver waits for another one that may be at work, before it repeats its Complete.
/// S3 takes the second of two for the first, but not every store stands two at the same time:
/// LocalStack has emptied the object then.
const PATIENCE: Duration = Duration::from_secs(3);
/// The first pause between two looks; it doubles.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// Who else may be assembling the upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Nobody: this driver sealed it, or it was sealed long ago.
    None,
    /// Whoever sealed it, in this process or another.
    MayBeAtIt,
}

/// Where the bytes are, once they are in one object.
pub(super) enum Assembled {
    Here {
        data: Key,
        etag: ETag,
        /// Known to be the bytes that were sent, without reading them.
        proven: bool,
    },
    /// Another driver was quicker.
    Gone,
}

/// The `.whole` object. An earlier driver that found a duplicate may have removed it and died.
pub(super) async fn find_whole(store: &Store, stored: &Stored, etag: &ETag) -> Result<Assembled> {
    let data = store.keys.whole(stored.uuid);
    match store.api.head(&data).await? {
        None => Ok(Assembled::Gone),
        Some(found) if found.etag == *etag && found.size == stored.session.offset => {
            Ok(Assembled::Here {
                data,
                etag: found.etag,
                proven: true,
            })
        }
        Some(_) => Err(Error::Damaged {
            key: data.to_string(),
            reason: "it was replaced: it has another ETag or size".to_owned(),
        }),
    }
}

pub(super) async fn assemble(
    store: &Store,
    stored: &mut Stored,
    others: Others,
) -> Result<Assembled> {
    let data = store.keys.data(stored.uuid);
    if others == Others::MayBeAtIt && appears(store, &data).await? {
        return found(store, stored, data).await;
    }
    let Some(upload_id) = stored.session.upload_id.clone() else {
        let reason = "the session names no multipart upload".to_owned();
        return Err(Error::Damaged {
            key: data.to_string(),
            reason,
        });
    };
    let mut judged_twice = false;
    loop {
        match complete(store, stored, &data, &upload_id).await {
            Ok(etag) if store.profile.crc64nvme => {
                return Ok(Assembled::Here {
                    data,
                    etag,
                    proven: true,
                });
            }
            // Nobody but us has checked that all bytes are there.
            Ok(_) | Err(ApiError::NoSuchUpload(_) | ApiError::NoSuchKey(_)) => {
                return found(store, stored, data).await;
            }
            Err(ApiError::InvalidPart(refusal)) => {
                let listed = store.api.list_parts(&data, &upload_id).await?;
                match plan_resume(&stored.session, listed.as_deref()) {
                    Resume::At { parts, .. } if parts != stored.session.parts => {
                        let next = Session {
                            parts,
                            doubted: true,
                            ..stored.session.clone()
                        };
                        stored.replace(store, next).await?;
                    }
                    _ if !judged_twice => {}
                    // It will not the next time either, and its parts are those that were sent.
                    Resume::At { .. } => {
                        return Err(Error::Damaged {
                            key: data.to_string(),
                            reason: format!("the store does not assemble its parts: {refusal}"),
                        });
                    }
                    Resume::Lost { part, reason } => {
                        let damaged = Error::Damaged {
                            key: data.to_string(),
                            reason: format!("part {part}: {reason}"),
                        };
                        return Err(remove_lost(store, stored, damaged).await?);
                    }
                }
                judged_twice = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the object is there, or comes while one is patient.
async fn appears(store: &Store, data: &Key) -> Result<bool> {
    let mut pause = FIRST_LOOK;
    let begun = Instant::now();
    while store.api.head(data).await?.is_none() {
        if begun.elapsed() >= PATIENCE {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(true)
}

async fn complete(
    store: &Store,
    stored: &Stored,
    data: &Key,
    upload_id: &UploadId,
) -> Result<ETag, ApiError> {
    let session = &stored.session;
    let parts: Vec<CompletePart> = (1..)
        .zip(&session.parts)
        .map(|(number, part)| CompletePart {
            number,
            etag: part.etag.clone(),
            crc64: part.sum,
        })
        .collect();
    let whole = store.checksum(session.sums.whole);
    store
        .api
        .complete_multipart(data, upload_id, &parts, whole)
        .await
}

/// Whether the object is there that Complete should have left or has left.
async fn found(store: &Store, stored: &Stored, data: Key) -> Result<Assembled> {
    let head = store.api.head(&data).await?;
    match (
        judge_completed(head.as_ref(), stored.session.sums.whole),
        head,
    ) {
        (Completed::Right, Some(head)) => Ok(Assembled::Here {
            data,
            etag: head.etag,
            proven: true,
        }),
        (Completed::Unproven, Some(head)) => {
            let proven = !store.profile.crc64nvme && store.profile.checks_part_etags;
            Ok(Assembled::Here {
                data,
                etag: head.etag,
                proven,
            })
        }
        (Completed::Absent, _) | (_, None) => Ok(Assembled::Gone),
        (Completed::Wrong, Some(head)) => Err(Error::Damaged {
            key: data.to_string(),
            reason: format!(
                "{} bytes were sent, the object has {} and another checksum",
                stored.session.offset, head.size
            ),
        }),
    }
}
