//! `rm`: removes tags, manifests and links of layers from repositories.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::format::counted;
use super::store_url::Absent;
use s3layers::RepositoryService as _;
use s3layers::S3LayerService;
use s3layers::{LayerId, RepositoryName, Result as Done, TrashReference as Item};

/// Remove tags, manifests or layers from a repository
///
/// REPO:TAG removes a tag, not the manifest that it names. REPO@DIGEST removes a manifest and the tags
/// that name it, or a layer from this repository, also one that an image there needs. --all REPO removes
/// all that the repository has. The bytes of a layer stay in other repositories; where there is none,
/// `gc` frees them. `trash restore` brings back a manifest and its tags until then.
///
/// Unfinished uploads stay; `cancel` removes them. One whose commit was interrupted can still store its layer in the
/// repository, when its client or a sweep continues it.
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// Remove these: REPO:TAG or REPO@DIGEST
    #[arg(value_name = "REFERENCE", required_unless_present = "all")]
    references: Vec<Reference>,
    /// Remove everything in this repository
    #[arg(long, value_name = "REPO", conflicts_with = "references")]
    all: Option<RepositoryName>,
}

/// The content of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) name: RepositoryName,
    pub(super) item: Item,
}

const EXPECTED: &str = "expected REPO:TAG or REPO@DIGEST";

impl FromStr for Reference {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, item) = if let Some((name, digest)) = text.split_once('@') {
            (name, Item::Digest(digest.parse()?))
        } else {
            let (name, tag) = text.split_once(':').ok_or(EXPECTED)?;
            // A digest alone has the form of a tag.
            if text.parse::<LayerId>().is_ok() {
                return Err(EXPECTED.into());
            }
            (name, Item::Tag(tag.parse()?))
        };
        let name = name.parse()?;
        Ok(Reference { name, item })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            Item::Tag(tag) => write!(f, "{}:{tag}", self.name),
            Item::Digest(digest) => write!(f, "{}@{digest}", self.name),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Removed {
        reference: &'a str,
        kind: &'a str,
    },
    NotRemoved {
        reference: &'a str,
        error: &'a str,
    },
    RemovedRepository {
        repository: &'a str,
        manifests: u64,
        tags: u64,
        layers: u64,
    },
}

impl Rm {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        if let Some(name) = &self.all {
            return remove_repository(context, &service, name).await;
        }
        let mut failed = Vec::new();
        for reference in &self.references {
            let text = reference.to_string();
            let failure = match reference.remove(&service).await {
                Ok(Some(kind)) => {
                    context.output.say(&text)?;
                    context.output.event(&Event::Removed {
                        reference: &text,
                        kind,
                    })?;
                    continue;
                }
                Ok(None) => Failure::new(format!("{text} does not exist")),
                Err(error) => Failure::from(error).context(format_args!("cannot remove {text}")),
            };
            context.output.event(&Event::NotRemoved {
                reference: &text,
                error: &failure.lines.join(": "),
            })?;
            failed.push(failure);
        }
        Failure::of_several(failed, self.references.len(), "were not removed")
    }
}

async fn remove_repository(
    context: &Context,
    service: &S3LayerService,
    name: &RepositoryName,
) -> Result<(), Failure> {
    let removed = service.remove_repository(name).await;
    let removed = removed
        .map_err(|error| Failure::from(error).context(format_args!("cannot remove {name}")))?;
    if removed.manifests + removed.tags + removed.layers == 0 {
        return Err(Failure::new(format!("{name} does not exist")));
    }
    context.output.say(format_args!(
        "{name}  {}, {}, {}",
        counted(removed.manifests, "manifest"),
        counted(removed.tags, "other tag"),
        counted(removed.layers, "layer")
    ))?;
    context.output.event(&Event::RemovedRepository {
        repository: name.as_str(),
        manifests: removed.manifests,
        tags: removed.tags,
        layers: removed.layers,
    })
}

impl Reference {
    /// Removes it. `None` if there was nothing to remove.
    async fn remove(&self, service: &S3LayerService) -> Done<Option<&'static str>> {
        let name = &self.name;
        let digest = match &self.item {
            Item::Tag(tag) => return Ok(service.delete_tag(name, tag).await?.then_some("tag")),
            Item::Digest(digest) => digest,
        };
        if service.delete_manifest(name, digest).await? {
            return Ok(Some("manifest"));
        }
        let layer = LayerId::from(digest.clone());
        Ok(service.unlink(name, &layer).await?.then_some("layer"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use s3layers::Digest;

    #[test]
    fn references() {
        let digest = Digest::EMPTY_SHA256;
        let (alone, by_digest) = (digest.to_string(), format!("library/x@{digest}"));
        for (text, is_right) in [
            ("library/x:latest", true),
            (&*by_digest, true),
            ("library/x", false),
            ("library/x:", false),
            ("library/x:bad tag", false),
            ("library/x@sha256:12", false),
            ("Library/x:latest", false),
            (&*alone, false),
            ("", false),
        ] {
            let reference = text.parse::<Reference>();
            assert_eq!(reference.is_ok(), is_right, "{text:?}");
            if let Ok(reference) = reference {
                assert_eq!(reference.to_string(), text);
            }
        }
    }
}
