//! Patterns of names: `*` matches any characters but `/`, `**` matches any. Pure.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// In a time that is the product of both lengths at most.
    pub(crate) fn matches(&self, text: &str) -> bool {
        // reached[i]: the first i tokens match what was read so far.
        let mut reached = vec![false; self.tokens.len() + 1];
        reached[0] = true;
        self.skip_stars(&mut reached);
        for byte in text.bytes() {
            let mut next = vec![false; reached.len()];
            for (at, token) in self.tokens.iter().enumerate() {
                match token {
                    Token::Byte(want) => next[at + 1] |= reached[at] && *want == byte,
                    Token::Within => next[at] |= reached[at] && byte != b'/',
                    Token::Across => next[at] |= reached[at],
                }
            }
            self.skip_stars(&mut next);
            reached = next;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn match_cases() {
        for (pattern, text, want) in [
            ("a", "a", true),
            ("a", "ab", false),
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
        }
        for text in ["", "***", "a***"] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }
}
