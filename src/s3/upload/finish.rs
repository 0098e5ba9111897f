//! From bytes received to a published layer.
//!
//! [`Writer::finish`] verifies what is claimed, stores the last bytes, and writes `sealing`. From
//! there on no byte is needed, and [`drive`] does the rest: it can be repeated, by anyone, from
//! wherever the last driver stopped.

use std::sync::Arc;

use super::plan::finish::{Claims, Completed, check, judge_completed};
use super::plan::resume::{Resume, plan_resume};
use super::remove::{Leftovers, remove_finished, remove_lost};
use super::session::{Data, Phase, Sealed, Session, TailPlace};
use super::stored::Stored;
use super::tail;
use super::verify::{read_digests, settle_claims};
use super::writer::Writer;
use crate::clock;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::api::{ApiError, CompletePart, ETag, UploadId};
use crate::s3::document::Document as _;
use crate::s3::keys::Key;
use crate::s3::publish;
use crate::s3::record::Record;
use crate::s3::store::Store;

impl Writer {
    /// Verifies, seals and publishes.
    pub(super) async fn finish(&mut self, size: u64, digest: &Digest) -> Result<Record> {
        let declared = self.declared.as_ref();
        let claims = check(size, self.offset, digest, declared, &self.hashers)?;
        if let Phase::Sealing(standing) = self.stored.session.phase.clone()
            && let Some(record) = self.see_through(&standing, &claims).await?
        {
            return Ok(record);
        }
        let sealed = match &self.stored.session.phase {
            Phase::Sealing(sealed) | Phase::Sealed(sealed) => seal(sealed.data.clone(), claims),
            Phase::Cancelled => {
                return Err(Error::UploadUnknown {
                    uuid: self.stored.uuid,
                });
            }
            Phase::Open => seal(self.store_last_bytes().await?, claims),
        };
        let mut next = match self.stored.session.phase {
            Phase::Open => self.whole_session(),
            _ => self.stored.session.clone(),
        };
        next.phase = Phase::Sealing(sealed);
        self.record(next).await?;
        self.drive().await
    }

    /// Drives what was sealed before, whatever is claimed now: whoever sealed it may be publishing
    /// this very moment, and the data of a published layer must not become that of an upload which
    /// other claims turn into a `sealed` one, to be cancelled. `None` where the standing claims
    /// were wrong, so that nobody can have published, and the new ones have their turn.
    async fn see_through(&mut self, standing: &Sealed, claims: &Claims) -> Result<Option<Record>> {
        let record = match self.drive().await {
            Err(Error::InvalidChecksum { claimed, computed }) => {
                return match claims.unverified.contains(&claimed.clone().into()) {
                    true => Err(Error::InvalidChecksum { claimed, computed }),
                    false => Ok(None),
                };
            }
            driven => driven?,
        };
        let digest = LayerId::from(record.digest.clone());
        let mut claimed = claims.also.iter().chain(&claims.unverified);
        let all_verified = claimed.all(|id| {
            *id == digest || standing.also.contains(id) || standing.unverified.contains(id)
        });
        match all_verified {
            true => Ok(Some(record)),
            false => Err(Error::UploadUnknown {
                uuid: self.stored.uuid,
            }),
        }
    }

    async fn drive(&mut self) -> Result<Record> {
        let leftovers = Leftovers {
            // They stay here as well: where this fails, the next finish removes them.
            dropped: self.dropped.clone(),
            unknown: !self.pristine,
        };
        drive(&self.store, &mut self.stored, leftovers).await
    }

    /// Brings what is in memory to where the layer will be.
    async fn store_last_bytes(&mut self) -> Result<Data> {
        self.sender.drain().await?;
        let has_parts = self.offset > self.tail_bytes() + self.gather.len();
        if !has_parts && let Some(data) = self.store_whole().await? {
            return Ok(data);
        }
        if self.tail_bytes() + self.gather.len() > 0 {
            self.send_part().await?;
            self.sender.drain().await?;
        }
        Ok(Data::Parts)
    }

    fn tail_bytes(&self) -> u64 {
        self.tails.iter().map(|tail| tail.sum.len()).sum()
    }

    /// A layer that fits one PutObject; `None` where its key holds other bytes.
    async fn store_whole(&mut self) -> Result<Option<Data>> {
        if let [only] = self.tails.as_slice()
            && let TailPlace::Whole(etag) = &only.place
        {
            return Ok((self.gather.len() == 0).then(|| Data::Whole(etag.clone())));
        }
        if !self.tails.is_empty() {
            return Ok(None);
        }
        self.own().await?;
        let pieces = self.gather.pieces();
        let sum = tail::sum_of(&pieces);
        let etag = tail::write_whole(&self.store, self.stored.uuid, &pieces, sum).await?;
        if etag.is_some() {
            self.unrecorded_whole = true;
            self.gather.take();
            self.reservation = None;
        }
        Ok(etag.map(Data::Whole))
    }
}

/// What is to be published, as of now.
fn seal(data: Data, claims: Claims) -> Sealed {
    let Claims {
        digest,
        also,
        unverified,
    } = claims;
    Sealed {
        at: clock::now_timestamp(),
        data,
        digest,
        also,
        unverified,
    }
}

