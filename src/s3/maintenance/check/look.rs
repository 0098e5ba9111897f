//! Looks at one object or entry, and at what it relies on.

use uuid::Uuid;

use super::Check;
use super::plan::{self, DefectKind};
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::manifest;
use crate::name::{RepositoryName, Tag};
use crate::s3::bucket::presence::{self, Judgement};
use crate::s3::bucket::{StoredDocument, check_link, live};
use crate::s3::format::collection::{DeadBatch, TrashedManifest};
use crate::s3::format::document::is_tombstone;
use crate::s3::format::keys::{Key, Keys};
use crate::s3::format::record::{Alias, Content, Link, Record, Segment, StoredLayer};
use crate::s3::names;
use crate::s3::repositories;
use crate::s3::session::claim;
use crate::s3::session::owned::OwnedSession;
use crate::s3::wire::ETag;
use s3layers_tarsum::Digest;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Record(Digest),
    Alias(Key),
    Link(RepositoryName, Key),
    Manifest(RepositoryName, Digest),
    Tag(RepositoryName, Tag),
    Referrer(RepositoryName, Key),
    Claim(Key),
    Upload(Uuid),
    Data(Key, Uuid),
    DeadBatch(Key),
    Trashed(Key),
    Marker(RepositoryName),
    LiveMarker(RepositoryName),
    Unknown(Key),
}

impl Subject {
    /// The key, or the folder of an upload.
    pub(super) fn key(&self, keys: &Keys) -> String {
        let key = match self {
            Subject::Upload(uuid) => return keys.upload(*uuid),
            Subject::Record(digest) => keys.layer(&digest.clone().into()),
            Subject::Manifest(name, digest) => keys.manifest(name, digest),
            Subject::Tag(name, tag) => keys.tag(name, tag),
            Subject::Marker(name) | Subject::LiveMarker(name) => keys.name(name),
            Subject::Alias(key)
            | Subject::Link(_, key)
            | Subject::Referrer(_, key)
            | Subject::Claim(key)
            | Subject::Data(key, _)
            | Subject::DeadBatch(key)
            | Subject::Trashed(key)
            | Subject::Unknown(key) => key.clone(),
        };
        key.to_string()
    }
}

pub(super) async fn at(check: &Check<'_>, subject: &Subject) -> Result<Vec<DefectKind>> {
    let store = check.store;
    let found = match subject {
        Subject::Record(digest) => {
            let (mut kinds, record) = record(check, digest, |_, _| false).await?;
            let is_rotten = record.is_some_and(|record| check.is_rotten(&record.layer));
            kinds.extend(is_rotten.then_some(DefectKind::DataRotten));
            return Ok(kinds);
        }
        Subject::Manifest(name, digest) => return manifest(check, name, digest, |_| false).await,
        Subject::Alias(key) => alias(check, key).await?,
        Subject::Link(name, key) => link(check, name, key).await?,
        Subject::Tag(name, tag) => tag_of(check, name, tag).await?,
        Subject::Referrer(name, key) => referrer(check, name, key).await?,
        Subject::Claim(key) => stale_claim(check, key).await?,
        Subject::Upload(uuid) => upload(check, *uuid).await?,
        Subject::Data(key, uuid) => {
            let is_there = !check.is_named(key) && store.api.head(key).await?.is_some();
            let is_orphan = is_there && !store.has_session(*uuid).await?;
            is_orphan.then_some(DefectKind::OrphanData)
        }
        Subject::DeadBatch(key) => dead_batch(check, key).await?,
        Subject::Trashed(key) => {
            let read = store.load::<TrashedManifest>(key).await;
            readable(read, DefectKind::ListUnreadable)?.err()
        }
        Subject::Marker(name) => {
            let is_missing = store.api.get_small(&store.keys.name(name)).await?.is_none()
                && names::has_entries(store, name).await?;
            is_missing.then_some(DefectKind::MarkerMissing)
        }
        Subject::LiveMarker(name) => {
            let marker = store.api.get_small(&store.keys.name(name)).await?;
            let is_live = marker.is_some_and(|marker| names::is_live(marker.bytes.len() as u64));
            let is_stale = is_live && !names::has_entries(store, name).await?;
            is_stale.then_some(DefectKind::StaleMarker)
        }
        Subject::Unknown(key) => {
            let is_there = store.api.head(key).await?.is_some();
            is_there.then_some(DefectKind::UnknownObject)
        }
    };
    Ok(found.into_iter().collect())
}

