//! The checksums of a file, computed before it is sent. Hashing is much faster than sending, so a layer
//! that is stored already, or that does not have the expected id, is not sent.

use super::item::Item;
use crate::blocking_io::{ReadThread, Skip, Sums};
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::tarsum;
use s3layers::tarsum::TarSummer;
use s3layers::{Algorithm, Digest, Hasher, LayerId, LayerUpload, TarSum, TarSumVersion};

/// The checksums of a file; none of a pipe.
#[derive(Debug, Default)]
pub(super) struct FileSums {
    pub(super) digest: Option<Digest>,
    pub(super) tar_sum: Option<TarSum>,
}

impl FileSums {
    /// Reads the file. A resumed upload says by which id it is to be found, see [`declared_digest`].
    pub(super) async fn of(item: &Item<'_>, input: &Input) -> Result<Self, Failure> {
        let Some(size) = input.size else {
            return Ok(FileSums::default());
        };
        let (digest, tar_sum) = match &item.options.id {
            _ if item.options.tarsum => {
                let sums = tarsum::read(item.file, summer()?).await?;
                (Some(sums.digest), Some(sums.tar_sum))
            }
            Some(id) => (digest_of(item, id, size).await?, None),
            None if item.options.resume.is_some() => (None, None),
            None => (Some(hash(item, Algorithm::Sha256, size).await?), None),
        };
        Ok(FileSums { digest, tar_sum })
    }
}

/// The digest of a file that has to have the id with which the resumed upload was begun, if it was begun with one.
pub(super) async fn declared_digest(
    item: &Item<'_>,
    input: &Input,
    upload: &dyn LayerUpload,
) -> Result<Option<Digest>, Failure> {
    let (Some(size), Some(id)) = (input.size, upload.declared_id()) else {
        return Ok(None);
    };
    digest_of(item, id, size).await.map_err(|failure| {
        let uuid = upload.uuid();
        let cancel = item.context.command_line(&["cancel", &uuid.to_string()]);
        failure
            .context(format_args!("upload {uuid} was begun with --id {id}"))
            .hint("it keeps its bytes; resume it with its own file")
            .hint(format!("if that --id was wrong: {cancel}"))
            .hint("to store this file, push it without --resume")
    })
}

/// The digest of a file that has to have this id.
async fn digest_of(item: &Item<'_>, id: &LayerId, size: u64) -> Result<Option<Digest>, Failure> {
    match id {
        LayerId::TarSum(expected) => digest_of_archive(item, expected).await,
        LayerId::Digest(expected) => {
            let digest = hash(item, expected.algorithm(), size).await?;
            if digest != *expected {
                return Err(mismatch(item, "digest", expected, &digest));
            }
            Ok(Some(digest))
        }
    }
}

async fn digest_of_archive(item: &Item<'_>, expected: &TarSum) -> Result<Option<Digest>, Failure> {
    let version = expected.version().clone();
    let algorithm = Algorithm::from_name(expected.algorithm());
    let summer = algorithm.and_then(|algorithm| TarSummer::new(version, algorithm).ok());
    // The upload reports why a TarSum cannot be verified.
    let Some(summer) = summer else {
        return Ok(None);
    };
    let sums = tarsum::read(item.file, summer).await?;
    if sums.tar_sum != *expected {
        return Err(mismatch(item, "TarSum", expected, &sums.tar_sum));
    }
    Ok(Some(sums.digest))
}

fn mismatch(
    item: &Item<'_>,
    what: &str,
    expected: &dyn std::fmt::Display,
    found: &dyn std::fmt::Display,
) -> Failure {
    let file = input::name(item.file);
    let is_given = item.options.id.is_some();
    Failure::new(format!(
        "{what} mismatch: expected {expected}, {file} has {found}; nothing was sent"
    ))
    .hints(is_given.then_some("push it with the right --id, or without"))
}

async fn hash(item: &Item<'_>, algorithm: Algorithm, size: u64) -> Result<Digest, Failure> {
    let cannot_read = |error| input::cannot_read(item.file, &error);
    let label = if item.has_others {
        format!("hashing {}", input::name(item.file))
    } else {
        "hashing".to_owned()
    };
    let mut bar = item.context.output.bar(&label, Some(size), 0);
    let sums = Sums {
        hasher: Some(Hasher::new(algorithm)),
        summer: None,
    };
    // Only the hash is used.
    let all = Skip {
        bytes: u64::MAX,
        digest: None,
    };
    let input = input::open(item.file)?;
    let reading = ReadThread::start(input.reader, all, sums).map_err(cannot_read)?;
    bar.follow(reading.watch());
    let end = reading.end().await.map_err(cannot_read)?;
    end.digest
        .ok_or_else(|| Failure::new("the digest was not computed"))
}

/// Computes the TarSums that `--tarsum` publishes.
pub(super) fn summer() -> Result<TarSummer, Failure> {
    let summer = TarSummer::new(TarSumVersion::V1, Algorithm::Sha256);
    summer.map_err(|error| Failure::of(&error))
}