/// Drives a sealing upload to its end.
///
/// # Errors
///
/// `InvalidChecksum` where reading the object shows that a claim was wrong; the upload is `sealed`
/// then. `Damaged` where what the store holds is not what was sent: where it says so itself, the
/// upload is removed then, else the sweep removes it. `UploadUnknown` where another driver has
/// removed it. Everything else leaves it to be driven again.
pub(crate) async fn drive(
    store: &Arc<Store>,
    stored: &mut Stored,
    leftovers: Leftovers,
) -> Result<Record> {
    let Phase::Sealing(sealed) = stored.session.phase.clone() else {
        return Err(Error::UploadUnknown { uuid: stored.uuid });
    };
    let assembled = assemble(store, stored, &sealed).await?;
    let Assembled::Here { data, etag, proven } = assembled else {
        let data = store.keys.data(stored.uuid);
        return finished_by_another(store, stored, &sealed, &data, leftovers).await;
    };
    let must_read = !proven
        || sealed.digest.is_none()
        || !sealed.unverified.is_empty()
        || stored.session.found_parts
        || store.profile.needs_read_back();
    let digests = match must_read {
        false => Vec::new(),
        true => match read_digests(store, &data, &etag, &stored.session, &sealed).await {
            Err(Error::Damaged { .. }) if store.api.head(&data).await?.is_none() => {
                return finished_by_another(store, stored, &sealed, &data, leftovers).await;
            }
            digests => digests?,
        },
    };
    let (digest, also) = match settle_claims(&data, &sealed, &digests) {
        Ok(claims) => claims,
        Err(Error::InvalidChecksum { claimed, computed }) => {
            let digest = digests
                .into_iter()
                .find(|d| d.algorithm() == Algorithm::Sha256);
            let sealed = Sealed {
                digest,
                unverified: Vec::new(),
                ..sealed
            };
            let next = Session {
                phase: Phase::Sealed(sealed),
                ..stored.session.clone()
            };
            stored.replace(store, next).await?;
            return Err(Error::InvalidChecksum { claimed, computed });
        }
        Err(error) => return Err(error),
    };
    let session = &stored.session;
    let record = Record {
        version: Record::VERSION,
        data,
        etag,
        size: session.offset,
        digest,
        also,
        name: session.name.clone(),
        created_at: sealed.at,
        blocks: session.sums.clone().into_blocks(),
    };
    let published = publish::publish(store, &record).await?;
    publish::link(store, &session.name, &published, &record.also).await?;
    remove_finished(
        store,
        stored,
        &sealed,
        published.data == record.data,
        leftovers,
    )
    .await?;
    tracing::info!(uuid = %stored.uuid, digest = %published.digest, size = published.size, "published");
    Ok(published)
}

/// Where the bytes are, once they are in one object.
enum Assembled {
    Here {
        data: Key,
        etag: ETag,
        /// Known to be the bytes that were sent, without reading them.
        proven: bool,
    },
    /// Another driver was quicker.
    Gone,
}

async fn assemble(store: &Arc<Store>, stored: &mut Stored, sealed: &Sealed) -> Result<Assembled> {
    if let Data::Whole(etag) = &sealed.data {
        let data = store.keys.whole(stored.uuid);
        return Ok(Assembled::Here {
            data,
            etag: etag.clone(),
            proven: true,
        });
    }
    let data = store.keys.data(stored.uuid);
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
                            found_parts: true,
                            ..stored.session.clone()
                        };
                        stored.replace(store, next).await?;
                    }
                    _ if !judged_twice => {}
                    Resume::At { .. } => return Err(refusal.into()),
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

async fn complete(
    store: &Arc<Store>,
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
async fn found(store: &Arc<Store>, stored: &Stored, data: Key) -> Result<Assembled> {
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

/// The data is gone: because another driver has finished, as a duplicate even, or for good. One
/// that ended between its last two steps has left the session behind.
async fn finished_by_another(
    store: &Arc<Store>,
    stored: &Stored,
    sealed: &Sealed,
    data: &Key,
    leftovers: Leftovers,
) -> Result<Record> {
    if let Some(digest) = &sealed.digest
        && let Some(record) = store.record(&digest.clone().into()).await?
        && publish::has_its_data(store, &record).await?
    {
        publish::link(store, &stored.session.name, &record, &sealed.also).await?;
        let ours = record.data == *data;
        remove_finished(store, stored, sealed, ours, leftovers).await?;
        return Ok(record);
    }
    match Stored::load(store, stored.uuid).await? {
        Some(now) if now.session.phase != Phase::Cancelled => Err(Error::Damaged {
            key: data.to_string(),
            reason: "its multipart upload is gone, and no object came of it".to_owned(),
        }),
        _ => Err(Error::UploadUnknown { uuid: stored.uuid }),
    }
}

/// Drives an upload that was found sealing, for whoever came by.
pub(crate) async fn drive_found(store: &Arc<Store>, stored: &mut Stored) -> Result<Record> {
    let leftovers = Leftovers {
        dropped: Vec::new(),
        unknown: true,
    };
    drive(store, stored, leftovers).await
}
