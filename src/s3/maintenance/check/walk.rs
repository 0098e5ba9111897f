//! Lists the bucket, and looks closer at what a listing does not show to be right.
//!
//! Data objects are listed first, then uploads, then records: an object that is older than all of that, named by nothing and
//! of no listed upload, is an orphan. Layers come before repositories, and links before the manifests of theirs, so that a
//! manifest whose layers are linked and whole costs one request.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::look::{self, Subject};
use super::plan::{DefectKind, Window};
use super::{AT_ONCE, Check, DEFECTS, Found, cursor};
use crate::contract::Layer as _;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::format::keys::{EntryKind, Key};
use crate::s3::format::record::{Segment, StoredLayer};
use crate::s3::maintenance::bounded_list::BoundedList;
use crate::s3::maintenance::inventory::{self, ListedSession, pages};
use crate::s3::maintenance::marks::Marks;
use crate::s3::names;
use crate::s3::read::S3Layer;
use crate::s3::wire::ListedObject;
use s3layers_tarsum::{Algorithm, Digest};

/// What the walk knows.
struct Walk<'a, 'b> {
    check: &'a Check<'b>,
    /// By the store's clock, where it reports it.
    began_at: Option<SystemTime>,
    /// Data objects that were listed, with their sizes and ETags.
    listed: Marks,
    /// Uploads that had a session: one that ends meanwhile may have published its data as a layer that was not listed.
    uploads: Marks,
    /// Layers that are present and whole, as far as it is known.
    whole: Marks,
    /// Repositories with a link, a manifest or a tag.
    repositories: Marks,
    found: BoundedList<Found>,
}

/// What was found, also where an error ended the walk.
pub(super) async fn all(check: &Check<'_>) -> (BoundedList<Found>, Result<()>) {
    let mut walk = Walk {
        check,
        began_at: None,
        listed: Marks::precise(),
        uploads: Marks::precise(),
        whole: Marks::precise(),
        repositories: Marks::precise(),
        found: BoundedList::new(DEFECTS),
    };
    let ended = walk.run().await;
    (walk.found, ended)
}

impl Walk<'_, '_> {
    async fn run(&mut self) -> Result<()> {
        self.list_data().await?;
        if self.check.options.repair && self.began_at.is_none() {
            return Err(super::no_repair(
                "the store does not report its time with a listing",
            ));
        }
        self.uploads().await?;
        self.layers().await?;
        self.collection().await?;
        self.repositories().await?;
        self.markers().await?;
        self.orphans().await
    }

    /// What is younger may be about to be named, or still be changed.
    fn is_old(&self, object: &ListedObject) -> bool {
        let age = self
            .began_at
            .map(|began_at| began_at.duration_since(object.modified));
        age.is_none_or(|age| age.unwrap_or_default() >= self.check.min_age())
    }

    /// As [`is_old`](Self::is_old), for the documents that are judged one by one.
    fn is_judged(&self, object: &ListedObject) -> bool {
        let is_old = self.is_old(object);
        if !is_old {
            self.check.report(|report| report.too_young += 1);
        }
        is_old
    }

    fn add(&mut self, subject: Subject, kinds: Vec<DefectKind>) {
        if !kinds.is_empty() {
            self.found.push((subject, kinds));
        }
    }

