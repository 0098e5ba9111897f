//! How fast a TarSum is computed, beside plain SHA-256 of the same bytes.
//!
//! `cargo bench --bench tarsum`. Each archive has 256 MiB, and arrives in the pieces that an upload
//! gets from the network.

use std::sync::LazyLock;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use s3layers_tarsum::TarSummer;
use s3layers_tarsum::{Algorithm, Hasher, TarSumVersion};

const ARCHIVE: usize = 256 << 20;
const PIECE: usize = 64 << 10;

/// A few large entries: 32 MiB each.
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| archive(32 << 20));
/// Many small ones: 4 KiB each, as the files of a distribution are.
static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| archive(4 << 10));
/// Very many that are hardly there: 100 bytes each.
static TINY: LazyLock<Vec<u8>> = LazyLock::new(|| archive(100));

fn main() {
    divan::main();
}

fn archive(body: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ARCHIVE + body + 1024);
    for number in 0.. {
        if bytes.len() >= ARCHIVE {
            break;
        }
        bytes.extend(header(&format!("usr/share/some/folder/{number}"), body));
        bytes.resize(bytes.len() + body.next_multiple_of(512), b'x');
    }
    bytes.extend([0; 1024]);
    bytes
}

fn header(name: &str, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644");
    put(
        124,
        format!("{size:011o}\x0012345670000\0        0").as_bytes(),
    );
    put(257, b"ustar\x0000root");
    put(297, b"root");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:07o}").as_bytes());
    block
}

fn plain_sha256(bencher: Bencher<'_, '_>, archive: &[u8]) {
    bencher.counter(BytesCount::of_slice(archive)).bench(|| {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        archive.chunks(PIECE).for_each(|piece| hasher.update(piece));
        black_box(hasher.digest())
    });
}

fn tar_sum(bencher: Bencher<'_, '_>, archive: &[u8]) {
    bencher.counter(BytesCount::of_slice(archive)).bench(|| {
        let mut summer = TarSummer::new(TarSumVersion::V1, Algorithm::Sha256)?;
        archive.chunks(PIECE).for_each(|piece| summer.update(piece));
        black_box(summer.finish()).map_err(Box::<dyn std::error::Error>::from)
    });
}

#[divan::bench(sample_count = 10)]
fn large_plain_sha256(bencher: Bencher<'_, '_>) {
    plain_sha256(bencher, &LARGE);
}

#[divan::bench(sample_count = 10)]
fn large_tar_sum(bencher: Bencher<'_, '_>) {
    tar_sum(bencher, &LARGE);
}

#[divan::bench(sample_count = 10)]
fn small_plain_sha256(bencher: Bencher<'_, '_>) {
    plain_sha256(bencher, &SMALL);
}

#[divan::bench(sample_count = 10)]
fn small_tar_sum(bencher: Bencher<'_, '_>) {
    tar_sum(bencher, &SMALL);
}

#[divan::bench(sample_count = 10)]
fn tiny_plain_sha256(bencher: Bencher<'_, '_>) {
    plain_sha256(bencher, &TINY);
}

#[divan::bench(sample_count = 10)]
fn tiny_tar_sum(bencher: Bencher<'_, '_>) {
    tar_sum(bencher, &TINY);
}
