//! The values that the original printed.

use std::fs;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use s3layers::tarsum::TarSummer;
use s3layers::{Algorithm, TarSum, TarSumVersion};
use serde::Deserialize;

use super::archive::{END, member};

#[derive(Deserialize)]
struct Vector {
    id: String,
    version: String,
    hash: String,
    /// A TarSum, or `error`.
    expected: String,
    file: Option<String>,
    generate: Option<Generate>,
    #[serde(default)]
    compressed_input: bool,
}

#[derive(Deserialize)]
struct Generate {
    num: usize,
    size: usize,
    typeflag: String,
}

fn fixtures() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/fixtures/tarsum")
}

/// The test data of the original is not ours to keep: it is where the project's shared folder is.
fn shared() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("../shared/tarsum")
}

impl Vector {
    /// The archive, unless it is in the shared folder and that is not here.
    fn archive(&self) -> Option<Vec<u8>> {
        if let Some(Generate {
            num,
            size,
            typeflag,
        }) = &self.generate
        {
            let body = vec![0; *size];
            let files = (0..*num)
                .map(|number| member(&format!("/testdata{number}"), typeflag.as_bytes()[0], &body));
            return Some([files.collect::<Vec<_>>().concat(), END.into()].concat());
        }
        let file = self.file.as_ref().unwrap();
        if file.starts_with("edge/") {
            Some(fs::read(fixtures().join(file)).unwrap())
        } else {
            fs::read(shared().join(file)).ok()
        }
    }

    fn summer(&self) -> Option<TarSummer> {
        let version = match self.version.as_str() {
            "v0" => TarSumVersion::V0,
            "v1" => TarSumVersion::V1,
            "dev" => TarSumVersion::Dev,
            other => panic!("{}: version {other}", self.id),
        };
        Some(TarSummer::new(version, Algorithm::from_name(&self.hash)?).unwrap())
    }
}

fn vectors() -> Vec<Vector> {
    let text = fs::read_to_string(fixtures().join("vectors.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_sums_are_those_of_the_original() {
    let (mut kept, mut shared, mut no_hash, mut no_file) = (0, 0, 0, 0);
    for vector in vectors() {
        // The one thing where we differ: compressed input is decompressed.
        if vector.id == "gzipped-tar-rejected" {
            continue;
        }
        let Some(mut summer) = vector.summer() else {
            no_hash += 1;
            eprintln!(
                "skipped: {}: {} is not computed here",
                vector.id, vector.hash
            );
            continue;
        };
        let Some(archive) = vector.archive() else {
            no_file += 1;
            eprintln!("skipped: {}: no shared folder beside this one", vector.id);
            continue;
        };
        summer.update(&archive);
        let sum = summer.finish();
        match vector.expected.as_str() {
            "error" => assert!(sum.is_err(), "{}: {sum:?}", vector.id),
            want => assert_eq!(sum.unwrap().to_string(), want, "{}", vector.id),
        }
        if vector.compressed_input {
            let mut summer = vector.summer().unwrap();
            let mut plain = Vec::new();
            std::io::copy(&mut GzDecoder::new(archive.as_slice()), &mut plain).unwrap();
            summer.update(&plain);
            assert_eq!(summer.finish().unwrap().to_string(), vector.expected);
        }
        if vector
            .file
            .is_some_and(|file| file.starts_with("upstream/"))
        {
            shared += 1
        } else {
            kept += 1
        }
    }
    println!("{kept} of ours, {shared} of others; {no_hash} of other hashes, {no_file} not here");
    assert_eq!((kept, no_hash, shared + no_file), (64, 8, 29));
}

#[test]
fn a_claim_names_its_summer() {
    for vector in vectors() {
        let Ok(claimed) = vector.expected.parse::<TarSum>() else {
            continue;
        };
        let summer = TarSummer::for_tar_sum(&claimed);
        assert_eq!(summer.is_ok(), vector.summer().is_some(), "{claimed}");
        let Some((mut summer, archive)) = summer.ok().zip(vector.archive()) else {
            continue;
        };
        summer.update(&archive);
        assert_eq!(summer.finish().unwrap(), claimed);
    }
}

#[test]
fn unsupported_versions_are_refused() {
    for (claimed, want) in [
        (
            "tarsum.v23+sha256",
            "tarsum.v23 cannot be computed: the versions are tarsum, tarsum.v1 and tarsum.dev",
        ),
        (
            "tarsum.v1+test",
            "tarsum.v1+test:00 cannot be computed: the algorithms are sha256 and sha512",
        ),
    ] {
        let hex = if claimed.ends_with("test") {
            "00".into()
        } else {
            "0".repeat(64)
        };
        let claimed: TarSum = format!("{claimed}:{hex}").parse().unwrap();
        let error = TarSummer::for_tar_sum(&claimed).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
}
