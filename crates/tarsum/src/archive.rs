//! The reader: takes an archive piece by piece and hashes its entries as they pass.
//!
//! Blocks (headers and maps) are gathered, since a piece may end within one; bodies go to their
//! hash straight from the piece they came in. After an error nothing more may be pushed.

use std::mem;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::tar_sum::TarSumVersion;

use super::entry;
use super::error::{BrokenArchive, Cause};
use super::extensions::{self, Kind, Pending, Sparse};
use super::header::{BLOCK, Block, Header, padding};
use super::order::Entries;
use super::sparse::{Lines, Map, Step, Walk, has_block};

/// What an archive may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) entries: u32,
    pub(super) hole_bytes: u64,
}

/// An archive, as far as it was read.
pub(super) struct Archive {
    pub(super) version: TarSumVersion,
    pub(super) limits: Limits,
    entries: Entries,
    hole_bytes: u64,
    pending: Pending,
    state: State,
    block: Block,
    /// The bytes of `block` that have arrived.
    filled: usize,
    /// The bytes of the archive that have arrived.
    position: u64,
    /// Where the last block began.
    block_position: u64,
}

/// What the next bytes are.
enum State {
    Header,
    /// The block after one of zeros: a second one ends the archive, and nothing else may follow.
    SecondZeros,
    /// The rest of a header that speaks about the next one.
    Extension {
        kind: Kind,
        text: Vec<u8>,
        left: u64,
        padding: u64,
    },
    /// A further block of the map of an old GNU sparse file.
    OldMap {
        body: Body,
        map: Map,
        size: i64,
    },
    /// A block of the map in front of the data of a sparse file.
    MapInBody {
        body: Body,
        lines: Lines,
        size: i64,
    },
    Body(Body),
    /// Stored bytes that do not count: what a sparse file's map leaves out, then padding.
    Skipped {
        data: u64,
        padding: u64,
    },
    /// Bytes behind the archive.
    Over,
}

impl State {
    fn skipped(data: u64, padding: u64) -> State {
        match data + padding {
            0 => State::Header,
            _ => State::Skipped { data, padding },
        }
    }
}

/// An entry while its content arrives.
struct Body {
    hasher: Hasher,
    name: u128,
    /// Stored bytes that are still to come.
    stored: u64,
    padding: u64,
    /// How many of them come before the walk takes its next step.
    run: u64,
    /// The way through a sparse file.
    walk: Option<Walk>,
}

