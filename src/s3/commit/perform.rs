//! Makes the requests of a commit, one step after the other, as [`next`] decides.

use std::sync::Arc;

use super::cleanup;
use super::next::{
    Bytes, Concurrency, End, Facts, Goal, Proof, PublishState, ReadBack, SessionState, Step, next,
};
use super::readback::{Verdict, read_back};
use super::recover::find_published;
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::s3::bucket::Store;
use crate::s3::bucket::live::LiveLayer;
use crate::s3::bucket::presence::{self, Judgement, Looking};
use crate::s3::format::checksum::Crc64;
use crate::s3::format::keys::Key;
use crate::s3::format::profile::StoreProfile;
use crate::s3::format::record::{Content, Segment, SegmentName, StoredLayer};
use crate::s3::publish;
use crate::s3::session::owned::{CancelScope, OwnedSession};
use crate::s3::session::plan::resume::{Parts, compare};
use crate::s3::session::{CommitIntent, Multipart, Phase, Session};
use crate::s3::wire::{ApiError, CompletePart, ETag, ListedPart, ObjectInfo};
use crate::telemetry::{Operation, UsageCounter};

/// Completes a `committing` upload from the step at which the last driver stopped.
///
/// # Errors
///
/// `InvalidChecksum` or `InvalidTarSum` where reading the bytes shows that a claimed id is wrong;
/// the session is `rejected` then. `Damaged` where the store does not have the bytes that were sent;
/// the session is `cancelled` then. `UploadUnknown` where it was cancelled meanwhile. After any other
/// error it can be committed again.
pub(crate) async fn commit(
    store: &Arc<Store>,
    owned: &mut OwnedSession,
    concurrency: Concurrency,
) -> Result<StoredLayer> {
    let uuid = owned.uuid();
    let Phase::Committing(intent) = owned.get().phase.clone() else {
        return Err(Error::UploadUnknown { uuid });
    };
    let (_turn, waited) = store.commits.lock(uuid).await;
    let mut driver = Driver::new(store, owned.get().clone(), Goal::Publish, concurrency);
    driver.seen_at = owned.seen_at();
    if waited {
        // The driver before may have ended it.
        driver.find_published(&intent).await?;
        if driver.facts.published == PublishState::Record {
            driver.facts.bytes = Bytes::Gone;
        } else {
            driver.facts.published = PublishState::Unknown;
        }
    }
    driver.end(&intent, owned).await
}

/// Cancels an upload in any state. One that is being committed is committed, unless that fails and cannot be retried,
/// or, for a sweep, which comes again, unless it can never succeed.
///
/// # Errors
///
/// `UploadUnknown` where it was committed or is over, `UploadConflict` where the handle lost it; those of the commit.
pub(crate) async fn cancel(
    store: &Arc<Store>,
    owned: &mut OwnedSession,
    scope: CancelScope,
) -> Result<()> {
    let uuid = owned.uuid();
    if !matches!(owned.get().phase, Phase::Committing(_)) {
        let cancelled = cleanup::cancel(store, owned, scope).await;
        let is_committing = matches!(owned.get().phase, Phase::Committing(_));
        match cancelled {
            // The owner has begun to commit it meanwhile.
            Err(Error::UploadConflict { .. }) if is_committing => {}
            cancelled => return cancelled,
        }
    }
    match commit(store, owned, Concurrency::Possible).await {
        Ok(_) => Err(Error::UploadUnknown { uuid }),
        Err(_) if matches!(owned.get().phase, Phase::Cancelled(_)) => Ok(()),
        Err(error @ (Error::UploadConflict { .. } | Error::UploadUnknown { .. })) => Err(error),
        Err(error) if error.is_retryable() => Err(error),
        Err(error) if spares_commit(scope, owned.get()) && !is_for_good(&error) => Err(error),
        Err(error) => {
            tracing::warn!(%uuid, %error, "cancelled an upload that cannot be committed");
            cleanup::cancel(store, owned, CancelScope::Committing).await
        }
    }
}

