//! What `-o` names, looked at before anything is asked of the store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::stop::Stop;

/// Where the bytes go.
pub(super) enum Target {
    Stdout,
    /// Something that is no regular file: it is written to. Nobody wants /dev/null replaced.
    Device(PathBuf),
    /// A file that appears under its name once it is whole.
    File(PathBuf),
}

impl Target {
    /// The target of this name, of which `-` is standard output. What exists is replaced with `force`
    /// only.
    pub(super) fn of(path: Option<&Path>, force: bool) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Target::Stdout);
        };
        let shown = path.display();
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                return Err(Failure::new(format!(
                    "{shown} is a folder; wanted the name of a file"
                )));
            }
            Ok(there) if !there.is_file() => return Ok(Target::Device(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_write(path, &error)),
        }
        // A link that leads nowhere is replaced as well.
        if !force && fs::symlink_metadata(path).is_ok() {
            return Err(exists(path));
        }
        if path.file_name().is_none() {
            return Err(Failure::new(format!(
                "{shown} does not end with a file name"
            )));
        }
        let folder = folder_of(path);
        match fs::metadata(folder) {
            Ok(there) if there.is_dir() => Ok(Target::File(path.to_owned())),
            Ok(_) => Err(Failure::new(format!("{} is no folder", folder.display()))
                .context(format_args!("cannot write {shown}"))),
            Err(error) => Err(Failure::of(&error)
                .context(format_args!("there is no folder {}", folder.display()))
                .context(format_args!("cannot write {shown}"))),
        }
    }
}

/// Opens a device for writing. A pipe is open when somebody reads from it, which may be never.
pub(super) async fn open_device(path: &Path, stop: &mut Stop) -> Result<File, Failure> {
    let named = path.to_owned();
    let opening = tokio::task::spawn_blocking(|| File::options().write(true).open(named));
    let opened = tokio::select! {
        opened = opening => opened,
        () = stop.told() => return Err(Failure::new("interrupted")),
    };
    let opened = opened.map_err(io::Error::other).flatten();
    opened.map_err(|error| cannot_write(path, &error))
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

pub(super) fn exists(path: &Path) -> Failure {
    Failure::new(format!(
        "{} exists already; --force replaces it",
        path.display()
    ))
}

pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::of(error).context(format_args!("cannot write {}", path.display()))
}
