//! A store over a folder.
//!
//! ```text
//! lock           held while a process has the store open
//! metadata.redb  buckets, objects, uploads, parts and small bodies (see `metadata`)
//! blobs/         the bytes of each larger body in a file of its own, under a random name
//! ```
//!
//! Keys never become file names. So every key is possible, and none leads out of the folder.
//!
//! Files are readable by their owner only. A folder that may not be written to is opened for reading:
//! nothing in it is changed, and writes are refused.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::blob::{BlobFolder, Blobs};
use crate::error::{EmbeddedError, io_error};
use crate::metadata::{Access, Metadata};
use crate::private::{self, sync_dir};
use crate::space::Space;

const LOCK: &str = "lock";
const BLOBS: &str = "blobs";

/// What an open folder consists of.
pub(crate) type FolderParts = (Metadata, Blobs, Folder);

/// The lock of an open folder. A folder for reading may have none.
#[derive(Debug)]
pub(crate) struct Folder(Option<File>);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(lock) = &self.0 {
            // A child process that is just being started has a copy of the file, which would hold the
            // lock until it runs its own program.
            let _ = lock.unlock();
        }
    }
}

impl Folder {
    /// The store in this folder, which is created if it is absent. Blocks.
    pub(crate) fn open(root: &Path) -> Result<FolderParts, EmbeddedError> {
        create_dir(root)?;
        if !Metadata::is_in(root)? {
            refuse_foreign_files(root)?;
        }
        Self::open_existing(root)
    }

    /// The store in this folder, if there is one. Blocks.
    pub(crate) fn open_if_present(root: &Path) -> Result<FolderParts, EmbeddedError> {
        if Metadata::is_in(root)? {
            return Self::open_existing(root);
        }
        Err(EmbeddedError::NoStore {
            folder: root.to_owned(),
        })
    }

    fn open_existing(root: &Path) -> Result<FolderParts, EmbeddedError> {
        let blobs = BlobFolder {
            path: root.join(BLOBS).into(),
            space: Arc::new(Space::default()),
        };
        let (lock, access) = lock(root)?;
        let lock = Self(lock);
        let metadata = Metadata::open(root, access, blobs.space.clone())?;
        if access == Access::Write {
            create_dir(&blobs.path)?;
            // A process that was killed may have created them and synced neither.
            sync_dir(root)?;
            // It may be a folder of another user's.
            let _ = sync_dir(parent(root));
            let removed =
                metadata.read(|named| blobs.remove_orphans(|id| Ok(named.blob(id)?.is_some())));
            removed.map_err(io_error("read", root))??;
        }
        Ok((metadata, Blobs::new(Some(blobs)), lock))
    }
}

/// The folder exists afterwards, and its name would survive a crash.
fn create_dir(path: &Path) -> Result<(), EmbeddedError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent(path);
    create_dir(parent)?;
    match private::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("create", path)(error))
        }
        _ => sync_dir(parent),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A folder with other files is refused. A crash in the very first opening can leave some of ours, but no
/// blobs: they belong to metadata that were moved away, or are not restored yet.
fn refuse_foreign_files(root: &Path) -> Result<(), EmbeddedError> {
    let ours = [LOCK, Metadata::NEW_NAME];
    for entry in fs::read_dir(root).map_err(io_error("read", root))? {
        let name = entry.map_err(io_error("read", root))?.file_name();
        if name == BLOBS {
            return Err(EmbeddedError::NoMetadata {
                folder: root.to_owned(),
            });
        }
        if !ours.iter().any(|ours| name == *ours) {
            return Err(EmbeddedError::NotAStore {
                folder: root.to_owned(),
            });
        }
    }
    Ok(())
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
        // A second process names the owner by it. A full disk is no reason to fail.
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

/// The process that holds the lock, as the lock file says.
fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
