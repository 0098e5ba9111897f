//! The bytes of objects and parts: in memory, or in a folder with a file for each blob.
//!
//! A blob is written and synced before the metadata names it, so the metadata never names torn or
//! absent bytes. A file that no row names is an orphan: it was being written when the process died, or
//! its object was deleted and the file was not yet. Opening the folder removes those. So a blob needs no
//! temporary name and no rename.
//!
//! Up to [`SMALL`] bytes are stored in the metadata. A file of their own costs two more syncs, and most
//! objects of a registry are this small: a PUT took 23 ms and takes a third of it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use uuid::Uuid;

use crate::error::{EmbeddedError, io_error};
use crate::model::BlobId;
use crate::private;
use crate::space::Space;

/// The largest blob that is stored in the metadata.
const SMALL: usize = 4 << 10;
/// Bodies up to this size are copied when they are kept in memory: a slice of a few bytes would keep the
/// whole receive buffer alive that it is a slice of.
const COPY_UP_TO: u64 = 64 << 10;

/// Bytes that never change. A reader holds the [`Arc`], so it reads an object to its end that is replaced or
/// deleted meanwhile. The bytes are removed with the last [`Arc`].
#[derive(Debug)]
pub(crate) enum Blob {
    Memory(Vec<Bytes>),
    File(BlobFile),
}

impl Blob {
    /// Whether its file was removed or cut off, while the folder is there. Blocks.
    pub(crate) fn is_lost(&self, size: u64) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::File(BlobFile { path, .. }) => match fs::metadata(path) {
                Ok(file) => file.len() < size,
                Err(error) => {
                    let folder = path.parent();
                    error.kind() == io::ErrorKind::NotFound && folder.is_some_and(Path::is_dir)
                }
            },
        }
    }
}

/// A file that is removed with this value, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct BlobFile {
    path: PathBuf,
    is_kept: AtomicBool,
    space: Arc<Space>,
}

impl BlobFile {
    /// Opens it for reading. Blocks.
    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Acquire) {
            let size = fs::metadata(&self.path).map_or(0, |file| file.len());
            // If this fails, the next opening removes it.
            if fs::remove_file(&self.path).is_ok() {
                self.space.release(size);
            }
        }
    }
}

/// A blob that no row names yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct NewBlob {
    pub(crate) id: BlobId,
    blob: Arc<Blob>,
}

impl NewBlob {
    /// The bytes, if they are stored in the metadata.
    pub(crate) fn small(&self) -> Option<&[u8]> {
        match &*self.blob {
            Blob::Memory(chunks) => match chunks.as_slice() {
                [bytes] if bytes.len() <= SMALL => Some(bytes),
                _ => None,
            },
            Blob::File(_) => None,
        }
    }

    /// The bytes stay when this value is dropped: the metadata names them.
    pub(crate) fn keep(&self) {
        set_kept(&self.blob, true);
    }
}

fn set_kept(blob: &Blob, is_kept: bool) {
    if let Blob::File(file) = blob {
        file.is_kept.store(is_kept, Ordering::Release);
    }
}

/// The blobs outside of the metadata.
#[derive(Debug)]
pub(crate) struct Blobs {
    /// `None` in memory.
    folder: Option<BlobFolder>,
    /// In memory all of them, in a folder those that are being read.
    held: Mutex<HashMap<BlobId, HeldBlob>>,
}

#[derive(Debug)]
enum HeldBlob {
    Owned(Arc<Blob>),
    Pinned(Weak<Blob>),
}

impl HeldBlob {
    fn blob(&self) -> Option<Arc<Blob>> {
        match self {
            Self::Owned(blob) => Some(blob.clone()),
            Self::Pinned(blob) => blob.upgrade(),
        }
    }
}

/// Where blobs have their files.
#[derive(Clone, Debug)]
pub(crate) struct BlobFolder {
    pub(crate) path: Arc<Path>,
    pub(crate) space: Arc<Space>,
}

impl BlobFolder {
    fn file(&self, id: BlobId, is_kept: bool) -> BlobFile {
        BlobFile {
            path: self.path.join(id.simple().to_string()),
            is_kept: AtomicBool::new(is_kept),
            space: self.space.clone(),
        }
    }

