//! Commits and reads, over the metadata and the blobs.
//!
//! A commit reads the metadata, decides, and changes them in one transaction. Commits are serial, so of two
//! writers with the same condition only one succeeds. A reader sees only what would survive a crash.
//!
//! In a folder commits run on a blocking thread, which cannot be cancelled: if a client disconnects, its
//! change is done or not begun. Those that arrive while another is being synced are stored together.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::blob::{Blob, Blobs, Pins, Sink, locked};
use crate::folder::Folder;
use crate::metadata::Metadata;
use crate::model::{BlobId, Object, Part};
use crate::refusal::Refusal;
use crate::tables::{Snapshot, Tables as _, Transaction};

/// A store without its entries from the network.
#[derive(Debug)]
pub(crate) struct Engine {
    metadata: Metadata,
    blobs: Blobs,
    waiting: Mutex<Vec<Box<dyn Commit>>>,
    /// Dropped last: the folder is unlocked when all of it is closed.
    _folder: Option<Folder>,
}

/// A commit that waits for its transaction.
trait Commit: Send {
    /// Decides over the result of the commits before, and changes the transaction. An error fails all of it.
    fn decide(&mut self, transaction: &mut Transaction) -> io::Result<()>;
    /// Sends the answer. A client that has disconnected is ignored.
    fn answer(self: Box<Self>, stored: Result<(), Arc<io::Error>>);
}

impl std::fmt::Debug for dyn Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Commit")
    }
}

struct PendingCommit<T, D> {
    decide: Option<D>,
    result: Option<Result<T, Refusal>>,
    sender: oneshot::Sender<Result<T, Refusal>>,
}

impl<T, D> Commit for PendingCommit<T, D>
where
    T: Send,
    D: FnOnce(&mut Transaction) -> Result<T, Refusal> + Send,
{
    fn decide(&mut self, transaction: &mut Transaction) -> io::Result<()> {
        let result = self.decide.take().map(|decide| decide(transaction));
        self.result = match result {
            Some(Err(refusal)) => Some(Err(refusal.or_failure()?)),
            result => result,
        };
        Ok(())
    }

    fn answer(self: Box<Self>, stored: Result<(), Arc<io::Error>>) {
        let Self { result, sender, .. } = *self;
        let undecided = || Err(io::Error::other("the commit was not decided").into());
        let result = match stored {
            Ok(()) => result.unwrap_or_else(undecided),
            Err(error) => Err(io::Error::new(error.kind(), error).into()),
        };
        let _ = sender.send(result);
    }
}

/// A part that stays readable, even if its object is deleted.
pub(crate) struct PinnedPart {
    pub(crate) part: Part,
    pub(crate) blob: Option<Arc<Blob>>,
}

impl Engine {
    /// In this folder, or in memory.
    pub(crate) fn new(metadata: Metadata, blobs: Blobs, folder: Option<Folder>) -> Self {
        Self {
            metadata,
            blobs,
            waiting: Mutex::default(),
            _folder: folder,
        }
    }

    /// A place for a body.
    pub(crate) fn sink(&self) -> Sink {
        self.blobs.sink()
    }

    /// Test equipment: how many more bytes can be written to the folder; `None` for any number.
    pub(crate) fn limit_space(&self, bytes: Option<u64>) {
        if let Some(folder) = self.blobs.folder() {
            folder.space.limit(bytes);
        }
    }

