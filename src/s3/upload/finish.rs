//! From bytes received to a published layer.
//!
//! [`Writer::finish`] verifies what is claimed, stores the last bytes, and writes `sealing`. From
//! there on no byte is needed, and [`drive`] does the rest: it can be repeated, by anyone, from
//! wherever the last driver stopped.

use std::sync::Arc;

use super::assemble::{Assembled, Others, assemble, find_whole};
use super::plan::finish::{Claims, check};
use super::remove::{Leftovers, remove_finished, remove_misread};
use super::session::{Data, Phase, Sealed, Session, TailPlace};
use super::stored::Stored;
use super::tail;
use super::verify::{Found, read_object, settle_claims, wrong_claim};
use super::writer::Writer;
use crate::clock;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::document::Document as _;
use crate::s3::presence;
use crate::s3::publish;
use crate::s3::record::Record;
use crate::s3::store::Store;

impl Writer {
    /// Verifies, seals and publishes.
    pub(super) async fn finish(&mut self, size: u64, digest: &Digest) -> Result<Record> {
        let tar_sum = self.tar_sum().await;
        let declared = self.declared.as_ref();
        let claims = match check(size, self.offset, digest, declared, &self.hashers, tar_sum) {
            Ok(claims) => claims,
            Err(wrong) => {
                // What this process remembers may be old, and refuses nothing.
                self.confirm().await?;
                return Err(wrong);
            }
        };
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
            Ok(record) => record,
            Err(error) => match wrong_claim(&error) {
                Some(wrong) if !claims.unverified.contains(&wrong) => return Ok(None),
                _ => return Err(error),
            },
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
        let others = match self.stored.is_of_another() {
            true => Others::MayBeAtIt,
            false => Others::None,
        };
        drive(&self.store, &mut self.stored, leftovers, others).await
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
/// `InvalidChecksum` or `InvalidTarSum` where reading the object shows that a claim was wrong; the
/// upload is `sealed` then. `Damaged` where what the store holds is not what was sent: where its
/// bytes were read, the upload is removed then, else the sweep removes it. `UploadUnknown` where another
/// driver has removed it. Everything else leaves it to be driven again.
pub(crate) async fn drive(
    store: &Arc<Store>,
    stored: &mut Stored,
    leftovers: Leftovers,
    others: Others,
) -> Result<Record> {
    let Phase::Sealing(sealed) = stored.session.phase.clone() else {
        return Err(Error::UploadUnknown { uuid: stored.uuid });
    };
    let has_to_be_read = sealed.digest.is_none()
        || !sealed.unverified.is_empty()
        || stored.session.doubted
        || store.profile.needs_read_back();
    // Whoever has just written the `.whole` object knows that it is there.
    let looks = has_to_be_read || leftovers.unknown;
    let assembled = match &sealed.data {
        Data::Whole(etag) if looks => find_whole(store, stored, etag).await?,
        Data::Whole(etag) => Assembled::Here {
            data: store.keys.whole(stored.uuid),
            etag: etag.clone(),
            proven: true,
        },
        Data::Parts => assemble(store, stored, others).await?,
    };
    let Assembled::Here { data, etag, proven } = assembled else {
        return finished_before(store, stored, &sealed, leftovers).await;
    };
    // Assembling may have doubted what was recorded.
    let found = match has_to_be_read || stored.session.doubted || !proven {
        false => Found::default(),
        true => match read_object(store, &data, &etag, &stored.session, &sealed).await {
            Err(Error::Damaged { .. }) if store.api.head(&data).await?.is_none() => {
                return finished_before(store, stored, &sealed, leftovers).await;
            }
            Ok(None) => {
                let damaged = Error::Damaged {
                    key: data.to_string(),
                    reason: "its bytes are not those that were sent".to_owned(),
                };
                return Err(remove_misread(store, stored, damaged).await?);
            }
            Ok(Some(found)) => found,
            Err(error) => return Err(error),
        },
    };
    let sha256 = found.digest(Algorithm::Sha256).cloned();
    let (digest, also) = match settle_claims(&data, &sealed, found) {
        Ok(claims) => claims,
        Err(error) if wrong_claim(&error).is_some() => {
            let sealed = Sealed {
                digest: sha256,
                unverified: Vec::new(),
                ..sealed
            };
            let next = Session {
                phase: Phase::Sealed(sealed),
                ..stored.session.clone()
            };
            stored.replace(store, next).await?;
            return Err(error);
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
    presence::seen(store, &published);
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
    // Of the same bytes that were there before, it may not have been known.
    Ok(published.known_as(&record.also))
}

/// The data is gone: because another driver has finished, or because it has found a duplicate and
/// died after it had removed the data and before the session; or for good.
async fn finished_before(
    store: &Arc<Store>,
    stored: &Stored,
    sealed: &Sealed,
    leftovers: Leftovers,
) -> Result<Record> {
    let uuid = stored.uuid;
    let is_over = Stored::load(store, uuid).await?.is_none();
    match (published_elsewhere(store, stored, sealed).await?, is_over) {
        (Some(record), is_over) => {
            let also = others(sealed, &record.digest);
            // Whoever ended it may have taken it for lost, and so have linked nothing.
            publish::link(store, &stored.session.name, &record, &also).await?;
            if !is_over {
                let ours = [store.keys.data(uuid), store.keys.whole(uuid)].contains(&record.data);
                remove_finished(store, stored, sealed, ours, leftovers).await?;
            }
            tracing::info!(%uuid, digest = %record.digest, "found published");
            Ok(record.known_as(&also))
        }
        (None, true) => Err(Error::UploadUnknown { uuid }),
        (None, false) => {
            let key = store.keys.data(uuid).to_string();
            let reason = "the bytes of the upload are gone, and no layer came of them".to_owned();
            Err(Error::Damaged { key, reason })
        }
    }
}

/// What was claimed beside the SHA-256, all of which was verified.
fn others(sealed: &Sealed, digest: &Digest) -> Vec<LayerId> {
    let digest = LayerId::from(digest.clone());
    let claimed = sealed.also.iter().chain(&sealed.unverified);
    claimed.filter(|&id| *id != digest).cloned().collect()
}

/// The layer that has every id which was claimed, if its bytes are there. It is found by digests,
/// all of which have to lead to it: one that nobody has verified may be of another layer. A TarSum
/// can lead to another layer all the same: that somebody has verified one is told by the link that
/// was made then.
async fn published_elsewhere(
    store: &Arc<Store>,
    stored: &Stored,
    sealed: &Sealed,
) -> Result<Option<Record>> {
    let digest = sealed.digest.clone().map(LayerId::from);
    let (digests, tar_sums): (Vec<_>, Vec<_>) = sealed
        .unverified
        .iter()
        .partition(|id| id.as_tar_sum().is_none());
    let mut published: Option<Record> = None;
    for id in digest.iter().chain(digests) {
        let record = store.record(id).await?;
        let is_it = |record: &Record| {
            let is_same = |first: &Record| first.digest == record.digest;
            record.size == stored.session.offset && published.as_ref().is_none_or(is_same)
        };
        let Some(record) = record.filter(is_it) else {
            return Ok(None);
        };
        published.get_or_insert(record);
    }
    for id in tar_sums {
        let link = store.keys.link(&stored.session.name, id);
        let linked = store.load::<Record>(&link).await?;
        let linked = linked.map(|linked| linked.document.data);
        if linked != published.as_ref().map(|record| record.data.clone()) {
            return Ok(None);
        }
    }
    match published {
        Some(record) if presence::look(store, &record).await? => Ok(Some(record)),
        _ => Ok(None),
    }
}

/// Drives an upload that was found sealing, and has been so for long.
pub(crate) async fn drive_found(store: &Arc<Store>, stored: &mut Stored) -> Result<Record> {
    let leftovers = Leftovers {
        dropped: Vec::new(),
        unknown: true,
    };
    drive(store, stored, leftovers, Others::None).await
}