    /// Removes the files of blobs that do not exist. A file whose name is not a blob's is ignored. Blocks.
    pub(crate) fn remove_orphans(
        &self,
        exists: impl Fn(BlobId) -> io::Result<bool>,
    ) -> Result<(), EmbeddedError> {
        let failed = |action| io_error(action, &self.path);
        for entry in fs::read_dir(&self.path).map_err(failed("read"))? {
            let entry = entry.map_err(failed("read"))?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| Uuid::try_parse(name).ok());
            if let Some(id) = id
                && !exists(id).map_err(failed("read the blobs of"))?
            {
                fs::remove_file(entry.path()).map_err(io_error("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

/// While it is held, no blob is removed. So a snapshot that is taken meanwhile names only blobs that can be
/// pinned.
pub(crate) struct Pins<'a> {
    folder: Option<&'a BlobFolder>,
    held: MutexGuard<'a, HashMap<BlobId, HeldBlob>>,
}

impl Pins<'_> {
    /// A blob outside of the metadata.
    pub(crate) fn pin(&mut self, id: BlobId) -> Option<Arc<Blob>> {
        if let Some(blob) = self.held.get(&id).and_then(HeldBlob::blob) {
            return Some(blob);
        }
        let file = self.folder?.file(id, true);
        if self.held.len() == self.held.capacity() {
            self.held.retain(|_, held| held.blob().is_some());
            let live = self.held.len();
            self.held.reserve(live + 1);
        }
        let blob = Arc::new(Blob::File(file));
        self.held
            .insert(id, HeldBlob::Pinned(Arc::downgrade(&blob)));
        Some(blob)
    }
}

impl Blobs {
    /// In this folder, or in memory.
    pub(crate) fn new(folder: Option<BlobFolder>) -> Self {
        Self {
            folder,
            held: Mutex::default(),
        }
    }

    /// Where the files are, if there are any.
    pub(crate) fn folder(&self) -> Option<&BlobFolder> {
        self.folder.as_ref()
    }

    /// A place for a body.
    pub(crate) fn sink(&self) -> Sink {
        Sink {
            folder: self.folder().cloned(),
            chunks: Vec::new(),
            size: 0,
            file: None,
        }
    }

    /// Prevents removals until the result is dropped.
    pub(crate) fn pins(&self) -> Pins<'_> {
        Pins {
            folder: self.folder(),
            held: locked(&self.held),
        }
    }

    /// Makes new blobs readable, before a commit names them.
    pub(crate) fn add(&self, new: &[NewBlob]) {
        if self.folder.is_none() {
            let new = new
                .iter()
                .map(|new| (new.id, HeldBlob::Owned(new.blob.clone())));
            locked(&self.held).extend(new);
        }
    }

    /// Removes blobs that no row names. Blocks.
    pub(crate) fn remove(&self, ids: impl IntoIterator<Item = BlobId>) {
        for id in ids {
            let held = locked(&self.held).remove(&id);
            let file = || {
                self.folder()
                    .map(|folder| Arc::new(Blob::File(folder.file(id, false))))
            };
            // Dropped with the lock released: deleting a large file takes time.
            if let Some(blob) = held.and_then(|held| held.blob()).or_else(file) {
                set_kept(&blob, false);
            }
        }
    }
}

/// A body that is being received. Its methods block if it is written to a folder.
pub(crate) struct Sink {
    folder: Option<BlobFolder>,
    chunks: Vec<Bytes>,
    size: u64,
    file: Option<(BlobId, BlobFile, File)>,
}

impl Sink {
    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.size += bytes.len() as u64;
        self.chunks.push(bytes);
        let Some(folder) = self.folder.as_ref().filter(|_| self.size > SMALL as u64) else {
            return Ok(());
        };
        let (_, blob, file) = match &mut self.file {
            Some(open) => open,
            open => {
                let id = Uuid::new_v4();
                let blob = folder.file(id, false);
                let mut options = private::file();
                let file = options.write(true).create_new(true).open(&blob.path)?;
                open.insert((id, blob, file))
            }
        };
        for bytes in self.chunks.drain(..) {
            blob.space.write_all(file, &bytes)?;
        }
        Ok(())
    }

    /// The blob, safe from a crash; `None` if nothing was written.
    pub(crate) fn finish(self) -> io::Result<Option<NewBlob>> {
        let (id, blob) = match (self.file, self.folder) {
            _ if self.size == 0 => return Ok(None),
            (Some((id, blob, file)), Some(folder)) => {
                file.sync_data()?;
                File::open(&folder.path)?.sync_all()?;
                (id, Blob::File(blob))
            }
            _ if self.size <= COPY_UP_TO => (
                Uuid::new_v4(),
                Blob::Memory(vec![self.chunks.concat().into()]),
            ),
            _ => (Uuid::new_v4(), Blob::Memory(self.chunks)),
        };
        let blob = Arc::new(blob);
        Ok(Some(NewBlob { id, blob }))
    }

    /// Whether writing may wait for a disk.
    pub(crate) fn blocks(&self) -> bool {
        self.folder.is_some()
    }
}

/// Locks, also after a panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
