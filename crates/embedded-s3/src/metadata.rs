//! The metadata of a folder, in one redb database: a table each for buckets, objects, uploads and parts.
//!
//! A value is the JSON of its type in `index`. With an object or a part go the bytes of those of its
//! blobs that are too small for a file. A field may be added if it has a default; any other change of
//! format needs a new [`VERSION`].
//!
//! A commit is one transaction, synced before it is acknowledged. redb fails every operation after an
//! I/O error until the database is opened again. So after a failed commit it is opened again, and the
//! number of commits in it shows whether the failed one was stored after all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use redb::backends::InMemoryBackend;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition,
    WriteTransaction,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::engine::State;
use crate::error::EmbeddedError;
use crate::folder::{Access, io_error, sync_dir};
use crate::index::{BlobId, Change, Object, Part, Upload};
use crate::private;
use crate::space::Space;

const NAME: &str = "metadata.redb";
/// The newest format that is read, and the one that is written.
const VERSION: u64 = 1;
/// All metadata is in memory too, so redb reads its pages only to change them.
const CACHE: usize = 16 << 20;

type Json = &'static [u8];
/// `version`, and `commits`.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const BUCKETS: TableDefinition<&str, Json> = TableDefinition::new("buckets");
/// By bucket and key.
const OBJECTS: TableDefinition<(&str, &str), Json> = TableDefinition::new("objects");
/// By bucket, key and upload id.
const UPLOADS: TableDefinition<(&str, &str, &str), Json> = TableDefinition::new("uploads");
/// By bucket, key, upload id and part number.
const PARTS: TableDefinition<(&str, &str, &str, u16), Json> = TableDefinition::new("parts");

/// The metadata of an open folder.
#[derive(Debug)]
pub(crate) struct Metadata {
    folder: PathBuf,
    file: Arc<File>,
    /// `None` after a failure, and in a folder that is only read.
    database: Option<Database>,
    /// How many were acknowledged.
    commits: u64,
    access: Access,
    /// Of the file; see [`Disk`].
    used: Arc<AtomicU64>,
    space: Arc<Space>,
}

impl Metadata {
    /// The name of a database that is being created.
    pub(crate) const NEW_NAME: &str = "metadata.redb.new";

    /// Whether there is a database in the folder.
    pub(crate) fn is_in(folder: &Path) -> bool {
        folder.join(NAME).exists()
    }

    /// Opens the database or creates it, and loads the index and the small blobs. Blocks.
    pub(crate) fn open(
        folder: &Path,
        access: Access,
        space: Arc<Space>,
    ) -> Result<(Self, State), EmbeddedError> {
        if !Self::is_in(folder) {
            create(folder, &space)?;
        }
        let path = folder.join(NAME);
        let file = File::options()
            .read(true)
            .write(access == Access::Write)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let size = file.metadata().map_err(io_error("read", &path))?;
        let mut metadata = Self {
            folder: folder.to_owned(),
            file: Arc::new(file),
            database: None,
            commits: 0,
            access,
            used: Arc::new(AtomicU64::new(size.blocks() * 512)),
            space,
        };
        let damaged = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::Other => EmbeddedError::Damaged {
                path: path.clone(),
                reason: error.to_string(),
            },
            _ => io_error("read", &path)(error),
        };
        let database = match access {
            Access::Read => in_memory(&path),
            Access::Write => metadata.disk(),
        };
        let database = database.map_err(damaged)?;
        let found = number(&database, "version").map_err(damaged)?;
        if found > VERSION {
            return Err(EmbeddedError::NewerFormat {
                folder: folder.to_owned(),
                found,
                known: VERSION,
            });
        }
        metadata.commits = number(&database, "commits").map_err(damaged)?;
        let state = load(&database).map_err(damaged)?;
        if access == Access::Write {
            metadata.database = Some(database);
        }
        Ok((metadata, state))
    }

    /// Stores changes, and keeps the new blobs that they name. After an error, nothing was stored.
    /// `blob` finds every blob that the changes name. Blocks.
    pub(crate) fn commit<'a>(
        &mut self,
        changes: &[Change],
        new: impl Iterator<Item = &'a Arc<Blob>>,
        blob: impl Fn(BlobId) -> Option<Arc<Blob>>,
    ) -> io::Result<()> {
        if self.access == Access::Read {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.check_place()?;
        let number = self.commits + 1;
        let stored = store(self.database()?, number, changes, blob);
        let result = stored.and_then(|()| self.check_place());
        if result.is_ok() {
            self.commits = number;
        } else {
            self.database = None;
            if self.database().is_ok() {
                return result;
            }
        }
        // Either the changes name the blobs, or that is unknown until the folder is opened again.
        new.for_each(|blob| blob.keep());
        result
    }

    /// How many commits were stored.
    #[cfg(test)]
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// The database, opened again if a commit failed.
    fn database(&mut self) -> io::Result<&Database> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let database = self.disk()?;
                if number(&database, "commits")? != self.commits {
                    return Err(io::Error::other(
                        "a write that failed may have been stored; open the store again",
                    ));
                }
                database
            }
        };
        Ok(self.database.insert(database))
    }

    fn disk(&self) -> io::Result<Database> {
        open_database(Disk {
            file: self.file.clone(),
            used: self.used.clone(),
            space: self.space.clone(),
        })
    }

    /// Fails with [`NotFound`](io::ErrorKind::NotFound) if the folder was removed or replaced: what is
    /// written to a file without a name is lost.
    fn check_place(&self) -> io::Result<()> {
        let (ours, named) = (self.file.metadata()?, fs::metadata(self.folder.join(NAME))?);
        if (ours.dev(), ours.ino()) == (named.dev(), named.ino()) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

fn open_database(backend: impl StorageBackend) -> io::Result<Database> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder.create_with_backend(backend).map_err(failed)
}

