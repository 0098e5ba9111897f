//! The fields of a header block, as the reader of 2014 took them.
//!
//! It knew four formats by their magic, read numbers in octal or base 256, and cleaned no name.
//! Where today's readers differ, a comment says so.

use super::error::Cause;

/// Archives are made of these, and bodies are padded to them.
pub(super) const BLOCK: usize = 512;

/// One block.
pub(super) type Block = [u8; BLOCK];

/// The bytes that fill a body of `len` bytes up to whole blocks.
pub(super) const fn padding(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK as u64
}

/// What an entry's header says, before and after extensions had their say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    /// What is hashed as the size. How many bytes follow is [`Header::stored`].
    pub(super) size: i64,
    pub(super) mtime: i64,
    pub(super) typeflag: u8,
    pub(super) linkname: Vec<u8>,
    pub(super) uname: Vec<u8>,
    pub(super) gname: Vec<u8>,
    pub(super) devmajor: i64,
    pub(super) devminor: i64,
    /// The bytes of the body in the archive. Every type has one; readers since 2015 give none to
    /// links, devices and directories.
    pub(super) stored: u64,
}

impl Header {
    /// Reads a block that is not all zeros.
    pub(super) fn parse(block: &Block) -> Result<Header, Cause> {
        verify_checksum(block)?;
        let size = number(&block[124..136], "the header's size")?;
        let mut header = Header {
            name: text(&block[..100]).to_vec(),
            mode: number(&block[100..108], "the header's mode")?,
            uid: number(&block[108..116], "the header's uid")?,
            gid: number(&block[116..124], "the header's gid")?,
            size,
            mtime: number(&block[136..148], "the header's mtime")?,
            typeflag: block[156],
            linkname: text(&block[157..257]).to_vec(),
            stored: u64::try_from(size).map_err(|_| Cause::Malformed("the size is negative"))?,
            ..Header::default()
        };
        let prefix = match (&block[257..263], &block[257..265], &block[508..512]) {
            // star
            (b"ustar\0", _, b"tar\0") => {
                number(&block[476..488], "the header's atime")?;
                number(&block[488..500], "the header's ctime")?;
                text(&block[345..476])
            }
            // POSIX, and GNU: old GNU archives keep times where POSIX has the prefix, and the reader
            // of 2014 took them for one.
            (b"ustar\0", _, _) | (_, b"ustar  \0", _) => text(&block[345..500]),
            // The seventh edition of Unix
            _ => return Ok(header),
        };
        header.uname = text(&block[265..297]).to_vec();
        header.gname = text(&block[297..329]).to_vec();
        if matches!(header.typeflag, b'3' | b'4') {
            header.devmajor = number(&block[329..337], "the header's devmajor")?;
            header.devminor = number(&block[337..345], "the header's devminor")?;
        }
        if !prefix.is_empty() {
            header.name = [prefix, b"/", &header.name].concat();
        }
        Ok(header)
    }
}

/// Either sum is right: some writers of old summed signed bytes.
fn verify_checksum(block: &Block) -> Result<(), Cause> {
    let given = number(&block[148..156], "the header's checksum")?;
    let mut block = *block;
    block[148..156].fill(b' ');
    let unsigned: i64 = block.iter().map(|&byte| i64::from(byte)).sum();
    let signed: i64 = block
        .iter()
        .map(|&byte| i64::from(byte.cast_signed()))
        .sum();
    if given == unsigned || given == signed {
        Ok(())
    } else {
        Err(Cause::Malformed("the header's checksum is wrong"))
    }
}

/// The bytes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number in octal, or in base 256 if its first bit is set.
///
/// Only that one bit is cleared, so twelve bytes can hold a negative number and eight cannot: those
/// come out as large positive ones, where today's readers take both as two's complement.
pub(super) fn number(field: &[u8], name: &'static str) -> Result<i64, Cause> {
    if let Some((first, rest)) = field.split_first().filter(|(first, _)| **first >= 0x80) {
        let begin = i64::from(first & 0x7f);
        let append = |number: i64, &byte: &u8| (number << 8) | i64::from(byte);
        return Ok(rest.iter().fold(begin, append));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let begin = field.iter().position(|byte| !blank(byte)).unwrap_or(0);
    let end = field
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(0, |last| last + 1);
    let digits = text(&field[begin..end.max(begin)]);
    digits.iter().try_fold(0i64, |number, &digit| match digit {
        b'0'..=b'7' => Ok((number << 3) | i64::from(digit - b'0')),
        _ => Err(Cause::NotANumber(name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_cases() {
        for (case, field, want) in [
            ("octal", &b"0000644\0"[..], Some(0o644)),
            ("padded with spaces", b"   644 \0", Some(0o644)),
            ("padded with NULs", b"\0\0 644\0\0", Some(0o644)),
            ("all digits", b"77777777", Some(0o77_777_777)),
            ("blank", b"        ", Some(0)),
            ("NULs", b"\0\0\0\0\0\0\0\0", Some(0)),
            ("cut at the first NUL", b"12\0zzz8\0", Some(0o12)),
            ("a digit of no octal", b"0000898\0", None),
            ("a sign", b"-0000001", None),
            ("a plus", b"+0000001", None),
            ("a space inside", b"12 34\0\0\0", None),
            ("a space before the NUL that cuts", b"12 \0zz\0\0", None),
            ("base 256", b"\x80\0\0\0\0\0\x01\x02", Some(258)),
            (
                "eight negative bytes",
                b"\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            (
                "twelve negative bytes",
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
                Some(-2),
            ),
            (
                "more than 64 bits",
                b"\x81\0\0\x01\0\0\0\0\0\0\0\x07",
                Some(7),
            ),
        ] {
            assert_eq!(number(field, "x").ok(), want, "{case}");
        }
    }

    #[test]
    fn padding_cases() {
        for (len, want) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
            assert_eq!(padding(len), want, "{len}");
        }
    }
}
