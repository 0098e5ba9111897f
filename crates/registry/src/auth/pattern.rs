//! Patterns of names: `*` matches any characters but `/`, `**` matches any. Pure.

use std::fmt;

/// A pattern.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `*`
    Within,
    /// `**`
    Across,
}

impl Pattern {
    /// `None` where it is empty or has more than two `*` in a row.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.contains("***") {
            return None;
        }
        let mut tokens = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            match (byte, tokens.last_mut()) {
                (b'*', Some(last @ Token::Within)) => *last = Token::Across,
                (b'*', _) => tokens.push(Token::Within),
                (byte, _) => tokens.push(Token::Byte(byte)),
            }
        }
        Some(Pattern { tokens })
    }

    /// Of names of repositories. `None` also where no name can match: it would deny, or protect, nothing
    /// without a word.
    pub(crate) fn of_names(text: &str) -> Option<Self> {
        let is_of_name = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/*".contains(&byte)
        };
        let has_names = text.bytes().all(is_of_name) && !text.split('/').any(str::is_empty);
        has_names.then(|| Pattern::parse(text)).flatten()
    }

    /// The same of tags.
    pub(crate) fn of_tags(text: &str) -> Option<Self> {
        let is_of_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte);
        text.bytes()
            .all(is_of_tag)
            .then(|| Pattern::parse(text))
            .flatten()
    }

    /// In a time that is the product of both lengths at most.
    pub(crate) fn matches(&self, text: &str) -> bool {
        // reached[i]: the first i tokens match what was read so far.
        let mut reached = vec![false; self.tokens.len() + 1];
        reached[0] = true;
        self.skip_stars(&mut reached);
        for byte in text.bytes() {
            // From the end, since a token reads what was reached before this byte.
            reached[self.tokens.len()] = false;
            for (at, token) in self.tokens.iter().enumerate().rev() {
                let stays = match token {
                    Token::Byte(want) => {
                        reached[at + 1] |= reached[at] && *want == byte;
                        false
                    }
                    Token::Within => byte != b'/',
                    Token::Across => true,
                };
                reached[at] &= stays;
            }
            if !reached.contains(&true) {
                return false;
            }
            self.skip_stars(&mut reached);
        }
        reached.last() == Some(&true)
    }

    /// A star may match nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if *token == Token::Within || *token == Token::Across {
                reached[at + 1] |= reached[at];
            }
        }
    }
}

impl fmt::Debug for Pattern {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.tokens.iter().flat_map(|token| match token {
            Token::Byte(byte) => std::slice::from_ref(byte),
            Token::Within => b"*",
            Token::Across => b"**",
        });
        let text: Vec<u8> = text.copied().collect();
        fmt::Debug::fmt(&String::from_utf8_lossy(&text), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn match_cases() {
        for (pattern, text, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("aa", "aaa", false),
            ("aa*", "aaa", true),
            ("a", "", false),
            ("*", "", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/b", false),
            ("a*", "ab", true),
            ("a*", "a", true),
            ("a*", "a/b", false),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**", "a/b/c", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**/c", "a/b/c", true),
            ("**/c", "c", false),
            ("a*c/**d", "abc/x/d", true),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(text), want, "{pattern} {text}");
            assert_eq!(format!("{parsed:?}"), format!("{pattern:?}"));
        }
        for text in ["", "***", "a***"] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
        for text in ["", "Team/**", "host:5000/x", "/a", "a/", "a//b"] {
            assert_eq!(Pattern::of_names(text), None, "{text}");
        }
        for text in ["", "release/v*", "a:b", "v 1"] {
            assert_eq!(Pattern::of_tags(text), None, "{text}");
        }
        assert!(
            Pattern::of_names("**/a-b_c.d/*").is_some() && Pattern::of_tags("V1.*_-").is_some()
        );
    }
}
