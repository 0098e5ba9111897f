//! What all modules of the adapter share: the bucket, its keys, what it can do, and the byte
//! budget; and how a document is read.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock::Moment;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::looks::Looks;
use crate::s3::bucket::markers::Names;
use crate::s3::budget::Budget;
use crate::s3::format::checksum::Crc64;
use crate::s3::format::collection_times::CollectionTimes;
use crate::s3::format::document::{Document, decode, encode, is_tombstone, tombstone};
use crate::s3::format::keys::{Key, Keys};
use crate::s3::format::profile::StoreProfile;
use crate::s3::format::record::{Alias, Link, Record, StoredLayer};
use crate::s3::keyed_lock::KeyedLock;
use crate::s3::wire::{Api, Condition, ConditionForm, ETag, Put, SmallObject, Written};

pub(crate) mod cache;
pub(crate) mod live;
pub(crate) mod looks;
pub(crate) mod markers;
pub(crate) mod objects;
pub(crate) mod presence;

/// One bucket and root, as one service uses it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) api: Api,
    pub(crate) keys: Keys,
    pub(crate) profile: StoreProfile,
    pub(crate) budget: Budget,
    /// In bytes; the budget's size.
    pub(crate) memory_budget: u64,
    /// In bytes.
    pub(crate) part_size: u64,
    /// Requests of one upload or reader at a time.
    pub(crate) parallelism: usize,
    pub(crate) presign_lifetime: Duration,
    /// Data objects that this process has looked at.
    pub(crate) looks: Looks,
    /// Repositories that this process knows to have a marker.
    pub(crate) names: Names,
    /// Commits of one upload take turns.
    pub(crate) commits: KeyedLock<Uuid>,
    /// What is still done after a caller was answered.
    pub(crate) background: TaskTracker,
}

/// A document as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredDocument<T> {
    pub(crate) document: T,
    pub(crate) etag: ETag,
    pub(crate) written: Written,
}

/// The result of an unconditional write.
#[derive(Debug)]
pub(crate) enum OverwriteOutcome {
    Yes,
    /// Not: the document was removed, and left this tombstone, or nothing.
    Removed(Option<ETag>),
}

/// How often a document that does not have its own checksum is read again: once may have been the
/// wire.
const READS: u32 = 3;

/// How often a document is contended for before that is reported as an error that can be retried.
pub(crate) const ROUNDS: u32 = 5;

/// As [`Store::read`], before there is a store.
pub(crate) async fn read<T: Document>(
    api: &Api,
    key: &Key,
) -> Result<Option<StoredDocument<Result<T>>>> {
    let mut reads = 0;
    loop {
        let Some(object) = api.get_small(key).await? else {
            return Ok(None);
        };
        let SmallObject {
            bytes,
            etag,
            written,
            turn: _turn,
        } = object;
        if is_tombstone(key, &bytes) {
            return Ok(None);
        }
        reads += 1;
        match decode(key, &bytes) {
            Err(error @ Error::NewerVersion { .. }) => return Err(error),
            Err(error) if reads < READS => tracing::info!(%key, %error, "read again"),
            document => {
                return Ok(Some(StoredDocument {
                    document,
                    etag,
                    written,
                }));
            }
        }
    }
}

impl Store {
    /// Reads a document; `None` where there is none.
    pub(crate) async fn load<T: Document>(&self, key: &Key) -> Result<Option<StoredDocument<T>>> {
        let Some(read) = self.read(key).await? else {
            return Ok(None);
        };
        Ok(Some(StoredDocument {
            document: read.document?,
            etag: read.etag,
            written: read.written,
        }))
    }

    /// As [`load`](Self::load), with the ETag of a damaged document too, so that it can be removed.
    pub(crate) async fn read<T: Document>(
        &self,
        key: &Key,
    ) -> Result<Option<StoredDocument<Result<T>>>> {
        read(&self.api, key).await
    }

    /// Removes a document that was read with this ETag. One that was written since stays; the
    /// removal took effect just before that write.
    ///
    /// # Cost
    ///
    /// 1 request.
    pub(crate) async fn remove(&self, key: &Key, etag: &ETag) -> Result<()> {
        self.remove_judged(key, etag).await.map(drop)
    }

    /// As [`remove`](Self::remove). Whether nothing of this ETag is left: the document was not written since.
    pub(crate) async fn remove_judged(&self, key: &Key, etag: &ETag) -> Result<bool> {
        if self.profile.conditional_deletes && self.api.conditions() != ConditionForm::Unsent {
            Ok(self.api.delete_if(key, etag).await?)
        } else {
            self.bury(key, etag).await
        }
    }

    /// Removes several objects, in one request where the store can. None counts as looked at any more.
    pub(crate) async fn remove_all(&self, keys: &[Key]) -> Result<()> {
        self.remove_all_until(keys, None).await
    }

