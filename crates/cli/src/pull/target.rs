//! The output that `-o` names, checked before any request.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::stop::{Stop, interrupted};

/// The output of a pull.
pub(super) enum Target {
    Stdout,
    /// Not a regular file, such as /dev/null: it is written to, and not replaced.
    Device(PathBuf),
    /// A file that gets its name when it is whole.
    File(PathBuf),
}

impl Target {
    /// The output of this name; `-` is standard output. An existing file needs `force`.
    pub(super) fn of(path: Option<&Path>, force: bool) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Target::Stdout);
        };
        let shown = path.display();
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                return Err(Failure::new(format!(
                    "{shown} is a folder; expected a file"
                )));
            }
            Ok(there) if !there.is_file() => return Ok(Target::Device(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::of_file_output(path, &error)),
        }
        // `file_name` ignores a slash at the end.
        let bytes = path.as_os_str().as_bytes();
        if path.file_name().is_none() || bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
            return Err(Failure::new(format!(
                "{shown} does not end with a file name"
            )));
        }
        // A broken link exists, too.
        let there = fs::symlink_metadata(path).ok();
        if !force && there.is_some() {
            return Err(exists(path));
        }
        // What a link leads to is replaced, not the link: /dev/stdout is one.
        let target = if there.is_some_and(|there| there.is_symlink()) {
            fs::canonicalize(path).map_err(|error| Failure::of_file_output(path, &error))?
        } else {
            path.to_owned()
        };
        let folder = folder_of(&target);
        match fs::metadata(folder) {
            Ok(there) if there.is_dir() => Ok(Target::File(target)),
            Ok(_) => Err(Failure::new(format!("{} is no folder", folder.display()))
                .context(format_args!("cannot write {shown}"))),
            Err(error) => Err(Failure::of(&error)
                .context(format_args!("there is no folder {}", folder.display()))
                .context(format_args!("cannot write {shown}"))),
        }
    }
}

/// Opens a device for writing. A pipe waits for its reader.
pub(super) async fn open_device(path: &Path, stop: &mut Stop) -> Result<File, Failure> {
    let named = path.to_owned();
    let opening = tokio::task::spawn_blocking(|| File::options().write(true).open(named));
    let opened = stop.unless_requested(opening).await;
    let opened = opened
        .ok_or_else(interrupted)?
        .map_err(io::Error::other)
        .flatten();
    opened.map_err(|error| Failure::of_file_output(path, &error))
}

/// The folder of a file.
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
