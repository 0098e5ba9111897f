//! A file that appears under its name once it is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A file that is not whole yet. It is removed when it is dropped.
pub(super) struct Partial {
    pub(super) file: File,
    partial: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Partial {
    /// Opens `<path>.partial`.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut name = path
            .file_name()
            .ok_or_else(|| io::Error::other("it has no file name"))?
            .to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let options = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .clone();
        let file = options.open(&partial)?;
        // What another pull is writing is not to be mixed with ours.
        file.try_lock().map_err(|_| {
            io::Error::other(format!(
                "{} is being written by another pull",
                partial.display()
            ))
        })?;
        file.set_len(0)?;
        Ok(Partial {
            file,
            partial,
            path: path.to_owned(),
            published: false,
        })
    }

    /// Gives it its name, durably.
    pub(super) fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.published = true;
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // One that stays is overwritten by the next pull.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
