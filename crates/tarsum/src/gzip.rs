//! gzip as it arrives: members one behind the other (RFC 1952), each a header, a deflate stream
//! and a trailer that says what should have come out.
//!
//! The framing is read here, since a decoder that frames for itself can be asked only once whether
//! its input was complete.

use std::io::{Error, ErrorKind};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::output::{BUFFER, Output};

/// What a member begins with.
pub(super) const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

pub(super) struct Gzip {
    part: Part,
    /// Of the header, while it arrives; then of what comes out.
    crc: Crc,
    flags: u8,
    inflate: Decompress,
    buffer: Box<[u8; BUFFER]>,
}

/// The part of a member that the next byte belongs to.
enum Part {
    /// The ten bytes that each header has, so many of which have arrived.
    Fixed(usize),
    ExtraLen(u16, usize),
    Extra(usize),
    /// A text that ends with a NUL: the name of the file, then a comment.
    Name,
    Comment,
    HeaderCrc(u16, usize),
    Deflate,
    Trailer([u8; 8], usize),
}

const HAS_CRC: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

impl Gzip {
    pub(super) fn new() -> Self {
        Gzip {
            part: Part::Fixed(0),
            crc: Crc::new(),
            flags: 0,
            inflate: Decompress::new(false),
            buffer: Box::new([0; BUFFER]),
        }
    }

    /// Whether the input may end here: between two members.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.part, Part::Fixed(0))
    }

    /// Takes some of these bytes, of which there is at least one; how many. All that they yield has
    /// gone to `output` then.
    pub(super) fn take(&mut self, bytes: &[u8], output: Output<'_>) -> Result<usize, Error> {
        if let Part::Deflate = self.part {
            return self.inflate(bytes, output);
        }
        let byte = bytes[0];
        let is_trailer = matches!(self.part, Part::Trailer(..));
        let part = self.framing(byte)?;
        if !is_trailer && !matches!(self.part, Part::HeaderCrc(..)) {
            self.crc.update(&[byte]);
        }
        if let Part::Deflate = part {
            self.crc.reset();
        }
        self.part = part;
        Ok(1)
    }

    /// The part that comes after this byte of a header or a trailer.
    fn framing(&mut self, byte: u8) -> Result<Part, Error> {
        Ok(match self.part {
            Part::Fixed(at) => {
                if MAGIC.get(at).is_some_and(|&want| want != byte) {
                    return Err(invalid("what follows a member is none"));
                }
                if at == 3 {
                    self.flags = byte;
                }
                match at {
                    3 if byte & RESERVED != 0 => return Err(invalid("a reserved flag is set")),
                    9 => self.after(0),
                    _ => Part::Fixed(at + 1),
                }
            }
            Part::ExtraLen(low, 0) => Part::ExtraLen(low | u16::from(byte), 1),
            Part::ExtraLen(low, _) => match usize::from(low | u16::from(byte) << 8) {
                0 => self.after(HAS_EXTRA),
                len => Part::Extra(len),
            },
            Part::Extra(1) => self.after(HAS_EXTRA),
            Part::Extra(left) => Part::Extra(left - 1),
            Part::Name if byte == 0 => self.after(HAS_NAME),
            Part::Name => Part::Name,
            Part::Comment if byte == 0 => self.after(HAS_COMMENT),
            Part::Comment => Part::Comment,
            Part::HeaderCrc(_, 0) => Part::HeaderCrc(u16::from(byte), 1),
            Part::HeaderCrc(low, _) => {
                // The lower half of the CRC-32.
                if u32::from(low | u16::from(byte) << 8) != self.crc.sum() & 0xffff {
                    return Err(invalid("the checksum of a header is wrong"));
                }
                Part::Deflate
            }
            Part::Trailer(mut trailer, at) => {
                trailer[at] = byte;
                if at + 1 < trailer.len() {
                    return Ok(Part::Trailer(trailer, at + 1));
                }
                self.end_member(trailer)?;
                Part::Fixed(0)
            }
            Part::Deflate => Part::Deflate,
        })
    }

    /// The part that comes after the one with this flag.
    fn after(&self, flag: u8) -> Part {
        let has = |later: u8| later > flag && self.flags & later != 0;
        if has(HAS_EXTRA) {
            Part::ExtraLen(0, 0)
        } else if has(HAS_NAME) {
            Part::Name
        } else if has(HAS_COMMENT) {
            Part::Comment
        } else if self.flags & HAS_CRC != 0 {
            Part::HeaderCrc(0, 0)
        } else {
            Part::Deflate
        }
    }

    fn end_member(&mut self, trailer: [u8; 8]) -> Result<(), Error> {
        let [a, b, c, d, e, f, g, h] = trailer;
        if u32::from_le_bytes([a, b, c, d]) != self.crc.sum() {
            return Err(invalid("the checksum of a member is wrong"));
        }
        if u32::from_le_bytes([e, f, g, h]) != self.crc.amount() {
            return Err(invalid("the length of a member is wrong"));
        }
        self.crc.reset();
        self.inflate.reset(false);
        Ok(())
    }

    fn inflate(&mut self, bytes: &[u8], output: Output<'_>) -> Result<usize, Error> {
        let mut taken = 0;
        loop {
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(
                &bytes[taken..],
                self.buffer.as_mut_slice(),
                FlushDecompress::None,
            )?;
            // Both are at most the length of a slice.
            taken += (self.inflate.total_in() - before.0) as usize;
            let yielded = (self.inflate.total_out() - before.1) as usize;
            self.crc.update(&self.buffer[..yielded]);
            output(&self.buffer[..yielded]);
            if status == Status::StreamEnd {
                self.part = Part::Trailer([0; 8], 0);
                return Ok(taken);
            }
            // A full buffer may leave more inside.
            if yielded < self.buffer.len() {
                return match taken {
                    0 => Err(invalid("unexpected end")),
                    _ => Ok(taken),
                };
            }
        }
    }
}

fn invalid(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}
