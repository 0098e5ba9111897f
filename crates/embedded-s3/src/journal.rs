//! The journal: every change of the index, one commit a line, in the order they happened.
//!
//! ```text
//! {"format":"s3layers-store","version":1}
//! 1c291ca3 {"changes":[{"CreateBucket":{…}}]}
//! 9ae0daaf {"changes":[{"PutObject":{…}}],"small":{"<blob>":"<base64>"}}
//! ```
//!
//! A line is the CRC-32 of its JSON, and the JSON: what changes, and the bytes of those new blobs
//! that are too small for a file. A commit is true once its line is synced, and is
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
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::blob::{Blob, NewBlob};
use crate::engine::State;
use crate::error::EmbeddedError;
use crate::folder::{Access, io_error, sync_dir};
use crate::index::Change;
use crate::line::{self, Commit};
use crate::private;
use crate::space::Space;

const NAME: &str = "journal";
/// A journal is not written anew before it is this long.
const WORTH_COMPACTING: u64 = 16 << 20;
/// … and this many times as long as it was when it was last written anew.
const GROWTH: u64 = 4;

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    file: File,
    /// Up to where it is whole and synced.
    length: u64,
    /// How long it was when it was last written anew, or opened.
    compact_length: u64,
    /// Its end is unknown: neither a write nor taking it back succeeded.
    broken: bool,
    access: Access,
    space: Arc<Space>,
}

impl Journal {
    /// Under which name a journal is written anew.
    pub(crate) const NEW_NAME: &str = "journal.new";

    /// Whether there is one.
    pub(crate) fn is_in(folder: &Path) -> bool {
        folder.join(NAME).exists()
    }

    /// Opens it, or begins it, and gives the index and the small blobs that it tells of. For reading it
    /// is left as it is.
    pub(crate) fn open(
        folder: &Path,
        access: Access,
        space: Arc<Space>,
    ) -> Result<(Self, State), EmbeddedError> {
        if !Self::is_in(folder) {
            write_beside(folder, &State::default())?;
            put_in_place(folder)?;
        }
        let path = folder.join(NAME);
        let file = File::options()
            .read(true)
            .write(access == Access::Write)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let Replayed {
            state,
            length,
            changes,
        } = read(folder, &path, &file)?;
        let mut journal = Self {
            folder: folder.to_owned(),
            file,
            length,
            compact_length: length,
            broken: false,
            access,
            space,
        };
        if access == Access::Write {
            journal.secure(&path)?;
            // How long it was when it was last written anew is not stored; this says as much.
            if length > WORTH_COMPACTING && changes > GROWTH * state.index.replay().count() as u64 {
                journal.compact_or_warn(&state);
            }
        }
        Ok((journal, state))
    }

    /// What a process that was killed may have left to do: its last line was torn or not synced, or
    /// the journal was put in place and its name not synced.
    fn secure(&mut self, path: &Path) -> Result<(), EmbeddedError> {
        sync_dir(&self.folder)?;
        self.take_back()
            .map_err(io_error("cut the torn end of", path))?;
        self.file.sync_data().map_err(io_error("sync", path))
    }

    /// Writes down a commit, and keeps the blobs that it names. If this fails, it did not happen.
    pub(crate) fn append(&mut self, changes: &[Change], blobs: &[NewBlob]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "the journal failed before; the store must be opened again",
            ));
        }
        if self.access == Access::Read {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let line = line::line(changes, |id| {
            blobs.iter().find(|new| new.id == id).map(|new| &*new.blob)
        })?;
        let written = self
            .space
            .write_all(&mut self.file, &line)
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.check_place());
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
    pub(crate) fn compact_if_worth(&mut self, state: &State) {
        if self.length < WORTH_COMPACTING || self.length < GROWTH * self.compact_length {
            return;
        }
        self.compact_or_warn(state);
    }

    fn compact_or_warn(&mut self, state: &State) {
        if let Err(error) = self.compact(state) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the journal could not be compacted"
            );
            // Not with every commit from now on.
            self.compact_length = self.length;
        }
    }

    /// Fails with [`NotFound`](io::ErrorKind::NotFound) if the folder was removed, or another one is
    /// in its place: what is written to a file without a name is lost.
    fn check_place(&self) -> io::Result<()> {
        let (ours, named) = (self.file.metadata()?, fs::metadata(self.folder.join(NAME))?);
        if (ours.dev(), ours.ino()) == (named.dev(), named.ino()) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn compact(&mut self, state: &State) -> Result<(), EmbeddedError> {
        let (file, length) = write_beside(&self.folder, state)?;
        put_in_place(&self.folder)?;
        (self.file, self.length, self.compact_length) = (file, length, length);
        // Which of the two a crash leaves is unknown now: nothing may be acknowledged any more.
        sync_dir(&self.folder).inspect_err(|_| self.broken = true)
    }

    /// Cuts off what is behind the last whole commit.
    fn take_back(&mut self) -> io::Result<()> {
        let torn = self.file.metadata()?.len().saturating_sub(self.length);
        if torn > 0 {
            self.file.set_len(self.length)?;
            self.file.sync_all()?;
            self.space.give_back(torn);
        }
        self.file.seek(SeekFrom::Start(self.length)).map(drop)
    }
}