    /// Looks at subjects, some at a time.
    async fn look_at(&mut self, subjects: Vec<Subject>) -> Result<()> {
        let check = self.check;
        let looks = subjects.into_iter().map(async |subject| {
            let kinds = check.look(&subject).await?;
            Ok::<_, Error>((subject, kinds))
        });
        let mut looks = Box::pin(stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE));
        while let Some((subject, kinds)) = looks.try_next().await? {
            self.add(subject, kinds);
        }
        Ok(())
    }

    async fn list_data(&mut self) -> Result<()> {
        let store = self.check.store;
        let mut pages = pages(store, store.keys.data());
        while let Some(page) = pages.try_next().await? {
            self.began_at = self.began_at.or(page.date);
            for object in page.objects {
                let ListedObject {
                    key, size, etag, ..
                } = &object;
                self.listed.insert(&(key.as_str(), *size, etag.as_ref()));
            }
        }
        Ok(())
    }

    async fn uploads(&mut self) -> Result<()> {
        let min_age = self.check.min_age();
        let uploads = inventory::found(Arc::clone(self.check.store));
        let mut pages = Box::pin(uploads.try_chunks(1000));
        while let Some(page) = pages.try_next().await.map_err(|error| error.1)? {
            let open = page
                .iter()
                .filter(|upload| upload.session != ListedSession::Absent);
            open.for_each(|upload| self.uploads.insert(&upload.uuid));
            let old = page.into_iter().filter(|upload| upload.age >= min_age);
            let subjects = old.map(|upload| Subject::Upload(upload.uuid)).collect();
            self.look_at(subjects).await?;
        }
        Ok(())
    }

    /// Records, then aliases.
    async fn layers(&mut self) -> Result<()> {
        let store = self.check.store;
        let (from, etag) = cursor::load(self.check).await?;
        let mut window = Window::new(self.check.options.read, from);
        let records = store.keys.layers(Algorithm::Sha256, "");
        let mut pages = pages(store, store.keys.all_layers());
        while let Some(page) = pages.try_next().await? {
            self.began_at = self.began_at.or(page.date);
            let (mut digests, mut others) = (Vec::new(), Vec::new());
            for object in page.objects {
                let is_record = object.key.as_str().starts_with(&records);
                match store.keys.id_of(object.key.as_str()) {
                    _ if object.is_tombstone() => {}
                    None => others.push(Subject::Unknown(object.key)),
                    Some(LayerId::Digest(digest)) if is_record => digests.push(digest),
                    Some(_) if self.is_judged(&object) => others.push(Subject::Alias(object.key)),
                    Some(_) => {}
                }
            }
            self.records(digests, &mut window).await?;
            self.look_at(others).await?;
        }
        if self.check.options.read.is_some() {
            cursor::store(self.check, window.next(), etag.as_ref()).await?;
        }
        Ok(())
    }

    async fn records(&mut self, digests: Vec<Digest>, window: &mut Window) -> Result<()> {
        let check = self.check;
        let listed = &self.listed;
        let is_listed = |key: &Key, segment: &Segment| {
            let (size, etag) = (segment.object_size(), Some(&segment.etag));
            !check.options.objects && listed.contains(&(key.as_str(), size, etag))
        };
        let looks = digests.into_iter().map(async |digest| {
            let looked = Box::pin(look::record(check, &digest, is_listed)).await;
            let subject = Subject::Record(digest.clone());
            Ok::<_, Error>((digest, check.or_unchecked(&subject, looked)?))
        });
        let looks = stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE);
        let looked: Vec<_> = looks.try_collect().await?;
        for (digest, (mut kinds, record)) in looked {
            check.report(|report| report.layers += 1);
            if let Some(record) = record {
                let layer = record.layer;
                if record.state.is_present() {
                    let may_be_right = kinds.iter().all(|kind| {
                        matches!(kind, DefectKind::DataUnproven | DefectKind::EtagChanged)
                    });
                    if window.takes(place(&digest), layer.size) && may_be_right {
                        kinds = read(check, layer, kinds).await?;
                    }
                    if !kinds.iter().any(|kind| *kind <= DefectKind::DataUnproven) {
                        self.whole.insert(&digest);
                    }
                }
            }
            self.add(Subject::Record(digest), kinds);
        }
        Ok(())
    }

    /// What a collection and the trash keep.
    async fn collection(&mut self) -> Result<()> {
        let store = self.check.store;
        for (prefix, subject) in [
            (
                store.keys.dead_batches(),
                Subject::DeadBatch as fn(Key) -> Subject,
            ),
            (store.keys.trash(), Subject::Trashed),
        ] {
            let mut pages = pages(store, prefix);
            while let Some(page) = pages.try_next().await? {
                let subjects = page.objects.into_iter().map(|object| subject(object.key));
                self.look_at(subjects.collect()).await?;
            }
        }
        Ok(())
    }

    async fn repositories(&mut self) -> Result<()> {
        let store = self.check.store;
        let canaries = store.keys.canary("");
        let mut pages = pages(store, store.keys.repositories());
        let (mut current, mut links) = (None, Marks::precise());
        let mut looked_up = None;
        while let Some(page) = pages.try_next().await? {
            let (mut subjects, mut manifests) = (Vec::new(), Vec::new());
            for object in page.objects {
                let Some((name, kind)) = store.keys.entry_of(object.key.as_str()) else {
                    let is_unknown = !object.key.as_str().starts_with(canaries.as_str());
                    subjects.extend(is_unknown.then_some(Subject::Unknown(object.key)));
                    continue;
                };
                if object.is_tombstone() {
                    continue;
                }
                if current.as_ref() != Some(&name) {
                    self.manifests(std::mem::take(&mut manifests), &links)
                        .await?;
                    links = Marks::precise();
                    current = Some(name.clone());
                    self.check.report(|report| report.repositories += 1);
                }
                if !matches!(kind, EntryKind::Claim | EntryKind::Referrer) {
                    self.repositories.insert(name.as_str());
                }
                // Its first entries may be those of a push that is under way.
                if looked_up.as_ref() != Some(&name) && self.is_old(&object) {
                    subjects.push(Subject::Marker(name.clone()));
                    looked_up = Some(name.clone());
                }
                self.count(&kind);
                if let EntryKind::Link(digest) = &kind {
                    links.insert(digest);
                }
                if self.is_judged(&object) {
                    match self.subject_of(name, kind, object) {
                        Some(Subject::Manifest(name, digest)) => manifests.push((name, digest)),
                        subject => subjects.extend(subject),
                    }
                }
            }
            self.manifests(manifests, &links).await?;
            self.look_at(subjects).await?;
        }
        Ok(())
    }

    /// Markers that say that their repository has entries, where none was listed.
    async fn markers(&mut self) -> Result<()> {
        let store = self.check.store;
        let mut pages = pages(store, store.keys.names());
        while let Some(page) = pages.try_next().await? {
            let objects = page.objects.iter();
            let live =
                objects.filter(|object| names::is_live(object.size) && self.is_judged(object));
            let names = live.filter_map(|object| store.keys.repository_of(object.key.as_str()));
            let empty = names.filter(|name| !self.repositories.contains(name.as_str()));
            let subjects = empty.map(Subject::LiveMarker).collect();
            self.look_at(subjects).await?;
        }
        Ok(())
    }

    fn count(&self, kind: &EntryKind) {
        self.check.report(|report| match kind {
            EntryKind::Link(_) => report.links += 1,
            EntryKind::Manifest(_) => report.manifests += 1,
            EntryKind::Tag(_) => report.tags += 1,
            _ => {}
        });
    }

    /// What is looked at of an entry; `None` where the listing shows enough.
    fn subject_of(
        &self,
        name: RepositoryName,
        kind: EntryKind,
        object: ListedObject,
    ) -> Option<Subject> {
        let key = object.key;
        Some(match kind {
            EntryKind::Link(digest)
                if !self.check.options.objects && self.whole.contains(&digest) =>
            {
                return None;
            }
            EntryKind::Link(_) | EntryKind::OtherLink => Subject::Link(name, key),
            EntryKind::Manifest(digest) => Subject::Manifest(name, digest),
            EntryKind::Tag(tag) => Subject::Tag(name, tag),
            EntryKind::Referrer => Subject::Referrer(name, key),
            EntryKind::Claim => Subject::Claim(key),
            EntryKind::Other => Subject::Unknown(key),
        })
    }

    async fn manifests(
        &mut self,
        manifests: Vec<(RepositoryName, Digest)>,
        links: &Marks,
    ) -> Result<()> {
        let check = self.check;
        let whole = &self.whole;
        let is_right = |digest: &Digest| {
            !check.options.objects && links.contains(digest) && whole.contains(digest)
        };
        let looks = manifests.into_iter().map(async |(name, digest)| {
            let looked = Box::pin(look::manifest(check, &name, &digest, is_right)).await;
            let subject = Subject::Manifest(name, digest);
            let kinds = check.or_unchecked(&subject, looked)?;
            Ok::<_, Error>((subject, kinds))
        });
        let looks = stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE);
        let looked: Vec<Found> = looks.try_collect().await?;
        for (subject, kinds) in looked {
            self.add(subject, kinds);
        }
        Ok(())
    }

    /// Lists the data objects once more: those that nothing names.
    async fn orphans(&mut self) -> Result<()> {
        let store = self.check.store;
        let mut pages = pages(store, store.keys.data());
        while let Some(page) = pages.try_next().await? {
            let mut subjects = Vec::new();
            for object in page.objects {
                if !self.is_old(&object) || self.check.is_named(&object.key) {
                    continue;
                }
                match store.keys.upload_of_data(object.key.as_str()) {
                    Some(uuid) if self.uploads.contains(&uuid) => {}
                    Some(uuid) => subjects.push(Subject::Data(object.key, uuid)),
                    None => subjects.push(Subject::Unknown(object.key)),
                }
            }
            self.look_at(subjects).await?;
        }
        Ok(())
    }
}

