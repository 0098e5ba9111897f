//! Tags: their grammar and limits.

use std::fmt;
use std::str::FromStr;

/// The name of a manifest within a repository, such as `latest`.
///
/// Grammar of the OCI distribution specification: 1 to 128 letters, digits, `_`, `.` and `-`, not
/// beginning with `.` or `-`.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests>
///
/// ```
/// use s3layers::Tag;
///
/// let tag: Tag = "v1.2".parse()?;
/// assert_eq!(tag.as_str(), "v1.2");
/// assert!("../secrets".parse::<Tag>().is_err());
/// # Ok::<(), s3layers::InvalidTag>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

/// The longest tag, in bytes.
const MAX_LEN: usize = 128;

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that breaks the grammar of tags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{input:?} is not a tag: expected 1 to 128 letters, digits, '_', '.' and '-', \
     not beginning with '.' or '-'"
)]
pub struct InvalidTag {
    input: String,
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(input: &str) -> Result<Self, InvalidTag> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let begins_well = input.bytes().next().is_some_and(is_word);
        let fits = input.len() <= MAX_LEN;
        if begins_well
            && fits
            && input
                .bytes()
                .all(|b| is_word(b) || matches!(b, b'.' | b'-'))
        {
            return Ok(Tag(input.into()));
        }
        Err(InvalidTag {
            input: input.chars().take(MAX_LEN + 1).collect(),
        })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

s3layers_tarsum::serde_by_text!(Tag);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_cases() {
        for (input, ok) in [
            ("latest", true),
            ("_", true),
            ("V1.0-rc_2", true),
            ("", false),
            (".a", false),
            ("-a", false),
            ("a/b", false),
            ("a b", false),
            ("a\n", false),
            ("ä", false),
        ] {
            assert_eq!(input.parse::<Tag>().is_ok(), ok, "{input:?}");
        }
        assert!("a".repeat(128).parse::<Tag>().is_ok());
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }
}
