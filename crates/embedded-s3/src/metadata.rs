//! The metadata: buckets, objects, uploads and parts, in one redb database. It is the only index.
//!
//! A store in memory has its database in memory; a folder has it in one file. A value is the JSON of its
//! type in `model`. Bytes that are too small for a file of their own are in the database too.
//!
//! redb fails every operation after an I/O error until the database is opened again. So it is opened
//! again after a failed commit, and the number of commits in it shows whether that commit was stored. If it was, it may
//! not be on the disk: nothing is read or written then until the store is opened again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadableDatabase, StorageBackend, WriteTransaction};

use crate::error::{EmbeddedError, io_error};
use crate::private::{self, sync_dir};
use crate::refusal::failed;
use crate::space::Space;
use crate::tables::{self, NUMBERS, Snapshot, Transaction};

const NAME: &str = "metadata.redb";
/// The format that is read and written.
const VERSION: u64 = 2;
/// Memory for pages of the database.
const CACHE: usize = 32 << 20;

/// Whether the folder may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The metadata of an open store.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// `None` in memory.
    file: Option<DatabaseFile>,
    /// `None` after a failure, until the next use.
    database: RwLock<Option<OpenDatabase>>,
    /// The number of commits that were acknowledged. The writer holds the lock.
    commits: Mutex<u64>,
    /// A commit failed and shows all the same.
    is_unknown: AtomicBool,
}

enum OpenDatabase {
    ReadWrite(Database),
    ReadOnly(Box<dyn ReadableDatabase + Send + Sync>),
}

impl std::fmt::Debug for OpenDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenDatabase")
    }
}

impl OpenDatabase {
    fn begin_read(&self) -> io::Result<Snapshot> {
        let transaction = match self {
            Self::ReadWrite(database) => database.begin_read(),
            Self::ReadOnly(database) => database.begin_read(),
        };
        Ok(Snapshot(transaction.map_err(failed)?))
    }
}

/// A commit that failed. If `is_unknown`, it may have been stored all the same.
#[derive(Debug)]
pub(crate) struct CommitError {
    pub(crate) error: io::Error,
    pub(crate) is_unknown: bool,
}

impl Metadata {
    /// The name of a database that is being created.
    pub(crate) const NEW_NAME: &str = "metadata.redb.new";

    /// Whether there is a database in the folder.
    pub(crate) fn is_in(folder: &Path) -> Result<bool, EmbeddedError> {
        let path = folder.join(NAME);
        path.try_exists().map_err(io_error("read", &path))
    }

    /// An empty database in memory.
    pub(crate) fn in_memory() -> Self {
        let created = create_database(InMemoryBackend::new());
        Self {
            file: None,
            // It cannot fail. If it did, every request would.
            database: RwLock::new(created.ok().map(OpenDatabase::ReadWrite)),
            commits: Mutex::new(0),
            is_unknown: AtomicBool::new(false),
        }
    }

