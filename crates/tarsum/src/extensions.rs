//! Headers that speak about the next one: PAX records (`x`), GNU long names (`L`, `K`).
//!
//! A global header (`g`) is none of them: the reader of 2014 took it for an entry like any other.

use std::collections::BTreeMap;

use super::error::Cause;
use super::header::Header;

/// The most that one of them may hold. The reader of 2014 had no limit; Go's has had this one
/// since 2022.
pub(super) const MAX_LEN: u64 = 1 << 20;

/// The extended attributes of an entry, by name without `SCHILY.xattr.`, in order.
pub(super) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Which of them a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    LongName,
    LongLink,
}

impl Kind {
    pub(super) fn of(typeflag: u8) -> Option<Kind> {
        match typeflag {
            b'x' => Some(Kind::Records),
            b'L' => Some(Kind::LongName),
            b'K' => Some(Kind::LongLink),
            _ => None,
        }
    }
}

/// What was said about the entry that comes next.
#[derive(Debug, Default)]
pub(super) struct Pending {
    name: Option<Vec<u8>>,
    linkname: Option<Vec<u8>>,
    records: Option<Records>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.linkname.is_none() && self.records.is_none()
    }

    /// Whether the next header is the entry, of any type: the reader of 2014 expected no further
    /// extensions after PAX records.
    pub(super) fn is_complete(&self) -> bool {
        self.records.is_some()
    }

    /// Takes the body of an extension. Of several long names the first counts, since each was set
    /// after what followed it was read.
    pub(super) fn add(&mut self, kind: Kind, body: &[u8]) -> Result<(), Cause> {
        let text = || super::header::text(body).to_vec();
        match kind {
            Kind::Records => self.records = Some(Records::parse(body)?),
            Kind::LongName => {
                self.name.get_or_insert_with(text);
            }
            Kind::LongLink => {
                self.linkname.get_or_insert_with(text);
            }
        }
        Ok(())
    }

    /// Says it to the header. A GNU name wins over a PAX path.
    pub(super) fn apply(self, header: &mut Header) -> Result<(Xattrs, Option<Sparse>), Cause> {
        let said = match self.records {
            Some(records) => records.apply(header)?,
            None => Default::default(),
        };
        header.name = self.name.unwrap_or(std::mem::take(&mut header.name));
        header.linkname = self
            .linkname
            .unwrap_or(std::mem::take(&mut header.linkname));
        Ok(said)
    }
}

/// The sparse file that PAX records describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sparse {
    /// Formats 0.0 and 0.1: offset and length of each region, and how many regions there are.
    Listed { map: Vec<u8>, regions: i64 },
    /// Format 1.0: the map stands in front of the data.
    InBody,
}

