//! Check and repair: what of the bucket cannot be read, found or proven, and what follows from the rest.
//!
//! 1. The bucket is in use meanwhile. A document younger than an hour is not looked at, each defect is looked at twice, a
//!    wait apart, and states of a collection are no defects.
//! 2. [`walk`] lists everything and looks closer only at what a listing does not show to be right. [`look`] asks the store
//!    about one subject; [`plan`] says what the answers mean.
//! 3. A [`repair`] is a conditional write that follows the rule of writers ([`publish`](crate::s3::publish)), from
//!    the bottom up. It never removes or replaces data, a tag or a manifest. What is repaired is what a last look does not
//!    find any more.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;
use uuid::Uuid;

use super::bounded_list::push_bounded;
use super::marks::Marks;
use super::run_error::RunError;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::locks::lock;
use crate::name::{RepositoryName, Tag};
use crate::s3::S3LayerService;
use crate::s3::bucket::Store;
use crate::s3::format::keys::Key;
use crate::s3::format::record::StoredLayer;
use crate::s3::wire::ETag;
use crate::telemetry;
use s3layers_tarsum::Digest;

mod broken;
mod cursor;
mod look;
mod plan;
mod repair;
mod walk;

pub use plan::{DefectKind, DefectSeverity, ReadShare};

/// How many subjects are looked at a time.
const AT_ONCE: usize = 32;
/// So many objects with defects are looked at again, repaired and reported: 20 MiB. The others are counted.
const DEFECTS: usize = 20_000;
/// So many reasons of what could not be looked at are reported. The others are counted.
const REASONS: usize = 1_000;

/// What a check does.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Repair what follows from the rest.
    pub repair: bool,
    /// Ask the store about each data object (1 request each) and read each link, instead of relying on listings.
    pub objects: bool,
    /// Read so much of all layers, and continue there the next time.
    pub read: Option<ReadShare>,
    /// About how many requests a second are made at most.
    pub rate: Option<u32>,
    /// How long after the first look a defect is looked at again. By default, the 15 minutes for which a writer relies on what
    /// it has read; less can report what a running push is about to write.
    pub wait: Option<Duration>,
    /// Documents that are younger are not judged. By default, four times those 15 minutes: less is for a bucket to which
    /// nothing is written meanwhile, as a copy. Elsewhere a repair can then undo what a running push has just written.
    pub min_age: Option<Duration>,
}

/// Something that is wrong, and was so in two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defect {
    /// What is wrong.
    pub kind: DefectKind,
    /// The key of the object or entry, or the folder of the upload.
    pub key: String,
    /// It was repaired.
    pub is_repaired: bool,
}

/// An image that cannot be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenImage {
    /// Its repository.
    pub name: RepositoryName,
    /// Its digest; `None` where its tag is damaged.
    pub digest: Option<Digest>,
    /// The tags that name it.
    pub tags: Vec<Tag>,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Repositories that have a link, a manifest or a tag.
    pub repositories: u64,
    /// Layers.
    pub layers: u64,
    /// Links of layers by SHA-256.
    pub links: u64,
    /// Manifests.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Layers that were read.
    pub layers_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Documents that were not judged, since they are younger than [`min_age`](CheckOptions::min_age).
    pub too_young: u64,
    /// What is wrong.
    pub defects: Vec<Defect>,
    /// How many more objects seemed to have defects: these were not looked at again, and not repaired.
    pub more_defective: u64,
    /// The images that cannot be pulled because of it.
    pub broken: Vec<BrokenImage>,
    /// What could not be looked at, and why.
    pub unchecked: Vec<String>,
    /// How many more could not be looked at.
    pub more_unchecked: u64,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckVerdict {
    /// No damage; there may be leftovers.
    Clean,
    /// There was damage, and all of it was repaired.
    Repaired,
    /// There is damage.
    Damaged,
    /// Not everything could be looked at.
    Incomplete,
}

impl CheckReport {
    /// How it ended. What was not looked at weighs more than damage.
    pub fn verdict(&self) -> CheckVerdict {
        let of = |severity| {
            let all = self.defects.iter();
            all.filter(move |defect| defect.kind.severity() == severity)
        };
        let mut damage = of(DefectSeverity::Damage).peekable();
        let is_complete = self.unchecked.is_empty() && self.more_defective == 0;
        if !is_complete || of(DefectSeverity::Unchecked).next().is_some() {
            CheckVerdict::Incomplete
        } else if damage.peek().is_none() {
            CheckVerdict::Clean
        } else if damage.all(|defect| defect.is_repaired) {
            CheckVerdict::Repaired
        } else {
            CheckVerdict::Damaged
        }
    }
}

/// A subject and what is wrong with it.
type Found = (look::Subject, Vec<DefectKind>);

