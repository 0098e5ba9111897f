//! Decompression: none, gzip or Zstandard, detected by the first bytes.
//!
//! A decoder keeps no output back: when a piece has been taken, all that it yields has reached the
//! archive. So the input can be checked for completeness at any time, and can continue afterwards.

use std::io::Error;
use std::sync::Arc;

use super::archive::Archive;
use super::error::{BrokenArchive, Cause};
use super::gzip::{self, Gzip};
use super::zstd::{self, Zstd};

/// How the input is compressed, as far as that is known.
pub(super) enum Compression {
    /// The first bytes, all of which have a compressed input in common with a plain one.
    Unknown {
        head: [u8; 4],
        len: usize,
    },
    None,
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

/// The compression that the first bytes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detected {
    TooLittle,
    Plain,
    Gzip,
    Zstd,
}

fn recognise(head: &[u8]) -> Detected {
    let skippable = head.first().map_or(zstd::SKIPPABLE, |first| {
        let mut magic = zstd::SKIPPABLE;
        magic[0] |= first & 0x0f;
        magic
    });
    let magics: [(&[u8], Detected); 3] = [
        (&gzip::MAGIC, Detected::Gzip),
        (&zstd::MAGIC, Detected::Zstd),
        (&skippable, Detected::Zstd),
    ];
    let detected = magics.iter().find_map(|&(magic, detected)| {
        let is_whole = head.starts_with(magic);
        let is_begun = magic.starts_with(head);
        is_whole
            .then_some(detected)
            .or(is_begun.then_some(Detected::TooLittle))
    });
    detected.unwrap_or(Detected::Plain)
}

impl Compression {
    pub(super) fn new() -> Self {
        Compression::Unknown {
            head: [0; 4],
            len: 0,
        }
    }

    /// Takes the next bytes of the input, and gives what they yield to the archive.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        archive: &mut Archive,
    ) -> Result<(), BrokenArchive> {
        while let (Compression::Unknown { head, len }, Some((&byte, rest))) =
            (&mut *self, bytes.split_first())
        {
            bytes = rest;
            head[*len] = byte;
            *len += 1;
            let (head, len) = (*head, *len);
            *self = match recognise(&head[..len]) {
                Detected::TooLittle => continue,
                Detected::Plain => Compression::None,
                Detected::Gzip => Compression::Gzip(Box::new(Gzip::new())),
                Detected::Zstd => Compression::Zstd(Box::new(
                    Zstd::new().map_err(|error| damaged("Zstandard", error, archive))?,
                )),
            };
            self.decode(&head[..len], archive)?;
        }
        self.decode(bytes, archive)
    }

    fn decode(&mut self, mut bytes: &[u8], archive: &mut Archive) -> Result<(), BrokenArchive> {
        // What follows the archive, behind the member or the frame that it ends in, is not looked
        // at, as it would not be in an archive that is not compressed.
        while !(bytes.is_empty() || archive.is_over() && self.is_complete()) {
            let mut pushed = Ok(());
            let output = &mut |output: &[u8]| {
                if pushed.is_ok() {
                    pushed = archive.push(output);
                }
            };
            let (format, taken) = match self {
                Compression::Unknown { .. } => return Ok(()),
                Compression::None => return archive.push(bytes),
                Compression::Gzip(gzip) => ("gzip", gzip.take(bytes, output)),
                Compression::Zstd(zstd) => ("Zstandard", zstd.take(bytes, output)),
            };
            pushed?;
            bytes = &bytes[taken.map_err(|error| damaged(format, error, archive))?..];
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        match self {
            Compression::Unknown { len, .. } => *len == 0,
            Compression::None => true,
            Compression::Gzip(gzip) => gzip.is_complete(),
            Compression::Zstd(zstd) => zstd.is_complete(),
        }
    }

    /// Whether the input may end here, as far as the decompression can detect.
    pub(super) fn end(&self, archive: &Archive) -> Result<(), BrokenArchive> {
        let (position, within) = match self {
            _ if self.is_complete() => return Ok(()),
            Compression::Unknown { len, .. } => (*len as u64, "a header"),
            _ => (archive.position(), "its compression"),
        };
        Err(BrokenArchive::new(position, Cause::Truncated(within)))
    }
}

fn damaged(format: &'static str, error: Error, archive: &Archive) -> BrokenArchive {
    let source = Arc::new(error);
    BrokenArchive::new(archive.position(), Cause::Damaged { format, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognise_cases() {
        for (case, head, want) in [
            ("nothing", &b""[..], Detected::TooLittle),
            ("gzip", b"\x1f\x8b\x08", Detected::Gzip),
            ("gzip begun", b"\x1f\x8b", Detected::TooLittle),
            (
                "of another method than deflate",
                b"\x1f\x8b\x07",
                Detected::Plain,
            ),
            ("zstd", b"\x28\xb5\x2f\xfd", Detected::Zstd),
            ("zstd begun", b"\x28\xb5\x2f", Detected::TooLittle),
            ("a skippable frame", b"\x5f\x2a\x4d\x18", Detected::Zstd),
            ("a name that begins like one", b"Path", Detected::Plain),
            ("a name", b"a", Detected::Plain),
        ] {
            assert_eq!(recognise(head), want, "{case}");
        }
    }
}
