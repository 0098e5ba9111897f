//! The settings of an [`S3LayerService`](super::S3LayerService), their defaults and their checks.
//! An option exists only where two of its values are useful.

use std::fmt::Display;
use std::time::Duration;

use crate::s3::format::profile::StoreProfile;

pub(crate) const MIB: u64 = 1024 * 1024;

/// Size of a part while an upload is below 1,000 parts; it doubles every 1,000 parts after that,
/// as far as the byte budget allows.
pub const DEFAULT_PART_SIZE: u64 = 16 * MIB;
/// S3's limits of a part that is not the last.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub(crate) const PART_SIZES: std::ops::RangeInclusive<u64> = 5 * MIB..=5 * 1024 * MIB;
/// Parts of one upload that are sent at a time. Throughput is this times what one connection
/// carries (some 85 MB/s on AWS).
pub const DEFAULT_PARALLELISM: usize = 8;
/// Bytes that may wait in memory, all uploads and readers of one service together.
pub const DEFAULT_MEMORY_BUDGET: u64 = 256 * MIB;
/// How long a presigned URL lives at most.
pub const DEFAULT_PRESIGN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// SigV4 ends there.
const MAX_PRESIGN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where layers are kept, and how.
///
/// ```
/// use s3layers::S3Config;
///
/// let config = S3Config::new("layers").root("registry/eu").part_size(32 << 20).parallelism(4);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct S3Config {
    pub(crate) bucket: String,
    pub(crate) root: String,
    pub(crate) part_size: u64,
    pub(crate) parallelism: usize,
    pub(crate) memory_budget: u64,
    pub(crate) presign_lifetime: Duration,
    pub(crate) presign_endpoint: Option<String>,
    pub(crate) profile: Option<StoreProfile>,
    pub(crate) single_writer: bool,
    pub(crate) must_exist: bool,
}

impl S3Config {
    /// Layers in this bucket, which must exist.
    pub fn new(bucket: impl Into<String>) -> Self {
        S3Config {
            bucket: bucket.into(),
            root: String::new(),
            part_size: DEFAULT_PART_SIZE,
            parallelism: DEFAULT_PARALLELISM,
            memory_budget: DEFAULT_MEMORY_BUDGET,
            presign_lifetime: DEFAULT_PRESIGN_LIFETIME,
            presign_endpoint: None,
            profile: None,
            single_writer: false,
            must_exist: false,
        }
    }

    /// All keys begin with this path. Default: empty, the bucket is ours.
    pub fn root(mut self, root: impl Into<String>) -> Self {
        self.root = root.into();
        self
    }

    /// Bytes of a part, 5 MiB to 5 GiB. Default: [`DEFAULT_PART_SIZE`]. Larger parts cost fewer
    /// requests and more memory, and at most one part of a layer moves twice.
    pub fn part_size(mut self, bytes: u64) -> Self {
        self.part_size = bytes;
        self
    }

    /// Parts of one upload under way at a time; 1 to 64. A reader has up to twice as many ranges
    /// under way. Default: [`DEFAULT_PARALLELISM`].
    pub fn parallelism(mut self, requests: usize) -> Self {
        self.parallelism = requests;
        self
    }

    /// Bytes that may wait in memory, all uploads and readers of this service together. Default:
    /// [`DEFAULT_MEMORY_BUDGET`]. At least two parts, or nothing could move. A full budget slows
    /// writers down and fails none.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// How long a presigned URL lives at most; up to 7 days. Default:
    /// [`DEFAULT_PRESIGN_LIFETIME`]. A URL dies with the credentials that signed it, if those
    /// die first.
    pub fn presign_lifetime(mut self, lifetime: Duration) -> Self {
        self.presign_lifetime = lifetime;
        self
    }

    /// The URL by which those who are given a presigned URL reach the store, where that is not the
    /// one that the client of this service uses. Default: the same.
    pub fn presign_endpoint(mut self, url: impl Into<String>) -> Self {
        self.presign_endpoint = Some(url.into());
        self
    }