/// A copy of a database that cannot be written to: opening one that was not closed changes it.
fn in_memory(path: &Path) -> io::Result<Database> {
    let bytes = fs::read(path)?;
    let backend = InMemoryBackend::new();
    backend.set_len(bytes.len() as u64)?;
    backend.write(0, &bytes)?;
    open_database(backend)
}

/// Creates an empty database. A crash leaves none, or a whole one.
fn create(folder: &Path, space: &Arc<Space>) -> Result<(), EmbeddedError> {
    let new = folder.join(Metadata::NEW_NAME);
    let write = || -> io::Result<()> {
        let mut options = private::file();
        options.read(true).write(true).create(true).truncate(true);
        let database = open_database(Disk {
            file: Arc::new(options.open(&new)?),
            used: Arc::default(),
            space: space.clone(),
        })?;
        let transaction = database.begin_write().map_err(failed)?;
        let create = || -> Result<(), redb::Error> {
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert("version", VERSION)?;
            numbers.insert("commits", 0)?;
            transaction.open_table(BUCKETS)?;
            transaction.open_table(OBJECTS)?;
            transaction.open_table(UPLOADS)?;
            transaction.open_table(PARTS)?;
            Ok(())
        };
        create().map_err(failed)?;
        transaction.commit().map_err(failed)
    };
    write().map_err(io_error("write", &new))?;
    let path = folder.join(NAME);
    fs::rename(&new, &path).map_err(io_error("create", &path))?;
    sync_dir(folder)
}

fn failed(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

fn number(database: &Database, name: &str) -> io::Result<u64> {
    let read = || -> Result<Option<u64>, redb::Error> {
        let numbers = database.begin_read()?.open_table(NUMBERS)?;
        Ok(numbers.get(name)?.map(|number| number.value()))
    };
    let number = read().map_err(failed)?;
    number.ok_or_else(|| io::Error::other(format!("{name} is missing")))
}

/// A value, with those of its blobs that have no file, in base64.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    value: T,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    small: BTreeMap<BlobId, String>,
}

