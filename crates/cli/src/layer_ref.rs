//! References to layers: an id, or the first digits of a digest.

use std::fmt;
use std::str::FromStr;

use super::failure::Failure;
use s3layers::RepositoryService as _;
use s3layers::S3LayerService;
use s3layers::{
    Algorithm, Error, InvalidId, InvalidName, LayerId, RepositoryName, Tag, is_lower_hex,
};

/// The minimum of hex digits: fewer would soon be ambiguous.
const FEWEST: usize = 4;
/// How many layers an error about an ambiguous prefix lists.
const LISTED: usize = 10;

/// A reference to a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LayerRef {
    /// A whole id.
    Whole(LayerId),
    /// The first digits of a digest.
    Shortened(Algorithm, String),
    /// A layer of a repository.
    In(RepositoryName, Box<LayerRef>),
}

/// The error of a text that is no reference.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidLayerRef {
    #[error("it has fewer than {FEWEST} hex digits; expected more digits of a digest, or all")]
    TooShort,
    #[error(
        "it is not a digest or the beginning of one; expected sha256:<64 hex digits> or \
         sha512:<128 hex digits>, lower case, or their first {FEWEST} or more, or a TarSum; `s3layers ls \
         REPO` lists the layers of a repository"
    )]
    NoHex,
    #[error(
        "it names an image, and a layer is expected: `s3layers ls {0}` lists the layers, and docker or \
         skopeo pull an image from `s3layers serve`"
    )]
    Image(RepositoryName),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Id(#[from] InvalidId),
}

impl FromStr for LayerRef {
    type Err = InvalidLayerRef;

    fn from_str(text: &str) -> Result<Self, InvalidLayerRef> {
        match text.split_once('@') {
            Some((name, layer)) => Ok(LayerRef::In(
                name.parse()?,
                Box::new(LayerRef::without_name(layer)?),
            )),
            None => LayerRef::without_name(text),
        }
    }
}

impl LayerRef {
    fn without_name(text: &str) -> Result<Self, InvalidLayerRef> {
        if text.starts_with("tarsum") {
            return Ok(LayerRef::Whole(text.parse()?));
        }
        let (name, hex) = text.split_once(':').unwrap_or(("sha256", text));
        let Some(algorithm) = Algorithm::from_name(name) else {
            if let (Ok(name), Ok(_)) = (name.parse(), hex.parse::<Tag>())
                && !is_lower_hex(hex)
            {
                return Err(InvalidLayerRef::Image(name));
            }
            // Its error lists the algorithms.
            return Ok(LayerRef::Whole(text.parse()?));
        };
        if !is_lower_hex(hex) {
            return Err(InvalidLayerRef::NoHex);
        }
        match hex.len() {
            length if length < FEWEST => Err(InvalidLayerRef::TooShort),
            length if length < algorithm.hex_len() => {
                Ok(LayerRef::Shortened(algorithm, hex.to_owned()))
            }
            _ => Ok(LayerRef::Whole(format!("{name}:{hex}").parse()?)),
        }
    }
}

impl fmt::Display for LayerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerRef::Whole(id) => id.fmt(f),
            LayerRef::Shortened(algorithm, hex) => write!(f, "{algorithm}:{hex}"),
            LayerRef::In(name, layer) => write!(f, "{name}@{layer}"),
        }
    }
}

impl LayerRef {
    /// Resolves the reference to an id. Costs one request for a prefix or a repository, and none for a
    /// whole id, which need not be stored.
    pub(super) async fn resolve(&self, service: &S3LayerService) -> Result<LayerId, Failure> {
        match self {
            LayerRef::Whole(id) => Ok(id.clone()),
            LayerRef::Shortened(algorithm, hex) => self.find(service, *algorithm, hex).await,
            LayerRef::In(name, layer) => {
                let id = Box::pin(layer.resolve(service)).await?;
                match service.layer(name, &id).await {
                    Ok(_) => Ok(id),
                    Err(Error::LayerUnknown { .. }) => {
                        let absent = Failure::new(format!("repository {name} has no layer {id}"));
                        Err(absent.hint(format!("`s3layers ls {name}` lists its layers")))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn find(
        &self,
        service: &S3LayerService,
        algorithm: Algorithm,
        hex: &str,
    ) -> Result<LayerId, Failure> {
        match &service.find(algorithm, hex, LISTED + 1).await?[..] {
            [] => Err(Failure::new(format!(
                "no layer is stored whose digest begins with {self}"
            ))),
            [only] => Ok(only.clone().into()),
            several => {
                let candidates = several.iter().take(LISTED).map(ToString::to_string);
                let more = (several.len() > LISTED).then(|| "and others".to_owned());
                let failure = Failure::new(format!(
                    "{self} is the beginning of several digests; expected more digits"
                ));
                Err(failure.hints(candidates.chain(more)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn references() {
        let hex = "0123456789abcdef".repeat(4);
        let shortened = |algorithm, hex: &str| Some(LayerRef::Shortened(algorithm, hex.to_owned()));
        let whole = |id: &str| Some(LayerRef::Whole(id.parse().unwrap()));
        let full = format!("sha256:{hex}");
        let sha512 = format!("sha512:{hex}{hex}");
        let tar_sum = format!("tarsum.v1+sha256:{hex}");
        for (text, want) in [
            (full.as_str(), whole(&full)),
            (&sha512, whole(&sha512)),
            (&tar_sum, whole(&tar_sum)),
            (&hex, whole(&full)),
            ("sha256:9f3c", shortened(Algorithm::Sha256, "9f3c")),
            ("sha512:9f3c1", shortened(Algorithm::Sha512, "9f3c1")),
            (&sha512[..80], shortened(Algorithm::Sha512, &sha512[7..80])),
            ("9f3c", shortened(Algorithm::Sha256, "9f3c")),
            ("sha256:9f3", None),
            ("sha256:", None),
            ("9f3", None),
            ("", None),
            ("sha256:9F3C", None),
            ("latest", None),
            ("md5:9f3c1", None),
            ("sha256:9f3c/../x", None),
            (&format!("{full}0"), None),
            (&format!("{hex}{hex}"), None),
            ("tarsum.v1+sha256:9f3c", None),
            (
                "library/x@sha256:9f3c",
                Some(LayerRef::In(
                    "library/x".parse().unwrap(),
                    Box::new(LayerRef::Shortened(Algorithm::Sha256, "9f3c".to_owned())),
                )),
            ),
            (
                &format!("tarsum/x@{tar_sum}"),
                Some(LayerRef::In(
                    "tarsum/x".parse().unwrap(),
                    Box::new(LayerRef::Whole(tar_sum.parse().unwrap())),
                )),
            ),
            ("library/x@latest", None),
            ("a@b@sha256:9f3c", None),
            (&format!("{}9f3c", "a@".repeat(60_000)), None),
            ("library/x:latest", None),
            ("Library@sha256:9f3c", None),
        ] {
            let reference = text.parse::<LayerRef>().ok();
            assert_eq!(reference, want, "{text:?}");
        }
    }
}
