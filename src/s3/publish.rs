//! Publishing: the conditional PUT of a layer's record decides who owns its digest; aliases and
//! links repeat what it says.

use bytes::Bytes;

use super::api::{Condition, Put, SmallObject};
use super::document::{decode, encode};
use super::keys::Key;
use super::presence;
use super::record::Record;
use super::store::Store;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::id::LayerId;
use crate::name::RepositoryName;

/// How often a record is contended for before that is told as an error that can be retried.
const ROUNDS: u32 = 5;

/// Publishes a layer under its SHA-256. The record that stands afterwards: ours, or that of
/// another upload of the same bytes, which was first and whose data is there.
pub(crate) async fn publish(store: &Store, record: &Record) -> Result<Record> {
    let key = store.keys.layer(&record.digest.clone().into());
    let document = encode(record)?;
    let mut held = match store
        .api
        .put_if(&key, document.clone(), Condition::Absent)
        .await?
    {
        Put::Written(_) | Put::Gone => return Ok(record.clone()),
        Put::Held(held) => held,
    };
    for _ in 0..ROUNDS {
        let standing = readable(store, &key, &mut held).await?;
        if let Some(standing) = &standing
            && standing.data == record.data
        {
            return Ok(standing.clone());
        }
        if let Some(standing) = standing
            && presence::look(store, &standing).await?
        {
            return Ok(standing);
        }
        let condition = Condition::Matches(&held.etag);
        held = match store.api.put_if(&key, document.clone(), condition).await? {
            Put::Written(_) => return Ok(record.clone()),
            Put::Held(other) => other,
            Put::Gone => match store
                .api
                .put_if(&key, document.clone(), Condition::Absent)
                .await?
            {
                Put::Written(_) | Put::Gone => return Ok(record.clone()),
                Put::Held(other) => other,
            },
        };
    }
    let why = "others keep replacing the record";
    let kind = StorageErrorKind::Unavailable;
    Err(Error::Storage(StorageError::new(
        "PutObject",
        key.as_str(),
        kind,
        why,
    )))
}

/// The record that held its key against ours, with the ETag that it has; `None` where it is gone, or
/// damaged and to be replaced.
async fn readable(store: &Store, key: &Key, held: &mut SmallObject) -> Result<Option<Record>> {
    if let Ok(standing) = decode::<Record>(key, &held.bytes) {
        return Ok(Some(standing));
    }
    // Once may have been the wire; a record replaced for that would leave its data behind.
    match store.load::<Record>(key).await {
        Ok(None) => Ok(None),
        Ok(Some(loaded)) => {
            held.etag = loaded.etag;
            Ok(Some(loaded.document))
        }
        Err(error @ Error::Damaged { .. }) => {
            tracing::warn!(%key, %error, "a record is replaced");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Makes a published layer found under its other ids, and links it under a repository.
pub(crate) async fn link(
    store: &Store,
    name: &RepositoryName,
    record: &Record,
    also: &[LayerId],
) -> Result<()> {
    for id in also {
        let alias = encode(&record.known_as(std::slice::from_ref(id)))?;
        put_alias(store, &store.keys.layer(id), alias).await?;
    }
    let mut record = record.clone();
    // Whoever removes the link has to know under which ids to look for it.
    let is_new = |id: &&LayerId| !record.also.contains(id);
    let new: Vec<_> = also.iter().filter(is_new).cloned().collect();
    record.also.extend(new);
    link_under(store, name, record, also).await
}

/// One that exists is left alone, for two digests can share a TarSum, unless nobody can read it.
async fn put_alias(store: &Store, key: &Key, alias: Bytes) -> Result<()> {
    let absent = Condition::Absent;
    let Put::Held(mut held) = store.api.put_if(key, alias.clone(), absent).await? else {
        return Ok(());
    };
    if readable(store, key, &mut held).await?.is_none() {
        let is_readable = |standing: &[u8]| decode::<Record>(key, standing).is_ok();
        store
            .put_unless(key, alias, Some(held.etag), is_readable)
            .await?;
    }
    Ok(())
}

/// Links a published layer under a repository, by its SHA-256 and some of its other ids.
pub(crate) async fn link_under(
    store: &Store,
    name: &RepositoryName,
    record: Record,
    also: &[LayerId],
) -> Result<()> {
    let sha256 = record.digest.clone().into();
    for id in std::iter::once(&sha256).chain(also.iter().filter(|id| **id != sha256)) {
        let found = match *id == sha256 {
            true => record.clone(),
            false => record.known_as(std::slice::from_ref(id)),
        };
        let key = store.keys.link(name, id);
        let will_do = |standing: &[u8]| {
            decode::<Record>(&key, standing).is_ok_and(|standing| {
                let has = |id: &LayerId| standing.also.contains(id);
                standing.data == record.data && record.also.iter().all(has)
            })
        };
        store
            .put_unless(&key, encode(&found)?, None, will_do)
            .await?;
    }
    Ok(())
}
