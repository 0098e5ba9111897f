//! A store over a folder.
//!
//! ```text
//! lock           held while a process has the store open
//! metadata.redb  buckets, objects, uploads and parts (see `metadata.rs`)
//! blobs/         the bytes of each part in a file of their own, under a random name
//! ```
//!
//! A blob is written and synced before the metadata names it, so the metadata never names torn or
//! absent bytes. A blob that no part names is an orphan: it was being written when the process died,
//! or its object was deleted and the file was not yet. Opening the store removes those. So a blob
//! needs no temporary name and no rename.
//!
//! Up to [`SMALL`] bytes have no file: they are kept in memory and stored with the metadata. A file of
//! its own costs two more syncs, and most objects of a registry are this small: a PUT took 23 ms and
//! takes a third of it. They take about as much memory as the index needs for them anyway.
//!
//! Keys never become file names. So every key is possible, and none leads out of the folder.
//!
//! Files are readable by their owner only. A folder that may not be written to is opened for reading:
//! nothing in it is changed, and writes are refused.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use uuid::Uuid;

use crate::blob::Blob;
use crate::engine::{State, Waiting, locked};
use crate::error::EmbeddedError;
use crate::index::{BlobId, Index};
use crate::metadata::Metadata;
use crate::private;
use crate::space::Space;

const LOCK: &str = "lock";
const BLOBS: &str = "blobs";
/// The journal of earlier versions.
const JOURNAL: &str = "journal";
/// The largest body without a file.
const SMALL: usize = 4 << 10;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    blobs: Arc<Path>,
    writer: Mutex<Writer>,
    /// Commits that the next transaction stores.
    pub(crate) waiting: Mutex<Vec<Waiting>>,
    space: Arc<Space>,
    /// The lock goes when the file is closed, however the process ends. A folder for reading may
    /// have none.
    lock: Option<File>,
}

/// Of which there is one at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) metadata: Metadata,
    /// The index with the changes that are being stored.
    pub(crate) next: Index,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            // A child process that is just being started has a copy of the file, which would hold the
            // lock until it runs its own program.
            let _ = lock.unlock();
        }
    }
}

impl Folder {
    /// Opens the folder and loads its index. Blocks.
    pub(crate) fn open(root: &Path) -> Result<(Self, State), EmbeddedError> {
        create_dir(root)?;
        if !Metadata::is_in(root) {
            refuse_foreign_files(root)?;
        }
        Self::open_existing(root)
    }

    /// The same, if there is a store. Blocks.
    pub(crate) fn open_if_present(root: &Path) -> Result<(Self, State), EmbeddedError> {
        if !Metadata::is_in(root) && !root.join(JOURNAL).exists() {
            return Err(EmbeddedError::NoStore {
                folder: root.to_owned(),
            });
        }
        Self::open_existing(root)
    }

    fn open_existing(root: &Path) -> Result<(Self, State), EmbeddedError> {
        if !Metadata::is_in(root) && root.join(JOURNAL).exists() {
            return Err(EmbeddedError::OlderFormat {
                folder: root.to_owned(),
            });
        }
        let blobs: Arc<Path> = root.join(BLOBS).into();
        let space = Arc::new(Space::default());
        let (lock, access) = lock(root)?;
        if access == Access::Write {
            create_dir(&blobs)?;
        }
        let (metadata, mut state) = Metadata::open(root, access, space.clone())?;
        let filed: Vec<BlobId> = state
            .index
            .blobs()
            .filter(|id| !state.blobs.contains_key(id))
            .collect();
        state.blobs.extend(filed.into_iter().map(|id| {
            let file = BlobFile {
                path: path_of(&blobs, id),
                kept: AtomicBool::new(true),
                space: space.clone(),
            };
            (id, Arc::new(Blob::File(file)))
        }));
        if access == Access::Write {
            remove_orphans(&blobs, &state.blobs)?;
        }
        Ok((
            Self {
                blobs,
                writer: Mutex::new(Writer {
                    metadata,
                    next: state.index.clone(),
                }),
                waiting: Mutex::default(),
                space,
                lock,
            },
            state,
        ))
    }

    /// A place for a body.
    pub(crate) fn sink(&self) -> FileSink {
        FileSink {
            blobs: self.blobs.clone(),
            space: self.space.clone(),
            head: Vec::new(),
            open: None,
        }
    }

    /// Test equipment: how many more bytes can be written.
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// For one transaction. Blocks.
    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        locked(&self.writer)
    }
}

/// A file that is removed with this value, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct BlobFile {
    path: PathBuf,
    kept: AtomicBool,
    space: Arc<Space>,
}