/// PAX records, the last one of each key. An empty value counts as a value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    by_key: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records {
    fn parse(mut body: &[u8]) -> Result<Records, Cause> {
        let mut records = Records::default();
        // Format 0.0 repeats these two; joined they are the map of format 0.1.
        let mut map: Vec<u8> = Vec::new();
        while !body.is_empty() {
            let (key, value);
            (key, value, body) = record(body).ok_or(Cause::Malformed(
                "a PAX record is not \"<length> <key>=<value>\"",
            ))?;
            if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                map.extend_from_slice(value);
                map.push(b',');
            } else {
                records.by_key.insert(key.to_vec(), value.to_vec());
            }
        }
        if map.pop().is_some() {
            records.by_key.insert(b"GNU.sparse.map".to_vec(), map);
        }
        Ok(records)
    }

    fn apply(mut self, header: &mut Header) -> Result<(Xattrs, Option<Sparse>), Cause> {
        let texts: [(&[u8], &mut Vec<u8>); 4] = [
            (b"path", &mut header.name),
            (b"linkpath", &mut header.linkname),
            (b"uname", &mut header.uname),
            (b"gname", &mut header.gname),
        ];
        for (key, field) in texts {
            if let Some(value) = self.by_key.remove(key) {
                *field = value;
            }
        }
        let numbers: [(&[u8], &mut i64, Parse); 6] = [
            (b"uid", &mut header.uid, decimal),
            (b"gid", &mut header.gid, decimal),
            (b"size", &mut header.size, decimal),
            (b"mtime", &mut header.mtime, seconds),
            (b"atime", &mut 0, seconds),
            (b"ctime", &mut 0, seconds),
        ];
        for (key, field, parse) in numbers {
            if let Some(value) = self.by_key.get(key) {
                // The reader of 2014 ignored such a record and, at random, others beside it, so
                // there is no sum to agree on.
                *field = parse(value).ok_or(Cause::NotANumber("a PAX record's value"))?;
            }
        }
        let sparse = self.sparse(header)?;
        let xattr = |(key, value): (Vec<u8>, Vec<u8>)| {
            Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value))
        };
        let xattrs = self.by_key.into_iter().filter_map(xattr).collect();
        Ok((xattrs, sparse))
    }

    /// The sparse file, if it is one of a format that the reader of 2014 knew; another is read as
    /// if it were not sparse.
    fn sparse(&self, header: &mut Header) -> Result<Option<Sparse>, Cause> {
        let get = |key: &[u8]| self.by_key.get(key).map(Vec::as_slice);
        let name = get(b"GNU.sparse.name");
        let map = get(b"GNU.sparse.map");
        let size = get(b"GNU.sparse.size");
        let is_in_body = match (get(b"GNU.sparse.major"), get(b"GNU.sparse.minor")) {
            (Some(b"1"), Some(b"0")) => true,
            (Some(b"0"), Some(b"0" | b"1")) => false,
            (Some(_), Some(_)) => return Ok(None),
            _ if (name.is_some() && map.is_some()) || size.is_some() => false,
            _ => return Ok(None),
        };
        if let Some(name) = name {
            header.name = name.to_vec();
        }
        if let Some(size) = size.or(get(b"GNU.sparse.realsize")) {
            header.size = decimal(size).ok_or(Cause::NotANumber("the size of a sparse file"))?;
        }
        if is_in_body {
            return Ok(Some(Sparse::InBody));
        }
        let regions = get(b"GNU.sparse.numblocks").and_then(decimal);
        Ok(Some(Sparse::Listed {
            map: map.unwrap_or_default().to_vec(),
            regions: regions.ok_or(Cause::NotANumber("the number of blocks of a sparse file"))?,
        }))
    }
}

/// Splits `<length> <key>=<value>\n` from the front: key, value, and the rest. The reader of 2014 did
/// not check that the last byte is a newline.
fn record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().position(|&byte| byte == b' ')?;
    let len = usize::try_from(decimal(&body[..space])?).ok()?;
    let record = body.get(space + 1..len.checked_sub(1)?)?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], body.get(len..)?))
}

type Parse = fn(&[u8]) -> Option<i64>;