    /// As [`remove_all`](Self::remove_all). No request is signed later than `until`: so long after that moment.
    pub(crate) async fn remove_all_until(
        &self,
        keys: &[Key],
        until: Option<(Moment, Duration)>,
    ) -> Result<()> {
        let forget = || keys.iter().for_each(|key| self.looks.forget(key));
        forget();
        let batched = self.profile.batch_delete;
        let removed = self.api.delete_all(keys, batched, until).await;
        // A look that began before the removal may have ended meanwhile.
        forget();
        Ok(removed?)
    }

    /// Whether writes carry conditions that the store keeps.
    pub(crate) fn has_conditional_writes(&self) -> bool {
        self.profile.conditional_writes && self.api.conditions() != ConditionForm::Unsent
    }

    /// As [`remove`](Self::remove), with a tombstone on every store, so that a later write with
    /// If-None-Match is refused. Whether it was this call that removed the document.
    pub(crate) async fn bury(&self, key: &Key, etag: &ETag) -> Result<bool> {
        let condition = Condition::Matches(etag);
        let put = self.api.put_if(key, tombstone()?, condition).await?;
        Ok(matches!(put, Put::Written(_)))
    }

    /// Whether an upload has a session.
    ///
    /// # Cost
    ///
    /// 1 request.
    pub(crate) async fn has_session(&self, uuid: Uuid) -> Result<bool> {
        let session = self.api.get_small(&self.keys.session(uuid)).await?;
        Ok(session.is_some())
    }

    /// How long a collection waits for what.
    pub(crate) fn times(&self) -> &CollectionTimes {
        &self.profile.collection
    }

    /// The checksum to send along, where the store holds us to it.
    pub(crate) fn checksum(&self, sum: Crc64) -> Option<Crc64> {
        self.profile.crc64nvme.then_some(sum)
    }

    /// A layer, found by any of its ids. An alias is followed to its record, which alone says
    /// whether the layer is present.
    ///
    /// # Cost
    ///
    /// 1 request by SHA-256, else 2.
    ///
    /// # Errors
    ///
    /// `Damaged` where the document is not one of this id, `NewerVersion`.
    pub(crate) async fn layer(&self, id: &LayerId) -> Result<Option<StoredLayer>> {
        let Some(own) = self.own_id(id).await? else {
            return Ok(None);
        };
        let record = self.record(&own).await?.map(|loaded| loaded.document);
        let present = record.filter(|record| record.state.is_present());
        let layer = present.map(|record| record.layer);
        if own == *id {
            return Ok(layer);
        }
        Ok(layer.map(|layer| layer.with_aliases(std::slice::from_ref(id))))
    }

