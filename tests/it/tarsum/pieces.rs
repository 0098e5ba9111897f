//! Properties of the sum for all bytes, split in any way.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use s3layers::tarsum::TarSummer;

use super::archive::{END, member, new_sparse, old_sparse, pax};
use super::compressed::{gzip, zstd};
use super::{sum, summer};

/// The outcome as a text: the sum, or what is broken where.
fn outcome(summer: &TarSummer) -> String {
    match summer.tar_sum() {
        Ok(sum) => sum.to_string(),
        Err(error) => error.to_string(),
    }
}

fn regions() -> impl Strategy<Value = Vec<(usize, usize)>> {
    let gaps = vec((0usize..2000, 0usize..700), 0..30);
    gaps.prop_map(|gaps| {
        let mut end = 0;
        let region = |(gap, len)| {
            let offset = end + gap;
            end = offset + len;
            (offset, len)
        };
        gaps.into_iter().map(region).collect()
    })
}

/// Members of all kinds, few names among them.
fn some_member() -> impl Strategy<Value = Vec<u8>> {
    let name = || select(vec!["a", "./a", "a/", "b", "c/d", "e"]);
    let size = |regions: &[(usize, usize)]| regions.last().map_or(9, |(at, len)| at + len + 9);
    prop_oneof![
        4 => (name(), any::<u8>(), vec(any::<u8>(), 0..1500))
            .prop_map(|(name, typeflag, body)| member(name, typeflag, &body)),
        4 => (name(), vec(any::<u8>(), 0..1500))
            .prop_map(|(name, body)| member(name, b'0', &body)),
        1 => name().prop_map(|name| [member("l", b'L', name.as_bytes()), member("x", b'0', b"")].concat()),
        1 => (name(), "[a-z]{0,3}").prop_map(|(name, value)| {
            let records = [("path", name), ("SCHILY.xattr.x", &value), ("mtime", "1.5")];
            [pax(&records), member("x", b'0', &[7; 600])].concat()
        }),
        1 => (name(), regions())
            .prop_map(move |(name, regions)| old_sparse(name, size(&regions), &regions)),
        1 => (name(), regions())
            .prop_map(move |(name, regions)| new_sparse(name, size(&regions), &regions)),
    ]
}

fn archive() -> impl Strategy<Value = Vec<u8>> {
    (vec(some_member(), 0..12), any::<bool>()).prop_map(|(members, has_end)| {
        let end = if has_end { END.to_vec() } else { Vec::new() };
        [members.concat(), end].concat()
    })
}

/// An archive with some bytes changed, perhaps cut.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..6);
    (archive(), changes, proptest::option::of(any::<Index>())).prop_map(|(bytes, changes, cut)| {
        let mut bytes = bytes;
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let len = cut.map_or(bytes.len(), |cut| cut.index(bytes.len() + 1));
        bytes.truncate(len);
        bytes
    })
}

fn in_pieces(bytes: &[u8], lens: &[usize]) -> TarSummer {
    let mut summer = summer().hole_limit(1 << 20);
    let mut rest = bytes;
    let mut lens = lens.iter().cycle();
    while let (false, Some(&len)) = (rest.is_empty(), lens.next()) {
        let (piece, left) = rest.split_at(len.min(rest.len()));
        summer.update(piece);
        rest = left;
    }
    summer
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), vec(1usize..2000, 1..6), vec(1usize..9, 1..6)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sum_does_not_depend_on_the_length_of_chunks(bytes in archive(), lens in lens()) {
        let whole = in_pieces(&bytes, &[usize::MAX]);
        prop_assert_eq!(outcome(&in_pieces(&bytes, &lens)), outcome(&whole));
    }

    #[test]
    fn a_broken_one_is_broken_in_one_place(bytes in mutated(), lens in lens()) {
        let whole = in_pieces(&bytes, &[usize::MAX]);
        prop_assert_eq!(outcome(&in_pieces(&bytes, &lens)), outcome(&whole));
    }

    #[test]
    fn compression_changes_no_sum(bytes in archive(), lens in lens()) {
        let want = outcome(&in_pieces(&bytes, &[usize::MAX]));
        prop_assert_eq!(outcome(&in_pieces(&gzip(&bytes), &lens)), want.clone());
        prop_assert_eq!(outcome(&in_pieces(&zstd(&bytes), &lens)), want);
    }

    /// Where a decoder notices depends on its pieces; that it does, does not.
    #[test]
    fn damaged_compression_is_so_in_all_pieces(
        bytes in mutated(),
        zipped: bool,
        changes in vec((any::<Index>(), any::<u8>()), 0..3),
        lens in lens(),
    ) {
        let mut bytes = if zipped { zstd(&bytes) } else { gzip(&bytes) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (whole, cut) = (in_pieces(&bytes, &[usize::MAX]), in_pieces(&bytes, &lens));
        prop_assert_eq!(cut.tar_sum().ok(), whole.tar_sum().ok());
    }

    /// Nothing panics; and what is no archive has no sum, but for nothing and zeros.
    #[test]
    fn random_bytes_are_no_archive(bytes in vec(any::<u8>(), 0..3000)) {
        let zeros = bytes.iter().take(1024).all(|&byte| byte == 0) && bytes.len().is_multiple_of(512);
        prop_assert_eq!(sum(&bytes).is_ok(), zeros);
    }

    #[test]
    fn random_bytes_behind_a_magic_are_survived(
        magic in select(vec![&b"\x1f\x8b\x08"[..], b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"]),
        bytes in vec(any::<u8>(), 0..300),
        lens in lens(),
    ) {
        let bytes = [magic, &bytes].concat();
        let (whole, cut) = (in_pieces(&bytes, &[usize::MAX]), in_pieces(&bytes, &lens));
        prop_assert_eq!(cut.tar_sum().ok(), whole.tar_sum().ok());
    }
}