/// A decimal number, with a sign if it likes.
pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The whole seconds of a time such as `1400000000.25`.
///
/// The sign is not carried over to the fraction, so `-1.5` is 500 ms after -1.
fn seconds(text: &[u8]) -> Option<i64> {
    let Some(point) = text.iter().position(|&byte| byte == b'.') else {
        return decimal(text);
    };
    let mut nanoseconds = [b'0'; 9];
    let digits = text[point + 1..].iter().take(nanoseconds.len());
    for (place, digit) in nanoseconds.iter_mut().zip(digits) {
        *place = *digit;
    }
    let whole = decimal(&text[..point])?;
    let is_negative = decimal(&nanoseconds)? < 0;
    Some(whole.wrapping_sub(i64::from(is_negative)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn records(body: &str) -> Option<(Header, Xattrs, Option<Sparse>)> {
        let mut header = Header::default();
        let mut pending = Pending::default();
        pending.add(Kind::Records, body.as_bytes()).ok()?;
        let (xattrs, sparse) = pending.apply(&mut header).ok()?;
        Some((header, xattrs, sparse))
    }

    #[test]
    fn record_cases() {
        for (case, body, want) in [
            ("one", "11 path=ab\n", Some("ab")),
            ("two", "9 path=a\n9 path=b\n", Some("b")),
            ("an equals sign in the value", "12 path=a=b\n", Some("a=b")),
            ("an empty value", "8 path=\n", Some("")),
            ("another key", "8 x=yyy\n", Some("")),
            ("no newline at its end", "9 path=aX", Some("a")),
            ("nothing", "", Some("")),
            ("no space", "9path=a", None),
            ("no equals sign", "7 patha", None),
            ("longer than the body", "99 path=a\n", None),
            ("shorter than its own length", "1 path=a\n", None),
            ("of no length", "0 path=a\n", None),
            ("of negative length", "-9 path=a\n", None),
            ("of a length that is no number", "9z path=a\n", None),
            ("longer than memory", "9223372036854775807 path=a\n", None),
        ] {
            let name = records(body).map(|(header, ..)| header.name);
            assert_eq!(name.as_deref(), want.map(str::as_bytes), "{case}");
        }
    }

    #[test]
    fn a_number_that_cannot_be_read_is_refused() {
        for (body, ok) in [
            ("9 uid=12\n", true),
            ("11 uid=-12\n", true),
            ("7 uid=\n", false),
            ("9 uid=1z\n", false),
            ("12 size= 12\n", false),
            ("11 mtime=z\n", false),
            ("11 atime=z\n", false),
        ] {
            assert_eq!(records(body).is_some(), ok, "{body:?}");
        }
    }

    #[test]
    fn seconds_cases() {
        for (time, want) in [
            ("12", Some(12)),
            ("12.", Some(12)),
            ("12.999999999999", Some(12)),
            ("-1", Some(-1)),
            ("-1.5", Some(-1)),
            ("-0.5", Some(0)),
            ("1.-5", Some(0)),
            ("", None),
            (".5", None),
            ("1.5z", None),
            ("1.5.6", None),
        ] {
            assert_eq!(seconds(time.as_bytes()), want, "{time}");
        }
    }

    #[test]
    fn sparse_cases() {
        let listed = |map: &str, regions| Sparse::Listed {
            map: map.into(),
            regions,
        };
        for (case, body, want) in [
            ("no record of it", "9 path=a\n", Some(None)),
            (
                "0.0",
                "21 GNU.sparse.size=9\n26 GNU.sparse.numblocks=1\n23 GNU.sparse.offset=0\n25 GNU.sparse.numbytes=5\n",
                Some(Some(listed("0,5", 1))),
            ),
            (
                "0.1",
                "21 GNU.sparse.name=n\n26 GNU.sparse.numblocks=1\n22 GNU.sparse.map=0,5\n",
                Some(Some(listed("0,5", 1))),
            ),
            (
                "1.0",
                "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n",
                Some(Some(Sparse::InBody)),
            ),
            (
                "an unknown version",
                "22 GNU.sparse.major=2\n22 GNU.sparse.minor=0\n",
                Some(None),
            ),
            (
                "without the number of blocks",
                "21 GNU.sparse.size=9\n",
                None,
            ),
            (
                "of no size",
                "21 GNU.sparse.size=z\n26 GNU.sparse.numblocks=1\n",
                None,
            ),
        ] {
            let sparse = records(body).map(|(_, _, sparse)| sparse);
            assert_eq!(sparse, want, "{case}");
        }
    }

    #[test]
    fn of_several_long_names_the_first_counts_and_beats_the_path() {
        let mut header = Header::default();
        let mut pending = Pending::default();
        pending.add(Kind::LongName, b"first\0rest").unwrap();
        pending.add(Kind::LongName, b"second\0").unwrap();
        pending.add(Kind::LongLink, b"link").unwrap();
        pending
            .add(Kind::Records, b"9 path=p\n14 linkpath=q\n")
            .unwrap();
        pending.apply(&mut header).unwrap();
        assert_eq!(header.name, b"first");
        assert_eq!(header.linkname, b"link");
    }
}
