//! A layer as people name it: by an id, or by the first digits of its digest.

use std::fmt;
use std::str::FromStr;

use super::failure::Failure;
use s3layers::RepositoryService as _;
use s3layers::S3LayerService;
use s3layers::{
    Algorithm, Error, InvalidId, InvalidName, LayerId, RepositoryName, Tag, is_lower_hex,
};

/// Fewer hex digits than this name nothing: they would soon be those of another layer as well.
const FEWEST: usize = 4;
/// Layers that are listed where several could be meant.
const LISTED: usize = 10;

/// What a layer is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of an id.
    Whole(LayerId),
    /// The beginning of a digest.
    Shortened(Algorithm, String),
    /// One of these, in a repository.
    In(RepositoryName, Box<Wanted>),
}

/// A text that names no layer.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidWanted {
    #[error("it has fewer than {FEWEST} hex digits; wanted that many of a digest, or all of it")]
    TooShort,
    #[error(
        "it is neither a digest nor the beginning of one; expected sha256:<64 hex digits> or \
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

impl FromStr for Wanted {
    type Err = InvalidWanted;

    fn from_str(text: &str) -> Result<Self, InvalidWanted> {
        if text.starts_with("tarsum") {
            return Ok(Wanted::Whole(text.parse()?));
        }
        if let Some((name, layer)) = text.split_once('@') {
            return Ok(Wanted::In(name.parse()?, Box::new(layer.parse()?)));
        }
        let (name, hex) = text.split_once(':').unwrap_or(("sha256", text));
        let Some(algorithm) = Algorithm::from_name(name) else {
            if let (Ok(name), Ok(_)) = (name.parse(), hex.parse::<Tag>())
                && !is_lower_hex(hex)
            {
                return Err(InvalidWanted::Image(name));
            }
            // It says which algorithms there are.
            return Ok(Wanted::Whole(text.parse()?));
        };
        if !is_lower_hex(hex) {
            return Err(InvalidWanted::NoHex);
        }
        match hex.len() {
            length if length < FEWEST => Err(InvalidWanted::TooShort),
            length if length < algorithm.hex_len() => {
                Ok(Wanted::Shortened(algorithm, hex.to_owned()))
            }
            _ => Ok(Wanted::Whole(format!("{name}:{hex}").parse()?)),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Whole(id) => id.fmt(f),
            Wanted::Shortened(algorithm, hex) => write!(f, "{algorithm}:{hex}"),
            Wanted::In(name, layer) => write!(f, "{name}@{layer}"),
        }
    }
}

impl Wanted {
    /// The id that is meant. What is shortened is looked for, by one request, and so is a layer in a
    /// repository; another one need not be stored.
    pub(super) async fn resolve(&self, service: &S3LayerService) -> Result<LayerId, Failure> {
        match self {
            Wanted::Whole(id) => Ok(id.clone()),
            Wanted::Shortened(algorithm, hex) => self.find(service, *algorithm, hex).await,
            Wanted::In(name, layer) => {
                let id = Box::pin(layer.resolve(service)).await?;
                match service.layer(name, &id).await {
                    Ok(_) => Ok(id),
                    Err(Error::LayerUnknown { .. }) => {
                        let absent = Failure::new(format!("repository {name} has no layer {id}"));
                        Err(absent
                            .hint(format!("`s3layers ls {name}` lists the layers that it has")))
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
        let mut found = service.find(algorithm, hex, LISTED + 1).await?;
        match (found.pop(), found.len()) {
            (None, _) => Err(Failure::new(format!(
                "no layer is stored whose digest begins with {self}"
            ))),
            (Some(only), 0) => Ok(only.into()),
            (Some(last), others) => {
                let more = match others < LISTED {
                    true => last.to_string(),
                    false => "and others".to_owned(),
                };
                let mut candidates: Vec<String> = found.iter().map(ToString::to_string).collect();
                candidates.push(more);
                let failure = Failure::new(format!(
                    "{self} is the beginning of several digests; give more of the one you mean"
                ));
                Err(failure.hints(candidates))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wanted_cases() {
        let hex = "0123456789abcdef".repeat(4);
        let shortened = |algorithm, hex: &str| Some(Wanted::Shortened(algorithm, hex.to_owned()));
        let whole = |id: &str| Some(Wanted::Whole(id.parse().unwrap()));
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
                Some(Wanted::In(
                    "library/x".parse().unwrap(),
                    Box::new(Wanted::Shortened(Algorithm::Sha256, "9f3c".to_owned())),
                )),
            ),
            ("library/x@latest", None),
            ("library/x:latest", None),
            ("Library@sha256:9f3c", None),
        ] {
            let wanted = text.parse::<Wanted>().ok();
            assert_eq!(wanted, want, "{text:?}");
        }
    }
}