    /// The SHA-256 of the layer with this id, as its alias says.
    ///
    /// # Cost
    ///
    /// None by SHA-256, else 1 request.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub(crate) async fn own_id(&self, id: &LayerId) -> Result<Option<LayerId>> {
        if id.is_sha256() {
            return Ok(Some(id.clone()));
        }
        let key = self.keys.layer(id);
        let Some(StoredDocument { document, .. }) = self.load::<Alias>(&key).await? else {
            return Ok(None);
        };
        if document.id != *id {
            return Err(Error::damaged(&key, format!("it is of {}", document.id)));
        }
        check_layer(&key, id, &document.layer)?;
        Ok(Some(document.layer.id()))
    }

    /// The record of the layer with this SHA-256, in any state.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub(crate) async fn record(&self, id: &LayerId) -> Result<Option<StoredDocument<Record>>> {
        let key = self.keys.layer(id);
        let Some(loaded) = self.load::<Record>(&key).await? else {
            return Ok(None);
        };
        check_layer(&key, id, &loaded.document.layer)?;
        Ok(Some(loaded))
    }

    /// A layer that is linked under a repository, as the link repeats it.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub(crate) async fn linked(
        &self,
        name: &RepositoryName,
        id: &LayerId,
    ) -> Result<Option<StoredLayer>> {
        let link = self.link(name, id).await?;
        Ok(link.map(|loaded| loaded.document.layer))
    }

    /// The link of a layer under a repository, by one of its ids.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub(crate) async fn link(
        &self,
        name: &RepositoryName,
        id: &LayerId,
    ) -> Result<Option<StoredDocument<Link>>> {
        let key = self.keys.link(name, id);
        let Some(loaded) = self.load::<Link>(&key).await? else {
            return Ok(None);
        };
        check_link(&key, name, id, &loaded.document)?;
        Ok(Some(loaded))
    }

    /// Writes a document in the place of the one with this ETag, or where none stands; see [`Api::put_if`].
    pub(crate) async fn put_over<T: Document>(
        &self,
        key: &Key,
        document: &T,
        etag: Option<&ETag>,
    ) -> Result<Put> {
        let condition = etag.map_or(Condition::Absent, Condition::Matches);
        Ok(self.api.put_if(key, encode(document)?, condition).await?)
    }

    /// Stores a document in the place of any other; the last writer wins. Every write is conditional,
    /// so that a stray attempt cannot undo a later write.
    ///
    /// # Cost
    ///
    /// 1 request where nothing stands there, else 3.
    ///
    /// # Errors
    ///
    /// `NewerVersion` where a document of a newer version stands there; it stays.
    pub(crate) async fn overwrite<T: Document>(&self, key: &Key, document: &T) -> Result<()> {
        let mut removed = None;
        loop {
            match self
                .overwrite_unless_removed(key, document, removed, None)
                .await?
            {
                OverwriteOutcome::Yes => return Ok(()),
                OverwriteOutcome::Removed(tombstone) => removed = tombstone,
            }
        }
    }

    /// As [`overwrite`](Self::overwrite), but returns where it finds that the document was removed,
    /// with the ETag of the tombstone. A call with that ETag writes over it.
    ///
    /// A write that is refused because another one landed after this call had looked is not
    /// repeated: the call has taken effect just before the other one, which overwrote it at once.
    /// No reader can have come in between, so this order explains every answer. A removal in between is
    /// no such write: it may have judged the document before.
    ///
    /// No attempt is signed later than `until`: so long after that moment.
    pub(crate) async fn overwrite_unless_removed<T: Document>(
        &self,
        key: &Key,
        document: &T,
        removed: Option<ETag>,
        until: Option<(Moment, Duration)>,
    ) -> Result<OverwriteOutcome> {
        let document = encode(document)?;
        let mut has_looked = removed.is_some();
        let mut seen = removed;
        loop {
            let condition = seen.as_ref().map_or(Condition::Absent, Condition::Matches);
            let put = self
                .api
                .put_if_until(key, document.clone(), condition, until);
            match put.await? {
                Put::Written(_) => return Ok(OverwriteOutcome::Yes),
                Put::Gone => return Ok(OverwriteOutcome::Removed(None)),
                Put::Held(held) if is_tombstone(key, &held.bytes) => {
                    return Ok(OverwriteOutcome::Removed(Some(held.etag)));
                }
                Put::Held(_) if has_looked => return Ok(OverwriteOutcome::Yes),
                Put::Held(held) => {
                    if let Err(newer @ Error::NewerVersion { .. }) = decode::<T>(key, &held.bytes) {
                        return Err(newer);
                    }
                    seen = Some(held.etag);
                    has_looked = true;
                }
            }
        }
    }

    /// Stores the document that is to replace the one that stands there, if any; none where that will do. The one that it
    /// replaced. No attempt is signed later than `until`: so long after that moment.
    ///
    /// # Errors
    ///
    /// One that can be retried, where others keep replacing it with one that will not do.
    pub(crate) async fn replace(
        &self,
        key: &Key,
        until: Option<(Moment, Duration)>,
        replacement: impl Fn(Option<&SmallObject>) -> Result<Option<Bytes>>,
    ) -> Result<Option<SmallObject>> {
        let mut standing: Option<SmallObject> = None;
        for _ in 0..ROUNDS {
            let Some(document) = replacement(standing.as_ref())? else {
                return Ok(None);
            };
            let condition = standing.as_ref().map(|held| &held.etag);
            let condition = condition.map_or(Condition::Absent, Condition::Matches);
            let put = self.api.put_if_until(key, document, condition, until);
            match put.await? {
                Put::Written(_) => return Ok(standing),
                Put::Held(held) => standing = Some(held),
                Put::Gone => standing = None,
            }
        }
        Err(contended(key))
    }
}

/// The error of a writer that lost a key to other writers [`ROUNDS`] times.
pub(crate) fn contended(key: &Key) -> Error {
    let why = "other writers keep replacing it";
    let kind = StorageErrorKind::Unavailable;
    StorageError::new("PutObject", key.as_str(), kind, why).into()
}

/// Whether a document is the link of this id in this repository.
pub(crate) fn check_link(
    key: &Key,
    name: &RepositoryName,
    id: &LayerId,
    link: &Link,
) -> Result<()> {
    if link.repository != *name || link.id != *id {
        let reason = format!("it is the link of {} in {}", link.id, link.repository);
        return Err(Error::damaged(key, reason));
    }
    check_layer(key, id, &link.layer)
}

/// Whether the document of a layer can be of this id and does not contradict itself.
pub(crate) fn check_layer(key: &Key, id: &LayerId, layer: &StoredLayer) -> Result<()> {
    if !layer.has_id(id) {
        let reason = format!("it is of {} and not of {id}", layer.digest);
        return Err(Error::damaged(key, reason));
    }
    match layer.contradiction() {
        Some(reason) => Err(Error::damaged(key, reason)),
        None => Ok(()),
    }
}

/// A tracker that can be waited for at any time: one that is closed still takes tasks.
pub(crate) fn background() -> TaskTracker {
    let tracker = TaskTracker::new();
    tracker.close();
    tracker
}
