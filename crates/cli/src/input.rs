//! The input of a command: a file, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use uuid::Uuid;

use super::failure::Failure;

/// The UUID of an upload, as an argument.
pub(super) fn uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::try_parse(text)
        .map_err(|_| "expected the UUID of an upload; `s3layers uploads` lists them")
}

/// Whether the input is standard input.
pub(super) fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// As an argument of a printed command: a leading hyphen would begin an option.
pub(super) fn word(file: &Path) -> String {
    let text = file.to_string_lossy();
    if text.starts_with('-') && !is_stdin(file) {
        format!("./{text}")
    } else {
        text.into_owned()
    }
}

/// The name of the input in messages.
pub(super) fn name(file: &Path) -> String {
    if is_stdin(file) {
        return "standard input".to_owned();
    }
    file.display().to_string()
}

/// The failure to read an input.
pub(super) fn cannot_read(file: &Path, error: &io::Error) -> Failure {
    Failure::of(error).context(format_args!("cannot read {}", name(file)))
}

/// An input that is open.
pub(super) struct Input {
    pub(super) reader: Box<dyn Read + Send>,
    /// In bytes, if it is a regular file, which can be read again.
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
            "{} is a folder; expected a file, such as a tar archive",
            file.display()
        )));
    }
    Ok(Input {
        reader: Box::new(opened),
        size: metadata.is_file().then_some(metadata.len()),
    })
}

/// The size of a regular file in bytes.
pub(super) fn size(file: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(file).ok()?;
    (!is_stdin(file) && metadata.is_file()).then_some(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_in_a_command_is_no_option() {
        for (file, want) in [
            ("-layer.tar", "./-layer.tar"),
            ("-", "-"),
            ("a/-b", "a/-b"),
            ("a b", "a b"),
        ] {
            assert_eq!(word(Path::new(file)), want);
        }
    }
}