impl Archive {
    pub(super) fn new(version: TarSumVersion, algorithm: Algorithm, limits: Limits) -> Self {
        Archive {
            version,
            limits,
            entries: Entries::new(algorithm),
            hole_bytes: 0,
            pending: Pending::default(),
            state: State::Header,
            block: [0; BLOCK],
            filled: 0,
            position: 0,
            block_position: 0,
        }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), BrokenArchive> {
        while !bytes.is_empty() {
            let taken = self
                .take(bytes)
                .map_err(|cause| BrokenArchive::new(self.block_position, cause))?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// The bytes of the archive that have arrived.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the archive said that it is over. It may also just stop: see [`Archive::sum`].
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The sum, if the archive may end here.
    pub(super) fn sum(&self) -> Result<Digest, BrokenArchive> {
        let within = match &self.state {
            _ if !self.pending.is_empty() => "an extension whose entry is missing",
            State::Header | State::SecondZeros if self.filled > 0 => "a header",
            State::Header | State::SecondZeros | State::Over => return Ok(self.entries.sum()),
            // Padding may be missing.
            State::Skipped { data: 0, .. } => return Ok(self.entries.sum()),
            State::Extension { .. } => "an extension",
            State::OldMap { .. } | State::MapInBody { .. } => "the map of a sparse file",
            State::Body(_) | State::Skipped { .. } => "an entry",
        };
        Err(BrokenArchive::new(self.position, Cause::Truncated(within)))
    }

    /// Takes some of these bytes; how many. There is at least one.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Cause> {
        let most = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let taken = match &mut self.state {
            State::Header | State::SecondZeros | State::OldMap { .. } | State::MapInBody { .. } => {
                return self.take_block(bytes);
            }
            State::Extension {
                kind,
                text,
                left,
                padding,
            } => {
                let taken = most(*left);
                text.extend_from_slice(&bytes[..taken]);
                *left -= taken as u64;
                if *left == 0 {
                    self.pending.add(*kind, text)?;
                    self.state = State::skipped(0, *padding);
                }
                taken
            }
            State::Body(body) => {
                let taken = most(body.run);
                body.hasher.update(&bytes[..taken]);
                body.run -= taken as u64;
                body.stored -= taken as u64;
                if body.run == 0 {
                    self.next_run()?;
                }
                taken
            }
            State::Skipped { data, padding } => {
                let some = most(*data);
                let taken = some + most(*padding).min(bytes.len() - some);
                *data -= some as u64;
                *padding -= (taken - some) as u64;
                self.state = State::skipped(*data, *padding);
                taken
            }
            State::Over => bytes.len(),
        };
        self.position += taken as u64;
        Ok(taken)
    }

    fn take_block(&mut self, bytes: &[u8]) -> Result<usize, Cause> {
        if self.filled == 0 {
            self.block_position = self.position;
        }
        let room = &mut self.block[self.filled..];
        let taken = room.len().min(bytes.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        self.position += taken as u64;
        if self.filled == BLOCK {
            self.filled = 0;
            self.read_block()?;
        }
        Ok(taken)
    }

    fn read_block(&mut self) -> Result<(), Cause> {
        match mem::replace(&mut self.state, State::Header) {
            State::OldMap {
                body,
                mut map,
                size,
            } => {
                if map.add_old_block(&self.block)? {
                    self.state = State::OldMap { body, map, size }
                } else {
                    self.begin_walk(body, map, size)?
                }
            }
            State::MapInBody {
                mut body,
                mut lines,
                size,
            } => {
                body.stored -= BLOCK as u64;
                if lines.add(&self.block)? {
                    self.begin_walk(body, lines.into_map(), size)?
                } else {
                    self.begin_map(body, lines, size)?
                }
            }
            before => {
                let is_zeros = self.block.iter().all(|&byte| byte == 0);
                let is_second = matches!(before, State::SecondZeros);
                match (is_zeros, is_second) {
                    (true, _) if !self.pending.is_empty() => {
                        return Err(Cause::Malformed("an extension has no entry"));
                    }
                    (true, true) => self.state = State::Over,
                    (true, false) => self.state = State::SecondZeros,
                    (false, true) => {
                        return Err(Cause::Malformed("a block of zeros stands alone"));
                    }
                    (false, false) => self.read_header()?,
                }
            }
        }
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), Cause> {
        let header = Header::parse(&self.block)?;
        match Kind::of(header.typeflag).filter(|_| !self.pending.is_complete()) {
            Some(_) if header.stored > extensions::MAX_LEN => {
                Err(Cause::Malformed("an extension is longer than 1 MiB"))
            }
            Some(kind) if header.stored == 0 => self.pending.add(kind, b""),
            Some(kind) => {
                self.state = State::Extension {
                    kind,
                    text: Vec::new(),
                    left: header.stored,
                    padding: padding(header.stored),
                };
                Ok(())
            }
            None => self.begin_entry(header),
        }
    }

    fn begin_entry(&mut self, mut header: Header) -> Result<(), Cause> {
        if self.entries.len() >= self.limits.entries as usize {
            return Err(Cause::TooManyEntries(self.limits.entries));
        }
        let old_sparse = match header.typeflag {
            b'S' => Some(Map::of_old_header(&self.block)?),
            _ => None,
        };
        if let Some((size, ..)) = old_sparse {
            header.size = size;
        }
        let (xattrs, sparse) = mem::take(&mut self.pending).apply(&mut header)?;
        let body = Body {
            hasher: entry::begin(&self.version, self.entries.algorithm, &header, &xattrs)?,
            name: self.entries.fingerprint(&header.name),
            stored: header.stored,
            padding: padding(header.stored),
            run: 0,
            walk: None,
        };
        match (old_sparse, sparse) {
            (None, None) => {
                let run = body.stored;
                self.state = State::Body(Body { run, ..body });
                self.next_run()
            }
            (Some((size, map, true)), None) => {
                self.state = State::OldMap { body, map, size };
                Ok(())
            }
            (Some((size, map, false)), None) => self.begin_walk(body, map, size),
            (None, Some(Sparse::Listed { map, regions })) => {
                self.begin_walk(body, Map::of_list(&map, regions)?, header.size)
            }
            (None, Some(Sparse::InBody)) => self.begin_map(body, Lines::default(), header.size),
            (Some(_), Some(_)) => Err(Cause::Malformed("an entry is sparse in two ways")),
        }
    }

    fn begin_map(&mut self, body: Body, lines: Lines, size: i64) -> Result<(), Cause> {
        has_block(body.stored)?;
        self.state = State::MapInBody { body, lines, size };
        Ok(())
    }

    fn begin_walk(&mut self, body: Body, map: Map, size: i64) -> Result<(), Cause> {
        let walk = Some(Walk::new(map, size));
        self.state = State::Body(Body { walk, ..body });
        self.next_run()
    }

    /// Finds the next stored bytes of the body that count. Where there are none, the entry is
    /// complete.
    fn next_run(&mut self) -> Result<(), Cause> {
        let State::Body(body) = &mut self.state else {
            return Ok(());
        };
        while let (0, Some(walk)) = (body.run, &mut body.walk) {
            match walk.step(body.stored)? {
                Step::End => break,
                Step::Data(len) => body.run = len,
                Step::Hole(len) => {
                    let limit = self.limits.hole_bytes;
                    self.hole_bytes = self.hole_bytes.saturating_add(len);
                    if self.hole_bytes > limit {
                        return Err(Cause::TooManyHoles(limit));
                    }
                    entry::add_zeros(&mut body.hasher, len);
                }
            }
        }
        if body.run == 0 {
            self.entries.push(body.name, &body.hasher.value());
            self.state = State::skipped(body.stored, body.padding);
        }
        Ok(())
    }
}
