//! What a command reads: a file, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::failure::Failure;

/// Whether the input is standard input.
pub(super) fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// The input as it is called.
pub(super) fn name(file: &Path) -> String {
    match is_stdin(file) {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    }
}

/// An input that is open.
pub(super) struct Input {
    pub(super) reader: Box<dyn Read + Send>,
    /// In bytes, where it is known: then it can be read again.
    pub(super) size: Option<u64>,
}

/// Opens an input.
pub(super) fn open(file: &Path) -> Result<Input, Failure> {
    if is_stdin(file) {
        return Ok(Input {
            reader: Box::new(io::stdin()),
            size: None,
        });
    }
    let opened = File::open(file).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, opened) = opened.map_err(|error| {
        Failure::of(&error).context(format_args!("cannot open {}", file.display()))
    })?;
    if metadata.is_dir() {
        return Err(Failure::new(format!(
            "{} is a folder; wanted a file, such as a tar archive",
            file.display()
        )));
    }
    Ok(Input {
        reader: Box::new(opened),
        size: metadata.is_file().then_some(metadata.len()),
    })
}

/// The size of a file in bytes. `None` where it is no regular file, or cannot be looked at.
pub(super) fn size(file: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(file).ok()?;
    (!is_stdin(file) && metadata.is_file()).then_some(metadata.len())
}