/// Its data is no orphan.
async fn dead_batch(check: &Check<'_>, key: &Key) -> Result<Option<DefectKind>> {
    let store = check.store;
    let loaded = readable(
        store.load::<DeadBatch>(key).await,
        DefectKind::ListUnreadable,
    )?;
    let batch = match loaded {
        Ok(batch) => batch,
        Err(kind) => {
            check.note_unread();
            return Ok(Some(kind));
        }
    };
    for layer in batch.into_iter().flat_map(|read| read.document.layers) {
        for name in &layer.segments {
            check.name(&store.keys.segment(layer.upload, name));
        }
    }
    Ok(None)
}

/// What was read, or what its error means.
fn readable<T>(read: Result<T>, damaged: DefectKind) -> Result<Result<T, DefectKind>> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(error) => match plan::document(&error, damaged) {
            Some(kind) => Ok(Err(kind)),
            None => Err(error),
        },
    }
}

/// Whether it is not there. A damaged one is a defect of its own.
fn is_absent<T>(read: Result<Option<T>>) -> Result<bool> {
    match read {
        Err(error) if error.is_unreadable() => Ok(false),
        read => Ok(read?.is_none()),
    }
}

/// What is wrong with a record and what it names, and the layer, where that is present. Data objects of which
/// `is_listed` is true are as recorded as far as a listing shows.
pub(super) async fn record(
    check: &Check<'_>,
    digest: &Digest,
    is_listed: impl Fn(&Key, &Segment) -> bool,
) -> Result<(Vec<DefectKind>, Option<Record>)> {
    let store = check.store;
    let id = LayerId::from(digest.clone());
    let record = match readable(store.record(&id).await, DefectKind::RecordUnreadable)? {
        Err(kind) => {
            check.note_unread();
            return Ok((vec![kind], None));
        }
        Ok(None) => return Ok((Vec::new(), None)),
        Ok(Some(StoredDocument { document, .. })) => document,
    };
    check.name_data(&record.layer);
    let mut kinds = Vec::new();
    if !record.state.is_present() {
        return Ok((kinds, Some(record)));
    }
    let layer = &record.layer;
    kinds.extend(data(check, layer, is_listed).await?);
    for id in &layer.aliases {
        let alias = readable(
            store.load::<Alias>(&store.keys.layer(id)).await,
            DefectKind::AliasMissing,
        )?;
        kinds.extend(match alias {
            Ok(Some(_)) => None,
            Ok(None) => Some(DefectKind::AliasMissing),
            Err(kind) => Some(kind),
        });
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok((kinds, Some(record)))
}

/// What is wrong with the data objects of a layer, but for those that a listing shows.
///
/// # Cost
///
/// 1 request for each of the others.
pub(super) async fn data(
    check: &Check<'_>,
    layer: &StoredLayer,
    is_listed: impl Fn(&Key, &Segment) -> bool,
) -> Result<Vec<DefectKind>> {
    let store = check.store;
    let mut kinds = Vec::new();
    for segment in layer.segments() {
        let key = store.keys.segment(layer.upload, &segment.name);
        if !is_listed(&key, segment) {
            let head = store.api.head(&key).await?;
            let is_proven = head
                .as_ref()
                .is_some_and(|head| check.is_proven(&key, &head.etag));
            kinds.extend(match plan::data(segment, head) {
                Some(DefectKind::DataUnproven) if is_proven => Some(DefectKind::EtagChanged),
                kind => kind,
            });
        }
    }
    Ok(kinds)
}

/// The layer with the ETags that its objects have now; `None` where one is missing or another one. One without a checksum
/// counts where `is_right` says so.
///
/// # Cost
///
/// 1 request for each object.
pub(super) async fn with_present_etags(
    check: &Check<'_>,
    layer: &StoredLayer,
    is_right: impl Fn(&Key, &ETag) -> bool,
) -> Result<Option<StoredLayer>> {
    let mut now = layer.clone();
    if let Content::Segments(segments) = &mut now.content {
        for segment in segments {
            let key = check.store.keys.segment(layer.upload, &segment.name);
            segment.etag = match presence::judged(check.store, &key, segment).await? {
                Some(Judgement::Same(etag)) => etag,
                Some(Judgement::Unproven(etag)) if is_right(&key, &etag) => etag,
                _ => return Ok(None),
            };
        }
    }
    Ok(Some(now))
}

/// As [`with_present_etags`], where one without a checksum was read.
pub(super) async fn with_proven_etags(
    check: &Check<'_>,
    layer: &StoredLayer,
) -> Result<Option<StoredLayer>> {
    with_present_etags(check, layer, |key, etag| check.is_proven(key, etag)).await
}

async fn alias(check: &Check<'_>, key: &Key) -> Result<Option<DefectKind>> {
    let store = check.store;
    let alias = match readable(store.load::<Alias>(key).await, DefectKind::AliasUnreadable)? {
        Err(kind) => return Ok(Some(kind)),
        Ok(None) => return Ok(None),
        Ok(Some(loaded)) => loaded.document,
    };
    if store.keys.layer(&alias.id) != *key || !alias.layer.has_id(&alias.id) {
        return Ok(Some(DefectKind::AliasUnreadable));
    }
    let is_lost = is_absent(store.record(&alias.layer.id()).await)?;
    Ok(is_lost.then_some(DefectKind::AliasToNothing))
}

async fn link(check: &Check<'_>, name: &RepositoryName, key: &Key) -> Result<Option<DefectKind>> {
    let store = check.store;
    let link = match readable(store.load::<Link>(key).await, DefectKind::LinkUnreadable)? {
        Err(kind) => {
            check.note_unread();
            return Ok(Some(kind));
        }
        Ok(None) => return Ok(None),
        Ok(Some(loaded)) => loaded.document,
    };
    let id = &link.id;
    if store.keys.link(name, id) != *key || check_link(key, name, id, &link).is_err() {
        return Ok(Some(DefectKind::LinkUnreadable));
    }
    check.name_data(&link.layer);
    let own = link.layer.id();
    if *id != own {
        let read = store.read::<Link>(&store.keys.link(name, &own)).await?;
        return Ok(read.is_none().then_some(DefectKind::LinkOfNoLayer));
    }
    let record = readable(store.record(&own).await, DefectKind::LinkWithoutRecord)?;
    Ok(match record {
        Err(kind) => Some(kind),
        Ok(None) => Some(DefectKind::LinkWithoutRecord),
        Ok(Some(loaded)) if !loaded.document.state.is_present() => {
            Some(DefectKind::LinkToRemovedLayer)
        }
        Ok(Some(_)) => None,
    })
}

/// What is wrong with a manifest and what it needs. Layers of which `is_right` is true are linked and present as
/// far as listings show.
pub(super) async fn manifest(
    check: &Check<'_>,
    name: &RepositoryName,
    digest: &Digest,
    is_right: impl Fn(&Digest) -> bool,
) -> Result<Vec<DefectKind>> {
    let store = check.store;
    let read = repositories::manifest(store, name, digest).await;
    let manifest = match readable(read, DefectKind::ManifestUnreadable)? {
        Err(kind) => return Ok(vec![kind]),
        Ok(None) => return Ok(Vec::new()),
        Ok(Some(manifest)) => manifest,
    };
    let mut kinds = Vec::new();
    for needed in manifest::needed(&manifest.bytes) {
        if !is_right(&needed) {
            kinds.extend(content(check, name, &needed).await?);
        }
    }
    if let Some(subject) = &manifest.subject {
        let entry = repositories::has_referrer(store, name, subject, &manifest).await;
        match readable(entry, DefectKind::ReferrerMissing)? {
            Ok(true) => {}
            Ok(false) => kinds.push(DefectKind::ReferrerMissing),
            Err(kind) => kinds.push(kind),
        }
        let is_missing = is_absent(repositories::manifest(store, name, subject).await)?;
        kinds.extend(is_missing.then_some(DefectKind::SubjectMissing));
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok(kinds)
}

/// What is wrong with something that a manifest needs.
async fn content(
    check: &Check<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Option<DefectKind>> {
    let store = check.store;
    let id = LayerId::from(digest.clone());
    let is_whole = async |layer: &StoredLayer| {
        let is_there = presence::look(store, layer).await?
            || presence::present(store, layer).await?.is_some()
            || with_proven_etags(check, layer).await?.is_some();
        Ok::<_, Error>(is_there && !check.is_rotten(layer))
    };
    let linked = live::find_link(store, name, &id).await;
    match readable(linked, DefectKind::LinkUnreadable)? {
        // A collection removes a link that does not know the id that a manifest names.
        Ok(Some(link)) if link.layer().has_id(&id) => {
            return Ok((!is_whole(link.layer()).await?).then_some(DefectKind::ContentMissing));
        }
        Err(DefectKind::NewerVersion) => return Ok(Some(DefectKind::NewerVersion)),
        Ok(_) | Err(_) => {}
    }
    let child = repositories::manifest(store, name, digest).await;
    match readable(child, DefectKind::ManifestUnreadable)? {
        Ok(Some(_)) => return Ok(None),
        Err(DefectKind::NewerVersion) => return Ok(Some(DefectKind::NewerVersion)),
        Ok(None) | Err(_) => {}
    }
    let recorded = readable(store.layer(&id).await, DefectKind::RecordUnreadable)?;
    Ok(match recorded {
        Ok(Some(layer)) if is_unlinked(check, name, &layer.id()).await? => {
            Some(DefectKind::ContentMissing)
        }
        Ok(Some(layer)) if is_whole(&layer).await? => Some(DefectKind::LayerNotLinked),
        Err(DefectKind::NewerVersion) => Some(DefectKind::NewerVersion),
        _ => Some(DefectKind::ContentMissing),
    })
}

/// Whether a tombstone says that the layer with this SHA-256 was removed from the repository, so that a repair
/// would bring back what a client has deleted.
pub(super) async fn is_unlinked(
    check: &Check<'_>,
    name: &RepositoryName,
    own: &LayerId,
) -> Result<bool> {
    let key = check.store.keys.link(name, own);
    let held = check.store.api.get_small(&key).await?;
    Ok(held.is_some_and(|held| is_tombstone(&key, &held.bytes)))
}

async fn tag_of(check: &Check<'_>, name: &RepositoryName, tag: &Tag) -> Result<Option<DefectKind>> {
    let store = check.store;
    let read = repositories::tag(store, name, tag).await;
    let named = match readable(read, DefectKind::TagUnreadable)? {
        Err(kind) => return Ok(Some(kind)),
        Ok(None) => return Ok(None),
        Ok(Some(digest)) => digest,
    };
    let is_missing = is_absent(repositories::manifest(store, name, &named).await)?;
    Ok(is_missing.then_some(DefectKind::TagToNothing))
}

async fn referrer(
    check: &Check<'_>,
    name: &RepositoryName,
    key: &Key,
) -> Result<Option<DefectKind>> {
    let store = check.store;
    let read = repositories::referring_manifest(store, name, key).await;
    let digest = match readable(read, DefectKind::ReferrerUnreadable)? {
        Err(kind) => return Ok(Some(kind)),
        Ok(None) => return Ok(None),
        Ok(Some(digest)) => digest,
    };
    let is_missing = is_absent(repositories::manifest(store, name, &digest).await)?;
    Ok(is_missing.then_some(DefectKind::ReferrerToNothing))
}

async fn stale_claim(check: &Check<'_>, key: &Key) -> Result<Option<DefectKind>> {
    let store = check.store;
    let uuid = match readable(claim::holder(store, key).await, DefectKind::ClaimUnreadable)? {
        Err(kind) => return Ok(Some(kind)),
        Ok(None) => return Ok(None),
        Ok(Some(uuid)) => uuid,
    };
    let is_stale = !store.has_session(uuid).await?;
    Ok(is_stale.then_some(DefectKind::StaleClaim))
}

async fn upload(check: &Check<'_>, uuid: Uuid) -> Result<Option<DefectKind>> {
    let store = check.store;
    let session = readable(
        OwnedSession::load(store, uuid).await,
        DefectKind::SessionUnreadable,
    )?;
    Ok(match session {
        Err(kind) => Some(kind),
        Ok(Some(_)) => None,
        Ok(None) => {
            let below = store.api.list(&store.keys.upload(uuid), None).await?;
            let is_orphan = !below.objects.is_empty();
            is_orphan.then_some(DefectKind::OrphanTail)
        }
    })
}