struct Check<'a> {
    store: &'a Arc<Store>,
    options: &'a CheckOptions,
    report: Mutex<CheckReport>,
    /// Data objects that something names.
    named: Mutex<Marks>,
    /// A record, a link or a list of the collection could not be read, so that it is not known what data it names.
    has_unread: AtomicBool,
    /// Uploads whose bytes do not have their checksums.
    rotten: Mutex<HashSet<Uuid>>,
    /// Data objects of which the store reports no checksum, and whose bytes were read and are right, with their ETags.
    proven: Mutex<HashMap<Key, ETag>>,
}

impl S3LayerService {
    /// Looks for what cannot be read, found or proven, and repairs what follows from the rest, if that is asked for. The
    /// bucket may be in use.
    ///
    /// # Errors
    ///
    /// [`Storage`](Error::Storage) where a listing failed, or where permission is missing; with `repair`, where the store has
    /// no conditional writes, or does not report its time. With a report of what was found before; nothing is repaired after
    /// an error. What else could not be looked at is part of the result.
    ///
    /// # Cost
    ///
    /// 1 request for a thousand objects of the bucket, twice for data; 1 for each layer, alias, manifest, tag, referrer, claim and
    /// repository. With `objects`, 1 for each data object and each link, too. In memory at most 9 MiB for each of layers,
    /// open uploads, data objects, and links of one repository, or 16 where there are more than 900,000; and 24 MiB for
    /// defects. Where there are defects, the wait.
    ///
    /// # Cancellation
    ///
    /// Stops between two requests. A repair may be made in part; another check continues.
    pub async fn check(
        &self,
        options: &CheckOptions,
    ) -> Result<CheckReport, RunError<CheckReport, Error>> {
        let check = Check {
            store: &self.store,
            options,
            report: Mutex::default(),
            named: Mutex::new(Marks::precise()),
            has_unread: AtomicBool::new(false),
            rotten: Mutex::default(),
            proven: Mutex::default(),
        };
        let ended = telemetry::at_rate(options.rate, Box::pin(check.run())).await;
        let report = check.report.into_inner();
        RunError::of(ended, report.unwrap_or_else(PoisonError::into_inner))
    }
}

fn no_repair(reason: &'static str) -> Error {
    let reason = format!("no repair: {reason}, so that a push could lose its layers");
    StorageError::new("check", "", StorageErrorKind::Other, reason).into()
}