impl<T> Stored<T> {
    fn new(
        value: T,
        blobs: impl Iterator<Item = BlobId>,
        find: impl Fn(BlobId) -> Option<Arc<Blob>>,
    ) -> Self {
        let small = |id| match &*find(id)? {
            Blob::Ram(chunks) => Some((id, STANDARD.encode(chunks.concat()))),
            Blob::File(_) => None,
        };
        Self {
            value,
            small: blobs.filter_map(small).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct BucketRow {
    created: Timestamp,
    region: Option<String>,
}

/// One transaction, synced.
fn store(
    database: &Database,
    number: u64,
    changes: &[Change],
    blob: impl Fn(BlobId) -> Option<Arc<Blob>>,
) -> io::Result<()> {
    let transaction = database.begin_write().map_err(failed)?;
    let count = || -> Result<(), redb::Error> {
        transaction.open_table(NUMBERS)?.insert("commits", number)?;
        Ok(())
    };
    count().map_err(failed)?;
    for change in changes {
        let bytes = value(change, &blob)?;
        apply(&transaction, change, &bytes).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// The JSON that a change stores; of a removal, nothing.
fn value(change: &Change, blob: impl Fn(BlobId) -> Option<Arc<Blob>>) -> io::Result<Vec<u8>> {
    let json = match change {
        Change::CreateBucket {
            created, region, ..
        } => serde_json::to_vec(&BucketRow {
            created: *created,
            region: region.clone(),
        }),
        Change::PutObject { object, .. } | Change::Complete { object, .. } => {
            serde_json::to_vec(&Stored::new(object, object.blobs(), blob))
        }
        Change::CreateUpload { upload, .. } => serde_json::to_vec(upload),
        Change::PutPart { part, .. } => {
            serde_json::to_vec(&Stored::new(part, part.blob.into_iter(), blob))
        }
        Change::DeleteBucket { .. } | Change::DeleteObject { .. } | Change::Abort { .. } => {
            return Ok(Vec::new());
        }
    };
    Ok(json?)
}

fn apply(to: &WriteTransaction, change: &Change, json: &[u8]) -> Result<(), redb::Error> {
    match change {
        Change::CreateBucket { bucket, .. } => {
            to.open_table(BUCKETS)?.insert(&**bucket, json)?;
        }
        Change::DeleteBucket { bucket } => {
            to.open_table(BUCKETS)?.remove(&**bucket)?;
            to.open_table(UPLOADS)?.retain(|key, _| key.0 != bucket)?;
            to.open_table(PARTS)?.retain(|key, _| key.0 != bucket)?;
        }
        Change::PutObject { bucket, key, .. } => {
            to.open_table(OBJECTS)?.insert((&**bucket, &**key), json)?;
        }
        Change::DeleteObject { bucket, key } => {
            to.open_table(OBJECTS)?.remove((&**bucket, &**key))?;
        }
        Change::CreateUpload {
            bucket,
            key,
            upload_id,
            ..
        } => {
            to.open_table(UPLOADS)?
                .insert((&**bucket, &**key, &**upload_id), json)?;
        }
        Change::PutPart {
            bucket,
            key,
            upload_id,
            part,
        } => {
            let place = (&**bucket, &**key, &**upload_id, part.number);
            to.open_table(PARTS)?.insert(place, json)?;
        }
        Change::Abort {
            bucket,
            key,
            upload_id,
        } => remove_upload(to, bucket, key, upload_id)?,
        Change::Complete {
            bucket,
            key,
            upload_id,
            ..
        } => {
            remove_upload(to, bucket, key, upload_id)?;
            to.open_table(OBJECTS)?.insert((&**bucket, &**key), json)?;
        }
    }
    Ok(())
}

fn remove_upload(
    from: &WriteTransaction,
    bucket: &str,
    key: &str,
    upload_id: &str,
) -> Result<(), redb::Error> {
    from.open_table(UPLOADS)?.remove((bucket, key, upload_id))?;
    let parts = (bucket, key, upload_id, 0)..=(bucket, key, upload_id, u16::MAX);
    from.open_table(PARTS)?.retain_in(parts, |_, _| false)?;
    Ok(())
}

/// The rows of all tables as the changes that lead to them.
fn load(database: &Database) -> io::Result<State> {
    let mut state = State::default();
    let mut read = || -> Result<(), redb::Error> {
        let from = database.begin_read()?;
        for row in from.open_table(BUCKETS)?.iter()? {
            let (bucket, json) = row?;
            state.load_bucket(bucket.value(), json.value())?;
        }
        for row in from.open_table(OBJECTS)?.iter()? {
            let (place, json) = row?;
            let (bucket, key) = place.value();
            let object = state.load_stored::<Object>(json.value())?;
            state.index.apply(Change::PutObject {
                bucket: bucket.into(),
                key: key.into(),
                object,
            });
        }
        for row in from.open_table(UPLOADS)?.iter()? {
            let (place, json) = row?;
            let (bucket, key, upload_id) = place.value();
            state.index.apply(Change::CreateUpload {
                bucket: bucket.into(),
                key: key.into(),
                upload_id: upload_id.into(),
                upload: parse::<Upload>(json.value())?,
            });
        }
        for row in from.open_table(PARTS)?.iter()? {
            let (place, json) = row?;
            let (bucket, key, upload_id, _) = place.value();
            let part = state.load_stored::<Part>(json.value())?;
            state.index.apply(Change::PutPart {
                bucket: bucket.into(),
                key: key.into(),
                upload_id: upload_id.into(),
                part,
            });
        }
        Ok(())
    };
    read().map_err(failed)?;
    Ok(state)
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(json)?)
}

impl State {
    fn load_bucket(&mut self, bucket: &str, json: &[u8]) -> io::Result<()> {
        let BucketRow { created, region } = parse(json)?;
        self.index.apply(Change::CreateBucket {
            bucket: bucket.into(),
            created,
            region,
        });
        Ok(())
    }

    fn load_stored<T: DeserializeOwned>(&mut self, json: &[u8]) -> io::Result<T> {
        let Stored { value, small } = parse(json)?;
        for (id, bytes) in small {
            let bytes = STANDARD.decode(bytes).map_err(io::Error::other)?;
            let blob = Arc::new(Blob::Ram(vec![bytes.into()]));
            self.blobs.insert(id, blob);
        }
        Ok(value)
    }
}

/// The file of the database.
#[derive(Debug)]
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

    fn open(folder: &Path) -> Result<(Metadata, State), EmbeddedError> {
        Metadata::open(folder, Access::Write, Arc::default())
    }

    fn bucket(name: &str) -> Change {
        Change::CreateBucket {
            bucket: name.into(),
            created: Timestamp::UNIX_EPOCH,
            region: None,
        }
    }

    fn names(state: &State) -> Vec<&str> {
        state.index.buckets.keys().map(String::as_str).collect()
    }

    #[test]
    fn commits_are_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let (mut metadata, state) = open(folder.path()).unwrap();
        assert!(names(&state).is_empty());
        for change in [
            bucket("a"),
            bucket("b"),
            Change::DeleteBucket { bucket: "a".into() },
        ] {
            metadata.commit(&[change], [].iter(), |_| None).unwrap();
        }
        drop(metadata);
        assert_eq!(names(&open(folder.path()).unwrap().1), ["b"]);
    }

    #[test]
    fn failed_commit_is_not_stored_and_the_next_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let (mut metadata, _) = open(folder.path()).unwrap();
        let space = metadata.space.clone();
        space.limit(Some(0));
        let mut stored = 0;
        let refused = loop {
            let name = format!("{stored:05}-{}", "x".repeat(500));
            match metadata.commit(&[bucket(&name)], [].iter(), |_| None) {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        let refused = metadata.commit(&[bucket(&"y".repeat(500))], [].iter(), |_| None);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
        space.limit(None);
        metadata
            .commit(&[bucket("z")], [].iter(), |_| None)
            .unwrap();
        drop(metadata);
        let state = open(folder.path()).unwrap().1;
        assert_eq!(state.index.buckets.len(), stored + 1);
        assert_eq!(names(&state).last(), Some(&"z"));
    }

    #[test]
    fn newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (mut metadata, _) = open(folder.path()).unwrap();
        let transaction = metadata.database().unwrap().begin_write().unwrap();
        let mut numbers = transaction.open_table(NUMBERS).unwrap();
        numbers.insert("version", VERSION + 1).unwrap();
        drop(numbers);
        transaction.commit().unwrap();
        drop(metadata);
        let refused = open(folder.path());
        assert!(
            matches!(refused, Err(EmbeddedError::NewerFormat { found: 2, .. })),
            "{refused:?}"
        );
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
