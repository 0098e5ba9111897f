//! gzip and Zstandard in front of the archive.

use std::error::Error as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::GzBuilder;
use flate2::write::GzEncoder;

use super::archive::{END, member, old_sparse};
use super::{sum, summer};

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A frame that decoders pass over.
fn skippable() -> Vec<u8> {
    [&b"\x53\x2a\x4d\x18\x05\0\0\0"[..], b"hello"].concat()
}

fn archive() -> Vec<u8> {
    let body: Vec<u8> = (0..300_000u32)
        .flat_map(|n| (n / 3).to_le_bytes())
        .collect();
    [
        member("a", b'0', &body),
        old_sparse("s", 5000, &[(3, 4)]),
        member("b/", b'5', b""),
        END.into(),
    ]
    .concat()
}

#[test]
fn the_sum_is_that_of_the_archive() {
    let archive = archive();
    let want = sum(&archive).unwrap();
    let (head, rest) = archive.split_at(700);
    let mut decorated = GzBuilder::new()
        .filename("layer.tar")
        .comment("a comment")
        .extra(*b"extra")
        .write(Vec::new(), Compression::best());
    decorated.write_all(&archive).unwrap();
    // One archive that stops without its end, in the middle of its padding.
    let short = &archive[..archive.len() - END.len()];
    for (case, bytes) in [
        ("gzip", gzip(&archive)),
        (
            "gzip with all that a header can have",
            decorated.finish().unwrap(),
        ),
        ("members", [gzip(head), gzip(rest)].concat()),
        (
            "a member of nothing",
            [gzip(b""), gzip(&archive), gzip(b"")].concat(),
        ),
        (
            "garbage behind the member that ends it",
            [gzip(&archive), b"garbage".into()].concat(),
        ),
        (
            "a broken member behind it",
            [gzip(&archive), gzip(b"x")[..12].into()].concat(),
        ),
        ("gzip that just stops", gzip(short)),
        ("zstd", zstd(&archive)),
        ("frames", [zstd(head), zstd(rest)].concat()),
        (
            "skippable frames",
            [skippable(), zstd(head), skippable(), zstd(rest)].concat(),
        ),
        (
            "a frame of nothing",
            [zstd(b""), zstd(&archive), zstd(b"")].concat(),
        ),
        (
            "garbage behind the frame that ends it",
            [zstd(&archive), b"garbage".into()].concat(),
        ),
        ("zstd that just stops", zstd(short)),
    ] {
        assert_eq!(sum(&bytes).unwrap(), want, "{case}");
    }
}

#[test]
fn compression_that_is_damaged() {
    let archive = archive();
    let short = &archive[..archive.len() - END.len()];
    let (gzipped, zipped) = (gzip(&archive), zstd(&archive));
    let changed = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    let len = archive.len();
    let cut = format!("the archive is broken at byte {len}: it ends within its compression");
    let begun = "the archive is broken at byte 0: it ends within its compression".to_owned();
    let damaged = format!("the archive is broken at byte {len}: its gzip compression is damaged");
    let behind = format!(
        "the archive is broken at byte {}: its gzip compression is damaged",
        short.len()
    );
    for (case, bytes, want) in [
        (
            "gzip without its trailer",
            gzipped[..gzipped.len() - 8].to_vec(),
            &cut,
        ),
        (
            "gzip without its last byte",
            gzipped[..gzipped.len() - 1].to_vec(),
            &cut,
        ),
        ("a piece of a gzip header", gzipped[..6].to_vec(), &begun),
        (
            "another checksum",
            changed(&gzipped, gzipped.len() - 8),
            &damaged,
        ),
        (
            "another length",
            changed(&gzipped, gzipped.len() - 4),
            &damaged,
        ),
        (
            "garbage before the end",
            [gzip(short), b"garbage".into()].concat(),
            &behind,
        ),
        (
            "zstd without its last byte",
            zipped[..zipped.len() - 1].to_vec(),
            &cut,
        ),
        ("a piece of a zstd header", zipped[..5].to_vec(), &begun),
    ] {
        let error = sum(&bytes).unwrap_err();
        assert_eq!(&error.to_string(), want, "{case}");
        assert_eq!(error.source().is_some(), want.contains("damaged"), "{case}");
    }
    // This decoder keeps the bytes that it is at to itself when it fails.
    let error = sum(&changed(&zipped, zipped.len() - 1)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("its Zstandard compression is damaged")
    );
    assert!(len as u64 - error.position() < 1 << 16, "{error}");
    // A window of 2 GiB.
    let window = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
    let error = sum(window).unwrap_err();
    assert!(
        error.source().unwrap().to_string().contains("memory"),
        "{:?}",
        error.source()
    );
}

#[test]
fn a_sum_can_be_asked_for_on_the_way() {
    let (one, two) = (member("a", b'0', b"body"), member("b", b'0', b"body"));
    let both = [&one[..], &two].concat();
    for compress in [<[u8]>::to_vec, gzip, zstd] {
        let mut summer = summer();
        assert_eq!(summer.tar_sum().unwrap(), sum(b"").unwrap());
        let piece = compress(&one);
        summer.update(&piece[..2]);
        summer.tar_sum().unwrap_err();
        summer.update(&piece[2..]);
        assert_eq!(summer.tar_sum().unwrap(), sum(&one).unwrap());
        let piece = compress(&two);
        let (head, rest) = piece.split_at(piece.len() / 2);
        summer.update(head);
        summer.tar_sum().unwrap_err();
        summer.update(rest);
        assert_eq!(summer.tar_sum().unwrap(), sum(&both).unwrap());
        summer.update(&compress(&END));
        assert_eq!(summer.finish().unwrap(), sum(&both).unwrap());
    }
}

#[test]
fn a_bomb_is_summed_in_little_memory() {
    // 256 MiB of zeros, a thousand times smaller than that.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let len = 256 << 20;
    encoder
        .write_all(&super::archive::header("bomb", b'0', len))
        .unwrap();
    (0..256).for_each(|_| encoder.write_all(&vec![0; 1 << 20]).unwrap());
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < len / 200, "{}", bomb.len());
    assert!(sum(&bomb).is_ok());
}