impl Check<'_> {
    async fn run(&self) -> Result<()> {
        if self.options.repair && !self.store.has_conditional_writes() {
            return Err(no_repair(
                "there are no conditional writes in this store, or with a single writer",
            ));
        }
        let (found, mut ended) = walk::all(self).await;
        self.report(|report| report.more_defective = found.more);
        let mut found = found.first;
        if !found.is_empty() {
            let wait = self.options.wait.unwrap_or(self.store.times().look());
            if !wait.is_zero() {
                let (objects, seconds) = (found.len(), wait.as_secs());
                tracing::warn!(objects, seconds, "what was found is looked at again later");
            }
            sleep(wait).await;
            let (again, looked) = self.look_again(&found, false).await;
            (found, ended) = (again, ended.and(looked));
        }
        let mut left = found.clone();
        if ended.is_ok() && self.options.repair {
            ended = self.repair(&found, &mut left).await;
        }
        self.report_defects(found, &left);
        let broken = broken::images(self, &left).await;
        ended?;
        let broken = broken?;
        self.report(|report| report.broken = broken);
        Ok(())
    }

    /// Repairs what can be derived. What is `left` after that, also where it is not known.
    async fn repair(&self, found: &[Found], left: &mut Vec<Found>) -> Result<()> {
        if !repair::all(self, found).await? {
            return Ok(());
        }
        // What could not be read may be readable now. Data comes last, see `walk`.
        let has_unchecked = self.report(|report| !report.unchecked.is_empty());
        self.has_unread.store(has_unchecked, Ordering::Relaxed);
        let is_data = |(subject, _): &Found| matches!(subject, look::Subject::Data(..));
        let first = found.iter().position(is_data).unwrap_or(found.len());
        let (documents, data) = found.split_at(first);
        let (mut again, looked) = self.look_again(documents, true).await;
        looked?;
        let (of_data, looked) = self.look_again(data, true).await;
        looked?;
        again.extend(of_data);
        *left = again;
        Ok(())
    }

    /// `left`: in the order of `found`.
    fn report_defects(&self, found: Vec<Found>, left: &[Found]) {
        let mut left = left.iter().peekable();
        for (subject, kinds) in found {
            let left = left.next_if(|(other, _)| *other == subject);
            let left = left.map_or(&[][..], |(_, kinds)| kinds);
            let is_left = |kind| left.contains(kind);
            let key = subject.key(&self.store.keys);
            let new = left.iter().filter(|kind| !kinds.contains(kind));
            let defects = kinds.iter().chain(new).map(|kind| Defect {
                kind: match kind {
                    DefectKind::OrphanData if self.has_unread() => DefectKind::OrphanUnproven,
                    kind => *kind,
                },
                key: key.clone(),
                is_repaired: !is_left(kind),
            });
            self.report(|report| report.defects.extend(defects));
        }
    }

    /// What of this is so still, in its order, up to the first error. Where a look fails, `keeps_unknown` says whether that
    /// counts.
    async fn look_again(&self, found: &[Found], keeps_unknown: bool) -> (Vec<Found>, Result<()>) {
        let looks = found.iter().map(async |(subject, before)| {
            let looked = Box::pin(look::at(self, subject)).await;
            let kinds = match self.or_unchecked(subject, looked.map(Some))? {
                Some(mut kinds) => {
                    let is_damage = |kind: &DefectKind| kind.severity() == DefectSeverity::Damage;
                    if kinds.iter().any(|kind| before.contains(kind)) {
                        kinds.retain(|kind| before.contains(kind));
                    } else if before.iter().any(is_damage) {
                        // It has become another kind of damage: what was gone in part is gone.
                        kinds.retain(is_damage);
                    } else {
                        kinds.clear();
                    }
                    kinds
                }
                None if keeps_unknown => before.clone(),
                None => Vec::new(),
            };
            Ok::<_, Error>((subject.clone(), kinds))
        });
        let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE);
        let mut again = Vec::new();
        while let Some(looked) = looks.next().await {
            match looked {
                Ok((_, kinds)) if kinds.is_empty() => {}
                Ok(found) => again.push(found),
                Err(error) => return (again, Err(error)),
            }
        }
        (again, Ok(()))
    }

    /// What is wrong with a subject. A request that failed is part of the report, but for a lack of permission.
    async fn look(&self, subject: &look::Subject) -> Result<Vec<DefectKind>> {
        let looked = Box::pin(look::at(self, subject)).await;
        self.or_unchecked(subject, looked)
    }

    fn or_unchecked<T: Default>(&self, subject: &look::Subject, looked: Result<T>) -> Result<T> {
        match looked {
            Err(error) if error.is_permission() => Err(error),
            Err(error) => {
                if matches!(
                    subject,
                    look::Subject::Record(_)
                        | look::Subject::Link(..)
                        | look::Subject::DeadBatch(_)
                ) {
                    self.note_unread();
                }
                let key = subject.key(&self.store.keys);
                tracing::warn!(%key, %error, "could not look at an object");
                self.add_unchecked(format!("{key}: {error}"));
                Ok(T::default())
            }
            looked => looked,
        }
    }

    fn min_age(&self) -> Duration {
        let after_pushes = self.store.times().look() * 4;
        self.options.min_age.unwrap_or(after_pushes)
    }

    fn report<T>(&self, change: impl FnOnce(&mut CheckReport) -> T) -> T {
        change(&mut lock(&self.report))
    }

    fn name(&self, key: &Key) {
        lock(&self.named).insert(key.as_str());
    }

    fn name_data(&self, layer: &StoredLayer) {
        for segment in layer.segments() {
            self.name(&self.store.keys.segment(layer.upload, &segment.name));
        }
    }

    fn is_named(&self, key: &Key) -> bool {
        lock(&self.named).contains(key.as_str())
    }

    /// Adds a reason, once.
    fn add_unchecked(&self, reason: String) {
        self.report(|report| {
            if !report.unchecked.contains(&reason) {
                let more = &mut report.more_unchecked;
                push_bounded(&mut report.unchecked, more, REASONS, reason);
            }
        });
    }

    fn note_unread(&self) {
        self.has_unread.store(true, Ordering::Relaxed);
    }

    fn has_unread(&self) -> bool {
        self.has_unread.load(Ordering::Relaxed)
    }

    fn add_rotten(&self, upload: Uuid) {
        lock(&self.rotten).insert(upload);
    }

    /// Remembers that the objects of a layer have its bytes; not where there are too many of them.
    fn add_proven(&self, layer: &StoredLayer) -> bool {
        let mut proven = lock(&self.proven);
        let has_space = proven.len() + layer.segments().len() <= DEFECTS;
        if has_space {
            proven.extend(layer.segments().iter().map(|segment| {
                let key = self.store.keys.segment(layer.upload, &segment.name);
                (key, segment.etag.clone())
            }));
        }
        has_space
    }

    fn is_proven(&self, key: &Key, etag: &ETag) -> bool {
        lock(&self.proven).get(key) == Some(etag)
    }

    /// A layer that was pushed again has other data.
    fn is_rotten(&self, layer: &StoredLayer) -> bool {
        lock(&self.rotten).contains(&layer.upload)
    }
}
