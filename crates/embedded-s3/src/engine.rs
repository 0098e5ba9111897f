//! The index and its backing: decides and changes in one step, reads what is durable.
//!
//! A commit reads the index, decides, stores the change (in a folder), and only then applies it.
//! Commits are serial, so of two writers with the same condition only one succeeds. A reader sees only
//! what would survive a crash.
//!
//! In a folder commits run on a blocking thread, which cannot be cancelled: if a client disconnects,
//! its change is done or not begun. Those that arrive while another is being synced are stored
//! together.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::oneshot;

use crate::blob::{Blob, NewBlob, Sink};
use crate::folder::{Folder, Writer};
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

/// A commit to a folder that waits for its turn. Decides; `None` if the answer was sent.
pub(crate) struct Waiting(Box<Decide>);

type Decide = dyn FnOnce(&Index) -> Option<Decided> + Send;

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

/// A commit that was decided and is not stored yet.
pub(crate) struct Decided {
    changes: Vec<Change>,
    blobs: Vec<NewBlob>,
    answer: Box<dyn FnOnce(Result<(), Arc<io::Error>>) + Send>,
}

/// A commit, and where its answer arrives. A client that has gone changes nothing.
fn waiting<T, D>(decide: D) -> (Waiting, oneshot::Receiver<Result<T, Refusal>>)
where
    T: Send + 'static,
    D: FnOnce(&Index) -> Result<Decision<T>, Refusal> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let waiting = move |index: &Index| match decide(index) {
        Ok(Decision {
            changes,
            blobs,
            answer,
        }) => Some(Decided {
            changes,
            blobs,
            answer: Box::new(move |stored| {
                let failed = |error: Arc<io::Error>| io::Error::new(error.kind(), error).into();
                let _ = sender.send(stored.map(|()| answer).map_err(failed));
            }),
        }),
        Err(refusal) => {
            let _ = sender.send(Err(refusal));
            None
        }
    };
    (Waiting(Box::new(waiting)), receiver)
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
            Backing::Folder(folder) => {
                let (commit, answer) = waiting(decide);
                locked(&folder.waiting).push(commit);
                let engine = self.clone();
                let stored = tokio::task::spawn_blocking(move || {
                    if let Backing::Folder(folder) = &engine.backing {
                        engine.commit_waiting(folder);
                    }
                });
                // After it nothing of this commit holds the folder open.
                stored.await.map_err(io::Error::other)?;
                answer.await.map_err(io::Error::other)?
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

    /// Stores all commits that wait, in one transaction: an fsync takes longer than all else. Each is
    /// decided over the result of those before it. Blocks.
    fn commit_waiting(&self, folder: &Folder) {
        // Held to the end: nothing else may be decided until these are stored.
        let mut writer = folder.writer();
        let waiting = std::mem::take(&mut *locked(&folder.waiting));
        let (mut changes, mut new, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for Waiting(decide) in waiting {
            let Some(mut commit) = decide(&writer.next) else {
                continue;
            };
            for change in &commit.changes {
                writer.next.apply(change.clone());
            }
            changes.append(&mut commit.changes);
            new.append(&mut commit.blobs);
            answers.push(commit.answer);
        }
        let (stored, freed) = match self.store(&mut writer, changes, new) {
            Ok(freed) => (Ok(()), freed),
            Err(error) => {
                writer.next = self.shared().index.clone();
                (Err(Arc::new(error)), Vec::new())
            }
        };
        drop(writer);
        for blob in &freed {
            blob.discard();
        }
        for answer in answers {
            answer(stored.clone());
        }
    }

    /// Stores changes and applies them. The blobs that no part names any longer.
    fn store(
        &self,
        writer: &mut Writer,
        changes: Vec<Change>,
        new: Vec<NewBlob>,
    ) -> io::Result<Vec<Arc<Blob>>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        {
            let state = self.shared();
            let blobs: HashMap<BlobId, &Arc<Blob>> =
                new.iter().map(|new| (new.id, &new.blob)).collect();
            let blob = |id| blobs.get(&id).copied().or(state.blobs.get(&id)).cloned();
            writer
                .metadata
                .commit(&changes, blobs.values().copied(), blob)?;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        Ok(state.apply(changes, new))
    }

    fn shared(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Applies changes, and returns the blobs that are no longer referenced, to be dropped unlocked:
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

/// Locks, also after a panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bucket, if there is one.
pub(crate) fn bucket<'a>(index: &'a Index, name: &str) -> Result<&'a Bucket, Refusal> {
    index.buckets.get(name).ok_or(Refusal::NoSuchBucket)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    const COMMITS: usize = 50;

    /// Creates the bucket; whether it was absent.
    async fn create(engine: Arc<Engine>, name: String) -> Result<bool, Refusal> {
        let decide = move |index: &Index| {
            if index.buckets.contains_key(&name) {
                return Ok(Decision::answer(false));
            }
            let created = jiff::Timestamp::UNIX_EPOCH;
            let region = None;
            let change = Change::CreateBucket {
                bucket: name,
                created,
                region,
            };
            Ok(Decision::change(change, None, true))
        };
        engine.commit(decide).await
    }

    /// Commits that wait at the same time: half of them of one name.
    async fn crowd(engine: &Arc<Engine>) -> Vec<Result<bool, Refusal>> {
        let Backing::Folder(folder) = &engine.backing else {
            unreachable!("it is over a folder");
        };
        let writer = folder.writer();
        let mut commits = tokio::task::JoinSet::new();
        for number in 0..COMMITS {
            let name = if number % 2 == 0 {
                "same".to_owned()
            } else {
                format!("own-{number}")
            };
            commits.spawn(create(engine.clone(), name));
        }
        while locked(&folder.waiting).len() < COMMITS {
            std::thread::yield_now();
        }
        drop(writer);
        commits.join_all().await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn waiting_commits_are_one_transaction_decided_in_order() {
        let path = tempfile::tempdir().unwrap();
        let (folder, state) = Folder::open(path.path()).unwrap();
        let engine = Arc::new(Engine::new(state, Backing::Folder(folder)));
        let answers = crowd(&engine).await;
        let new = answers.into_iter().filter(|new| *new.as_ref().unwrap());
        assert_eq!(new.count(), COMMITS / 2 + 1);
        let Backing::Folder(folder) = &engine.backing else {
            unreachable!("it is over a folder");
        };
        assert_eq!(folder.writer().metadata.commits(), 1);
        drop(engine);
        let (_folder, state) = Folder::open(path.path()).unwrap();
        assert_eq!(state.index.buckets.len(), COMMITS / 2 + 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn failed_transaction_refuses_all_its_commits_and_shows_none() {
        let path = tempfile::tempdir().unwrap();
        let (folder, state) = Folder::open(path.path()).unwrap();
        let engine = Arc::new(Engine::new(state, Backing::Folder(folder)));
        let away = path.path().join("away");
        let metadata = path.path().join("metadata.redb");
        std::fs::rename(&metadata, &away).unwrap();
        for answer in crowd(&engine).await {
            assert!(
                matches!(answer, Err(Refusal::FolderRemoved(_))),
                "{answer:?}"
            );
        }
        assert!(engine.read(|index| index.buckets.is_empty()));
        std::fs::rename(&away, &metadata).unwrap();
        assert!(create(engine.clone(), "same".into()).await.unwrap());
        assert!(!create(engine, "same".into()).await.unwrap());
    }
}
