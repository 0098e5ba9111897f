//! Repository names and tags: their grammar and limits.

use std::fmt;
use std::str::FromStr;

mod tag;

pub use tag::{InvalidTag, Tag};

/// The name of a repository, such as `library/alpine`.
///
/// Grammar of the OCI distribution specification: path components of lower-case letters and
/// digits, joined by `.`, `_`, `__` or dashes, separated by `/`; 255 characters at most. So no
/// name can be mistaken for one of our own keys, which begin with an underscore.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests>
///
/// ```
/// use s3layers::RepositoryName;
///
/// let name: RepositoryName = "library/alpine".parse()?;
/// assert_eq!(name.as_str(), "library/alpine");
/// assert!("library/../secrets".parse::<RepositoryName>().is_err());
/// # Ok::<(), s3layers::InvalidName>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Box<str>);

/// The longest name, in bytes.
const MAX_LEN: usize = 255;

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that breaks the grammar of repository names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{input:?} is not a repository name: expected lower-case letters and digits, \
     joined by '.', '_', '__' or '-', in components separated by '/', 255 bytes at most"
)]
pub struct InvalidName {
    input: String,
}

fn is_component(component: &str) -> bool {
    let is_alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_alnum(first)
        && is_alnum(last)
        && bytes
            .split(|&b| is_alnum(b))
            .filter(|joint| !joint.is_empty())
            .all(|joint| matches!(joint, b"." | b"_" | b"__") || joint.iter().all(|&b| b == b'-'))
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(input: &str) -> Result<Self, InvalidName> {
        if input.len() <= MAX_LEN && input.split('/').all(is_component) {
            return Ok(RepositoryName(input.into()));
        }
        Err(InvalidName {
            input: input.chars().take(MAX_LEN + 1).collect(),
        })
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

s3layers_tarsum::serde_by_text!(RepositoryName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_cases() {
        for (input, ok) in [
            ("a", true),
            ("library/alpine", true),
            ("a.b_c__d-e---f/0", true),
            ("", false),
            ("/", false),
            ("a/", false),
            ("/a", false),
            ("a//b", false),
            ("A", false),
            ("a..b", false),
            ("a___b", false),
            ("a._b", false),
            ("a.-b", false),
            ("-a", false),
            ("a-", false),
            ("_layers", false),
            ("a/_layers", false),
            ("a/../b", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(input.parse::<RepositoryName>().is_ok(), ok, "{input:?}");
        }
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert!("a".repeat(256).parse::<RepositoryName>().is_err());
    }
}
