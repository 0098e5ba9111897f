//! Commits and reads, over the metadata and the blobs.
//!
//! A commit reads the metadata, decides, and changes them in one transaction. Commits are serial, so of two
//! writers with the same condition only one succeeds. A reader sees only what would survive a crash.
//!
//! In a folder commits run on a blocking thread, which cannot be cancelled: if a client disconnects, its
//! change is done or not begun. Those that arrive while another is being synced are stored together.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::blob::{Blob, Blobs, NewBlob, Pins, Sink, locked};
use crate::folder::Folder;
use crate::metadata::Metadata;
use crate::model::{BlobId, Bucket, Object, Part};
use crate::refusal::Refusal;
use crate::tables::{Snapshot, Tables as _, Transaction};

/// A store without its entries from the network.
#[derive(Debug)]
pub(crate) struct Engine {
    metadata: Metadata,
    blobs: Blobs,
    waiting: Mutex<Vec<PendingCommit>>,
    /// Dropped last: the folder is unlocked when all of it is closed.
    _folder: Option<Folder>,
}

/// A commit that waits for its transaction.
struct PendingCommit {
    decide: Decide,
    /// Whether the transaction was stored.
    stored: oneshot::Sender<Result<(), Arc<io::Error>>>,
}

/// Decides over the result of the commits before, and changes the transaction. An error fails all of it.
type Decide = Box<dyn FnOnce(&mut Transaction) -> io::Result<()> + Send>;

impl std::fmt::Debug for PendingCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingCommit")
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
            let mut parts = Vec::new();
            for part in snapshot.parts_of(&object)? {
                let blob = match part.blob {
                    Some(id) => match snapshot.blob(id)? {
                        Some(small) if !small.is_empty() => {
                            Some(Arc::new(Blob::Memory(vec![small])))
                        }
                        _ => pins.pin(id),
                    },
                    None => None,
                };
                if blob.as_ref().is_some_and(|blob| blob.is_lost(part.size)) {
                    tracing::warn!(bucket, key, "the bytes of an object are lost");
                    return Err(Refusal::NoSuchKey);
                }
                parts.push(PinnedPart { part, blob });
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
        let (decision, decided) = oneshot::channel();
        let (stored, is_stored) = oneshot::channel();
        let decide = move |transaction: &mut Transaction| -> io::Result<()> {
            let result = match decide(transaction) {
                Err(refusal) => Err(refusal.or_failure()?),
                decided => decided,
            };
            // A client that has disconnected is ignored.
            let _ = decision.send(result);
            Ok(())
        };
        let decide = Box::new(decide);
        locked(&self.waiting).push(PendingCommit { decide, stored });
        self.run(Self::commit_waiting).await?;
        let is_stored = is_stored.await.map_err(io::Error::other)?;
        is_stored.map_err(|error| io::Error::new(error.kind(), error))?;
        decided.await.map_err(io::Error::other)?
    }

    /// The bucket.
    pub(crate) async fn bucket(self: &Arc<Self>, name: &str) -> Result<Bucket, Refusal> {
        let name = name.to_owned();
        self.read(move |store| store.bucket(&name)).await
    }

    /// The bucket exists afterwards. If it does already, nothing is written: the folder may be read-only.
    pub(crate) async fn create_bucket(
        self: &Arc<Self>,
        name: String,
        region: Option<String>,
    ) -> Result<(), Refusal> {
        match self.bucket(&name).await {
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
        let waiting = std::mem::take(&mut *locked(&self.waiting));
        if waiting.is_empty() {
            return;
        }
        let waiting = waiting.into_iter();
        let (decisions, answers): (Vec<_>, Vec<_>) =
            waiting.map(|commit| (commit.decide, commit.stored)).unzip();
        let stored = self.store(decisions, &mut commits);
        drop(commits);
        let stored = stored
            .map(|freed| self.blobs.remove(freed))
            .map_err(Arc::new);
        for answer in answers {
            let _ = answer.send(stored.clone());
        }
    }

    /// The blobs that no row names any longer.
    fn store(&self, decisions: Vec<Decide>, commits: &mut u64) -> io::Result<Vec<BlobId>> {
        let mut transaction = self.metadata.begin()?;
        for decide in decisions {
            if let Err(error) = decide(&mut transaction) {
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
        match &committed {
            Err(failure) if !failure.is_unknown => {
                self.blobs.remove(new.iter().map(|blob| blob.id));
            }
            // Stored, or perhaps.
            _ => new.iter().for_each(NewBlob::keep),
        }
        committed.map_err(|failure| failure.error)?;
        Ok(freed)
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