/// A read-back that has rejected the claims ends the commit.
fn spares_commit(scope: CancelScope, session: &Session) -> bool {
    scope == CancelScope::AsRead && matches!(session.phase, Phase::Committing(_))
}

/// Whether S3 refuses to complete the parts, and says why: a policy denies it, the object is too large, its key of
/// encryption cannot be used. Want of space, a credential that has expired, or the answer of a proxy are no such reasons.
fn is_for_good(error: &Error) -> bool {
    let Error::Storage(refusal) = error else {
        return false;
    };
    let code = refusal.answer().and_then(|answer| answer.split_once(' '));
    let (_, code) = code.unwrap_or_default();
    let is_of_upload =
        matches!(code, "AccessDenied" | "EntityTooLarge") || code.starts_with("KMS.");
    is_of_upload && refusal.operation() == Operation::CompleteMultipartUpload.as_str()
}

/// Publishes a layer whose bytes are in the session `committing`, which is written with it.
///
/// # Errors
///
/// As [`commit`]; and `UploadConflict` where another handle owns the upload.
pub(crate) async fn commit_inline(
    store: &Arc<Store>,
    owned: &mut OwnedSession,
    committing: Session,
) -> Result<StoredLayer> {
    let uuid = owned.uuid();
    let Phase::Committing(intent) = committing.phase.clone() else {
        return Err(Error::UploadUnknown { uuid });
    };
    let mut driver = Driver::new(store, committing, Goal::Publish, Concurrency::None);
    driver.facts.is_pending = true;
    driver.end(&intent, owned).await
}

/// Completes the recorded parts of the session's multipart upload, so that S3 refuses parts that a
/// previous owner sends.
///
/// # Errors
///
/// `UploadUnknown` where the parts are lost.
pub(crate) async fn freeze(
    store: &Arc<Store>,
    session: Session,
    concurrency: Concurrency,
) -> Result<Segment> {
    let uuid = session.uuid;
    if session.multipart.is_none() {
        return Err(Error::UploadUnknown { uuid });
    }
    let mut driver = Driver::new(store, session, Goal::Freeze, concurrency);
    let segment = match driver.run(None).await? {
        End::Frozen if driver.session.multipart.is_none() => driver.session.segments.pop(),
        End::Damaged(reason) => {
            tracing::warn!(%uuid, reason, "lost the parts of an upload");
            None
        }
        _ => None,
    };
    segment.ok_or(Error::UploadUnknown { uuid })
}

struct Driver<'a> {
    store: &'a Arc<Store>,
    /// As on record, but with the ETags that parts and objects have now. The multipart upload becomes a segment
    /// when it is complete.
    session: Session,
    facts: Facts,
    /// Parts that an owner sent and did not record, where the store refuses to leave them out.
    surplus: Vec<ListedPart>,
    looked_at: Option<Moment>,
    /// The session was seen then.
    seen_at: Moment,
    /// Ids that the read-back has verified.
    verified: Vec<LayerId>,
    /// Why the claims are wrong.
    wrong: Option<Error>,
    /// What is published under the digest: ours, or an equal layer.
    published: Option<LiveLayer>,
}

impl<'a> Driver<'a> {
    fn new(store: &'a Arc<Store>, session: Session, goal: Goal, concurrency: Concurrency) -> Self {
        let is_inline = session.is_inline() && goal == Goal::Publish;
        let facts = Facts {
            goal,
            concurrency,
            is_inline,
            is_pending: false,
            has_parts: session.has_parts(),
            bytes: if is_inline {
                Bytes::Complete(Proof::Store)
            } else {
                Bytes::Unknown
            },
            listings: 0,
            is_fresh: false,
            read_back: ReadBack::NotNeeded,
            published: PublishState::Unknown,
            session: SessionState::Committing,
        };
        Driver {
            store,
            session,
            facts,
            surplus: Vec::new(),
            looked_at: None,
            seen_at: Moment::now(),
            verified: Vec::new(),
            wrong: None,
            published: None,
        }
    }

