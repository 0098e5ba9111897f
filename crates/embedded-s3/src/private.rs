//! Files and folders that only their owner can read: what is stored is secret to other users of the
//! machine; and the sync of a folder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::{EmbeddedError, io_error};

/// Options for a file with mode 0600, if it is created.
pub(crate) fn file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Creates a folder with mode 0700.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Syncs the names in a folder. Blocks.
pub(crate) fn sync_dir(path: &Path) -> Result<(), EmbeddedError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("sync", path))
}
