//! The journal: every change of the index, one commit a line, in the order they happened.
//!
//! ```text
//! {"format":"s3layers-store","version":1}
//! 1c291ca3 [{"CreateBucket":{…}}]
//! 9ae0daaf [{"PutObject":{…}}]
//! ```
//!
//! A line is the CRC-32 of its JSON, and the JSON. A commit is true once its line is synced, and is
//! not acknowledged before; commits follow one after the other. So a crash can leave at most one
//! torn line, the last one, and that one was never acknowledged: opening cuts it off. A line that
//! cannot be read before the last is damage, and is reported.
//!
//! Why not a small file for each object: a commit is one write and one sync however many things it
//! changes (Complete takes away an upload and puts an object; DeleteObjects takes away a thousand),
//! and opening reads one file from end to end.
//!
//! What is long since replaced stays in the journal until it is several times as long as it needs
//! to be. Then it is written anew beside the old one, synced, and renamed over it.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::blob::NewBlob;
use super::error::EmbeddedError;
use super::folder::{io_error, sync_dir};
use super::index::{Change, Index};

const NAME: &str = "journal";
const FORMAT: &str = "s3layers-store";
const VERSION: u32 = 1;
/// A journal is not written anew before it is this long.
const WORTH_COMPACTING: u64 = 16 << 20;
/// … and this many times as long as it was when it was last written anew.
const GROWTH: u64 = 4;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
}

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    file: File,
    /// Up to where it is whole and synced.
    length: u64,
    /// How long it was when it was last written anew, or opened.
    compact_length: u64,
    /// Its end is unknown: neither a write nor taking it back succeeded.
    broken: bool,
}

impl Journal {
    /// Under which name a journal is written anew.
    pub(super) const NEW_NAME: &str = "journal.new";

    /// Whether there is one.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(NAME).exists()
    }

    /// Opens it, or begins it, and gives the index that it tells of.
    pub(super) fn open(folder: &Path) -> Result<(Self, Index), EmbeddedError> {
        if !Self::is_in(folder) {
            write_anew(folder, &Index::default())?;
        }
        let path = folder.join(NAME);
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let Replayed {
            index,
            length,
            changes,
        } = read(folder, &path, &file)?;
        let mut journal = Self {
            folder: folder.to_owned(),
            file,
            length,
            compact_length: length,
            broken: false,
        };
        journal
            .take_back()
            .map_err(io_error("cut the torn end of", &path))?;
        // How long it was when it was last written anew is not stored; this says as much.
        if length > WORTH_COMPACTING && changes > GROWTH * index.replay().count() as u64 {
            journal.compact(&index)?;
        }
        Ok((journal, index))
    }

    /// Writes down a commit, and keeps the blobs that it names. If this fails, it did not happen.
    pub(super) fn append(&mut self, changes: &[Change], blobs: &[NewBlob]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "the journal failed before; the store must be opened again",
            ));
        }
        let line = line(changes)?;
        let written = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.broken = self.take_back().is_err();
            if self.broken {
                // Perhaps the line is there after all: then it must find its blobs.
                blobs.iter().for_each(|new| new.blob.keep());
            }
            return Err(error);
        }
        self.length += line.len() as u64;
        blobs.iter().for_each(|new| new.blob.keep());
        Ok(())
    }

    /// Writes it anew if most of it is past. A failure changes nothing: the old one stays.
    pub(super) fn compact_if_worth(&mut self, index: &Index) {
        if self.length < WORTH_COMPACTING || self.length < GROWTH * self.compact_length {
            return;
        }
        if let Err(error) = self.compact(index) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the journal could not be compacted"
            );
            // Not with every commit from now on.
            self.compact_length = self.length;
        }
    }

    fn compact(&mut self, index: &Index) -> Result<(), EmbeddedError> {
        (self.file, self.length) = write_anew(&self.folder, index)?;
        self.compact_length = self.length;
        Ok(())
    }

    /// Cuts off what is behind the last whole commit.
    fn take_back(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() != self.length {
            self.file.set_len(self.length)?;
            self.file.sync_all()?;
        }
        self.file.seek(SeekFrom::Start(self.length)).map(drop)
    }
}

/// Writes the shortest journal of the index beside the old one, and puts it in its place.
fn write_anew(folder: &Path, index: &Index) -> Result<(File, u64), EmbeddedError> {
    let (new, path) = (folder.join(Journal::NEW_NAME), folder.join(NAME));
    let write = || -> io::Result<File> {
        let mut file = BufWriter::new(File::create(&new)?);
        serde_json::to_writer(
            &mut file,
            &Header {
                format: FORMAT.into(),
                version: VERSION,
            },
        )?;
        file.write_all(b"\n")?;
        for change in index.replay() {
            file.write_all(&line(&[change])?)?;
        }
        let file = file.into_inner()?;
        file.sync_all()?;
        Ok(file)
    };
    let mut file = write().map_err(io_error("write", &new))?;
    fs::rename(&new, &path).map_err(io_error("replace", &path))?;
    sync_dir(folder)?;
    let length = file.stream_position().map_err(io_error("measure", &path))?;
    Ok((file, length))
}