/// The first 32 bits of a digest.
fn place(digest: &Digest) -> u64 {
    u64::from_str_radix(&digest.hex()[..8], 16).unwrap_or_default()
}

/// Reads a layer against its checksums. Twice, where it fails the first time. The objects are looked at before: a read
/// records an ETag that has changed, which is for a repair to do. Where one has another ETag, the bytes show whether it is
/// a copy.
async fn read(
    check: &Check<'_>,
    mut layer: StoredLayer,
    known: Vec<DefectKind>,
) -> Result<Vec<DefectKind>> {
    let subject = Subject::Record(layer.digest.clone());
    let changed = if check.options.objects {
        known
    } else {
        let looked = look::data(check, &layer, |_, _| false).await;
        match check.or_unchecked(&subject, looked.map(Some))? {
            Some(changed) => changed,
            None => return Ok(known),
        }
    };
    let is_copy =
        |kind: &DefectKind| matches!(kind, DefectKind::DataUnproven | DefectKind::EtagChanged);
    if !changed.iter().all(is_copy) {
        return Ok(changed);
    }
    if !changed.is_empty() {
        let now = look::with_present_etags(check, &layer, |_, _| true).await;
        match check.or_unchecked(&subject, now)? {
            Some(now) => layer = now,
            None => return Ok(changed),
        }
    }
    let layer = Arc::new(layer);
    let mut is_rotten = false;
    for _ in 0..2 {
        let reader = Box::new(S3Layer::new(Arc::clone(check.store), Arc::clone(&layer)));
        let mut bytes = reader.into_stream();
        is_rotten = loop {
            match bytes.next().await {
                Some(Ok(bytes)) => check.report(|report| report.bytes_read += bytes.len() as u64),
                Some(Err(Error::Damaged { .. })) => break true,
                Some(Err(error)) => return check.or_unchecked(&subject, Err(error)),
                None => break false,
            }
        };
        if !is_rotten {
            break;
        }
    }
    check.report(|report| report.layers_read += 1);
    if is_rotten {
        check.add_rotten(layer.upload);
        return Ok(vec![DefectKind::DataRotten]);
    }
    if changed.is_empty() || !check.add_proven(&layer) {
        return Ok(changed);
    }
    Ok(vec![DefectKind::EtagChanged])
}