impl BlobFile {
    /// Opens it for reading. Blocks.
    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// The file stays.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    /// The file goes.
    pub(crate) fn discard(&self) {
        self.kept.store(false, Ordering::Release);
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire) {
            let size = fs::metadata(&self.path).map_or(0, |file| file.len());
            // If this fails, the next opening removes it.
            if fs::remove_file(&self.path).is_ok() {
                self.space.give_back(size);
            }
        }
    }
}

/// A body that is being written. Its methods block.
pub(crate) struct FileSink {
    blobs: Arc<Path>,
    space: Arc<Space>,
    /// What there is while it is small.
    head: Vec<u8>,
    open: Option<(BlobId, BlobFile, File)>,
}

impl FileSink {
    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.open.is_none() && self.head.len() + bytes.len() <= SMALL {
            self.head.extend_from_slice(bytes);
            return Ok(());
        }
        let (_, _, file) = match &mut self.open {
            Some(open) => open,
            open => open.insert(create_blob(&self.blobs, self.space.clone())?),
        };
        self.space
            .write_all(file, &std::mem::take(&mut self.head))?;
        self.space.write_all(file, bytes)
    }

    /// The bytes and their name: on the disk, or to be stored with the metadata.
    pub(crate) fn finish(self) -> io::Result<(BlobId, Blob)> {
        let Some((id, blob, file)) = self.open else {
            return Ok((Uuid::new_v4(), Blob::Ram(vec![self.head.into()])));
        };
        file.sync_data()?;
        File::open(&self.blobs)?.sync_all()?;
        Ok((id, Blob::File(blob)))
    }
}

fn create_blob(blobs: &Path, space: Arc<Space>) -> io::Result<(BlobId, BlobFile, File)> {
    let id = Uuid::new_v4();
    let path = path_of(blobs, id);
    let file = private::file().write(true).create_new(true).open(&path)?;
    Ok((
        id,
        BlobFile {
            path,
            kept: AtomicBool::new(false),
            space,
        },
        file,
    ))
}

fn path_of(blobs: &Path, id: BlobId) -> PathBuf {
    blobs.join(id.simple().to_string())
}

/// The folder exists afterwards, and its name would survive a crash.
fn create_dir(path: &Path) -> Result<(), EmbeddedError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_dir(parent)?;
    match private::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("create", path)(error))
        }
        _ => sync_dir(parent),
    }
}

/// Syncs the names in a folder. Blocks.
pub(crate) fn sync_dir(path: &Path) -> Result<(), EmbeddedError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("sync", path))
}

/// Names what was tried.
pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::Io {
        action,
        path,
        source,
    }
}

/// A folder that someone else uses is not taken over. What a crash in the very first opening can
/// leave behind is ours.
fn refuse_foreign_files(root: &Path) -> Result<(), EmbeddedError> {
    let ours = [LOCK, BLOBS, JOURNAL, Metadata::NEW_NAME];
    for entry in fs::read_dir(root).map_err(io_error("read", root))? {
        let name = entry.map_err(io_error("read", root))?.file_name();
        if !ours.iter().any(|ours| name == *ours) {
            return Err(EmbeddedError::NotAStore {
                folder: root.to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether the folder may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Locks the folder: for this process alone, or with other readers if it may not be written to.
fn lock(root: &Path) -> Result<(Option<File>, Access), EmbeddedError> {
    let path = root.join(LOCK);
    let for_writing = private::file()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path);
    let (mut file, access) = match for_writing {
        Ok(file) => (file, Access::Write),
        Err(error) if may_not_write(&error) => match File::open(&path) {
            Ok(file) => (file, Access::Read),
            // A copy without a lock: without write permission none can be created.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((None, Access::Read));
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        },
        Err(error) => return Err(io_error("write", &path)(error)),
    };
    let locked = match access {
        Access::Read => file.try_lock_shared(),
        Access::Write => file.try_lock(),
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(EmbeddedError::Locked {
                folder: root.to_owned(),
                process: holder(&mut file),
            });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
    }
    if access == Access::Write {
        // It only helps a second process to say who has the folder: a full disk is no obstacle.
        let _ = write_holder(&mut file);
    }
    Ok((Some(file), access))
}

fn may_not_write(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// The process that holds the lock, as it wrote it down.
fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Removes the blobs that nothing names. A file whose name is not a blob's is left alone.
fn remove_orphans(blobs: &Path, named: &HashMap<BlobId, Arc<Blob>>) -> Result<(), EmbeddedError> {
    for entry in fs::read_dir(blobs).map_err(io_error("read", blobs))? {
        let entry = entry.map_err(io_error("read", blobs))?;
        let id = entry
            .file_name()
            .to_str()
            .and_then(|name| Uuid::try_parse(name).ok());
        if id.is_some_and(|id| !named.contains_key(&id)) {
            let path = entry.path();
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}