    /// What the store can do. Default: as the bucket's `profile` object says, which is written
    /// after a probe when it is absent.
    pub fn profile(mut self, profile: StoreProfile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// Declares that no other process ever writes below this root, so that a store without
    /// conditional writes can be used. Two writers would then mix unnoticed.
    pub fn single_writer(mut self, declared: bool) -> Self {
        self.single_writer = declared;
        self
    }

    /// Connects only where the bucket has a profile below this root, and so writes nothing. Default:
    /// false, the store is probed and its profile written.
    pub fn must_exist(mut self, required: bool) -> Self {
        self.must_exist = required;
        self
    }

    /// Checks every value; [`S3LayerService::connect`](super::S3LayerService::connect) does so too.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |option, value: &dyn Display, expected: &str| {
            Err(ConfigError {
                option,
                value: value.to_string(),
                expected: expected.to_owned(),
            })
        };
        if self.bucket.is_empty() || self.bucket.contains(['/', ':']) {
            let expected = "the name of a bucket, or the alias of an access point";
            return fail("bucket", &self.bucket, expected);
        }
        let plain = |s: &str| {
            !matches!(s, "" | "." | "..")
                && s.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&b))
        };
        if !self.root.is_empty() && !self.root.split('/').all(plain) {
            let expected =
                "path segments of letters, digits and -_.!~*'(), joined by single slashes";
            return fail("root", &self.root, expected);
        }
        if !PART_SIZES.contains(&self.part_size) {
            return fail("part_size", &self.part_size, "5 MiB to 5 GiB");
        }
        if !(1..=64).contains(&self.parallelism) {
            return fail("parallelism", &self.parallelism, "1 to 64");
        }
        if self.memory_budget < 2 * self.part_size {
            let expected = format!("at least two parts, {} bytes", 2 * self.part_size);
            return fail("memory_budget", &self.memory_budget, &expected);
        }
        let lifetimes = Duration::from_secs(1)..=MAX_PRESIGN_LIFETIME;
        if !lifetimes.contains(&self.presign_lifetime) {
            let value = format!("{:?}", self.presign_lifetime);
            return fail("presign_lifetime", &value, "1 second to 7 days");
        }
        if let Some(url) = self.presign_endpoint.as_ref().filter(|url| !is_url(url)) {
            let expected = "a URL that begins with http:// or https://";
            return fail("presign_endpoint", url, expected);
        }
        Ok(())
    }
}

fn is_url(text: &str) -> bool {
    text.parse::<http::Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} is {value}; expected {expected}")]
pub struct ConfigError {
    /// The name of the setting.
    pub option: &'static str,
    /// Its value.
    pub value: String,
    /// What was expected instead.
    pub expected: String,
}

/// Why a service could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A setting is out of range.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The store cannot distinguish two writers.
    #[error(
        "the store carries out writes whose condition does not hold (`s3layers doctor` shows which), so two \
         writers could mix; use another store, or declare a single writer"
    )]
    NoConditionalWrites,
    /// No process has connected to this root before, and [`S3Config::must_exist`] is set.
    #[error("nothing was ever stored there, or its profile is lost: it has no object `{key}`")]
    Absent {
        /// The key of the profile.
        key: String,
    },
    /// No layer of more than one part can be stored.
    #[error("no multipart upload can be completed on this store: {answer}")]
    NoMultipart {
        /// What the store answered, and to which request.
        answer: String,
    },
    /// The profile of the bucket has times of a collection that are not safe.
    #[error("the bucket's profile has an unsafe time under `collection`: {fault}")]
    CollectionTimes {
        /// Which one, and what is expected.
        fault: String,
    },
    /// The store could not be asked.
    #[error("the store cannot be used")]
    Store(#[from] crate::error::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_named() {
        let config = || S3Config::new("bucket");
        for (option, config) in [
            ("bucket", S3Config::new("")),
            ("bucket", S3Config::new("a/b")),
            (
                "bucket",
                S3Config::new("arn:aws:s3:eu-west-1:1:accesspoint"),
            ),
            ("root", config().root("/a")),
            ("root", config().root("a//b")),
            ("root", config().root("a/../b")),
            ("root", config().root("a b")),
            ("part_size", config().part_size(5 * MIB - 1)),
            ("parallelism", config().parallelism(0)),
            ("parallelism", config().parallelism(65)),
            (
                "memory_budget",
                config().memory_budget(2 * DEFAULT_PART_SIZE - 1),
            ),
            (
                "presign_lifetime",
                config().presign_lifetime(Duration::ZERO),
            ),
            ("presign_endpoint", config().presign_endpoint("store:9000")),
        ] {
            assert_eq!(
                config.check().map_err(|error| error.option),
                Err(option),
                "{config:?}"
            );
        }
        assert_eq!(
            config()
                .root("a/b-1")
                .memory_budget(2 * DEFAULT_PART_SIZE)
                .check(),
            Ok(())
        );
    }
}