fn line(changes: &[Change]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(changes)?;
    let mut line = format!("{:08x} ", crc(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn crc(bytes: &[u8]) -> u32 {
    // A CRC-32 in a u64: nothing is cut off.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}

/// The changes of a line without its end, or what is wrong with it.
fn parse(line: &[u8]) -> Result<Vec<Change>, String> {
    let (sum, json) = line.split_at_checked(9).ok_or("it is too short")?;
    let sum = std::str::from_utf8(sum).unwrap_or_default().trim_end();
    if u32::from_str_radix(sum, 16).ok() != Some(crc(json)) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// What a journal tells.
struct Replayed {
    index: Index,
    /// Up to where it is whole.
    length: u64,
    /// How many changes it took.
    changes: u64,
}

fn read(folder: &Path, path: &Path, file: &File) -> Result<Replayed, EmbeddedError> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| {
        line.clear();
        reader
            .read_until(b'\n', line)
            .map_err(io_error("read", path))
    };
    next(&mut line)?;
    check_header(folder, path, &line)?;
    let mut told = Replayed {
        index: Index::default(),
        length: line.len() as u64,
        changes: 0,
    };
    let mut number = 1;
    let mut torn: Option<String> = None;
    while next(&mut line)? > 0 {
        if let Some(reason) = torn {
            return Err(EmbeddedError::Damaged {
                path: path.to_owned(),
                line: number,
                reason,
            });
        }
        number += 1;
        let whole = line
            .strip_suffix(b"\n")
            .ok_or("it has no end".to_owned())
            .and_then(parse);
        match whole {
            Ok(changes) => {
                told.length += line.len() as u64;
                told.changes += changes.len() as u64;
                for change in changes {
                    told.index.apply(change);
                }
            }
            Err(reason) => torn = Some(reason),
        }
    }
    Ok(told)
}

fn check_header(folder: &Path, path: &Path, line: &[u8]) -> Result<(), EmbeddedError> {
    let header: Header = serde_json::from_slice(line)
        .ok()
        .filter(|header: &Header| header.format == FORMAT)
        .ok_or_else(|| EmbeddedError::Damaged {
            path: path.to_owned(),
            line: 1,
            reason: "it is not the header of a store".into(),
        })?;
    if header.version > VERSION {
        return Err(EmbeddedError::NewerFormat {
            folder: folder.to_owned(),
            found: header.version,
            known: VERSION,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str) -> Change {
        Change::CreateBucket {
            bucket: name.into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            region: None,
        }
    }

    /// What a journal with this behind its two buckets opens as.
    fn open_with(behind: &[u8]) -> Result<Vec<String>, EmbeddedError> {
        let folder = tempfile::tempdir().map_err(EmbeddedError::Serve)?;
        let (mut journal, _) = Journal::open(folder.path())?;
        journal
            .append(&[bucket("a")], &[])
            .map_err(EmbeddedError::Serve)?;
        journal
            .append(&[bucket("b")], &[])
            .map_err(EmbeddedError::Serve)?;
        journal
            .file
            .write_all(behind)
            .map_err(EmbeddedError::Serve)?;
        drop(journal);
        let (mut journal, index) = Journal::open(folder.path())?;
        // Whatever was cut off, the next commit is behind a whole line.
        journal
            .append(&[bucket("z")], &[])
            .map_err(EmbeddedError::Serve)?;
        drop(journal);
        let (_, again) = Journal::open(folder.path())?;
        assert!(again.buckets.contains_key("z"));
        Ok(index.buckets.into_keys().collect())
    }

    #[test]
    fn torn_ends_are_cut_off_and_damage_is_reported() {
        let whole = line(&[bucket("c")]).unwrap_or_default();
        let half = &whole[..whole.len() / 2];
        let mut flipped = whole.clone();
        flipped[20] ^= 1;
        for (case, behind, want) in [
            ("nothing", Vec::new(), Some(vec!["a", "b"])),
            ("a whole line", whole.clone(), Some(vec!["a", "b", "c"])),
            ("half a line", half.to_vec(), Some(vec!["a", "b"])),
            (
                "a line without its end",
                whole[..whole.len() - 1].to_vec(),
                Some(vec!["a", "b"]),
            ),
            (
                "a flipped bit at the end",
                flipped.clone(),
                Some(vec!["a", "b"]),
            ),
            ("zeros at the end", vec![0; 4096], Some(vec!["a", "b"])),
            (
                "a flipped bit before the end",
                [flipped, whole].concat(),
                None,
            ),
        ] {
            let got = open_with(&behind);
            match (got, want) {
                (Ok(got), Some(want)) => assert_eq!(got, want, "{case}"),
                (Err(EmbeddedError::Damaged { line: 4, .. }), None) => {}
                (got, want) => assert!(false, "{case}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn a_compacted_journal_tells_the_same() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| std::panic::panic_any(error));
        let (mut journal, mut index) = Journal::open(folder.path())
            .unwrap_or_else(|error| std::panic::panic_any(error.to_string()));
        for change in [
            bucket("a"),
            bucket("b"),
            Change::DeleteBucket { bucket: "a".into() },
        ] {
            assert!(journal.append(std::slice::from_ref(&change), &[]).is_ok());
            index.apply(change);
        }
        let before = journal.length;
        assert!(journal.compact(&index).is_ok());
        assert!(journal.length < before);
        assert!(journal.append(&[bucket("c")], &[]).is_ok());
        drop(journal);
        let names = Journal::open(folder.path())
            .map(|(_, index)| index.buckets.into_keys().collect::<Vec<_>>());
        assert_eq!(names.ok(), Some(vec!["b".to_owned(), "c".to_owned()]));
    }
}
