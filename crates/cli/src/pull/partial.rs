//! The partial file of a pull, which gets its final name when it is whole.
//!
//! It has the first bytes of the layer, written in order. Its name contains digits of the digest, so
//! that a pull of another layer to the same file does not resume it. Its bytes are verified when it
//! is whole.

use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::target::folder_of;
use s3layers::Digest;

/// Hex digits of the digest in the name.
const DIGITS: usize = 12;

/// A partial file. It is removed on drop, unless it is [kept](Self::keep).
pub(super) struct Partial {
    // Dropped first: another pull can lock the file when it has no name any more.
    partial: TempPath,
    pub(super) file: File,
    /// Its path relative to the working directory, as the final path is.
    location: PathBuf,
    path: PathBuf,
}

impl Partial {
    /// Opens `<path>.<digits>.partial`, with the bytes of an earlier pull.
    pub(super) fn open(path: &Path, digest: &Digest) -> io::Result<Self> {
        let mut name = name_of(path)?;
        name.push(digest.hex().get(..DIGITS).unwrap_or_default());
        name.push(".partial");
        let partial = path.with_file_name(name);
        let file = open_exclusive(&partial)?;
        Ok(Partial {
            file,
            partial: TempPath::try_from_path(&partial)?,
            location: partial,
            path: path.to_owned(),
        })
    }

    /// An empty file with a random name, for a range, which cannot be verified and so not resumed.
    pub(super) fn unnamed(path: &Path) -> io::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix(&name_of(path)?)
            .suffix(".partial")
            // The default permissions of a file; those of `tempfile` are for secrets.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder_of(path))?;
        let (file, partial) = made.into_parts();
        Ok(Partial {
            file,
            location: partial.to_path_buf(),
            partial,
            path: path.to_owned(),
        })
    }

    /// Its path.
    pub(super) fn location(&self) -> &Path {
        &self.location
    }

    /// Its size in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Truncates it to nothing.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Keeps it for the next pull.
    pub(super) fn keep(self) -> io::Result<PathBuf> {
        self.partial.keep().map_err(|failed| failed.error)?;
        Ok(self.location)
    }

    /// Renames it to the final path, durably. With `force` an existing file is replaced; otherwise the
    /// error is [`AlreadyExists`](io::ErrorKind::AlreadyExists). After an error the partial file stays.
    pub(super) fn publish(mut self, force: bool) -> io::Result<()> {
        self.partial.disable_cleanup(true);
        self.file.sync_all()?;
        let renamed = if force {
            self.partial.persist(&self.path)
        } else {
            self.partial.persist_noclobber(&self.path)
        };
        renamed.map_err(|failed| failed.error)?;
        // Where the folder may be written and not read, the name is there all the same.
        match File::open(folder_of(&self.path)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            folder => folder?.sync_all(),
        }
    }
}

/// The first characters of the name of a partial file.
fn name_of(path: &Path) -> io::Result<OsString> {
    let name = path.file_name();
    let mut name = name
        .ok_or_else(|| io::Error::other("it has no file name"))?
        .to_owned();
    name.push(".");
    Ok(name)
}

/// Opens a regular file for this process alone.
fn open_exclusive(path: &Path) -> io::Result<File> {
    loop {
        // Opening a pipe would wait, and a link could lead to a file of another user.
        if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
            let what = format!("{} is not a regular file; remove it", path.display());
            return Err(io::Error::other(what));
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => {
                let what = format!("{} is being written by another pull", path.display());
                io::Error::other(what)
            }
            TryLockError::Error(error) => error,
        })?;
        // The other pull may have ended between our `open` and our lock: then this file has its final
        // name now.
        let held = file.metadata()?;
        let is_held = |there: fs::Metadata| (there.dev(), there.ino()) == (held.dev(), held.ino());
        if fs::symlink_metadata(path).is_ok_and(is_held) {
            return match held.nlink() {
                1 => Ok(file),
                _ => {
                    let what = format!("{} has a second name; remove it", path.display());
                    Err(io::Error::other(what))
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use s3layers::Algorithm;

    #[test]
    fn kept_file_is_resumed_by_the_same_layer_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer");
        let (one, other) = (
            Digest::of(Algorithm::Sha256, b"one"),
            Digest::of(Algorithm::Sha256, b"other"),
        );
        let open = |digest| Partial::open(&path, digest);
        let partial = open(&one).unwrap();
        io::Write::write_all(&mut &partial.file, b"on").unwrap();
        assert!(open(&one).is_err(), "it is locked");
        assert_eq!(open(&other).unwrap().len().unwrap(), 0);
        let kept = partial.keep().unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"on");

        let partial = open(&one).unwrap();
        assert_eq!(partial.len().unwrap(), 2);
        drop(partial);
        assert!(!kept.exists(), "dropped and not kept");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn existing_file_is_replaced_with_force_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer");
        fs::write(&path, b"old").unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"");
        let partial = Partial::open(&path, &digest).unwrap();
        let refused = partial.publish(false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let partial = Partial::open(&path, &digest).unwrap();
        partial.publish(true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, b"precious").unwrap();
        let path = folder.path().join("layer");
        let digest = Digest::of(Algorithm::Sha256, b"");
        let partial = Partial::open(&path, &digest).unwrap().keep().unwrap();
        for link in [std::os::unix::fs::symlink, fs::hard_link] {
            fs::remove_file(&partial).unwrap();
            link(&precious, &partial).unwrap();
            assert!(Partial::open(&path, &digest).is_err());
            assert_eq!(fs::read(&precious).unwrap(), b"precious");
        }
    }

    #[test]
    fn unnamed_file_replaces_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer");
        let precious = folder.path().join("layer.partial");
        fs::write(&precious, b"precious").unwrap();
        drop(Partial::unnamed(&path).unwrap());
        Partial::unnamed(&path).unwrap().publish(false).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