/// Writes the shortest journal of the state beside the old one.
fn write_beside(folder: &Path, state: &State) -> Result<(File, u64), EmbeddedError> {
    let path = folder.join(Journal::NEW_NAME);
    let write = || -> io::Result<(File, u64)> {
        let mut file = BufWriter::new(
            private::file()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)?,
        );
        file.write_all(&line::header()?)?;
        for change in state.index.replay() {
            let blob = |id| state.blobs.get(&id).map(|blob| &**blob);
            file.write_all(&line::line(&[change], blob)?)?;
        }
        let mut file = file.into_inner()?;
        file.sync_all()?;
        let length = file.stream_position()?;
        Ok((file, length))
    };
    write().map_err(|error| {
        // Half of it is of no use. If this fails, the next one is written over it.
        let _ = fs::remove_file(&path);
        io_error("write", &path)(error)
    })
}

/// What was written beside becomes the journal.
fn put_in_place(folder: &Path) -> Result<(), EmbeddedError> {
    let path = folder.join(NAME);
    fs::rename(folder.join(Journal::NEW_NAME), &path).map_err(io_error("replace", &path))
}

/// What a journal tells.
#[derive(Default)]
struct Replayed {
    state: State,
    /// Up to where it is whole.
    length: u64,
    /// How many changes it took.
    changes: u64,
}

impl Replayed {
    fn apply(&mut self, commit: Commit<'_>) -> Result<(), String> {
        for (id, bytes) in commit.small {
            let bytes = STANDARD.decode(bytes).map_err(|error| error.to_string())?;
            self.state
                .blobs
                .insert(id, Arc::new(Blob::Ram(vec![bytes.into()])));
        }
        self.changes += commit.changes.len() as u64;
        for change in commit.changes.into_owned() {
            for freed in self.state.index.apply(change) {
                self.state.blobs.remove(&freed);
            }
        }
        Ok(())
    }
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
        length: line.len() as u64,
        ..Replayed::default()
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
            .and_then(line::parse);
        match whole.and_then(|commit| told.apply(commit)) {
            Ok(()) => told.length += line.len() as u64,
            Err(reason) => torn = Some(reason),
        }
    }
    if let Some(reason) = torn {
        tracing::warn!(journal = %path.display(), line = number, reason, "a torn last line was cut off");
    }
    Ok(told)
}

fn check_header(folder: &Path, path: &Path, header: &[u8]) -> Result<(), EmbeddedError> {
    match line::version(header) {
        Some(version) if version <= line::VERSION => Ok(()),
        Some(found) => Err(EmbeddedError::NewerFormat {
            folder: folder.to_owned(),
            found,
            known: line::VERSION,
        }),
        None => Err(EmbeddedError::Damaged {
            path: path.to_owned(),
            line: 1,
            reason: "it is not the header of a store".into(),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Result<(Journal, State), EmbeddedError> {
        Journal::open(folder, Access::Write, Arc::default())
    }

    fn bucket(name: &str) -> Change {
        Change::CreateBucket {
            bucket: name.into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            region: None,
        }
    }

    fn names(state: &State) -> Vec<&str> {
        state.index.buckets.keys().map(String::as_str).collect()
    }

    #[test]
    fn torn_ends_are_cut_off_and_damage_is_reported() {
        let whole = line::line(&[bucket("c")], |_| None).unwrap();
        let half = whole[..whole.len() / 2].to_vec();
        let endless = whole[..whole.len() - 1].to_vec();
        let mut flipped = whole.clone();
        flipped[40] ^= 1;
        for (case, behind, want) in [
            ("nothing", Vec::new(), Some(vec!["a", "b"])),
            ("a whole line", whole.clone(), Some(vec!["a", "b", "c"])),
            ("half a line", half, Some(vec!["a", "b"])),
            ("a line without its end", endless, Some(vec!["a", "b"])),
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
            let folder = tempfile::tempdir().unwrap();
            let (mut journal, _) = open(folder.path()).unwrap();
            journal.append(&[bucket("a")], &[]).unwrap();
            journal.append(&[bucket("b")], &[]).unwrap();
            journal.file.write_all(&behind).unwrap();
            drop(journal);
            let (mut journal, state) = match (open(folder.path()), &want) {
                (Ok(opened), Some(_)) => opened,
                (Err(EmbeddedError::Damaged { line: 4, .. }), None) => continue,
                (got, _) => unreachable!("{case}: {got:?}"),
            };
            assert_eq!(Some(names(&state)), want, "{case}");
            // Whatever was cut off, the next commit stands on a line of its own.
            journal.append(&[bucket("z")], &[]).unwrap();
            drop(journal);
            assert_eq!(
                names(&open(folder.path()).unwrap().1).last(),
                Some(&"z"),
                "{case}"
            );
        }
    }

    #[test]
    fn a_compacted_journal_tells_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, mut state) = open(folder.path()).unwrap();
        for change in [
            bucket("a"),
            bucket("b"),
            Change::DeleteBucket { bucket: "a".into() },
        ] {
            journal.append(std::slice::from_ref(&change), &[]).unwrap();
            state.index.apply(change);
        }
        let before = journal.length;
        journal.compact(&state).unwrap();
        assert!(journal.length < before);
        journal.append(&[bucket("c")], &[]).unwrap();
        drop(journal);
        assert_eq!(names(&open(folder.path()).unwrap().1), ["b", "c"]);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(NAME),
            "{\"format\":\"s3layers-store\",\"version\":2}\n",
        )
        .unwrap();
        let refused = open(folder.path());
        assert!(
            matches!(refused, Err(EmbeddedError::NewerFormat { found: 2, .. })),
            "{refused:?}"
        );
    }
}
