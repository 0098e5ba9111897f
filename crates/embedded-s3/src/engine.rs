//! The index and its backing behind one door: decide and change in one step, read what is safe.
//!
//! A commit looks at the index, decides, writes the change down (in a folder), and only then shows
//! it. Commits come one after the other, so two writers with the same condition cannot both be
//! right. A reader sees only what would survive a crash.
//!
//! In a folder a commit runs on a blocking thread, which nobody can cancel: a client that hangs up
//! leaves a change done or not begun.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::blob::{Blob, NewBlob, Sink};
use crate::folder::Folder;
use crate::index::{BlobId, Bucket, Change, Index, Object, Part};
use crate::ram::RamSink;
use crate::refusal::Refusal;

/// The index, and the blobs it names.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) blobs: HashMap<BlobId, Arc<Blob>>,
}

/// Where state is kept.
#[derive(Debug)]
pub(crate) enum Backing {
    Ram,
    Folder(Folder),
}

/// A store without its door to the network.
#[derive(Debug)]
pub(crate) struct Engine {
    state: RwLock<State>,
    backing: Backing,
}

/// What a commit decided.
pub(crate) struct Decision<T> {
    pub(crate) changes: Vec<Change>,
    /// Blobs that the changes name for the first time.
    pub(crate) blobs: Vec<NewBlob>,
    pub(crate) answer: T,
}

impl<T> Decision<T> {
    /// Nothing changes.
    pub(crate) fn answer(answer: T) -> Self {
        Self {
            changes: Vec::new(),
            blobs: Vec::new(),
            answer,
        }
    }

    /// One change, with the blob it brings.
    pub(crate) fn change(change: Change, blob: Option<NewBlob>, answer: T) -> Self {
        Self {
            changes: vec![change],
            blobs: blob.into_iter().collect(),
            answer,
        }
    }
}

/// A part that may be read, whatever happens to its object.
pub(crate) struct Pinned {
    pub(crate) part: Part,
    pub(crate) blob: Option<Arc<Blob>>,
}

impl Engine {
    /// Over this state and backing.
    pub(crate) fn new(state: State, backing: Backing) -> Self {
        Self {
            state: RwLock::new(state),
            backing,
        }
    }

    /// A place for a body.
    pub(crate) fn sink(&self) -> Sink {
        match &self.backing {
            Backing::Ram => Sink::Ram(RamSink::default()),
            Backing::Folder(folder) => Sink::File(folder.sink()),
        }
    }

    /// Test equipment: how many more bytes can be written to the folder; `None` for any number.
    pub(crate) fn limit_space(&self, bytes: Option<u64>) {
        if let Backing::Folder(folder) = &self.backing {
            folder.space().limit(bytes);
        }
    }

    /// Looks at the index.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.shared().index)
    }

    /// Looks at a bucket.
    pub(crate) fn read_bucket<T>(
        &self,
        name: &str,
        look: impl FnOnce(&Bucket) -> T,
    ) -> Result<T, Refusal> {
        self.read(|index| bucket(index, name).map(look))
    }

    /// An object, for its description.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<Arc<Object>, Refusal> {
        self.read_bucket(bucket, |bucket| bucket.objects.get(key).cloned())?
            .ok_or(Refusal::NoSuchKey)
    }

    /// An object and the bytes of its parts, which stay readable as long as they are held.
    pub(crate) fn pinned(
        &self,
        name: &str,
        key: &str,
    ) -> Result<(Arc<Object>, Vec<Pinned>), Refusal> {
        let state = self.shared();
        let object = bucket(&state.index, name)?
            .objects
            .get(key)
            .ok_or(Refusal::NoSuchKey)?;
        let pin = |part: &Part| Pinned {
            part: part.clone(),
            blob: part.blob.and_then(|id| state.blobs.get(&id).cloned()),
        };
        Ok((object.clone(), object.parts.iter().map(pin).collect()))
    }

    /// Decides over the index as it is, and makes the decision come true before any other.
    pub(crate) async fn commit<T, D>(self: &Arc<Self>, decide: D) -> Result<T, Refusal>
    where
        T: Send + 'static,
        D: FnOnce(&Index) -> Result<Decision<T>, Refusal> + Send + 'static,
    {
        match &self.backing {
            Backing::Ram => self.commit_in_ram(decide),
            Backing::Folder(_) => {
                let engine = self.clone();
                tokio::task::spawn_blocking(move || engine.commit_in_folder(decide))
                    .await
                    .map_err(|gone| Refusal::Internal(io::Error::other(gone)))?
            }
        }
    }

    /// The bucket exists afterwards.
    pub(crate) async fn create_bucket(
        self: &Arc<Self>,
        name: String,
        region: Option<String>,
    ) -> Result<(), Refusal> {
        let decide = move |index: &Index| {
            Ok(match index.buckets.get(&name) {
                Some(_) => Decision::answer(()),
                None => {
                    let created = jiff::Timestamp::now();
                    Decision::change(
                        Change::CreateBucket {
                            bucket: name,
                            created,
                            region,
                        },
                        None,
                        (),
                    )
                }
            })
        };
        self.commit(decide).await
    }

    fn commit_in_ram<T>(
        &self,
        decide: impl FnOnce(&Index) -> Result<Decision<T>, Refusal>,
    ) -> Result<T, Refusal> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let decision = decide(&state.index)?;
        let freed = state.apply(decision.changes, decision.blobs);
        drop(state);
        drop(freed);
        Ok(decision.answer)
    }

    fn commit_in_folder<T>(
        &self,
        decide: impl FnOnce(&Index) -> Result<Decision<T>, Refusal>,
    ) -> Result<T, Refusal> {
        let Backing::Folder(folder) = &self.backing else {
            return self.commit_in_ram(decide);
        };
        // Held to the end: the index cannot change between the decision and its coming true.
        let mut metadata = folder.metadata();
        let state = self.shared();
        let decision = decide(&state.index)?;
        if decision.changes.is_empty() {
            return Ok(decision.answer);
        }
        let new: HashMap<BlobId, Arc<Blob>> = decision
            .blobs
            .iter()
            .map(|new| (new.id, new.blob.clone()))
            .collect();
        let blob = |id| new.get(&id).or_else(|| state.blobs.get(&id)).cloned();
        metadata.commit(&decision.changes, new.values(), blob)?;
        drop(state);
        let freed = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.apply(decision.changes, decision.blobs)
        };
        drop(metadata);
        for blob in &freed {
            blob.discard();
        }
        Ok(decision.answer)
    }

    fn shared(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Applies changes, and gives the blobs that nothing names any longer, to be dropped unlocked:
    /// deleting a large file takes time.
    fn apply(&mut self, changes: Vec<Change>, blobs: Vec<NewBlob>) -> Vec<Arc<Blob>> {
        self.blobs
            .extend(blobs.into_iter().map(|new| (new.id, new.blob)));
        let freed: Vec<BlobId> = changes
            .into_iter()
            .flat_map(|change| self.index.apply(change))
            .collect();
        freed
            .into_iter()
            .filter_map(|id| self.blobs.remove(&id))
            .collect()
    }
}

/// The bucket, if there is one.
pub(crate) fn bucket<'a>(index: &'a Index, name: &str) -> Result<&'a Bucket, Refusal> {
    index.buckets.get(name).ok_or(Refusal::NoSuchBucket)
}