    /// Opens the database or creates it. Blocks.
    pub(crate) fn open(
        folder: &Path,
        access: Access,
        space: Arc<Space>,
    ) -> Result<Self, EmbeddedError> {
        if !Self::is_in(folder)? {
            create_file(folder, &space)?;
        }
        let path = folder.join(NAME);
        let file = File::options()
            .read(true)
            .write(access == Access::Write)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let size = file.metadata().map_err(io_error("read", &path))?;
        let file = DatabaseFile {
            folder: folder.to_owned(),
            access,
            disk: Disk {
                file: Arc::new(file),
                used: Arc::new(AtomicU64::new(size.blocks() * 512)),
                space,
            },
        };
        let damaged = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::Other => EmbeddedError::Damaged {
                path: path.clone(),
                reason: error.to_string(),
            },
            _ => io_error("read", &path)(error),
        };
        let database = file.open().map_err(damaged)?;
        let snapshot = database.begin_read().map_err(damaged)?;
        let found = tables::number(&snapshot, "version").map_err(damaged)?;
        let folder = folder.to_owned();
        let known = VERSION;
        match found {
            VERSION => {}
            ..VERSION => return Err(EmbeddedError::OlderFormat { folder }),
            found => {
                return Err(EmbeddedError::NewerFormat {
                    folder,
                    found,
                    known,
                });
            }
        }
        Ok(Self {
            commits: Mutex::new(tables::number(&snapshot, "commits").map_err(damaged)?),
            file: Some(file),
            database: RwLock::new(Some(database)),
            is_unknown: AtomicBool::new(false),
        })
    }

    /// Reads what is committed now. Blocks. A database that is to be opened again waits for it, as its writers do not know of
    /// readers from before.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> io::Result<T> {
        self.check()?;
        self.with_database(|database| Ok(look(&database.begin_read()?)))
    }

    /// The right to commit, and the number of commits. Blocks.
    pub(crate) fn writer(&self) -> MutexGuard<'_, u64> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction, which changes nothing until it is committed. Blocks.
    pub(crate) fn begin(&self) -> io::Result<Transaction> {
        self.check()?;
        let transaction = self.with_database(|database| match database {
            OpenDatabase::ReadWrite(database) => database.begin_write().map_err(failed),
            OpenDatabase::ReadOnly(_) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        })?;
        Ok(Transaction::new(transaction))
    }

    /// Stores a transaction; synced, if it is in a file. Blocks.
    pub(crate) fn commit(
        &self,
        transaction: WriteTransaction,
        commits: &mut u64,
    ) -> Result<(), CommitError> {
        let number = *commits + 1;
        let count = || -> Result<(), redb::Error> {
            transaction.open_table(NUMBERS)?.insert("commits", number)?;
            Ok(())
        };
        let stored = count()
            .map_err(failed)
            .and_then(|()| transaction.commit().map_err(failed))
            .and_then(|()| self.check_place());
        stored.map_err(|error| {
            self.close();
            let stored =
                self.with_database(|database| tables::number(&database.begin_read()?, "commits"));
            let is_unknown = stored.ok() != Some(*commits);
            self.is_unknown.fetch_or(is_unknown, Ordering::Relaxed);
            CommitError { error, is_unknown }
        })?;
        *commits = number;
        Ok(())
    }

    /// Closes the database after an I/O error, once it has no readers. The next use opens it again.
    pub(crate) fn close(&self) {
        if self.file.is_some() {
            *self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Fails where what is read may not be what is stored. A folder that is gone is named first: where it
    /// was removed during a commit, that commit is unknown too.
    fn check(&self) -> io::Result<()> {
        self.check_place()?;
        if self.is_unknown.load(Ordering::Relaxed) {
            let reason = "a write that failed may have been stored; open the store again";
            return Err(io::Error::other(reason));
        }
        Ok(())
    }

    /// Fails with [`NotFound`](io::ErrorKind::NotFound) if the folder was removed or replaced: what is
    /// written to a file without a name is lost, and what is read there is no longer stored.
    fn check_place(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let ours = file.disk.file.metadata()?;
        let named = fs::metadata(file.folder.join(NAME))?;
        if (ours.dev(), ours.ino()) == (named.dev(), named.ino()) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn with_database<T>(&self, act: impl FnOnce(&OpenDatabase) -> io::Result<T>) -> io::Result<T> {
        let opened = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*opened {
            return act(database);
        }
        drop(opened);
        let mut closed = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let database = match (closed.take(), &self.file) {
            (Some(database), _) => database,
            (None, Some(file)) => file.open()?,
            (None, None) => return Err(io::Error::other("the database could not be created")),
        };
        act(closed.insert(database))
    }
}

/// The database of a folder.
#[derive(Debug)]
struct DatabaseFile {
    folder: PathBuf,
    access: Access,
    disk: Disk,
}

impl DatabaseFile {
    fn open(&self) -> io::Result<OpenDatabase> {
        let builder = builder();
        if self.access == Access::Write {
            let database = builder.create_with_backend(self.disk.clone());
            return Ok(OpenDatabase::ReadWrite(database.map_err(failed)?));
        }
        match builder.open_read_only_with_backend(self.disk.clone()) {
            Ok(database) => Ok(OpenDatabase::ReadOnly(Box::new(database))),
            // It was not closed, and opening it would repair it. A copy in memory can be repaired.
            Err(DatabaseError::RepairAborted) => {
                let copy = InMemoryBackend::new();
                let bytes = fs::read(self.folder.join(NAME))?;
                copy.set_len(bytes.len() as u64)?;
                copy.write(0, &bytes)?;
                let database = builder.create_with_backend(copy).map_err(failed)?;
                Ok(OpenDatabase::ReadOnly(Box::new(database)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// Creates an empty database.
fn create_database(backend: impl StorageBackend) -> io::Result<Database> {
    let database = builder().create_with_backend(backend).map_err(failed)?;
    let transaction = database.begin_write().map_err(failed)?;
    tables::create(&transaction, VERSION).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(database)
}

/// Creates the file of an empty database. A crash leaves none, or a whole one.
fn create_file(folder: &Path, space: &Arc<Space>) -> Result<(), EmbeddedError> {
    let new = folder.join(Metadata::NEW_NAME);
    let write = || -> io::Result<()> {
        let mut options = private::file();
        options.read(true).write(true).create(true).truncate(true);
        let disk = Disk {
            file: Arc::new(options.open(&new)?),
            used: Arc::default(),
            space: space.clone(),
        };
        create_database(disk).map(drop)
    };
    write().map_err(io_error("write", &new))?;
    let path = folder.join(NAME);
    fs::rename(&new, &path).map_err(io_error("create", &path))?;
    sync_dir(folder)
}

/// The file as redb uses it.
#[derive(Clone, Debug)]
struct Disk {
    file: Arc<File>,
    /// Bytes that have a place on the disk: the file is longer than what was written.
    used: Arc<AtomicU64>,
    space: Arc<Space>,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.space.check_sync()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let used = self.used.load(Ordering::Relaxed);
        self.space.reserve(end.saturating_sub(used))?;
        self.used.fetch_max(end, Ordering::Relaxed);
        self.file.write_all_at(bytes, offset)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Result<Metadata, EmbeddedError> {
        Metadata::open(folder, Access::Write, Arc::default())
    }

    /// Commits one change.
    fn commit(metadata: &Metadata, change: impl FnOnce(&mut Transaction)) -> io::Result<()> {
        let mut commits = metadata.writer();
        let mut transaction = metadata.begin()?;
        change(&mut transaction);
        let (transaction, ..) = transaction.into_changes().unwrap();
        let committed = metadata.commit(transaction, &mut commits);
        committed.map_err(|failure| failure.error)
    }

    fn create(metadata: &Metadata, bucket: &str) -> io::Result<()> {
        commit(metadata, |transaction| {
            // A failure shows in the commit.
            let _ = transaction.create_bucket(bucket, None);
        })
    }

    fn names(metadata: &Metadata) -> Vec<String> {
        let names = |snapshot: &Snapshot| {
            let buckets = snapshot.buckets("").unwrap();
            buckets.map(|bucket| bucket.unwrap().0.name).collect()
        };
        metadata.read(names).unwrap()
    }

    #[test]
    fn commits_are_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = open(folder.path()).unwrap();
        assert!(names(&metadata).is_empty());
        create(&metadata, "a").unwrap();
        create(&metadata, "b").unwrap();
        commit(&metadata, |transaction| {
            transaction.delete_bucket("a").unwrap();
        })
        .unwrap();
        drop(metadata);
        assert_eq!(names(&open(folder.path()).unwrap()), ["b"]);
    }

    #[test]
    fn failed_commit_is_not_stored_and_the_next_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = open(folder.path()).unwrap();
        let space = metadata.file.as_ref().unwrap().disk.space.clone();
        space.limit(Some(0));
        let mut stored = 0;
        let refused = loop {
            match create(&metadata, &format!("{stored:05}-{}", "x".repeat(500))) {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(names(&metadata).len(), stored);
        let refused = create(&metadata, &"y".repeat(500));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(names(&metadata).len(), stored);
        space.limit(None);
        create(&metadata, "z").unwrap();
        drop(metadata);
        let names = names(&open(folder.path()).unwrap());
        assert_eq!(names.len(), stored + 1);
        assert_eq!(names.last().unwrap(), "z");
    }

    /// Its bytes may be in memory alone.
    #[test]
    fn commit_that_could_not_be_synced_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = open(folder.path()).unwrap();
        create(&metadata, "a").unwrap();
        let space = metadata.file.as_ref().unwrap().disk.space.clone();
        space.fail_syncs(true);
        create(&metadata, "b").unwrap_err();
        space.fail_syncs(false);
        metadata.read(|_| ()).unwrap_err();
        create(&metadata, "c").unwrap_err();
        drop(metadata);
        create(&open(folder.path()).unwrap(), "c").unwrap();
    }

    /// A removal of the folder may come between the check and the commit.
    #[test]
    fn folder_removed_during_a_commit_is_named_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = open(folder.path()).unwrap();
        create(&metadata, "a").unwrap();
        let removed = commit(&metadata, |transaction| {
            transaction.create_bucket("b", None).unwrap();
            fs::remove_file(folder.path().join(NAME)).unwrap();
        });
        assert_eq!(removed.unwrap_err().kind(), io::ErrorKind::NotFound);
        let later = metadata.read(|_| ()).unwrap_err();
        assert_eq!(later.kind(), io::ErrorKind::NotFound);
        let later = create(&metadata, "c").unwrap_err();
        assert_eq!(later.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn database_is_opened_again_when_it_has_no_readers() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = &open(folder.path()).unwrap();
        let is_closed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let closed = metadata.read(|_| {
                scope.spawn(|| {
                    metadata.close();
                    is_closed.store(true, Ordering::SeqCst);
                });
                std::thread::sleep(std::time::Duration::from_millis(50));
                is_closed.load(Ordering::SeqCst)
            });
            assert!(!closed.unwrap());
        });
        create(metadata, "a").unwrap();
    }

    #[test]
    fn other_formats_are_refused() {
        for version in [VERSION - 1, VERSION + 1] {
            let folder = tempfile::tempdir().unwrap();
            let metadata = open(folder.path()).unwrap();
            let transaction = metadata
                .with_database(|database| match database {
                    OpenDatabase::ReadWrite(database) => database.begin_write().map_err(failed),
                    OpenDatabase::ReadOnly(_) => unreachable!("it was opened for writing"),
                })
                .unwrap();
            let mut numbers = transaction.open_table(NUMBERS).unwrap();
            numbers.insert("version", version).unwrap();
            drop(numbers);
            transaction.commit().unwrap();
            drop(metadata);
            let refused = open(folder.path()).unwrap_err();
            let is_right = match refused {
                EmbeddedError::OlderFormat { .. } => version < VERSION,
                EmbeddedError::NewerFormat { found, .. } => found == version,
                _ => false,
            };
            assert!(is_right, "{refused}");
        }
    }

    #[test]
    fn another_file_is_reported_as_damage() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "no database").unwrap();
        let refused = open(folder.path());
        assert!(
            matches!(refused, Err(EmbeddedError::Damaged { .. })),
            "{refused:?}"
        );
    }
}
