//! Collection: removes links that no manifest names, then layers that no link names, and gives their
//! bytes back, while any number of processes push, pull and collect.
//!
//! # The protocol
//!
//! `tests/it/collector_protocol` visits all of its states, and `docs/operations.md` describes it for
//! operators. In short, for a link and for a record:
//!
//! ```text
//! live ──> condemned{nonce} ──> wait ──> parents listed again ──> gone
//! record: gone is dead{nonce} ──> kept ──> purging{nonce} ──> data removed ──> record removed
//! ```
//!
//! 1. Every step is a conditional write on the document that was judged, so any number of collectors
//!    can run at once, and a kill anywhere leaves a state from which the next pass continues. A pass
//!    remembers nothing that decides: it lists again.
//! 2. A condemned thing is served as a live one. A writer that relies on it writes it back to live
//!    ([`publish`](crate::s3::publish)), so that the next step is refused. Where no client does, a condemned record
//!    stays condemned while links are listed, and may become dead as soon as none is.
//! 3. Ages are by the store's clock alone, between the last write of a document and the first page of the
//!    listing that shows its parents ([`listing`]).
//! 4. A listing that loses keys must not remove anything: a canary has to be in it, it has to be in order, it may
//!    not be much shorter than the last one, and only a share of a repository, and of all layers, may go in a pass.
//!    What manifests name counts as linked, too. Data goes only after two listings without a link: of the pass that
//!    sets the record to dead, and of the pass that removes its data.
//! 5. Data goes only after `purging`, which nothing restores. Its keys are never used again. Aliases go after `purging` too,
//!    so that a restored layer has them.
//!
//! [`plan`] decides, without I/O. [`walk`] lists repositories, [`links`] and [`records`] carry out what follows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::clock;
use crate::error::Error;
use crate::locks::lock;
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::format::collection::LastCollection;
use crate::s3::format::collection_times::CollectionTimes;
use crate::s3::format::document::tombstone;
use crate::s3::format::keys::Key;
use crate::s3::maintenance::bounded_list::push_bounded;
use crate::s3::maintenance::marks::Marks;
use crate::s3::maintenance::run_error::RunError;
use crate::s3::repositories;
use crate::s3::wire::{ApiError, Condition, Versioning};
use crate::telemetry;

mod dead;
mod last;
mod links;
mod listing;
mod names_cache;
mod plan;
mod purge;
mod records;
mod repository;
mod sample;
mod sessions;
mod walk;

/// How many documents are judged at a time.
const AT_ONCE: usize = 8;
/// How many reasons of what was left alone are kept.
const SHOWN: usize = 100;

/// What a collection may do.
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// Change nothing, and report what would be done now.
    pub dry_run: bool,
    /// At most this share of the links of a repository, and of all layers, is condemned by a pass; 0 to 1. Where
    /// more would be, and more than ten, they stay, also those that were condemned before, and the report says so.
    pub max_share: f64,
    /// About how many requests a second are made at most.
    pub rate: Option<u32>,
}

impl Default for CollectOptions {
    fn default() -> Self {
        CollectOptions {
            dry_run: false,
            max_share: 0.2,
            rate: None,
        }
    }
}

/// What a collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Repositories that have a link, a manifest or a tag.
    pub repositories: u64,
    /// Links of layers.
    pub links: u64,
    /// Manifests.
    pub manifests: u64,
    /// Layers.
    pub layers: u64,
    /// Links that are removed after the wait, unless they are used again.
    pub links_condemned: u64,
    /// Condemned links that are used again.
    pub links_restored: u64,
    /// Links that were removed.
    pub links_removed: u64,
    /// Repositories of which all links were left alone, as more would be condemned than `max_share` allows.
    pub repositories_left: u64,
    /// Links that the next collection may remove, as this one has removed as many as it remembers.
    pub links_left: u64,
    /// Layers that are removed after the wait, unless they are used again.
    pub layers_condemned: u64,
    /// Their bytes.
    pub bytes_condemned: u64,
    /// Layers that are absent now; their data is kept a while, for `trash restore`.
    pub layers_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Layers whose data was removed.
    pub layers_freed: u64,
    /// The bytes that were freed, by the repository where the layer was first published.
    pub freed: BTreeMap<RepositoryName, u64>,
    /// The bucket keeps versions: freed bytes became noncurrent, and stay until a rule of the bucket removes them.
    pub is_versioned: bool,
    /// What was left alone, and why: the first hundred.
    pub skipped: Vec<String>,
    /// How many more were left alone.
    pub more_skipped: u64,
    /// Why nothing was removed, where a guard stopped the removal. Where it is right, a pass with a `max_share` of 1
    /// continues.
    pub stopped: Option<String>,
}

impl CollectReport {
    /// All bytes that were freed.
    #[must_use]
    pub fn bytes_freed(&self) -> u64 {
        self.freed.values().sum()
    }
}

/// Why a collection ended early. Another one continues.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The store cannot be collected, or did not answer as a collection relies on.
    #[error("no collection: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A request failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl CollectError {
    fn refused(reason: impl fmt::Display) -> Self {
        CollectError::Refused {
            reason: reason.to_string(),
        }
    }
}

impl From<ApiError> for CollectError {
    fn from(error: ApiError) -> Self {
        CollectError::Failed(error.into())
    }
}

/// One pass over the bucket.
struct Pass<'a> {
    store: &'a Arc<Store>,
    options: &'a CollectOptions,
    report: Mutex<CollectReport>,
}

