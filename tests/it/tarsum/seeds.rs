//! What the fuzz target of `fuzz/` checks, on as many changes of the seeds as there is time for in
//! every run: the same ones each time. The target itself needs a nightly compiler, and finds what
//! this does not.

use std::fs;
use std::path::Path;

use s3layers::tarsum::TarSummer;
use s3layers::{Algorithm, TarSumVersion};

use super::archive::sealed;

/// Changed seeds that are tried: some ten seconds in a debug build.
const TRIES: u32 = 6000;
const BLOCK: usize = 512;

/// Numbers that look like chance: xorshift64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let fixtures =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/fixtures/tarsum");
    let mut paths = Vec::new();
    for folder in ["edge", "compressed"] {
        let files = fs::read_dir(fixtures.join(folder)).unwrap();
        paths.extend(files.map(|file| file.unwrap().path()));
    }
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A seed after a few changes.
fn changed(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len());
        let block = at / BLOCK * BLOCK;
        match chance.below(7) {
            0 => bytes.truncate(at),
            1 => {
                let other = &seeds[chance.below(seeds.len())];
                bytes.extend_from_slice(&other[chance.below(other.len())..]);
            }
            2 => {
                let end = bytes.len().min(block + BLOCK);
                bytes.extend_from_within(block..end);
            }
            // Digits are what lengths and maps are made of.
            3 => set(&mut bytes, at, b'0' + chance.below(10) as u8),
            4 => set(
                &mut bytes,
                at,
                [0, 0x80, 0xff, b'\n', b' '][chance.below(5)],
            ),
            _ => set(&mut bytes, at, chance.below(256) as u8),
        }
        // Most headers are right again, or nothing behind them would be seen.
        if chance.below(4) > 0
            && let Some(header) = bytes.get_mut(block..block + BLOCK)
            && header[257..262] == *b"ustar"
        {
            let right = sealed(header.try_into().unwrap());
            header.copy_from_slice(&right);
        }
    }
    bytes
}

fn set(bytes: &mut [u8], at: usize, byte: u8) {
    if let Some(place) = bytes.get_mut(at) {
        *place = byte;
    }
}

fn summer(version: TarSumVersion) -> TarSummer {
    let summer = TarSummer::new(version, Algorithm::Sha256).unwrap();
    summer.entry_limit(1000).hole_limit(1 << 20)
}

#[test]
fn mutated_seeds_have_one_sum_or_none() {
    let seeds = seeds();
    assert!(seeds.len() > 30, "{} seeds", seeds.len());
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let mut sums = 0;
    let begun = std::time::Instant::now();
    for nth in 0..TRIES {
        let bytes = changed(&seeds, &mut chance);
        let version = [TarSumVersion::V0, TarSumVersion::V1][chance.below(2)].clone();
        let (mut whole, mut cut) = (summer(version.clone()), summer(version));
        whole.update(&bytes);
        for piece in bytes.chunks(1 + chance.below(700)) {
            cut.update(piece);
            let _ = cut.tar_sum();
        }
        let sum = whole.tar_sum().ok();
        assert_eq!(sum, cut.tar_sum().ok(), "try {nth}");
        sums += u32::from(sum.is_some());
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("archives: {TRIES} cases in {seconds:.1} s, 0 failed");
    // Else the changes break everything at once, and nothing behind is seen.
    assert!(sums > TRIES / 10, "{sums} sums");
}