    /// Reads a snapshot of the metadata.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Snapshot) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.run(|engine| engine.metadata.read(look)).await??
    }

    /// An object and the bytes of its parts, which stay readable as long as they are held. An object whose files are lost
    /// does not exist: it can be stored again.
    pub(crate) async fn pinned(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
    ) -> Result<(Object, Vec<PinnedPart>), Refusal> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let pin = move |pins: &mut Pins<'_>, snapshot: &Snapshot| {
            let object = snapshot.object(&bucket, &key)?.ok_or(Refusal::NoSuchKey)?;
            let mut is_lost = false;
            let mut pin = |id: BlobId| {
                let small = snapshot.blob(id)?.filter(|small| !small.is_empty());
                let small = small.map(|bytes: Bytes| Arc::new(Blob::Memory(vec![bytes])));
                Ok::<_, Refusal>(small.or_else(|| pins.pin(id)))
            };
            let parts = snapshot.parts_of(&object)?.into_iter().map(|part| {
                let blob = part.blob.map(&mut pin).transpose()?.flatten();
                is_lost |= blob.as_ref().is_some_and(|blob| blob.is_lost(part.size));
                Ok(PinnedPart { part, blob })
            });
            let parts = parts.collect::<Result<_, Refusal>>()?;
            if is_lost {
                tracing::warn!(bucket, key, "the bytes of an object are lost");
                return Err(Refusal::NoSuchKey);
            }
            Ok((object, parts))
        };
        let pinned = self.run(move |engine| {
            let mut pins = engine.blobs.pins();
            engine.metadata.read(|snapshot| pin(&mut pins, snapshot))
        });
        pinned.await??
    }

    /// Decides and changes in one step, after any commit before and before any other.
    pub(crate) async fn commit<T, D>(self: &Arc<Self>, decide: D) -> Result<T, Refusal>
    where
        T: Send + 'static,
        D: FnOnce(&mut Transaction) -> Result<T, Refusal> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        locked(&self.waiting).push(Box::new(PendingCommit {
            decide: Some(decide),
            result: None,
            sender,
        }));
        self.run(Self::commit_waiting).await?;
        answer.await.map_err(io::Error::other)?
    }

    /// The bucket exists afterwards. If it does already, nothing is written: the folder may be read-only.
    pub(crate) async fn create_bucket(
        self: &Arc<Self>,
        name: String,
        region: Option<String>,
    ) -> Result<(), Refusal> {
        let lookup = name.clone();
        match self.read(move |store| store.bucket(&lookup)).await {
            Err(Refusal::NoSuchBucket) => {
                let create = move |store: &mut Transaction| store.create_bucket(&name, region);
                self.commit(create).await
            }
            exists => exists.map(drop),
        }
    }

    /// Runs what may wait for a disk.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> io::Result<T> {
        if self.blobs.folder().is_none() {
            return Ok(act(self));
        }
        let engine = self.clone();
        let acted = tokio::task::spawn_blocking(move || act(&engine)).await;
        acted.map_err(io::Error::other)
    }

    /// Stores all commits that wait, in one transaction: an fsync takes longer than all else. Blocks.
    fn commit_waiting(&self) {
        let mut commits = self.metadata.writer();
        let mut waiting = std::mem::take(&mut *locked(&self.waiting));
        if waiting.is_empty() {
            return;
        }
        let stored = self.store(&mut waiting, &mut commits);
        drop(commits);
        let stored = stored
            .map(|freed| self.blobs.remove(freed))
            .map_err(Arc::new);
        for commit in waiting {
            commit.answer(stored.clone());
        }
    }

    /// The blobs that no row names any longer.
    fn store(&self, waiting: &mut [Box<dyn Commit>], commits: &mut u64) -> io::Result<Vec<BlobId>> {
        let mut transaction = self.metadata.begin()?;
        for commit in waiting {
            if let Err(error) = commit.decide(&mut transaction) {
                drop(transaction);
                self.metadata.close();
                return Err(error);
            }
        }
        let Some((transaction, new, freed)) = transaction.into_changes() else {
            return Ok(Vec::new());
        };
        self.blobs.add(&new);
        let committed = self.metadata.commit(transaction, commits);
        if committed
            .as_ref()
            .err()
            .is_none_or(|failure| failure.is_unknown)
        {
            new.iter().for_each(|blob| blob.keep());
        } else {
            self.blobs.remove(new.iter().map(|blob| blob.id));
        }
        match committed {
            Ok(()) => Ok(freed),
            Err(failure) => Err(failure.error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    const COMMITS: usize = 50;

    fn open(path: &std::path::Path) -> Engine {
        let (metadata, blobs, folder) = Folder::open(path).unwrap();
        Engine::new(metadata, blobs, Some(folder))
    }

    /// Creates the bucket; whether it was absent.
    async fn create(engine: Arc<Engine>, name: String) -> Result<bool, Refusal> {
        let decide = move |transaction: &mut Transaction| {
            let is_new = matches!(transaction.bucket(&name), Err(Refusal::NoSuchBucket));
            transaction.create_bucket(&name, None)?;
            Ok(is_new)
        };
        engine.commit(decide).await
    }

    /// Commits that wait at the same time: half of them of one name.
    async fn crowd(engine: &Arc<Engine>) -> Vec<Result<bool, Refusal>> {
        let writer = engine.metadata.writer();
        let mut commits = tokio::task::JoinSet::new();
        for number in 0..COMMITS {
            let name = if number % 2 == 0 {
                "same".to_owned()
            } else {
                format!("own-{number}")
            };
            commits.spawn(create(engine.clone(), name));
        }
        while locked(&engine.waiting).len() < COMMITS {
            std::thread::yield_now();
        }
        drop(writer);
        commits.join_all().await
    }

    fn buckets(engine: &Engine) -> usize {
        let count = |snapshot: &Snapshot| snapshot.buckets("").unwrap().count();
        engine.metadata.read(count).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn waiting_commits_are_one_transaction_decided_in_order() {
        let path = tempfile::tempdir().unwrap();
        let engine = Arc::new(open(path.path()));
        let answers = crowd(&engine).await;
        let new = answers.into_iter().filter(|new| *new.as_ref().unwrap());
        assert_eq!(new.count(), COMMITS / 2 + 1);
        assert_eq!(*engine.metadata.writer(), 1);
        drop(engine);
        let engine = open(path.path());
        assert_eq!(buckets(&engine), COMMITS / 2 + 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn failed_transaction_refuses_all_its_commits_and_shows_none() {
        let path = tempfile::tempdir().unwrap();
        let engine = Arc::new(open(path.path()));
        let away = path.path().join("away");
        let metadata = path.path().join("metadata.redb");
        std::fs::rename(&metadata, &away).unwrap();
        for answer in crowd(&engine).await {
            assert!(
                matches!(&answer, Err(Refusal::Failure(error)) if error.kind() == io::ErrorKind::NotFound),
                "{answer:?}"
            );
        }
        std::fs::rename(&away, &metadata).unwrap();
        assert_eq!(buckets(&engine), 0);
        assert!(create(engine.clone(), "same".into()).await.unwrap());
        assert!(!create(engine, "same".into()).await.unwrap());
    }
}