pub(crate) async fn collect(
    store: &Arc<Store>,
    options: &CollectOptions,
) -> Result<CollectReport, RunError<CollectReport, CollectError>> {
    let pass = Pass {
        store,
        options,
        report: Mutex::new(CollectReport {
            dry_run: options.dry_run,
            ..CollectReport::default()
        }),
    };
    let ended = telemetry::at_rate(options.rate, Box::pin(pass.run())).await;
    let report = pass.report.into_inner();
    RunError::of(ended, report.unwrap_or_else(PoisonError::into_inner))
}

/// The results of all of these, some at a time and in any order, up to the first error.
async fn at_once<T>(
    each: impl Iterator<Item = impl Future<Output = Result<T, CollectError>>>,
) -> Result<Vec<T>, CollectError> {
    let each = stream::iter(each.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    each.try_collect().await
}

fn refuse(store: &Store, options: &CollectOptions) -> Result<(), CollectError> {
    if !store.has_conditional_writes() {
        return Err(CollectError::refused(
            "a push could lose its layers without conditional writes, which the store does not have, or the \
             declaration of a single writer does without",
        ));
    }
    if !(0.0..=1.0).contains(&options.max_share) {
        let share = options.max_share;
        return Err(CollectError::refused(format_args!(
            "max_share is {share}; expected 0 to 1"
        )));
    }
    Ok(())
}

impl Pass<'_> {
    async fn run(&self) -> Result<(), CollectError> {
        refuse(self.store, self.options)?;
        let sessions = sessions::open(self).await?;
        let canary = self.store.keys.canary(&clock::new_nonce());
        let canary = Some(canary).filter(|_| !self.options.dry_run);
        if let Some(canary) = &canary {
            let put = self
                .store
                .api
                .put_if(canary, tombstone()?, Condition::Absent);
            put.await?;
        }
        let collected = self.collect(&sessions, canary.as_ref()).await;
        if let Some(canary) = &canary {
            // A pass that is killed, or a stray attempt, can leave it behind: 96 bytes below no repository.
            self.store.api.delete(canary).await?;
        }
        collected
    }

    async fn collect(
        &self,
        sessions: &sessions::OpenUploads,
        canary: Option<&Key>,
    ) -> Result<(), CollectError> {
        let mut walked = walk::repositories(self, sessions, canary).await?;
        let last = last::load(self).await?;
        if let Some(reason) = self.shortfall(last.counted) {
            self.report(|report| report.stopped = Some(reason));
            return Ok(());
        }
        records::condemn_all(self, &mut walked).await?;
        let removable = &mut walked.judged.removable;
        self.report(|report| report.links_left = removable.more);
        let removed = std::mem::take(&mut removable.first);
        last::store(self, last, removed.len() as u64).await?;
        for link in &removed {
            walked.removed.insert(link.key.as_str());
        }
        if links::remove(self, &removed).await? > 0 {
            // Both need not be in memory at once.
            walked.linked = Marks::small();
            let absent = self.options.dry_run.then_some(&walked.removed);
            (walked.linked, walked.began_at) = walk::links(self, canary, absent).await?;
        }
        let freed = records::collect(self, &walked).await?;
        // A pass that is stopped frees no bytes and keeps the trash.
        if !self.options.dry_run && self.report(|report| report.stopped.is_none()) {
            dead::settle(self, &walked, &freed).await?;
            if !freed.is_empty() {
                self.note_versions().await;
            }
            // The links of an image that was deleted at once are condemned at their age, and its layers are freed one wait
            // and `kept` later.
            let times = self.times();
            let settled = times.link_age() + times.wait() * 2 + times.kept();
            repositories::expire(self.store, settled).await?;
            self.store.remove_all(&walked.canaries.first).await?;
            names_cache::forget_others(self, &walked.names).await?;
        }
        Ok(())
    }

    /// Only the report depends on it, so a credential need not be allowed to ask.
    async fn note_versions(&self) {
        let versioning = self.store.api.versioning().await;
        let is_versioned = versioning.is_ok_and(|versioning| versioning == Versioning::On);
        self.report(|report| report.is_versioned = is_versioned);
    }

    /// Why the listings are not believed.
    fn shortfall(&self, last: Option<LastCollection>) -> Option<String> {
        let last = last?;
        let (links, manifests) = self.report(|report| (report.links, report.manifests));
        let is_short =
            plan::is_too_short(links, last.links) || plan::is_too_short(manifests, last.manifests);
        if !is_short || self.options.max_share >= 1.0 {
            return None;
        }
        Some(format!(
            "of {} links and {} manifests that the last collection left, {links} and {manifests} are listed",
            last.links, last.manifests
        ))
    }

    fn times(&self) -> &CollectionTimes {
        self.store.times()
    }

    fn report<T>(&self, change: impl FnOnce(&mut CollectReport) -> T) -> T {
        change(&mut lock(&self.report))
    }

    fn skip(&self, reason: impl fmt::Display) {
        let reason = reason.to_string();
        self.report(|report| {
            push_bounded(&mut report.skipped, &mut report.more_skipped, SHOWN, reason);
        });
    }

    /// What was read; `None` where it is absent, or cannot be read and is left alone.
    fn or_skip<T>(&self, read: Result<Option<T>, Error>) -> Result<Option<T>, CollectError> {
        match read {
            Err(error) if error.is_unreadable() => {
                self.skip(error);
                Ok(None)
            }
            read => Ok(read?),
        }
    }
}
