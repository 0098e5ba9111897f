//! The hash of one entry: the words of its header, then its content.

use std::io::Write as _;

use crate::digest::{Algorithm, Hasher};
use crate::tar_sum::TarSumVersion;

use super::error::Cause;
use super::extensions::{MAX_LEN, Xattrs};
use super::header::Header;

/// Begins the hash of an entry with its header: keys and values without anything between them.
pub(super) fn begin(
    version: &TarSumVersion,
    algorithm: Algorithm,
    header: &Header,
    xattrs: &Xattrs,
) -> Result<Hasher, Cause> {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(&header_words(version, header, xattrs)?);
    Ok(hasher)
}

fn header_words(
    version: &TarSumVersion,
    header: &Header,
    xattrs: &Xattrs,
) -> Result<Vec<u8>, Cause> {
    let is_v0 = *version == TarSumVersion::V0;
    let mut words = Words(Vec::with_capacity(256));
    words.text("name", &header.name);
    words.number("mode", header.mode);
    words.number("uid", header.uid);
    words.number("gid", header.gid);
    words.number("size", header.size);
    if is_v0 {
        words.number("mtime", header.mtime);
    }
    words.text("typeflag", &[header.typeflag]);
    words.text("linkname", &header.linkname);
    words.text("uname", &header.uname);
    words.text("gname", &header.gname);
    words.number("devmajor", header.devmajor);
    words.number("devminor", header.devminor);
    let Words(mut words) = words;
    if !is_v0 {
        // The original filled the front of its list of names with as many empty names as there are
        // attributes. So an attribute with an empty name is hashed that many times more.
        if let Some(value) = xattrs.get(b"".as_slice()) {
            // Else a header of 1 MiB would be many GiB.
            if (value.len() as u64).saturating_mul(xattrs.len() as u64) > MAX_LEN {
                return Err(Cause::Malformed(
                    "an attribute without a name has too long a value",
                ));
            }
            (0..xattrs.len()).for_each(|_| words.extend_from_slice(value));
        }
        for (key, value) in xattrs {
            words.extend_from_slice(key);
            words.extend_from_slice(value);
        }
    }
    Ok(words)
}

struct Words(Vec<u8>);

impl Words {
    fn text(&mut self, key: &str, value: &[u8]) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(value);
    }

    fn number(&mut self, key: &str, value: i64) {
        // A `Vec` takes all that is written to it.
        let _ = write!(self.0, "{key}{value}");
    }
}

/// The content of a hole.
const ZEROS: [u8; 1 << 14] = [0; 1 << 14];

/// Continues with so many zeros.
pub(super) fn add_zeros(hasher: &mut Hasher, len: u64) {
    let mut left = len;
    while left > 0 {
        let some = left.min(ZEROS.len() as u64);
        // No more than the length of the constant.
        hasher.update(&ZEROS[..some as usize]);
        left -= some;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn header() -> Header {
        Header {
            name: b"n".into(),
            mode: 0o644,
            uid: -1,
            mtime: 7,
            typeflag: b'0',
            uname: b"un".into(),
            ..Header::default()
        }
    }

    #[test]
    fn header_word_cases() {
        let to = "namenmode420uid-1gid0size0";
        let from = "typeflag0linknameunameungnamedevmajor0devminor0";
        let none: &[(&str, &str)] = &[];
        for (case, version, xattrs, want) in [
            (
                "version 0",
                TarSumVersion::V0,
                &[("a", "1")][..],
                format!("{to}mtime7{from}"),
            ),
            ("version 1", TarSumVersion::V1, none, format!("{to}{from}")),
            (
                "sorted",
                TarSumVersion::V1,
                &[("b", "2"), ("a", "1")],
                format!("{to}{from}a1b2"),
            ),
            (
                "dev",
                TarSumVersion::Dev,
                &[("b", "2"), ("a", "1")],
                format!("{to}{from}a1b2"),
            ),
            (
                "no name",
                TarSumVersion::V1,
                &[("", "x"), ("a", "1")],
                format!("{to}{from}xxxa1"),
            ),
            (
                "no value",
                TarSumVersion::V1,
                &[("a", "")],
                format!("{to}{from}a"),
            ),
        ] {
            let xattrs = xattrs
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect();
            let words = header_words(&version, &header(), &xattrs).unwrap();
            assert_eq!(String::from_utf8_lossy(&words), want, "{case}");
        }
    }

    #[test]
    fn attribute_without_a_name_is_hashed_so_often_only_where_it_is_short() {
        let long = vec![0; 1 << 19];
        let mut xattrs = Xattrs::from([(b"".into(), long.as_slice().into())]);
        assert!(header_words(&TarSumVersion::V1, &header(), &xattrs).is_ok());
        xattrs.extend([b"a", b"b"].map(|key| (key.as_slice().into(), b"".as_slice().into())));
        assert!(header_words(&TarSumVersion::V1, &header(), &xattrs).is_err());
        assert!(header_words(&TarSumVersion::V0, &header(), &xattrs).is_ok());
    }

    #[test]
    fn zeros_of_any_length() {
        for len in [0, 1, ZEROS.len(), ZEROS.len() + 1, 100_000] {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            add_zeros(&mut hasher, len as u64);
            assert_eq!(
                hasher.digest(),
                Digest::of(Algorithm::Sha256, &vec![0; len])
            );
        }
    }
}
