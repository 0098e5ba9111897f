//! Requests that are refused to every client: writes to read-only registries, removals, and tags that
//! cannot be moved. Pure but for [`WriteProtection::check_tags`].

use std::fmt;
use std::str::FromStr;

use super::auth::Access;
use super::auth::pattern::Pattern;
use super::error::{Code, Refusal};
use super::route::Reference;
use s3layers::{Digest, RepositoryName, RepositoryService, Tag};

/// What is refused to everyone. Default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteProtection {
    /// Refuse all that writes.
    pub read_only: bool,
    /// Refuse removals of blobs, manifests and tags.
    pub no_delete: bool,
    /// Tags that keep the manifest that they named first. In their repositories no manifest and no blob is
    /// removed by digest.
    pub immutable_tags: ImmutableTags,
}

/// Patterns `REPOSITORY:TAG` with commas between them, such as `**:v*,release/*:*`. In a repository,
/// `*` stops at `/` and `**` does not.
///
/// ```
/// use s3layers_registry::ImmutableTags;
///
/// let tags: ImmutableTags = "team/**:v*".parse()?;
/// assert!(tags.contains(&"team/a".parse()?, &"v1".parse()?));
/// assert!(!tags.contains(&"team/a".parse()?, &"latest".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImmutableTags {
    text: String,
    patterns: Vec<(Pattern, Pattern)>,
}

/// A text that is not a list of patterns of tags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pattern REPOSITORY:TAG such as **:v*")]
pub struct InvalidTagPattern(String);

impl ImmutableTags {
    /// Whether this tag of this repository is immutable.
    #[must_use]
    pub fn contains(&self, name: &RepositoryName, tag: &Tag) -> bool {
        let matches = |(names, tags): &(Pattern, Pattern)| {
            names.matches(name.as_str()) && tags.matches(tag.as_str())
        };
        self.patterns.iter().any(matches)
    }

    /// Whether a repository has such tags.
    fn any_in(&self, name: &RepositoryName) -> bool {
        let mut names = self.patterns.iter().map(|(names, _)| names);
        names.any(|names| names.matches(name.as_str()))
    }
}

impl FromStr for ImmutableTags {
    type Err = InvalidTagPattern;

    fn from_str(text: &str) -> Result<Self, InvalidTagPattern> {
        let patterns = text.split(',').map(|pair| {
            let pair = pair.trim();
            let patterns = pair
                .split_once(':')
                .and_then(|(names, tags)| Pattern::of_names(names).zip(Pattern::of_tags(tags)));
            patterns.ok_or_else(|| InvalidTagPattern(pair.to_owned()))
        });
        Ok(ImmutableTags {
            patterns: patterns.collect::<Result<_, _>>()?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for ImmutableTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl WriteProtection {
    /// Refuses a request that needs this access.
    pub(super) fn check(&self, access: &Access) -> Result<(), Refusal> {
        let message = match access {
            Access::Push(_) | Access::Continue(..) | Access::Delete(_) if self.read_only => {
                "this registry is read-only"
            }
            Access::Delete(_) if self.no_delete => "this registry does not remove anything",
            _ => return Ok(()),
        };
        Err(Refusal::new(Code::Unsupported, message))
    }

    /// Refuses to move one of these tags to this manifest. Two requests that give a new tag at the
    /// same time may both succeed; the last one wins.
    pub(super) async fn check_tags(
        &self,
        service: &dyn RepositoryService,
        name: &RepositoryName,
        tags: &[Tag],
        digest: &Digest,
    ) -> Result<(), Refusal> {
        for tag in tags
            .iter()
            .filter(|tag| self.immutable_tags.contains(name, tag))
        {
            match service.tag(name, tag).await? {
                Some(named) if named != *digest => {
                    let message =
                        format_args!("the tag {tag} of {name} is immutable and names {named}");
                    return Err(Refusal::new(Code::Denied, message));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses to remove an immutable tag, or a manifest that one could need.
    pub(super) fn check_removal(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<(), Refusal> {
        match reference {
            Reference::Digest(_) => self.check_content_removal(name, "manifests"),
            Reference::Tag(tag) if self.immutable_tags.contains(name, tag) => {
                let message = format_args!("the tag {tag} of {name} is immutable");
                Err(Refusal::new(Code::Denied, message))
            }
            Reference::Tag(_) => Ok(()),
        }
    }

    /// Refuses to remove content that an immutable tag could need. Whether one does would take a read of
    /// every manifest below such tags, and a tag could come meanwhile.
    pub(super) fn check_content_removal(
        &self,
        name: &RepositoryName,
        kind: &str,
    ) -> Result<(), Refusal> {
        if !self.immutable_tags.any_in(name) {
            return Ok(());
        }
        let message = format_args!("{name} has immutable tags; its {kind} are not removed");
        Err(Refusal::new(Code::Denied, message))
    }
}