    /// Carries a commit to its end.
    async fn end(mut self, intent: &CommitIntent, owned: &mut OwnedSession) -> Result<StoredLayer> {
        let is_stored = !self.facts.is_inline;
        if !intent.unverified.is_empty() || (is_stored && self.store.profile.needs_read_back()) {
            self.facts.read_back = ReadBack::Needed;
        }
        let end = self.run(Some((intent, &mut *owned))).await?;
        self.conclude(end, owned).await
    }

    /// Makes requests until there is an end. A freeze has no `commit`.
    async fn run(&mut self, mut commit: Option<(&CommitIntent, &mut OwnedSession)>) -> Result<End> {
        loop {
            let look = self.store.times().look();
            self.facts.is_fresh = self.looked_at.is_some_and(|at| at.is_within(look));
            if self.facts.session == SessionState::Committing && !self.seen_at.is_within(look) {
                self.facts.session = SessionState::Stale;
            }
            let published = self.published.as_ref();
            let is_fresh = published.is_none_or(|live| live.is_fresh(self.store));
            if self.facts.published == PublishState::Record && !is_fresh {
                self.facts.published = PublishState::Unknown;
            }
            match (next(&self.facts), &mut commit) {
                (Step::End(end), _) => return Ok(end),
                (Step::AwaitObject, _) => self.facts.bytes = self.await_object().await?,
                (Step::Look, _) => self.facts.bytes = self.look().await?,
                (Step::Complete, _) => self.facts.bytes = self.complete().await?,
                (Step::ListParts, _) => self.facts.bytes = self.list_parts().await?,
                (Step::ReadSession, _) => self.read_session().await?,
                (Step::ReadBack, Some((intent, _))) => self.read_back(intent).await?,
                (Step::Publish, Some((intent, _))) => self.publish(intent).await?,
                (Step::Link, Some((intent, _))) => self.link(intent).await?,
                (Step::FindPublished, Some((intent, _))) => self.find_published(intent).await?,
                (Step::PublishInline, Some((intent, owned))) => {
                    self.publish_inline(owned, intent).await?;
                }
                (Step::Reject, Some((intent, owned))) => {
                    self.reject(owned, intent).await?;
                    return Ok(End::WrongClaim);
                }
                // `next` gives a freeze none of these steps.
                (_, None) => return Ok(End::UploadUnknown),
            }
        }
    }

    /// Turns the end into the caller's answer, and begins to remove the upload.
    async fn conclude(self, end: End, owned: &mut OwnedSession) -> Result<StoredLayer> {
        let uuid = self.session.uuid;
        let key = self.store.keys.data_prefix(uuid);
        match (end, self.published, self.wrong) {
            (End::Published, Some(live), _) => {
                let layer = live.layer.clone();
                tracing::info!(%uuid, digest = %layer.digest, size = layer.size, "published");
                if self.facts.session != SessionState::Removed {
                    let store = Arc::clone(self.store);
                    let session = owned.get().clone();
                    self.store
                        .background
                        .spawn(UsageCounter::inherit(async move {
                            let removed = cleanup::remove_finished(&store, &session, &live);
                            if let Err(error) = removed.await {
                                let uuid = session.uuid;
                                tracing::warn!(%uuid, %error, "left a finished upload to the sweep");
                            }
                        }));
                }
                Ok(layer)
            }
            (End::WrongClaim, _, Some(wrong)) => Err(wrong),
            (End::Damaged(reason), ..) => {
                // Nothing can come of it: the client may send the layer again under its id.
                if let Err(error) =
                    cleanup::cancel(self.store, owned, CancelScope::Committing).await
                {
                    tracing::warn!(%uuid, %error, "could not cancel a damaged upload");
                }
                Err(Error::Damaged { key, reason })
            }
            _ => Err(Error::UploadUnknown { uuid }),
        }
    }

    fn open(&self) -> Option<(&Multipart, Key)> {
        let open = self.session.multipart.as_ref()?;
        let keys = &self.store.keys;
        Some((open, keys.multipart(self.session.uuid, open.number)))
    }

    async fn complete(&mut self) -> Result<Bytes> {
        let Some((open, key)) = self.open() else {
            return Ok(Bytes::Gone);
        };
        let mut parts: Vec<CompletePart> = (1..)
            .zip(&open.parts)
            .map(|(number, part)| CompletePart {
                number,
                etag: part.etag.clone(),
                crc64: part.sum,
            })
            .collect();
        let sum = open.sum();
        let mut object = Some(sum);
        for part in &self.surplus {
            let told = part.crc64.as_deref();
            let told = told.and_then(|crc64| Crc64::from_base64(crc64, part.size));
            parts.push(CompletePart {
                number: part.number,
                etag: part.etag.clone(),
                crc64: told.unwrap_or_default(),
            });
            object = object.zip(told).map(|(object, part)| object.then(part));
        }
        let looking = presence::begin(self.store, &key);
        let checksum = object.and_then(|object| self.store.checksum(object));
        let api = &self.store.api;
        let completed = api.complete_counted(&key, &open.upload_id, &parts, checksum);
        match completed.await {
            Ok((etag, 1)) if let Some(object) = checksum => {
                self.found(etag, sum, object.len(), looking);
                Ok(Bytes::Complete(Proof::Store))
            }
            // Only this driver has checked that all bytes are present.
            Ok(_) | Err(ApiError::NoSuchUpload(_) | ApiError::NoSuchKey(_)) => {
                Ok(Bytes::UploadGone)
            }
            Err(ApiError::InvalidPart(refusal)) => {
                let error = refusal.to_string();
                tracing::warn!(%key, error, "the store refused to complete the parts");
                Ok(Bytes::PartsRefused)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The multipart upload was completed to this object of `size` bytes.
    fn found(&mut self, etag: ETag, sum: Crc64, size: u64, looking: Looking) {
        let Some((open, key)) = self.open() else {
            return;
        };
        let name = SegmentName::Multipart(open.number);
        presence::note(self.store, &key, &etag, looking);
        if self.session.segments.is_empty() {
            self.looked_at = Some(looking.since);
        }
        self.session.add_segment(Segment {
            name,
            etag,
            sum,
            object_size: Some(size).filter(|size| *size != sum.len()),
        });
    }

    /// Looks for the completed object, for a while.
    async fn await_object(&mut self) -> Result<Bytes> {
        let Some((open, key)) = self.open() else {
            return Ok(Bytes::Gone);
        };
        let sum = open.sum();
        let judge = |head: &ObjectInfo| judge_completed(head, sum, &self.store.profile);
        let is_right = |head: &ObjectInfo| matches!(judge(head), Bytes::Complete(_));
        Ok(match presence::awaited(self.store, &key, is_right).await? {
            None if self.facts.bytes == Bytes::UploadGone => Bytes::Gone,
            None => Bytes::InParts,
            Some((head, looking)) => {
                let judged = judge(&head);
                if matches!(judged, Bytes::Complete(_)) {
                    self.found(head.etag, sum, head.size, looking);
                }
                judged
            }
        })
    }

    /// Looks at every object that has bytes of the layer.
    async fn look(&mut self) -> Result<Bytes> {
        let mut oldest = Moment::now();
        let mut proof = match &self.facts.bytes {
            Bytes::Complete(proof) => *proof,
            _ => Proof::Store,
        };
        let uuid = self.session.uuid;
        for segment in &mut self.session.segments {
            let key = self.store.keys.segment(uuid, &segment.name);
            if let Some(seen_at) = presence::seen_at(self.store, &key, &segment.etag) {
                oldest = oldest.min(seen_at);
                continue;
            }
            let looking = presence::begin(self.store, &key);
            let Some(judged) = presence::judged(self.store, &key, segment).await? else {
                return Ok(Bytes::Gone);
            };
            segment.etag = match judged {
                Judgement::Same(etag) => etag,
                Judgement::Unproven(etag) => {
                    proof = Proof::None;
                    etag
                }
                Judgement::Other(reason) => return Ok(Bytes::Damaged(reason)),
            };
            presence::note(self.store, &key, &segment.etag, looking);
        }
        self.looked_at = Some(oldest);
        Ok(Bytes::Complete(proof))
    }

    /// Brings the ETags of the parts up to date: under SSE-KMS each attempt has its own.
    async fn list_parts(&mut self) -> Result<Bytes> {
        let key = self.open().map(|(_, key)| key);
        let Some((open, key)) = self.session.multipart.as_mut().zip(key) else {
            return Ok(Bytes::Gone);
        };
        let listed = self.store.api.list_parts(&key, &open.upload_id).await?;
        // Where Complete has to name them.
        let recorded = u32::try_from(open.parts.len()).unwrap_or(u32::MAX);
        let is_surplus =
            |part: &&ListedPart| !self.store.profile.partial_complete && part.number > recorded;
        let surplus = listed.iter().flatten().filter(is_surplus);
        let surplus: Vec<ListedPart> = surplus.cloned().collect();
        // Parts that still arrive are a reason to try again.
        if surplus == self.surplus {
            self.facts.listings += 1;
        }
        self.surplus = surplus;
        Ok(match compare(&open.parts, listed.as_deref()) {
            _ if listed.is_none() => Bytes::UploadGone,
            Parts::Present(parts) => {
                open.parts = parts;
                Bytes::InParts
            }
            Parts::Lost { number, reason } => Bytes::Damaged(format!("part {number}: {reason}")),
        })
    }

    async fn read_back(&mut self, intent: &CommitIntent) -> Result<()> {
        let verdict = read_back(self.store, &self.session, intent).await?;
        self.facts.read_back = match verdict {
            Verdict::Verified(ids) => {
                self.verified = ids;
                ReadBack::Verified
            }
            Verdict::WrongClaim(error) => {
                self.wrong = Some(error);
                ReadBack::WrongClaim
            }
            Verdict::Unreadable(error) => return self.confirm_loss(error).await,
            Verdict::Differs => ReadBack::Differs,
        };
        Ok(())
    }

    /// Looks at the objects again. Where they are as before, one odd answer to a read is no reason to
    /// give up bytes that were acknowledged: the commit ends with this error and can be repeated.
    async fn confirm_loss(&mut self, error: Error) -> Result<()> {
        let before = self.session.segments.clone();
        for segment in &before {
            let key = self.store.keys.segment(self.session.uuid, &segment.name);
            presence::lost(self.store, &key);
        }
        self.facts.bytes = self.look().await?;
        let is_there = matches!(self.facts.bytes, Bytes::Complete(_));
        if is_there && self.session.segments == before {
            return Err(error);
        }
        Ok(())
    }

    fn aliases(&self, intent: &CommitIntent) -> Vec<LayerId> {
        [intent.aliases.as_slice(), &self.verified].concat()
    }

    fn layer(&self, intent: &CommitIntent) -> StoredLayer {
        let session = &self.session;
        let (content, blocks) = if self.facts.is_inline {
            (Content::Inline(session.inline.clone()), Default::default())
        } else {
            let blocks = session.sums.clone().into_blocks();
            (Content::Segments(session.segments.clone()), blocks)
        };
        StoredLayer {
            digest: intent.digest.clone(),
            size: session.offset,
            upload: session.uuid,
            content,
            blocks,
            aliases: self.aliases(intent),
            repository: session.repository.clone(),
            created_at: intent.at,
        }
    }

    async fn publish(&mut self, intent: &CommitIntent) -> Result<()> {
        let layer = self.layer(intent);
        let parts = layer.segments().iter().map(|segment| segment.sum);
        if parts.fold(Crc64::default(), Crc64::then) != self.session.sums.whole {
            let reason = "its objects do not make up the bytes that were received".to_owned();
            self.facts.bytes = Bytes::Damaged(reason);
            return Ok(());
        }
        let seen_at = self.looked_at.map(|at| at.min(self.seen_at));
        let until = seen_at.map(|at| (at, self.store.times().look()));
        let standing = publish::publish(self.store, &layer, until).await?;
        // These ids may not have been known of the same bytes.
        self.published = Some(standing.with_aliases(&layer.aliases));
        self.facts.published = PublishState::Record;
        Ok(())
    }

    async fn link(&mut self, intent: &CommitIntent) -> Result<()> {
        if let Some(layer) = &self.published {
            let aliases = self.aliases(intent);
            publish::link(self.store, &self.session.repository, layer, &aliases).await?;
        }
        self.facts.published = PublishState::Linked;
        Ok(())
    }

    /// The link holds the bytes as well, so it is right with any record.
    async fn publish_inline(
        &mut self,
        owned: &mut OwnedSession,
        intent: &CommitIntent,
    ) -> Result<()> {
        let layer = self.layer(intent);
        let name = &self.session.repository;
        let committing = self.facts.is_pending.then(|| self.session.clone());
        let fence = async {
            match committing {
                Some(committing) => owned.replace(self.store, committing).await,
                None => Ok(()),
            }
        };
        // Aliases repeat the record that stands.
        let links_at_once = layer.aliases.is_empty();
        let link = async {
            if !links_at_once {
                return Ok(());
            }
            let inline = LiveLayer::inline(layer.clone());
            publish::link(self.store, name, &inline, &[]).await
        };
        let record = publish::publish(self.store, &layer, None);
        let (fenced, standing, linked) = tokio::join!(fence, record, link);
        fenced?;
        linked?;
        self.published = Some(standing?.with_aliases(&layer.aliases));
        self.facts.is_pending = false;
        self.facts.published = if links_at_once {
            PublishState::Linked
        } else {
            PublishState::Record
        };
        Ok(())
    }

    async fn reject(&self, owned: &mut OwnedSession, intent: &CommitIntent) -> Result<()> {
        let phase = Phase::Rejected(CommitIntent {
            unverified: Vec::new(),
            ..intent.clone()
        });
        let next = Session {
            phase,
            ..owned.get().clone()
        };
        owned.replace(self.store, next).await
    }

    async fn find_published(&mut self, intent: &CommitIntent) -> Result<()> {
        let session = &self.session;
        let found = find_published(self.store, session, intent).await?;
        self.facts.published = PublishState::Absent;
        if let Some(layer) = found {
            self.verified.clone_from(&intent.unverified);
            self.verified.retain(|id| *id != layer.layer.id());
            let aliases = self.aliases(intent);
            self.published = Some(layer.with_aliases(&aliases));
            self.facts.published = PublishState::Record;
        }
        self.read_session().await
    }

    async fn read_session(&mut self) -> Result<()> {
        let now = OwnedSession::load(self.store, self.session.uuid).await?;
        self.facts.session = match now.as_ref().map(|now| &now.get().phase) {
            // An open one is a first session that a stray request has brought back.
            None | Some(Phase::Open) => SessionState::Removed,
            Some(Phase::Cancelled(_)) => SessionState::Cancelled,
            Some(_) => SessionState::Committing,
        };
        self.seen_at = now.map_or_else(Moment::now, |now| now.seen_at());
        Ok(())
    }
}

/// What HEAD says of an object that was to be completed from these bytes.
fn judge_completed(head: &ObjectInfo, sum: Crc64, profile: &StoreProfile) -> Bytes {
    if head.size > sum.len() && !profile.partial_complete {
        // It was completed with surplus parts, behind the recorded ones. Those were named by their
        // ETags; the checksum of the object is that of all.
        return Bytes::Complete(if profile.checks_part_etags {
            Proof::Store
        } else {
            Proof::None
        });
    }
    if head.size != sum.len() {
        let (sent, has) = (sum.len(), head.size);
        return Bytes::Damaged(format!("{sent} bytes were sent, the object has {has}"));
    }
    match &head.crc64 {
        Some(found) if sum.is(found) => Bytes::Complete(Proof::Store),
        Some(_) => Bytes::Damaged("the object has another checksum than was sent".to_owned()),
        // Its parts were named by their ETags.
        None if !profile.crc64nvme && profile.checks_part_etags => Bytes::Complete(Proof::Store),
        None => Bytes::Complete(Proof::None),
    }
}
